//! Which capabilities a workload has. A container's root is a root without most of them.

use anyhow::{Context, Result, ensure};
use caps::{CapSet, Capability, CapsHashSet};
use serde::{Deserialize, Serialize};

/// What an actor keeps of root's capabilities. It stays user 0: what only a capability forbids is what is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Profile {
    /// Everything: for actors whose capabilities play no part.
    #[default]
    Root,
    /// Nothing.
    None,
    /// CAP_NET_RAW alone: what container engines give by default and what matters here of it.
    NetRaw,
    /// CAP_NET_ADMIN and CAP_NET_RAW.
    NetAdmin,
}

impl Profile {
    /// The profile's name in an environment variable.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::None => "none",
            Self::NetRaw => "net_raw",
            Self::NetAdmin => "net_admin",
        }
    }

    /// The profile of this name.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Self::Root, Self::None, Self::NetRaw, Self::NetAdmin]
            .into_iter()
            .find(|profile| profile.word() == word)
    }

    /// Reduces this process, for good: also what an `execve` would give back to user 0 (the bounding set).
    ///
    /// # Errors
    /// The kernel refuses, or a capability is left that should be gone.
    pub(super) fn assume(self) -> Result<()> {
        let kept: CapsHashSet = match self {
            Self::Root => return Ok(()),
            Self::None => CapsHashSet::new(),
            Self::NetRaw => [Capability::CAP_NET_RAW].into(),
            Self::NetAdmin => [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW].into(),
        };
        // The bounding set first: changing it needs a capability (CAP_SETPCAP). What this kernel does not know can
        // neither be held nor dropped.
        for capability in caps::runtime::thread_all_supported() {
            if !kept.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability)? {
                caps::drop(None, CapSet::Bounding, capability)
                    .with_context(|| format!("cannot drop {capability} from the bounding set"))?;
            }
        }
        for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
            let wanted = if matches!(set, CapSet::Inheritable) { CapsHashSet::new() } else { kept.clone() };
            caps::set(None, set, &wanted)
                .with_context(|| format!("cannot reduce the {set:?} capabilities"))?;
        }
        let left = caps::read(None, CapSet::Permitted)?;
        ensure!(left == kept, "capabilities after the reduction: {left:?}, not {kept:?}");
        Ok(())
    }
}
