//! How this host arranges its cgroups, judged as container runtimes and systemd judge it: by the type of the file
//! system at `/sys/fs/cgroup` (runc's `cgroups.IsCgroup2UnifiedMode`, systemd's `cg_unified`).

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::cgroups::{CgroupFs, is_cgroup2};

/// Where every runtime looks first.
const USUAL: &str = "/sys/fs/cgroup";

/// The arrangement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// cgroup2 alone: a process in a container is in the container's cgroup.
    Pure {
        /// Its mount.
        mount: PathBuf,
        /// Controllers at its root.
        controllers: Vec<String>,
    },
    /// v1 hierarchies beside cgroup2: a runtime works on those, and may leave the v2 tree alone.
    Hybrid {
        /// The cgroup2 mount.
        mount: PathBuf,
        /// What the v1 hierarchies hold.
        v1: Vec<String>,
    },
    /// No cgroup2 file system.
    Absent {
        /// Why it is not found.
        why: String,
    },
}

/// A first start on a hybrid host that nobody has agreed to.
#[derive(Debug, Error)]
#[error(
    "this is a hybrid cgroup host: v1 hierarchies ({}) beside cgroup2 at {}. A container runtime that manages v1 may start \
     processes outside the v2 tree, where no fence sees them (`runc exec`, runc issue 2087). Boot with \
     systemd.unified_cgroup_hierarchy=1, or accept it with --allow-hybrid-cgroups",
    v1.join(", "), mount.display()
)]
pub struct HybridRefused {
    mount: PathBuf,
    v1: Vec<String>,
}

impl Layout {
    /// Looks. `root` is where ringfence attaches, if that was said.
    #[must_use]
    pub fn of_this_host(root: Option<&Path>) -> Self {
        let mount = match CgroupFs::find(root) {
            Ok((found, _)) => found.mount().to_owned(),
            Err(error) => return Self::Absent { why: error.to_string() },
        };
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let v1 = v1_hierarchies(&mounts);
        if is_cgroup2(Path::new(USUAL)) || v1.is_empty() {
            let list = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
            return Self::Pure { controllers: list.split_whitespace().map(str::to_owned).collect(), mount };
        }
        Self::Hybrid { mount, v1 }
    }

    /// Refuses a hybrid host, unless that was allowed.
    ///
    /// # Errors
    /// See [`HybridRefused`].
    pub fn refuse_hybrid(&self, allowed: bool) -> Result<(), HybridRefused> {
        match self {
            Self::Hybrid { mount, v1 } if !allowed => {
                Err(HybridRefused { mount: mount.clone(), v1: v1.clone() })
            }
            Self::Pure { .. } | Self::Hybrid { .. } | Self::Absent { .. } => Ok(()),
        }
    }
}

/// What the mounted v1 hierarchies hold, from `/proc/self/mounts`: controllers, or a name (`name=systemd`). Mounts that
/// another mount hides are listed too: whoever asks has looked at the type of the visible one first.
fn v1_hierarchies(mounts: &str) -> Vec<String> {
    /// Options of any mount, and those of a hierarchy that are not what it holds.
    const OPTIONS: [&str; 12] = [
        "rw",
        "ro",
        "nosuid",
        "nodev",
        "noexec",
        "relatime",
        "noatime",
        "xattr",
        "noprefix",
        "clone_children",
        "seclabel",
        "cpuset_v2_mode",
    ];
    let mut found: Vec<String> = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.get(2) == Some(&"cgroup"))
        .filter_map(|fields| fields.get(3).map(|options| options.split(',')))
        .flatten()
        .filter(|option| !OPTIONS.contains(option) && !option.starts_with("release_agent="))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::{Layout, v1_hierarchies};

    const HYBRID: &str = "tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n\
        cgroup /sys/fs/cgroup/systemd cgroup rw,nosuid,xattr,name=systemd 0 0\n\
        cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
        cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n";

    #[test]
    fn the_v1_hierarchies_of_a_hybrid_host_are_named() {
        assert_eq!(v1_hierarchies(HYBRID), ["cpu", "cpuacct", "memory", "name=systemd"]);
        assert_eq!(v1_hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"), Vec::<String>::new());
        assert_eq!(v1_hierarchies("half a line\n"), Vec::<String>::new());
    }

    #[test]
    fn only_a_hybrid_host_is_refused_and_only_until_it_is_allowed() {
        let hybrid = Layout::Hybrid { mount: "/sys/fs/cgroup/unified".into(), v1: vec!["memory".into()] };
        let text = hybrid.refuse_hybrid(false).unwrap_err().to_string();
        for wanted in ["--allow-hybrid-cgroups", "memory", "/sys/fs/cgroup/unified", "runc issue 2087"] {
            assert!(text.contains(wanted), "{wanted} is missing: {text}");
        }
        assert!(hybrid.refuse_hybrid(true).is_ok());
        let pure = Layout::Pure { mount: "/sys/fs/cgroup".into(), controllers: Vec::new() };
        assert!(pure.refuse_hybrid(false).is_ok());
    }
}
