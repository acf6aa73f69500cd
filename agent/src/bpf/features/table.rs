//! Every feature: its name, what is lost without it, and the mend.

/// How much a feature matters to a node without fences that ask for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it ringfence enforces nothing.
    Required,
    /// Without it something is lost, and said.
    Wanted,
    /// Told because it explains other lines.
    Info,
}

impl Need {
    /// The word for it, in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Wanted => "wanted",
            Self::Info => "info",
        }
    }
}

/// Declares the features: `Variant = "name", Need, "lost", "mend";`, in the order in which they are shown.
macro_rules! features {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $need:ident, $lost:literal, $mend:literal;)+) => {
        /// Something that a kernel or a node has or has not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Feature { $($(#[$doc])* $variant,)+ }

        impl Feature {
            /// Every feature, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name: in JSON, for people, and in `RINGFENCE_WITHOUT`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// How much it matters.
            #[must_use]
            pub const fn need(self) -> Need {
                match self { $(Self::$variant => Need::$need),+ }
            }

            /// What is lost without it.
            #[must_use]
            pub const fn lost(self) -> &'static str {
                match self { $(Self::$variant => $lost),+ }
            }

            /// What to do to have it.
            #[must_use]
            pub const fn mend(self) -> &'static str {
                match self { $(Self::$variant => $mend),+ }
            }
        }
    };
}

