//! System calls that aya has no safe form of, one file a kind of object.

mod inner;
mod link;
mod mapped;
mod object;
mod ring;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub(crate) use self::inner::{clear_inner, inner_id, set_inner};
pub(crate) use self::link::{At, LinkInfo, Place, create_link, link_info, update_link};
pub(crate) use self::mapped::{MapValue, Mapped};
pub(crate) use self::object::{map_info, open_pin, pin};
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

const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_TCX_INGRESS: u32 = 46;
/// `BPF_F_BEFORE`: without a program to be relative to, in front of all.
const BPF_F_BEFORE: u32 = 1 << 3;

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads for tcx.
#[repr(C)]
struct TcxAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u64,
    revision: u64,
}

/// Puts a program in front of an interface's ingress. `EINVAL`: no tcx in this kernel (before 6.6).
pub(crate) fn attach_tcx(program: BorrowedFd<'_>, index: u32) -> io::Result<OwnedFd> {
    let mut attr = TcxAttr {
        prog_fd: program.as_raw_fd() as u32,
        target_ifindex: index,
        attach_type: BPF_TCX_INGRESS,
        flags: BPF_F_BEFORE,
        relative: 0,
        revision: 0,
    };
    let fd = i32::try_from(bpf(BPF_LINK_CREATE, &mut attr)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
