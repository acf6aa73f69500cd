//! How the agent is to run: a file, the environment and flags, resolved to one [`Config`].
//!
//! A flag wins over the environment, the environment over the file, the file over the default. An unknown key in the
//! file is an error: a misspelt one would otherwise silently be the default.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde::Deserialize;

use crate::places::MIN_KNOWN_SHARE;
use crate::policy::publish::{Data, Knobs};

/// The default socket.
pub const SOCKET: &str = "/run/ringfence/ringfence.sock";
/// The default state directory.
pub const STATE_DIR: &str = "/var/lib/ringfence";
/// The default pin directory.
pub const BPFFS: &str = "/sys/fs/bpf/ringfence";
/// Violation events that one workload may emit in a second, by default; twice what a subscriber is promised without
/// loss.
const EVENTS_PER_SECOND: u32 = 20_000;

/// The errno of a refused call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
pub enum Errno {
    /// Operation not permitted: what a firewall says.
    #[default]
    #[value(name = "EPERM")]
    #[serde(rename = "EPERM")]
    Eperm,
    /// Connection refused: what many programs know how to handle.
    #[value(name = "ECONNREFUSED")]
    #[serde(rename = "ECONNREFUSED")]
    Econnrefused,
    /// No route to host.
    #[value(name = "EHOSTUNREACH")]
    #[serde(rename = "EHOSTUNREACH")]
    Ehostunreach,
}

impl Errno {
    const fn number(self) -> i32 {
        match self {
            Self::Eperm => libc::EPERM,
            Self::Econnrefused => libc::ECONNREFUSED,
            Self::Ehostunreach => libc::EHOSTUNREACH,
        }
    }
}

/// What happens to enforcement when the agent ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// Pinned programs go on; the next agent takes them over. `ringfence uninstall` removes them.
    #[default]
    Keep,
    /// Everything is detached and removed.
    Remove,
}

/// Whether the host layer is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HostLayer {
    /// On the host side of every fenced workload's own interfaces, where the kernel can.
    #[default]
    Auto,
    /// As `auto`, but by filters of the `clsact` qdisc also where the kernel has tcx.
    Clsact,
    /// Not at all.
    Off,
}

