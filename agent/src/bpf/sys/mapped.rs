//! An mmapable array map of one value, and its mapping.

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use agent_common::image::Policy;
use agent_common::place_index::PlaceIndex;

use super::bpf_fd;

const BPF_MAP_CREATE: libc::c_long = 0;
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
        let fd = bpf_fd(BPF_MAP_CREATE, &mut attr)?;
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

    /// The value as it lies in memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped, `T` long, and `T` is integers without padding (sizes are asserted): any byte is one.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), size_of::<T>()) }
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
