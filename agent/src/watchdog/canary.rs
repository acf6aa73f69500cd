//! The canary: calls that every socket below the root is refused. If one succeeds, the hooks do not act, whatever links
//! and lists say.
//!
//! Two calls, because the one hook must not hide the other: a `connect`, which the connect hooks answer before any route
//! is looked up, and a `sendto` to the port of DHCP servers, which the hooks on calls leave to egress. Addressed to
//! [`CANARY`], on loopback: if it gets through, its one byte stays on this machine.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use agent_common::limits::CANARY;

use crate::policy::CgroupPath;

/// `discard` (RFC 863).
const CONNECT_PORT: u16 = 9;
/// DHCP servers'.
const SEND_PORT: u16 = 67;

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Every call was refused.
    Refused,
    /// These got through.
    Through(Vec<&'static str>),
    /// Nothing can be told by it, and why.
    Untold(String),
}

/// Sends canaries.
#[derive(Debug)]
pub(crate) struct Canary {
    root: CgroupPath,
    errno: i32,
}

impl Canary {
    /// For programs at this cgroup, which refuse calls with this errno (positive).
    pub(crate) const fn new(root: CgroupPath, errno: u32) -> Self {
        Self { root, errno: errno.cast_signed() }
    }

    /// Sends it, if this process is where the programs see it.
    pub(crate) fn send(&self) -> Fate {
        match own_cgroup() {
            Ok(own) if is_below(&own, self.root.as_str()) => send(self.errno),
            Ok(own) => Fate::Untold(format!(
                "is not sent: the agent is in the cgroup {own}, outside {}, where no program of ours sees it",
                self.root
            )),
            Err(error) => Fate::Untold(format!("is not sent: /proc/self/cgroup: {error}")),
        }
    }
}

/// The path of this process in the cgroup2 hierarchy.
fn own_cgroup() -> io::Result<String> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.map(str::to_owned).ok_or_else(|| io::Error::other("no line of the cgroup2 hierarchy"))
}

fn is_below(path: &str, root: &str) -> bool {
    let root = root.trim_end_matches('/');
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn send(errno: i32) -> Fate {
    let v4 = Ipv4Addr::from((CANARY.lo & u64::from(u32::MAX)) as u32);
    let (v4, v6) =
        (SocketAddr::from((v4, CONNECT_PORT)), SocketAddr::from((v4.to_ipv6_mapped(), CONNECT_PORT)));
    let sent = SocketAddr::new(v4.ip(), SEND_PORT);
    let any = |to: &SocketAddr| match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let connect = |to: SocketAddr| UdpSocket::bind(any(&to))?.connect(to);
    let send_to = |to: SocketAddr| UdpSocket::bind(any(&to))?.send_to(&[0], to).map(|_| ());
    weigh(errno, [("connect4", connect(v4)), ("connect6", connect(v6)), ("egress", send_to(sent))])
}

/// What the calls' results say. A call that failed for another reason says nothing.
fn weigh(errno: i32, calls: [(&'static str, io::Result<()>); 3]) -> Fate {
    let mut through = Vec::new();
    let mut untold = Vec::new();
    for (hook, result) in calls {
        match result {
            Ok(()) => through.push(hook),
            Err(error) if error.raw_os_error().is_some_and(|e| e == errno || e == libc::EPERM) => {}
            Err(error) => untold.push(format!("{hook}: {error}")),
        }
    }
    if !through.is_empty() {
        Fate::Through(through)
    } else if untold.is_empty() {
        Fate::Refused
    } else {
        Fate::Untold(format!("tells nothing of {} (is `lo` up?)", untold.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Fate, is_below, send, weigh};

    fn failed(errno: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn where_no_hook_refuses_it_the_canary_gets_through() {
        let Fate::Through(hooks) = send(libc::EPERM) else { panic!("refused by nobody") };
        assert!(hooks.contains(&"connect4") && hooks.contains(&"egress"), "{hooks:?}");
    }

    #[test]
    fn one_call_that_succeeds_is_enough_and_another_error_says_nothing() {
        let (perm, own, down) =
            (|| failed(libc::EPERM), || failed(libc::EHOSTUNREACH), || failed(libc::ENETUNREACH));
        let of = |calls: [io::Result<()>; 3]| {
            let [a, b, c] = calls;
            weigh(libc::EHOSTUNREACH, [("connect4", a), ("connect6", b), ("egress", c)])
        };
        assert_eq!(of([own(), own(), perm()]), Fate::Refused);
        assert_eq!(of([own(), own(), Ok(())]), Fate::Through(vec!["egress"]));
        assert_eq!(of([Ok(()), down(), perm()]), Fate::Through(vec!["connect4"]));
        assert!(matches!(of([own(), down(), perm()]), Fate::Untold(why) if why.contains("connect6")));
    }

    #[test]
    fn below_is_a_matter_of_whole_names() {
        for (path, root, below) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("/", "/a", false),
            ("/x", "/", true),
        ] {
            assert_eq!(is_below(path, root), below, "{path} {root}");
        }
    }
}