/// What was said in one place; nothing is resolved yet. The same keys, as flags and in a file.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct RawConfig {
    /// Policy file, or folder of *.yaml, *.yml and *.json; watched. Without one, every workload is observed
    #[arg(long, env = "RINGFENCE_POLICY", value_name = "FILE|DIR")]
    pub policy: Option<PathBuf>,
    /// Attach to this cgroup and all below it [default: the cgroup2 mount's root]
    #[arg(long, env = "RINGFENCE_CGROUP_ROOT", value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// Socket to serve gRPC on [default: /run/ringfence/ringfence.sock]
    #[arg(long, env = "RINGFENCE_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Where the last good policy is kept [default: /var/lib/ringfence]
    #[arg(long, env = "RINGFENCE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Country database (MMDB) instead of the built-in one; watched
    #[arg(long, env = "RINGFENCE_COUNTRY_DB", value_name = "FILE")]
    pub country_db: Option<PathBuf>,
    /// Share of the IPv4 addresses, 0 to 1, that the country database must know [default: 0.6]
    #[arg(long, env = "RINGFENCE_COUNTRY_DB_MIN_SHARE", value_name = "SHARE")]
    pub country_db_min_share: Option<f64>,
    /// Ranges that a provider publishes (AWS ip-ranges.json, Google cloud.json, Azure ServiceTags, CSV); repeatable; watched
    #[arg(long, value_name = "FILE")]
    pub provider_ranges: Vec<PathBuf>,
    /// A network of this cluster: jurisdiction CLUSTER; repeatable
    #[arg(long, value_name = "CIDR")]
    pub cluster: Vec<IpNet>,
    /// A resolver to trust beside the node's own that are on loopback, in the cluster or private; repeatable
    #[arg(long, value_name = "ADDR")]
    pub resolver: Vec<IpAddr>,
    /// What a refused connect() or sendto() returns [default: EPERM]
    #[arg(long, env = "RINGFENCE_ERRNO", value_enum, ignore_case = true, value_name = "ERRNO")]
    pub errno: Option<Errno>,
    /// Record only violations, not every flow
    #[arg(long)]
    #[serde(default)]
    pub violations_only: bool,
    /// Violation events that one workload may emit in a second before the rest is counted only [default: 20000]
    #[arg(long, value_name = "N")]
    pub events_per_second: Option<u32>,
    /// This node's name in events [default: the host name]
    #[arg(long, env = "RINGFENCE_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Directory on a bpf file system where programs, links and maps are pinned [default: /sys/fs/bpf/ringfence]
    #[arg(long, env = "RINGFENCE_BPFFS", value_name = "DIR")]
    pub bpffs: Option<PathBuf>,
    /// What happens to enforcement when the agent ends: keep it on, or remove everything [default: keep]
    #[arg(long, env = "RINGFENCE_ON_EXIT", value_enum, value_name = "WHAT")]
    pub on_exit: Option<OnExit>,
    /// Guard the host side of fenced workloads' interfaces (needs a network namespace of their own) [default: auto]
    #[arg(long, env = "RINGFENCE_HOST_LAYER", value_enum, value_name = "WHEN")]
    pub host_layer: Option<HostLayer>,
    /// Enter workloads' network namespaces to end flows that are no longer allowed, so that callers are told (CAP_SYS_ADMIN, CAP_SYS_PTRACE)
    #[arg(long)]
    #[serde(default)]
    pub netns_entry: bool,
    /// Start although this kernel lacks something that a fence needs; events then say `partial`
    #[arg(long)]
    #[serde(default)]
    pub allow_partial: bool,
    /// Start on a hybrid cgroup host, where container runtimes may start processes outside the v2 tree
    #[arg(long, env = "RINGFENCE_ALLOW_HYBRID_CGROUPS")]
    #[serde(default)]
    pub allow_hybrid_cgroups: bool,
}

/// How the agent runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Policy file or folder.
    pub policy: Option<PathBuf>,
    /// Where to attach; `None`: the mount's root.
    pub cgroup_root: Option<PathBuf>,
    /// gRPC socket.
    pub socket: PathBuf,
    /// State directory.
    pub state_dir: PathBuf,
    /// Where places come from.
    pub data: Data,
    /// For the kernel side.
    pub knobs: Knobs,
    /// Name in events.
    pub node: String,
    /// Where programs, links and maps are pinned.
    pub bpffs: PathBuf,
    /// What happens to enforcement when the agent ends.
    pub on_exit: OnExit,
    /// Whether the host layer is used.
    pub host_layer: HostLayer,
    /// Enter workloads' network namespaces to end flows.
    pub netns_entry: bool,
    /// Start although something is missing.
    pub allow_partial: bool,
    /// Start on a hybrid cgroup host.
    pub allow_hybrid_cgroups: bool,
}

