//! What this kernel and this node can do: each feature is found by trying it, never by the kernel's version.
//!
//! Distributions carry features back and switch others off, so that a version says little. A probe loads, creates or
//! attaches the smallest thing that needs the feature, on things of its own (an empty cgroup, a private network
//! namespace, descriptors that end with it), and nothing is left behind or pinned.
//!
//! [`table`] says what each feature is for, [`kernel`], [`net`] and [`node`] try them, [`programs`] loads and attaches
//! the real programs, [`switches`] takes features away for tests.

mod call;
pub mod kernel;
mod net;
pub mod node;
pub mod programs;
pub mod scratch;
pub mod switches;
pub mod table;

use std::io;
use std::path::Path;

use self::scratch::ScratchCgroup;
use self::switches::Switches;
pub use self::table::{Feature, Need};
use crate::identity::cgroups::CgroupFs;
use crate::identity::layout::Layout;

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was tried, and works.
    Found,
    /// It was tried, and does not.
    Missing,
    /// It could not be tried: a privilege is missing, or what would tell is not there.
    Unknown,
}

impl Presence {
    /// The word for it, in JSON and for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// What was tried.
    pub feature: Feature,
    /// How it ended.
    pub presence: Presence,
    /// For people: how it was seen, or what the kernel said.
    pub detail: String,
}

impl Probed {
    fn new(feature: Feature, presence: Presence, detail: impl Into<String>) -> Self {
        Self { feature, presence, detail: detail.into() }
    }

    fn found(feature: Feature, detail: impl Into<String>) -> Self {
        Self::new(feature, Presence::Found, detail)
    }

    fn missing(feature: Feature, detail: impl Into<String>) -> Self {
        Self::new(feature, Presence::Missing, detail)
    }

    fn unknown(feature: Feature, detail: impl Into<String>) -> Self {
        Self::new(feature, Presence::Unknown, detail)
    }

    /// From a try. EPERM is the kernel's word on us, not on the feature, unless every capability that loading needs
    /// is there: then something else (lockdown, a security module) keeps the feature from being used.
    fn tried(feature: Feature, how: &str, result: io::Result<()>) -> Self {
        match result {
            Ok(()) => Self::found(feature, how),
            Err(e) if is_permission(&e) && !node::may_load() => {
                Self::unknown(feature, format!("{how}: not permitted"))
            }
            Err(e) => Self::missing(feature, format!("{how}: {e}")),
        }
    }
}

fn is_permission(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Tries everything. `root` is the cgroup below which the scratch cgroup is made; `bpffs` the directory for pins.
#[must_use]
pub fn probe_all(
    root: Option<&Path>,
    scratch: Result<&ScratchCgroup, &str>,
    bpffs: &Path,
    switches: &Switches,
) -> Vec<Probed> {
    let layout = Layout::of_this_host(root);
    let mut found = kernel::probe(scratch);
    found.extend(net::probe());
    found.extend(node::probe(&layout, bpffs));
    for probed in &mut found {
        switches.apply(probed);
    }
    birth_needs_more(&mut found, root);
    found.push(host_layer(&found));
    if let Some(last) = found.last_mut() {
        switches.apply(last);
    }
    found.sort_by_key(|p| p.feature);
    found
}

/// The programs at birth read `struct cgroup`, whose layout is in the kernel's types, and compare paths, which are
/// others in a cgroup namespace.
fn birth_needs_more(found: &mut [Probed], root: Option<&Path>) {
    let no_types = found.iter().any(|p| p.feature == Feature::Btf && p.presence == Presence::Missing);
    let other_paths = CgroupFs::find(root).is_ok_and(|(cgroups, _)| !cgroups.levels_are_depths());
    let why = match (no_types, other_paths) {
        (true, _) => "the layout of struct cgroup is not known without btf",
        (false, true) => "in a cgroup namespace paths are others than the kernel's: run in the host's",
        (false, false) => return,
    };
    for probed in found.iter_mut().filter(|p| matches!(p.feature, Feature::Birth | Feature::Release)) {
        *probed = Probed::missing(probed.feature, why);
    }
}

/// Whether the host layer can be attached here at all.
#[must_use]
pub fn probe_host_layer(switches: &Switches) -> Probed {
    let mut parts = net::probe_attach();
    for probed in &mut parts {
        switches.apply(probed);
    }
    let mut whole = host_layer(&parts);
    switches.apply(&mut whole);
    whole
}

/// The host layer needs one of two ways to attach.
fn host_layer(parts: &[Probed]) -> Probed {
    let presence = |feature| parts.iter().find(|p| p.feature == feature).map(|p| p.presence);
    let ways = [(Feature::Tcx, "by tcx"), (Feature::Clsact, "by clsact: the kernel has no tcx")];
    let found = ways.iter().find(|(feature, _)| presence(*feature) == Some(Presence::Found));
    if let Some((_, how)) = found {
        return Probed::found(Feature::HostLayer, *how);
    }
    match parts.iter().find(|p| p.presence == Presence::Unknown) {
        Some(untried) => Probed::unknown(
            Feature::HostLayer,
            format!("{} could not be tried: {}", untried.feature.name(), untried.detail),
        ),
        None => Probed::missing(Feature::HostLayer, "neither tcx nor clsact"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Feature, Presence, Probed, host_layer};

    #[test]
    fn the_host_layer_needs_one_way_to_attach() {
        let parts =
            |tcx, clsact| [Probed::new(Feature::Tcx, tcx, ""), Probed::new(Feature::Clsact, clsact, "")];
        use Presence::{Found, Missing, Unknown};
        for (tcx, clsact, whole) in [
            (Found, Missing, Found),
            (Missing, Found, Found),
            (Missing, Unknown, Unknown),
            (Missing, Missing, Missing),
        ] {
            assert_eq!(host_layer(&parts(tcx, clsact)).presence, whole, "tcx {tcx:?}, clsact {clsact:?}");
        }
    }
}
