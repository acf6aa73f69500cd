//! Least privilege: what the agent may do, cut down before it has a second thread (capabilities belong to threads; new
//! ones inherit).
//!
//! | capability | until | what for |
//! |---|---|---|
//! | `CAP_BPF` | the end | maps of new images, links, pins |
//! | `CAP_NET_ADMIN` | the end | attaching: cgroup hooks, interfaces |
//! | `CAP_PERFMON` | the programs are loaded | without it the verifier refuses the place index (speculation rules) |
//! | `CAP_SYS_ADMIN`, `CAP_SYS_PTRACE` | the end, with `--netns-entry` only | entering workloads' network namespaces |
//!
//! Nothing else: no `CAP_DAC_OVERRIDE`, `CAP_FOWNER` or `CAP_CHOWN` (policy, data, state and pin directories must be the
//! agent's own or readable), no `CAP_SYS_RESOURCE` (maps are accounted to the memory cgroup since Linux 5.11). Links are
//! replaced, attached again and adopted, and maps are made, without `CAP_PERFMON`. The bounding set is emptied and
//! `no_new_privs` set: no program that this process might start can have more.

use anyhow::{Context, Result, bail};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// What no start works without.
const NEEDED: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::PERFMON);
/// What entering network namespaces takes.
const NETNS: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE);

/// Keeps what starting takes, and drops the rest.
///
/// # Errors
/// Something is missing, or the kernel refuses to drop.
pub(super) fn restrict(netns_entry: bool) -> Result<()> {
    let keep = if netns_entry { NEEDED | NETNS } else { NEEDED };
    let have = capabilities(None).context("reading this process's capabilities")?.permitted;
    let missing = keep - have;
    if !missing.is_empty() {
        bail!(
            "this process lacks {}: run it as root, or give it these capabilities (systemd: AmbientCapabilities=, \
             Kubernetes: securityContext.capabilities.add)",
            names(missing)
        );
    }
    set_no_new_privs(true).context("setting no_new_privs")?;
    clear_ambient_capability_set().context("clearing the ambient capabilities")?;
    // Who may not change the bounding set has nothing to gain by it: with no_new_privs no program adds capabilities.
    if have.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set()?;
    }
    hold(keep)
}

/// Drops what only loading took.
pub(super) fn loaded() -> Result<()> {
    let have = capabilities(None).context("reading this process's capabilities")?.permitted;
    hold(have - CapabilitySet::PERFMON)
}

fn hold(keep: CapabilitySet) -> Result<()> {
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).with_context(|| format!("dropping every capability but {}", names(keep)))
}

fn empty_bounding_set() -> Result<()> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // EINVAL: the kernel knows no capability of this number, nor any above.
        if !capability_is_in_bounding_set(one).unwrap_or(false) {
            continue;
        }
        remove_capability_from_bounding_set(one)
            .with_context(|| format!("removing {} for good", names(one)))?;
    }
    Ok(())
}

/// As capabilities(7) writes them.
fn names(set: CapabilitySet) -> String {
    let names: Vec<String> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use rustix::thread::CapabilitySet;

    use super::{NEEDED, names};

    #[test]
    fn capabilities_are_named_as_people_know_them() {
        assert_eq!(names(NEEDED), "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF");
        assert_eq!(names(CapabilitySet::empty()), "");
    }
}
