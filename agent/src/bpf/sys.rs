//! Three system calls that aya has no safe form of: an mmapable array, its mapping, and a slot of a map in a map.

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use agent_common::image::Policy;
use agent_common::place_index::PlaceIndex;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// Types that may be laid over a map's value: integers only, for which any bytes are a value.
pub(crate) trait MapValue {
    /// The map's name in `bpftool map`.
    const NAME: &'static [u8];
}
impl MapValue for Policy {
    const NAME: &'static [u8] = b"rf_policy\0";
}
impl MapValue for PlaceIndex {
    const NAME: &'static [u8] = b"rf_places\0";
}

/// The part of `union bpf_attr` that `BPF_MAP_CREATE` reads here (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// The part that element calls read.
#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

pub(super) fn bpf<A>(command: libc::c_long, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live prefix of `union bpf_attr` of the size given; the kernel takes the rest as zero.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) }
}

/// An array map of one value, mapped into this process. The value starts as zeros.
///
/// Writing to it while programs read it is how the map is meant to be used; what must be seen whole is made seen
/// whole by swapping the map in an outer one.
pub(crate) struct Mapped<T> {
    fd: OwnedFd,
    at: NonNull<T>,
    _value: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone, and `T` is integers.
unsafe impl<T: MapValue> Send for Mapped<T> {}
// SAFETY: shared references only read integers; whoever writes has the only reference (`DerefMut`).
unsafe impl<T: MapValue> Sync for Mapped<T> {}

impl<T: MapValue> Mapped<T> {
    const LEN: usize = size_of::<T>().next_multiple_of(4096);

    pub(crate) fn create() -> io::Result<Self> {
        let mut attr = CreateAttr {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: u32::try_from(size_of::<T>()).map_err(io::Error::other)?,
            max_entries: 1,
            map_flags: BPF_F_MMAPABLE,
            ..CreateAttr::default()
        };
        attr.map_name[..T::NAME.len()].copy_from_slice(T::NAME);
        let fd = i32::try_from(bpf(BPF_MAP_CREATE, &mut attr)?).map_err(io::Error::other)?;
        // SAFETY: the kernel just gave us this descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Self::map(fd)
    }

    /// Maps an array map that [`create`](Self::create) made. The kernel enters every page at once: a mapping counts in
    /// full as this process's memory.
    pub(crate) fn map(fd: OwnedFd) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let fd_number = fd.as_raw_fd();
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let p = unsafe { libc::mmap(std::ptr::null_mut(), Self::LEN, prot, libc::MAP_SHARED, fd_number, 0) };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(p.cast()).ok_or_else(|| io::Error::other("mmap gave null"))?;
        Ok(Self { fd, at, _value: PhantomData })
    }

    /// Unmaps; what remains is the map itself.
    pub(crate) fn unmap(self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, of this length, which nothing borrows any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), size_of::<T>().next_multiple_of(4096)) };
    }
}

impl<T> Deref for Mapped<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: mapped, page-aligned, at least `T` long, and `T` is integers for which any bytes are a value.
        unsafe { self.at.as_ref() }
    }
}

impl<T> DerefMut for Mapped<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; the kernel's programs only read it.
        unsafe { self.at.as_mut() }
    }
}

impl<T> AsFd for Mapped<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Puts an inner map into a slot. Returns after a grace period: no program uses the old one any more.
pub(crate) fn set_inner(outer: BorrowedFd<'_>, slot: u32, inner: BorrowedFd<'_>) -> io::Result<()> {
    let value = inner.as_raw_fd() as u32;
    let mut attr = ElemAttr {
        map_fd: outer.as_raw_fd() as u32,
        _pad: 0,
        key: std::ptr::from_ref(&slot) as u64,
        value: std::ptr::from_ref(&value) as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(|_| ())
}

/// Empties a slot, which frees the inner map when nothing else holds it.
pub(crate) fn clear_inner(outer: BorrowedFd<'_>, slot: u32) -> io::Result<()> {
    let mut attr = ElemAttr {
        map_fd: outer.as_raw_fd() as u32,
        _pad: 0,
        key: std::ptr::from_ref(&slot) as u64,
        value: 0,
        flags: 0,
    };
    bpf(BPF_MAP_DELETE_ELEM, &mut attr).map(|_| ())
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
