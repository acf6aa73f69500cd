//! Slots of a map of maps.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::bpf;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;

/// The part that element calls read.
#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
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

/// The id of the inner map in a slot, `None` if the slot is empty. (Opening a map by its id takes CAP_SYS_ADMIN; whoever
/// wants the map itself pins it, and compares ids.)
pub(crate) fn inner_id(outer: BorrowedFd<'_>, slot: u32) -> io::Result<Option<u32>> {
    let mut id = 0u32;
    let mut attr = ElemAttr {
        map_fd: outer.as_raw_fd() as u32,
        _pad: 0,
        key: std::ptr::from_ref(&slot) as u64,
        value: std::ptr::from_mut(&mut id) as u64,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) {
        Ok(_) => Ok(Some(id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