features! {
    /// CAP_BPF.
    CapBpf = "capBpf", Required, "no program can be loaded", "run as root, or add CAP_BPF";
    /// CAP_NET_ADMIN.
    CapNetAdmin = "capNetAdmin", Required, "no program of the network can be loaded", "run as root, or add CAP_NET_ADMIN";
    /// CAP_PERFMON: without it the verifier's rules against speculation refuse the place index.
    CapPerfmon = "capPerfmon", Required, "the verifier refuses the place index and the parsers", "run as root, or add CAP_PERFMON";
    /// CAP_SYS_ADMIN.
    CapSysAdmin = "capSysAdmin", Info, "--netns-entry can't enter the workloads' network namespaces", "add CAP_SYS_ADMIN if --netns-entry is wanted";
    /// CAP_SYS_PTRACE.
    CapSysPtrace = "capSysPtrace", Info, "TLS libraries of other users can't be found", "add CAP_SYS_PTRACE if library probes are wanted";
    /// A cgroup2 file system is mounted.
    Cgroup2 = "cgroup2", Required, "there is no workload to tell from another, and nothing to attach to", "mount one (`mount -t cgroup2 none /sys/fs/cgroup`), or boot with systemd.unified_cgroup_hierarchy=1";
    /// No v1 controllers beside it.
    PureCgroups = "pureCgroups", Wanted, "a container runtime that manages v1 may start processes outside the v2 tree, where no fence sees them (`runc exec`, runc issue 2087)", "boot with systemd.unified_cgroup_hierarchy=1, or accept it: `ringfence run --allow-hybrid-cgroups`";
    /// `BPF_LINK_CREATE` on a cgroup (5.7).
    CgroupLink = "cgroupLink", Required, "no program can be attached", "use Linux 6.1 or newer with CONFIG_CGROUP_BPF";
    /// `BPF_LINK_UPDATE` (5.7).
    LinkUpdate = "linkUpdate", Wanted, "an upgrade attaches new programs before it detaches the old ones, instead of replacing them", "use Linux 6.1 or newer";
    /// A bpf file system at `--bpffs`.
    Pinning = "pinning", Wanted, "programs end with the agent: nothing is enforced from then on", "mount one (`mount -t bpf bpf /sys/fs/bpf`), or name another with --bpffs";
    /// `BPF_MAP_TYPE_SK_STORAGE` with `BPF_F_CLONE` (5.4), which needs BTF of its key and value.
    SocketStorage = "socketStorage", Required, "no socket has an identity, and no verdict is remembered", "use Linux 6.1 or newer with CONFIG_DEBUG_INFO_BTF";
    /// `BPF_MAP_TYPE_RINGBUF` (5.8).
    RingBuffer = "ringBuffer", Required, "no event reaches the agent", "use Linux 6.1 or newer";
    /// A mmapable array in an array of maps (5.5).
    MapInMap = "mapInMap", Required, "no policy can be put in force in one step", "use Linux 6.1 or newer";
    /// `bpf_loop` (5.17).
    BpfLoop = "bpfLoop", Required, "the parsers do not load", "use Linux 6.1 or newer";
    /// `bpf_set_retval` (5.18).
    SetRetval = "setRetval", Required, "a refused call can't say why: the connect hooks do not load", "use Linux 6.1 or newer";
    /// Raw tracepoint `cgroup_mkdir`.
    Birth = "birth", Wanted, "a new cgroup has its identity only when the agent has seen it; until then an unknown child has the strictest fence that could match", "use a kernel with CONFIG_BPF_EVENTS, and give CAP_PERFMON";
    /// Raw tracepoint `cgroup_release`.
    Release = "release", Wanted, "identities of cgroups that are gone leave the table late", "use a kernel with CONFIG_BPF_EVENTS, and give CAP_PERFMON";
    /// tcx or clsact.
    HostLayer = "hostLayer", Wanted, "what leaves without a cgroup socket (AF_PACKET, AF_XDP, TUN, rewritten packets) is not stopped", "use Linux 6.6 or newer, or load sch_ingress (CONFIG_NET_SCH_INGRESS)";
    /// `BPF_TCX_INGRESS` (6.6).
    Tcx = "tcx", Wanted, "the host layer attaches by clsact, which others can replace and which has no link to pin", "use Linux 6.6 or newer with CONFIG_NET_XGRESS";
    /// The clsact queueing discipline.
    Clsact = "clsact", Info, "the host layer has no way to attach where tcx is missing", "load sch_ingress (CONFIG_NET_SCH_INGRESS)";
    /// `SOCK_DESTROY`.
    SockDestroy = "sockDestroy", Wanted, "a program whose open connection is no longer allowed gets no error: it runs into its own time limit", "use a kernel with CONFIG_INET_DIAG_DESTROY";
    /// `INET_DIAG_CGROUP_ID` (5.9).
    DiagCgroup = "diagCgroup", Wanted, "open sockets can't be told apart by workload, and are not ended", "use Linux 6.1 or newer with CONFIG_SOCK_CGROUP_DATA and CONFIG_INET_DIAG";
    /// Types of the kernel.
    Btf = "btf", Wanted, "programs that read the kernel's own structures do not load", "use a kernel with CONFIG_DEBUG_INFO_BTF";
    /// The kernel compiles BPF programs.
    Jit = "jit", Wanted, "verdicts cost several times more", "sysctl net.core.bpf_jit_enable=1";
    /// Who may load without privilege.
    UnprivilegedBpf = "unprivilegedBpf", Info, "", "";
    /// Kernel lockdown.
    Lockdown = "lockdown", Info, "", "";
    /// BPF in the list of security modules.
    Lsm = "lsm", Info, "ringfence does not use it", "";
    /// Uprobes through perf.
    Uprobes = "uprobes", Info, "TLS libraries can't be probed: names come from the wire alone", "use a kernel with CONFIG_UPROBE_EVENTS";
    /// Kprobes through perf.
    Kprobes = "kprobes", Info, "ringfence does not use them", "";
}

#[cfg(test)]
mod tests {
    use super::{Feature, Need};

    #[test]
    fn what_matters_has_a_loss_and_a_mend() {
        for feature in Feature::ALL.iter().filter(|f| f.need() != Need::Info) {
            assert!(!feature.lost().is_empty() && !feature.mend().is_empty(), "{}", feature.name());
        }
    }

    #[test]
    fn names_are_distinct() {
        for (i, feature) in Feature::ALL.iter().enumerate() {
            assert!(!Feature::ALL[..i].iter().any(|f| f.name() == feature.name()), "{}", feature.name());
        }
    }
}
