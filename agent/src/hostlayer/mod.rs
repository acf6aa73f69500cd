//! The host layer: what leaves a workload's network namespace without a socket of the workload (AF_PACKET, AF_XDP, TUN,
//! rewritten packets, replies of the kernel's own) passes the host's side of its interfaces, and is judged there.
//!
//! In the order of a look, once a second and whenever something may have changed:
//! - [`census`]: which processes each fenced workload has, and in which network namespaces they are;
//! - [`rtnl`] over [`netlink`], whose messages [`attributes`] decodes: which interfaces of the host lead there, and
//!   which addresses their other sides have;
//! - [`plan`]: which of them are to be guarded, and for what reason others are not;
//! - [`keeper`]: makes it so.
//!
//! Nothing here enters a namespace: the kernel answers from outside to CAP_NET_ADMIN, and `/proc/<pid>/net` tells two
//! namespaces apart without any privilege.

mod attributes;
mod census;
mod clsact;
pub mod guard;
pub mod keeper;
mod netlink;
mod plan;
pub mod report;
mod rtnl;
pub mod wait;
