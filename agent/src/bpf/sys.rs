//! System calls that aya has no safe form of, one file a kind of object.

mod inner;
mod link;
mod mapped;
mod object;
mod query;
mod ring;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

pub(crate) use self::inner::{clear_inner, inner_id, set_inner};
pub(crate) use self::link::{At, LinkInfo, Place, create_link, detach_link, link_info, update_link};
pub(crate) use self::mapped::{MapValue, Mapped};
pub(crate) use self::object::{Identity, identity, map_info, open_pin, pin};
pub(crate) use self::query::effective;
pub(crate) use self::ring::ring_positions;

/// `bpf(2)` with a prefix of `union bpf_attr`.
pub(super) fn bpf<A>(command: libc::c_long, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live prefix of `union bpf_attr` of the size given; the kernel takes the rest as zero.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) }
}

/// `bpf(2)` for the commands that answer with a new descriptor.
fn bpf_fd<A>(command: libc::c_long, attr: &mut A) -> io::Result<OwnedFd> {
    let fd = i32::try_from(bpf(command, attr)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
