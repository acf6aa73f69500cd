//! Policy: from documents to an image.
//!
//! In the order of a document: [`source`] reads files, [`tree`] reads YAML, [`decode`] reads fields into [`schema`],
//! [`validate`] checks them all together and makes a [`set`], [`mod@compile`] writes the image and its [`manifest`].
//! [`last_good`] keeps the documents in force over a restart; [`explain`] asks the image, on the host, what the
//! kernel would say.

mod cgroup_path;
pub mod compile;
mod decode;
pub mod explain;
mod finding;
pub mod host_view;
pub mod identify;
pub(crate) mod ids;
pub mod image;
pub mod in_force;
pub mod lacks;
pub mod last_good;
mod manifest;
pub(crate) mod names;
mod ports;
pub mod publish;
pub mod schema;
pub mod set;
pub mod source;
mod subject_index;
mod suggest;
pub mod target;
pub(crate) mod tree;
pub mod validate;

pub use cgroup_path::{CgroupPath, CgroupPathError};
pub use compile::{Clock, CompileError, Settings, Workload, compile};
pub use finding::{At, Finding, Findings, Level, Spanned};
pub use manifest::{
    FenceEntry, Manifest, RESERVED_RULE_NAMES, RuleEntry, RuleKind, WorkloadEntry, reason_name,
};
pub use ports::{Ports, PortsError, Transport};
pub use set::{Digest, PolicySet};
pub use source::{SourceError, SourceFile, load, load_all};
pub use validate::{Checked, Context, check};
