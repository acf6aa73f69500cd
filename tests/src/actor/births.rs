//! Workloads that are born, send one datagram with their first breath, and are gone.

use std::fs;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags, open};

use super::protocol::Outcome;
use crate::deadline::wait_for;
use crate::errno;

/// `CLONE_INTO_CGROUP` of `linux/sched.h`; libc has it in too narrow a type.
const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// How long a cgroup may take to be empty after its only process was reaped.
const EMPTY: Duration = Duration::from_secs(5);

/// One birth.
pub(super) struct Birth {
    /// Of the datagram.
    pub(super) outcome: Outcome,
    /// From `mkdir` until the process had sent and ended.
    pub(super) took: Duration,
}

/// Makes the cgroup `directory`, has a process born *in* it (`CLONE_INTO_CGROUP`, 5.7) that opens a socket, sends one
/// datagram to `to` and ends, and removes it again.
pub(super) fn birth(directory: &Path, to: SocketAddr) -> Result<Birth> {
    let SocketAddr::V4(to) = to else { bail!("births send over IPv4") };
    let start = Instant::now();
    fs::create_dir(directory).with_context(|| format!("cannot make cgroup {}", directory.display()))?;
    let sent = send_from(directory, to);
    let took = start.elapsed();
    wait_for("a cgroup without a process to go", EMPTY, || match fs::remove_dir(directory) {
        Ok(()) => Ok(Some(())),
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => Ok(None),
        Err(e) => Err(e.into()),
    })?;
    Ok(Birth { outcome: sent?, took })
}

fn send_from(directory: &Path, to: SocketAddrV4) -> Result<Outcome> {
    let cgroup = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET)?,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
        sin_zero: [0; 8],
    };
    let child = clone_into(&cgroup, &address)?;
    let mut status = 0;
    // SAFETY: the child that was just made; `status` is a local.
    let reaped = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ensure!(reaped == child && libc::WIFEXITED(status), "the process that was born ended with {status:#x}");
    Ok(match libc::WEXITSTATUS(status) {
        0 => Outcome::Done,
        code => Outcome::Failed(errno::name(rustix::io::Errno::from_raw_os_error(code))),
    })
}

/// `clone3` with a copy of this process, which sends and exits with the errno.
fn clone_into(cgroup: &OwnedFd, to: &libc::sockaddr_in) -> Result<libc::pid_t> {
    // SAFETY: zero is a value of every field of `clone_args`.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = u64::try_from(libc::SIGCHLD)?;
    args.cgroup = u64::try_from(cgroup.as_raw_fd())?;
    // SAFETY: without CLONE_VM it is a fork: the child has its own copy of all memory, and only makes system calls.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if child == 0 {
        let code = first_breath(to);
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(code) };
    }
    ensure!(child > 0, "clone3 into a cgroup: {}", io::Error::last_os_error());
    Ok(libc::pid_t::try_from(child)?)
}

/// In the child: system calls only. 0, or an errno.
fn first_breath(to: &libc::sockaddr_in) -> i32 {
    let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(255);
    // SAFETY: a plain system call.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return errno();
    }
    let payload = [b'r'; 32];
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: both pointers are to memory of the lengths given.
    let sent = unsafe {
        libc::sendto(socket, payload.as_ptr().cast(), payload.len(), 0, std::ptr::from_ref(to).cast(), length)
    };
    if sent < 0 { errno() } else { 0 }
}
