//! The watchdog: every few seconds holds what is attached, pinned and written in the kernel against what should be, and
//! puts it right.
//!
//! | what | how it is seen | what is done |
//! |---|---|---|
//! | a link is detached | it is at no cgroup any more | attached again, hooks that refuse calls first |
//! | another program in our link | the program's id | `BPF_LINK_UPDATE` back to ours |
//! | pins removed, the directory gone | opened by name and compared | pinned again; what is pinned is also held by descriptor, so nothing opens meanwhile |
//! | the bpf file system unmounted | its type | Degraded, with the mend; pinned again once it is mounted |
//! | programs of others at our hooks | `BPF_PROG_QUERY`, effective | told once each: what they do to a call before or after us is theirs |
//! | secrets, policy or index replaced | ids, a digest of what the fences say | the engine publishes again |
//! | the hooks do not act, whatever the reason | the [canary] gets through | Degraded until it is refused again |
//!
//! Guards of interfaces are the [host layer's](crate::hostlayer) own to look after; it reports to the same [`Alarms`].
//! All of it works with CAP_BPF and CAP_NET_ADMIN. It can't hold against root, who can stop the agent itself: it is there
//! so that what root does is *seen*.

pub mod alarms;
pub(crate) mod canary;
mod image;
mod look;

pub use self::alarms::Alarms;
pub(crate) use self::image::Mend;
pub(crate) use self::look::{Everything, Watchdog};

use std::time::Duration;

/// Time between two looks. With one look to see it and one to see whether the engine has mended it, everything is seen,
/// mended and told within ten seconds.
pub const LOOK: Duration = Duration::from_secs(3);

/// For tests: `off` has nobody look, so that what the watchdog closes can be seen open; `canary` has only the canary
/// look, so that it can be seen to find alone what the links tell earlier.
pub const SWITCH: &str = "RINGFENCE_WATCHDOG";
