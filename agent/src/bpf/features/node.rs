//! What the node is set up with: privileges, cgroups, the bpf file system, the kernel's switches. Read, not tried.

use std::fs;
use std::path::Path;

use caps::{CapSet, Capability};

use super::{Feature, Presence, Probed};
use crate::identity::layout::Layout;

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
const CAPABILITIES: [(Feature, Capability); 5] = [
    (Feature::CapBpf, Capability::CAP_BPF),
    (Feature::CapNetAdmin, Capability::CAP_NET_ADMIN),
    (Feature::CapPerfmon, Capability::CAP_PERFMON),
    (Feature::CapSysAdmin, Capability::CAP_SYS_ADMIN),
    (Feature::CapSysPtrace, Capability::CAP_SYS_PTRACE),
];

/// Whether this process has what loading needs.
pub(super) fn may_load() -> bool {
    CAPABILITIES[..3].iter().all(|(_, capability)| has(*capability).unwrap_or(false))
}

fn has(capability: Capability) -> Result<bool, String> {
    caps::has_cap(None, CapSet::Effective, capability).map_err(|e| e.to_string())
}

/// Reads everything here.
pub(super) fn probe(layout: &Layout, bpffs: &Path) -> Vec<Probed> {
    let mut found: Vec<Probed> =
        CAPABILITIES.iter().map(|(feature, cap)| capability(*feature, *cap)).collect();
    found.extend(cgroups(layout));
    found.push(pinning(bpffs));
    found.push(there(Feature::Btf, "/sys/kernel/btf/vmlinux"));
    found.push(jit(read("/proc/sys/net/core/bpf_jit_enable").as_deref()));
    found.push(unprivileged(read("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref()));
    found.push(lockdown(read("/sys/kernel/security/lockdown").as_deref()));
    found.push(lsm(read("/sys/kernel/security/lsm").as_deref()));
    found.push(there(Feature::Uprobes, "/sys/bus/event_source/devices/uprobe/type"));
    found.push(there(Feature::Kprobes, "/sys/bus/event_source/devices/kprobe/type"));
    found
}

fn capability(feature: Feature, capability: Capability) -> Probed {
    match has(capability) {
        Ok(true) => Probed::found(feature, "held"),
        Ok(false) => Probed::missing(feature, "not held"),
        Err(error) => Probed::unknown(feature, error),
    }
}

fn cgroups(layout: &Layout) -> [Probed; 2] {
    match layout {
        Layout::Pure { mount, controllers } => [
            Probed::found(Feature::Cgroup2, mount.display().to_string()),
            Probed::found(Feature::PureCgroups, format!("controllers: {}", names(controllers))),
        ],
        Layout::Hybrid { mount, v1 } => [
            Probed::found(Feature::Cgroup2, mount.display().to_string()),
            Probed::missing(Feature::PureCgroups, format!("hybrid: v1 hierarchies beside it: {}", names(v1))),
        ],
        Layout::Absent { why } => [
            Probed::missing(Feature::Cgroup2, why.clone()),
            Probed::unknown(Feature::PureCgroups, "no cgroup2 file system"),
        ],
    }
}

fn names(list: &[String]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(" ") }
}

/// The directory may not be there yet: then the nearest one above it counts.
fn pinning(bpffs: &Path) -> Probed {
    let Some(existing) = bpffs.ancestors().find(|path| path.exists()) else {
        return Probed::missing(Feature::Pinning, format!("{} does not exist", bpffs.display()));
    };
    match rustix::fs::statfs(existing) {
        Ok(stat) if stat.f_type as u64 == BPF_FS_MAGIC => {
            Probed::found(Feature::Pinning, format!("a bpf file system at {}", existing.display()))
        }
        Ok(_) => Probed::missing(Feature::Pinning, format!("{} is in no bpf file system", bpffs.display())),
        Err(error) => Probed::unknown(Feature::Pinning, format!("{}: {error}", existing.display())),
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn there(feature: Feature, path: &str) -> Probed {
    if Path::new(path).exists() {
        Probed::found(feature, path)
    } else {
        Probed::missing(feature, format!("no {path}"))
    }
}

fn jit(enabled: Option<&str>) -> Probed {
    match enabled {
        Some("0") => Probed::missing(Feature::Jit, "bpf_jit_enable is 0"),
        Some(value) => Probed::found(Feature::Jit, format!("bpf_jit_enable is {value}")),
        None => Probed::unknown(Feature::Jit, "net.core.bpf_jit_enable can't be read"),
    }
}

fn unprivileged(disabled: Option<&str>) -> Probed {
    let (presence, detail) = match disabled {
        Some("0") => {
            (Presence::Found, "anybody may load BPF programs: set kernel.unprivileged_bpf_disabled=2")
        }
        Some(_) => (Presence::Missing, "only the privileged may load BPF programs, which is right"),
        None => (Presence::Unknown, "kernel.unprivileged_bpf_disabled can't be read"),
    };
    Probed::new(Feature::UnprivilegedBpf, presence, detail)
}

/// `none [integrity] confidentiality`: the mode in brackets.
fn lockdown(modes: Option<&str>) -> Probed {
    let mode = modes.and_then(|m| m.split_once('[')).and_then(|(_, rest)| rest.split(']').next());
    match mode {
        Some("none") => Probed::missing(Feature::Lockdown, "none"),
        Some(mode) => Probed::found(Feature::Lockdown, mode),
        None => {
            Probed::unknown(Feature::Lockdown, "securityfs is not mounted, or the kernel has no lockdown")
        }
    }
}

fn lsm(active: Option<&str>) -> Probed {
    match active {
        Some(list) if list.split(',').any(|name| name == "bpf") => Probed::found(Feature::Lsm, list),
        Some(list) => Probed::missing(Feature::Lsm, list),
        None => Probed::unknown(Feature::Lsm, "securityfs is not mounted"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Presence, jit, lockdown, lsm, pinning, unprivileged};

    #[test]
    fn the_kernels_switches_are_read_as_the_kernel_writes_them() {
        use Presence::{Found, Missing, Unknown};
        for (probed, wanted) in [
            (jit(Some("0")), Missing),
            (jit(Some("2")), Found),
            (jit(None), Unknown),
            (lockdown(Some("[none] integrity confidentiality")), Missing),
            (lockdown(Some("none [integrity] confidentiality")), Found),
            (lockdown(None), Unknown),
            (lsm(Some("lockdown,yama,bpf")), Found),
            (lsm(Some("lockdown,yama,bpfx")), Missing),
            (unprivileged(Some("0")), Found),
            (unprivileged(Some("2")), Missing),
        ] {
            assert_eq!(probed.presence, wanted, "{probed:?}");
        }
        assert_eq!(lockdown(Some("none [integrity] confidentiality")).detail, "integrity");
    }

    #[test]
    fn a_directory_of_another_file_system_is_no_place_for_pins() {
        let dir = tempfile::tempdir().unwrap();
        let probed = pinning(&dir.path().join("not/yet"));
        assert_eq!(probed.presence, Presence::Missing, "{probed:?}");
    }
}
