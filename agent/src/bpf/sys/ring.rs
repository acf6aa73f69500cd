//! Positions of a ring buffer, without being its reader.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// A page of a ring, mapped to be read.
struct Page(NonNull<u64>, usize);

impl Page {
    fn map(ring: BorrowedFd<'_>, number: usize) -> io::Result<Self> {
        let length = rustix::param::page_size();
        let offset = libc::off_t::try_from(number * length).map_err(io::Error::other)?;
        let (prot, fd) = (libc::PROT_READ, ring.as_raw_fd());
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let p = unsafe { libc::mmap(ptr::null_mut(), length, prot, libc::MAP_SHARED, fd, offset) };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(p.cast()).ok_or_else(|| io::Error::other("mmap gave null"))?;
        Ok(Self(at, length))
    }

    /// The position at the page's beginning; others change it.
    fn position(&self) -> u64 {
        // SAFETY: mapped, aligned to a page; volatile because the kernel or a reader writes it.
        unsafe { self.0.as_ptr().read_volatile() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, of this length, which nothing borrows any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), self.1) };
    }
}

/// Bytes consumed and produced since the ring was made (`struct bpf_ringbuf` in kernel/bpf/ringbuf.c: a page for the
/// consumer's position, then one for the producer's).
pub(crate) fn ring_positions(ring: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let (consumer, producer) = (Page::map(ring, 0)?, Page::map(ring, 1)?);
    Ok((consumer.position(), producer.position()))
}