impl RawConfig {
    /// Reads a configuration file (YAML).
    ///
    /// # Errors
    /// A file that can't be read, an unknown key, or a value of the wrong kind; with line and column.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("can't read the configuration file {}", path.display()))?;
        serde_saphyr::from_str(&text).with_context(|| format!("in the configuration file {}", path.display()))
    }

    /// `self` where it says something, `other` elsewhere.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        fn list<T>(a: Vec<T>, b: Vec<T>) -> Vec<T> {
            if a.is_empty() { b } else { a }
        }
        Self {
            policy: self.policy.or(other.policy),
            cgroup_root: self.cgroup_root.or(other.cgroup_root),
            socket: self.socket.or(other.socket),
            state_dir: self.state_dir.or(other.state_dir),
            country_db: self.country_db.or(other.country_db),
            country_db_min_share: self.country_db_min_share.or(other.country_db_min_share),
            provider_ranges: list(self.provider_ranges, other.provider_ranges),
            cluster: list(self.cluster, other.cluster),
            resolver: list(self.resolver, other.resolver),
            errno: self.errno.or(other.errno),
            violations_only: self.violations_only || other.violations_only,
            events_per_second: self.events_per_second.or(other.events_per_second),
            node: self.node.or(other.node),
            bpffs: self.bpffs.or(other.bpffs),
            on_exit: self.on_exit.or(other.on_exit),
            host_layer: self.host_layer.or(other.host_layer),
            netns_entry: self.netns_entry || other.netns_entry,
            allow_partial: self.allow_partial || other.allow_partial,
            allow_hybrid_cgroups: self.allow_hybrid_cgroups || other.allow_hybrid_cgroups,
        }
    }

    /// Fills in defaults and checks.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub fn resolve(self) -> Result<Config> {
        let share = self.country_db_min_share.unwrap_or(MIN_KNOWN_SHARE);
        if !(0.0..=1.0).contains(&share) {
            bail!("--country-db-min-share is {share}: give a share between 0 and 1");
        }
        let mut resolvers = self.resolver;
        resolvers.extend(node_resolvers(&self.cluster));
        let node = match self.node {
            Some(name) if !name.is_empty() => name,
            _ => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        Ok(Config {
            policy: self.policy,
            cgroup_root: self.cgroup_root,
            socket: self.socket.unwrap_or_else(|| SOCKET.into()),
            state_dir: self.state_dir.unwrap_or_else(|| STATE_DIR.into()),
            data: Data {
                country_db: self.country_db,
                min_known_share: share,
                provider_ranges: self.provider_ranges,
                cluster: self.cluster,
                resolvers,
            },
            knobs: Knobs {
                errno: self.errno.unwrap_or_default().number().unsigned_abs(),
                flows: !self.violations_only,
                events_per_second: self.events_per_second.unwrap_or(EVENTS_PER_SECOND),
            },
            node,
            bpffs: self.bpffs.unwrap_or_else(|| BPFFS.into()),
            on_exit: self.on_exit.unwrap_or_default(),
            host_layer: self.host_layer.unwrap_or_default(),
            netns_entry: self.netns_entry,
            allow_partial: self.allow_partial,
            allow_hybrid_cgroups: self.allow_hybrid_cgroups,
        })
    }
}

/// The node's own resolvers, where they are on loopback, in the cluster or private: a public one could be anybody's.
/// The workloads' resolv.conf is never read: it is theirs to write.
fn node_resolvers(cluster: &[IpNet]) -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    trusted(&text, cluster)
}

fn trusted(resolv_conf: &str, cluster: &[IpNet]) -> Vec<IpAddr> {
    let named = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    named.filter(|a| a.is_loopback() || is_private(*a) || cluster.iter().any(|n| n.contains(a))).collect()
}

/// RFC 1918, 100.64.0.0/10, ULA: the jurisdiction PRIVATE.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_private() || (a.octets()[0] == 100 && a.octets()[1] & 0xc0 == 64),
        IpAddr::V6(a) => a.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Errno, RawConfig, trusted};

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file =
            RawConfig { errno: Some(Errno::Econnrefused), node: Some("n1".into()), ..RawConfig::default() };
        let flags = RawConfig { node: Some("n2".into()), ..RawConfig::default() };
        let config = flags.or(file).resolve().unwrap();
        assert_eq!((config.node.as_str(), config.knobs.errno), ("n2", libc::ECONNREFUSED as u32));
        assert_eq!(config.socket.to_str(), Some(super::SOCKET));
    }

    #[test]
    fn an_unknown_key_in_the_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        std::fs::write(&path, "errno: EPERM\npolcy: /x\n").unwrap();
        let error = format!("{:#}", RawConfig::from_file(&path).unwrap_err());
        assert!(error.contains("polcy"), "{error}");
    }

    #[test]
    fn only_resolvers_of_the_inside_are_trusted() {
        let text = "nameserver 127.0.0.53\nnameserver 8.8.8.8\n# nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 100.64.1.1\nnameserver x\n";
        let found: Vec<String> = trusted(text, &[]).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53", "10.0.0.2", "100.64.1.1"]);
        let cluster = ["8.8.0.0/16".parse().unwrap()];
        assert_eq!(trusted("nameserver 8.8.8.8", &cluster).len(), 1);
    }
}
