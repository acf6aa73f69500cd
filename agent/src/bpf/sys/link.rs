//! Links: a program attached somewhere, as a descriptor that can be pinned and whose program can be replaced.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::object::info;
use super::{bpf, bpf_fd};

const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `enum bpf_link_type` of include/uapi/linux/bpf.h.
const RAW_TRACEPOINT: u32 = 1;
const CGROUP: u32 = 3;
const TCX: u32 = 11;

/// Without a program to be relative to: in front of all.
const BPF_F_BEFORE: u32 = 1 << 3;

/// The part that `BPF_LINK_CREATE` reads. For tcx `target` is the interface's index.
#[repr(C)]
struct CreateAttr {
    program_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// Of the union that follows, tcx reads the first four words (relative id and revision), cgroups (6.17) too.
    _relative: [u64; 2],
}

/// The part that `BPF_LINK_UPDATE` reads.
#[repr(C)]
struct UpdateAttr {
    link_fd: u32,
    new_program_fd: u32,
    flags: u32,
    old_program_fd: u32,
}

/// The part that `BPF_RAW_TRACEPOINT_OPEN` reads.
#[repr(C)]
struct TracepointAttr {
    name: u64,
    program_fd: u32,
    _pad: u32,
    cookie: u64,
}

/// The beginning of `struct bpf_link_info`; what stands in the union depends on the type.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct InfoAttr {
    link_type: u32,
    id: u32,
    program_id: u32,
    _pad: u32,
    union: [u64; 3],
}

/// Where a program is, or is to be, attached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// A cgroup and all below it; `attach` is its `enum bpf_attach_type`.
    Cgroup {
        /// The cgroup's directory.
        cgroup: BorrowedFd<'a>,
        /// Its id: the directory's inode number.
        id: u64,
        /// `enum bpf_attach_type`.
        attach: u32,
    },
    /// An interface, in front of what is there (`tcx`, Linux 6.6; `EINVAL` before).
    Tcx {
        /// Index of the interface, in the namespace of the caller.
        interface: u32,
        /// `enum bpf_attach_type`.
        attach: u32,
    },
    /// A raw tracepoint.
    Tracepoint {
        /// Its name, without a group.
        name: &'a CStr,
    },
}

impl Place<'_> {
    /// Whether a link is here. A link whose cgroup or interface is gone is nowhere, and so is one that was detached.
    pub(crate) fn holds(&self, link: &LinkInfo) -> bool {
        match *self {
            Self::Cgroup { id, attach, .. } => link.at == At::Cgroup { id, attach },
            Self::Tcx { interface, attach } => link.at == At::Tcx { interface, attach },
            Self::Tracepoint { .. } => link.at == At::Tracepoint,
        }
    }
}

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// At a cgroup; id 0: it is gone, or the link was detached.
    Cgroup {
        /// The cgroup's id.
        id: u64,
        /// `enum bpf_attach_type`.
        attach: u32,
    },
    /// At an interface; index 0: it is gone, or the link was detached.
    Tcx {
        /// The interface's index.
        interface: u32,
        /// `enum bpf_attach_type`.
        attach: u32,
    },
    /// At a raw tracepoint.
    Tracepoint,
    /// Something that is not ours.
    Elsewhere,
}

/// What a link is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkInfo {
    /// The kernel's id of the link; it stays the same when the program is replaced.
    pub(crate) id: u32,
    /// The kernel's id of the program.
    pub(crate) program: u32,
    /// Where it is.
    pub(crate) at: At,
}

/// Attaches a program.
pub(crate) fn create_link(program: BorrowedFd<'_>, place: &Place<'_>) -> io::Result<OwnedFd> {
    let program_fd = program.as_raw_fd() as u32;
    let link = |target, attach_type, flags| {
        let mut attr = CreateAttr { program_fd, target, attach_type, flags, _relative: [0; 2] };
        bpf_fd(BPF_LINK_CREATE, &mut attr)
    };
    match *place {
        Place::Cgroup { cgroup, attach, .. } => link(cgroup.as_raw_fd() as u32, attach, 0),
        Place::Tcx { interface, attach } => link(interface, attach, BPF_F_BEFORE),
        Place::Tracepoint { name } => {
            let mut attr = TracepointAttr { name: name.as_ptr() as u64, program_fd, _pad: 0, cookie: 0 };
            bpf_fd(BPF_RAW_TRACEPOINT_OPEN, &mut attr)
        }
    }
}

/// Replaces a link's program by another of the same type: no packet passes between the two. Cgroup and tcx links only.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = UpdateAttr {
        link_fd: link.as_raw_fd() as u32,
        new_program_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_program_fd: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(|_| ())
}

/// The part that `BPF_LINK_DETACH` reads.
#[repr(C)]
struct DetachAttr {
    link_fd: u32,
}

/// Detaches a link at once, whoever else holds it. (When the last holder lets go the kernel detaches too, but later, in a
/// worker.) Cgroup and tcx links; others answer `EOPNOTSUPP`.
pub(crate) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = DetachAttr { link_fd: link.as_raw_fd() as u32 };
    bpf(BPF_LINK_DETACH, &mut attr).map(|_| ())
}

/// What a link is. An error for what is no link.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let raw: InfoAttr = info(link)?;
    let [first, second, _] = raw.union;
    // Two 32-bit fields that lie in one word of the union, in memory order.
    let pair = |word: u64| {
        let bytes = word.to_ne_bytes();
        let half = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (half(0), half(4))
    };
    let at = match raw.link_type {
        CGROUP => At::Cgroup { id: first, attach: pair(second).0 },
        TCX => At::Tcx { interface: pair(first).0, attach: pair(first).1 },
        RAW_TRACEPOINT => At::Tracepoint,
        _ => At::Elsewhere,
    };
    Ok(LinkInfo { id: raw.id, program: raw.program_id, at })
}
