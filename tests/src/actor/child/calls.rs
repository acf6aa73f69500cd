//! The calls of [`Call`], made.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{limit, named, timed, uring};
use crate::actor::protocol::Answer;
use crate::actor::{Call, Profile};

type Sockets = HashMap<String, OwnedFd>;

/// Room for one descriptor in a control message.
const ONE_DESCRIPTOR: usize = rustix::cmsg_space!(ScmRights(1));

pub(super) fn make(sockets: &mut Sockets, call: Call) -> Result<Answer> {
    Ok(match call {
        Call::Socket { name, domain, kind, protocol } => timed(|| {
            sockets.insert(name, socket(domain, kind, protocol)?);
            Ok(0)
        }),
        Call::Option { name, level, option, value } => {
            let socket = named(sockets, &name)?;
            timed(|| set_option(socket, level, option, &value))
        }
        Call::Bind { name, to } => {
            let socket = named(sockets, &name)?;
            timed(|| bind(socket, &to))
        }
        Call::Listen { name } => {
            let socket = named(sockets, &name)?;
            timed(|| rustix::net::listen(socket, 8).map(|()| 0))
        }
        Call::Accept { name, connection, limit_ms } => {
            let listener = named(sockets, &name)?;
            limit(listener, Timeout::Recv, Duration::from_millis(limit_ms))?;
            let (answer, accepted) = taken(|| rustix::net::accept(listener));
            sockets.extend(accepted.map(|socket| (connection, socket)));
            answer
        }
        Call::Connect { name, to, limit_ms } => {
            let socket = named(sockets, &name)?;
            limit(socket, Timeout::Send, Duration::from_millis(limit_ms))?;
            timed(|| connect(socket, &to))
        }
        Call::Send { name, to, payload, flags } => {
            let socket = named(sockets, &name)?;
            timed(|| send(socket, to.as_deref().unwrap_or_default(), &payload, flags))
        }
        Call::Number { name } => {
            let number = named(sockets, &name)?.as_raw_fd();
            timed(|| usize::try_from(number).map_err(|_| Errno::BADF))
        }
        Call::Pass { name, over } => {
            let (passed, over) = (named(sockets, &name)?, named(sockets, &over)?);
            timed(|| pass(passed, over))
        }
        Call::Take { name, over } => {
            let over = named(sockets, &over)?;
            let (answer, taken) = taken(|| take(over));
            sockets.extend(taken.map(|socket| (name, socket)));
            answer
        }
        Call::TakeFrom { name, pid, number } => {
            let (answer, taken) = taken(|| take_from(pid, number));
            sockets.extend(taken.map(|socket| (name, socket)));
            answer
        }
        Call::MoveTo { procs } => {
            timed(|| fs::write(&procs, "0").map(|()| 0).map_err(|error| errno_of(&error)))
        }
        Call::EnterNetns { file } => {
            let namespace =
                fs::File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
            timed(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map(|()| 0)
            })
        }
        Call::DropCapabilities => {
            Profile::None.assume()?;
            timed(|| Ok(0))
        }
        Call::Uring { kind, to, way, bytes } => {
            let mut ring = uring::Ring::new(way)?;
            timed(|| ring.exchange(kind, &to, bytes))
        }
    })
}

/// [`timed`] for a call that makes a socket.
fn taken(call: impl FnOnce() -> rustix::io::Result<OwnedFd>) -> (Answer, Option<OwnedFd>) {
    let mut socket = None;
    let answer = timed(|| {
        socket = Some(call()?);
        Ok(0)
    });
    (answer, socket)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The result of a system call by libc: negative is `errno`.
fn checked(result: libc::c_int) -> rustix::io::Result<usize> {
    usize::try_from(result).map_err(|_| errno_of(&std::io::Error::last_os_error()))
}

fn length_of(bytes: &[u8]) -> rustix::io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(bytes.len()).map_err(|_| Errno::INVAL)
}

fn owned(descriptor: usize) -> rustix::io::Result<OwnedFd> {
    let descriptor = RawFd::try_from(descriptor).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for the caller, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn socket(domain: i32, kind: i32, protocol: i32) -> rustix::io::Result<OwnedFd> {
    // SAFETY: a system call on three integers.
    owned(checked(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?)
}

fn set_option(socket: &OwnedFd, level: i32, option: i32, value: &[u8]) -> rustix::io::Result<usize> {
    let length = length_of(value)?;
    // SAFETY: the pointer and length are those of a slice that outlives the call.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), length) })
}

fn bind(socket: &OwnedFd, to: &[u8]) -> rustix::io::Result<usize> {
    let length = length_of(to)?;
    // SAFETY: as for `set_option`; the kernel copies the bytes and checks them.
    checked(unsafe { libc::bind(socket.as_raw_fd(), to.as_ptr().cast(), length) })
}

fn connect(socket: &OwnedFd, to: &[u8]) -> rustix::io::Result<usize> {
    let length = length_of(to)?;
    // SAFETY: as for `bind`.
    checked(unsafe { libc::connect(socket.as_raw_fd(), to.as_ptr().cast(), length) })
}

fn send(socket: &OwnedFd, to: &[u8], payload: &[u8], flags: i32) -> rustix::io::Result<usize> {
    let address = if to.is_empty() { std::ptr::null() } else { to.as_ptr() };
    let length = length_of(to)?;
    // NOSIGNAL: a reset connection must answer EPIPE, not end the actor.
    let flags = flags | libc::MSG_NOSIGNAL;
    let (bytes, count) = (payload.as_ptr().cast(), payload.len());
    // SAFETY: both pointers and lengths are those of slices that outlive the call; a null address has length 0.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), bytes, count, flags, address.cast(), length) };
    usize::try_from(sent).map_err(|_| errno_of(&std::io::Error::last_os_error()))
}

fn pass(socket: &OwnedFd, over: &OwnedFd) -> rustix::io::Result<usize> {
    let mut space = [std::mem::MaybeUninit::uninit(); ONE_DESCRIPTOR];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [socket.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(over, &[std::io::IoSlice::new(b"s")], &mut control, SendFlags::NOSIGNAL)
}

fn take(over: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); ONE_DESCRIPTOR];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(over, &mut [std::io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return Ok(descriptor);
        }
    }
    Err(Errno::NOMSG)
}

fn take_from(pid: u32, number: i32) -> rustix::io::Result<OwnedFd> {
    // SAFETY: a system call on two integers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let process = owned(usize::try_from(process).map_err(|_| errno_of(&std::io::Error::last_os_error()))?)?;
    // SAFETY: a system call on three integers; the first is a descriptor that lives until its end.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    owned(usize::try_from(taken).map_err(|_| errno_of(&std::io::Error::last_os_error()))?)
}
