//! What somebody with root's privileges can do to an agent's links and maps: raw `bpf(2)`, as such a one would.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::MapData;
use aya::programs::links::{FdLink, PinnedLink};

const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const LINK_UPDATE: libc::c_long = 29;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_DETACH: libc::c_long = 34;

/// `bpf(2)` with the first words of `union bpf_attr`; the rest is zero.
fn bpf(command: libc::c_long, words: [u64; 4]) -> io::Result<libc::c_long> {
    let mut attr = [0u64; 16];
    attr[..4].copy_from_slice(&words);
    // SAFETY: a live attribute of the size given; pointers in it are to what the caller holds.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(&attr)) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) }
}

/// Two 32-bit fields as one word, in memory order.
fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// A link by its kernel id, as `bpftool link detach id` opens it.
fn link_by_id(id: u32) -> Result<OwnedFd> {
    let fd = bpf(LINK_GET_FD_BY_ID, [pair(id, 0), 0, 0, 0]).with_context(|| format!("opening link {id}"))?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// Id of a pinned link, and of the program in it.
///
/// # Errors
/// Nothing is pinned there.
pub fn pinned_link(path: &Path) -> Result<(u32, u32)> {
    let link = PinnedLink::from_pin(path).with_context(|| format!("no link at {}", path.display()))?;
    let info = FdLink::from(link).info()?;
    Ok((info.id(), info.program_id()))
}

/// Detaches a link by its id; its pin and descriptors stay, and hold nothing any more.
///
/// # Errors
/// The kernel refuses.
pub fn detach(id: u32) -> Result<()> {
    let link = link_by_id(id)?;
    bpf(LINK_DETACH, [pair(link.as_raw_fd().unsigned_abs(), 0), 0, 0, 0])
        .with_context(|| format!("detaching link {id}"))?;
    Ok(())
}

/// Puts another program into a link.
///
/// # Errors
/// The kernel refuses.
pub fn replace(id: u32, program: BorrowedFd<'_>) -> Result<()> {
    let link = link_by_id(id)?;
    let fds = pair(link.as_raw_fd().unsigned_abs(), program.as_raw_fd().unsigned_abs());
    bpf(LINK_UPDATE, [fds, 0, 0, 0]).with_context(|| format!("replacing the program of link {id}"))?;
    Ok(())
}

/// Empties a slot of a pinned map of maps.
///
/// # Errors
/// It is not there, or the kernel refuses.
pub fn empty_slot(path: &Path, slot: u32) -> Result<()> {
    let map = MapData::from_pin(path)?;
    let fd = std::os::fd::AsFd::as_fd(map.fd()).as_raw_fd().unsigned_abs();
    bpf(MAP_DELETE, [pair(fd, 0), std::ptr::from_ref(&slot) as u64, 0, 0]).context("emptying a slot")?;
    Ok(())
}

/// Writes zeros over the one value of a pinned array.
///
/// # Errors
/// It is not there, or the kernel refuses.
pub fn blank(path: &Path) -> Result<()> {
    let map = MapData::from_pin(path)?;
    let (key, value) = (0u32, vec![0u8; map.info()?.value_size() as usize]);
    let fd = std::os::fd::AsFd::as_fd(map.fd()).as_raw_fd().unsigned_abs();
    bpf(MAP_UPDATE, [pair(fd, 0), std::ptr::from_ref(&key) as u64, value.as_ptr() as u64, 0])
        .with_context(|| format!("writing to {}", path.display()))?;
    Ok(())
}
