//! Probes of the network side: where the host layer attaches, and what ends sockets.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use aya::programs::tc::qdisc_add_clsact;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::call::{AttachType, EXIT, ProgType, link, load, set};
use super::{Feature, Probed};

/// An interface index that no namespace has: the kernel counts up from 1.
const NO_INTERFACE: u32 = i32::MAX as u32;

/// Tries everything here.
pub(super) fn probe() -> Vec<Probed> {
    let mut found = Vec::from(probe_attach());
    found.push(sock_destroy());
    found.push(diag_cgroup());
    found
}

/// The two ways of the host layer.
pub(super) fn probe_attach() -> [Probed; 2] {
    [tcx(), clsact()]
}

/// Attaches to an interface that does not exist: only a kernel with tcx gets as far as to look for it
/// (`tcx_link_attach` in kernel/bpf/tcx.c); others do not know the attach type (`link_create` in
/// kernel/bpf/syscall.c). No interface is touched.
fn tcx() -> Probed {
    let attach = || {
        let program = load(ProgType::SchedCls, AttachType::Unspecified, &[set(0, -1), EXIT])?;
        link(program.as_fd(), NO_INTERFACE, AttachType::TcxIngress)
    };
    let result = match attach() {
        Ok(_) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(e) => Err(e),
    };
    Probed::tried(Feature::Tcx, "the kernel takes such links", result)
}

/// Puts the discipline on the loopback interface of a network namespace made for it, which ends with its thread.
fn clsact() -> Probed {
    let how = "on an interface of a namespace of its own";
    let private = || {
        // SAFETY: only this thread's network namespace changes, and the thread does nothing else and ends; no
        // descriptor table or memory is unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        Ok(qdisc_add_clsact("lo").map_err(io::Error::other))
    };
    match std::thread::spawn(private).join() {
        Ok(Ok(result)) => Probed::tried(Feature::Clsact, how, result),
        Ok(Err(e)) => {
            let e: rustix::io::Errno = e;
            Probed::unknown(Feature::Clsact, format!("no namespace to try it in: {e} (needs CAP_SYS_ADMIN)"))
        }
        Err(_) => Probed::unknown(Feature::Clsact, "the probe panicked"),
    }
}

/// Ends a listening socket of our own on loopback. A kernel that can't says EOPNOTSUPP (`inet_diag_cmd_exact` in
/// net/ipv4/inet_diag.c). A socket that does not exist would not do: ENOENT is also the word for a missing module.
fn sock_destroy() -> Probed {
    const SOCK_DESTROY: u16 = 21;
    let end_ours = || {
        let ours = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let reply = ask(SOCK_DESTROY, ACKNOWLEDGED, ours.local_addr()?.port())?;
        match error_of(&reply) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Err(io::Error::other("an answer that is neither yes nor no")),
        }
    };
    Probed::tried(Feature::SockDestroy, "ended a socket of our own", end_ours())
}

/// Asks about a listening socket of our own on loopback and looks for its cgroup in the answer.
fn diag_cgroup() -> Probed {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const INET_DIAG_CGROUP_ID: u16 = 21;
    let ask_about_ours = || {
        let ours = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let reply = ask(SOCK_DIAG_BY_FAMILY, REQUEST, ours.local_addr()?.port())?;
        match error_of(&reply) {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None if attributes(&reply).any(|kind| kind == INET_DIAG_CGROUP_ID) => Ok(()),
            None => Err(io::Error::other("the answer names no cgroup")),
        }
    };
    Probed::tried(Feature::DiagCgroup, "seen on a socket of our own", ask_about_ours())
}

/// `struct nlmsghdr`, then `struct inet_diag_msg` in answers.
const HEAD: usize = 16;
const DIAG_MESSAGE: usize = 72;

/// `NLM_F_REQUEST`, and with `NLM_F_ACK`: what has no answer of its own is acknowledged.
const REQUEST: u16 = 1;
const ACKNOWLEDGED: u16 = REQUEST | 4;

/// One question to sock_diag about the TCP socket that listens on a port of 127.0.0.1, and the first answer.
fn ask(kind: u16, flags: u16, port: u16) -> io::Result<Vec<u8>> {
    const ANY_STATE: u32 = u32::MAX;
    const NO_COOKIE: [u8; 8] = [0xff; 8];
    // struct inet_diag_req_v2 with its inet_diag_sockid (include/uapi/linux/inet_diag.h); ports and addresses in
    // network order.
    let mut body = vec![libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend(ANY_STATE.to_ne_bytes());
    body.extend(port.to_be_bytes());
    body.extend(0u16.to_be_bytes());
    body.extend(Ipv4Addr::LOCALHOST.octets());
    body.extend([0; 12]);
    body.extend([0; 16]);
    body.extend(0u32.to_ne_bytes());
    body.extend(NO_COOKIE);
    let length = u32::try_from(HEAD + body.len()).map_err(io::Error::other)?;
    let mut message = Vec::from(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);

    let socket: OwnedFd = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut reply = vec![0; 8192];
    // sock_diag answers within the call that asks: an answer is there, or never will be.
    let (_, length) = rustix::net::recv(&socket, &mut reply[..], RecvFlags::DONTWAIT)?;
    reply.truncate(length);
    Ok(reply)
}

/// The error that an answer is, as a positive number; 0 is an acknowledgement.
fn error_of(reply: &[u8]) -> Option<i32> {
    const NLMSG_ERROR: u16 = 2;
    let kind = u16::from_ne_bytes(*reply.get(4..)?.first_chunk()?);
    if kind != NLMSG_ERROR {
        return None;
    }
    Some(i32::from_ne_bytes(*reply.get(HEAD..)?.first_chunk()?).saturating_neg())
}

/// The kinds of the attributes behind the fixed part.
fn attributes(reply: &[u8]) -> impl Iterator<Item = u16> + '_ {
    let mut rest = reply.get(HEAD + DIAG_MESSAGE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        rest = rest.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
        Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::{attributes, error_of};

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        let mut refusal = vec![0; 20];
        refusal[4] = 2;
        refusal[16..20].copy_from_slice(&(-95i32).to_ne_bytes());
        assert_eq!(error_of(&refusal), Some(95));
        refusal[4] = 20;
        assert_eq!(error_of(&refusal), None);
        assert_eq!(error_of(&[]), None);
    }

    #[test]
    fn attributes_are_walked_to_the_end_also_of_a_cut_answer() {
        let mut reply = vec![0; 88];
        for (length, kind) in [(5u16, 3u16), (12, 21)] {
            reply.extend(length.to_ne_bytes());
            reply.extend(kind.to_ne_bytes());
            reply.resize(reply.len() + usize::from(length.next_multiple_of(4)) - 4, 0);
        }
        assert_eq!(attributes(&reply).collect::<Vec<_>>(), [3, 21]);
        for end in 0..reply.len() {
            assert!(attributes(&reply[..end]).count() <= 2);
        }
        assert_eq!(attributes(&[0; 100]).count(), 3, "a length of zero must not stop the walk for ever");
    }
}
