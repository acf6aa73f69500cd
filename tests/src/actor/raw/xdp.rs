//! AF_XDP, the sending half: frames are laid into memory shared with the kernel, and descriptors of them into a
//! ring. In copy mode any device takes them and no BPF program is needed, only CAP_NET_RAW.
//!
//! Kernel: `xsk_generic_xmit` hands a copy straight to the driver (since 4.18).

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::net::sockopt::{
    set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size, set_xdp_umem_fill_ring_size, set_xdp_umem_reg,
    xdp_mmap_offsets,
};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_TX_RING, XdpDesc, XdpDescOptions, XdpUmemReg,
    XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, send as wake, socket_with};

/// Bytes of one chunk of the shared memory: one frame each.
const CHUNK: usize = 4096;
/// Descriptors in each ring; a power of two. No more frames than this are sent at once.
const RING: u32 = 64;

/// How long the queue of a socket that was closed may stay taken.
const FREED: Duration = Duration::from_secs(5);

/// A mapping that is undone when dropped.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    /// Memory of the actor's own.
    fn anonymous(length: usize) -> Result<Self, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: no address is asked for, so nothing that exists is mapped over.
        let start = unsafe { mmap_anonymous(null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
        Ok(Self { start: start.cast(), length })
    }

    /// A ring of the kernel's.
    fn ring(socket: &OwnedFd, length: usize, at: u64) -> Result<Self, Errno> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so nothing that exists is mapped over.
        let start = unsafe { mmap(null_mut(), length, access, flags, socket.as_fd(), at) }?;
        Ok(Self { start: start.cast(), length })
    }

    /// The bytes from `at` on are `bytes` now. What lies beyond the mapping is a defect of the caller's.
    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at.checked_add(bytes.len()).is_some_and(|end| end <= self.length), "outside the mapping");
        // SAFETY: `at` is inside the mapping, which is one allocation.
        let to = unsafe { self.start.add(at) };
        // SAFETY: the whole length is inside the mapping (asserted), which is no Rust object.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// The counter at this offset.
    fn counter(&self, at: usize) -> &AtomicU32 {
        assert!(at + 4 <= self.length && at.is_multiple_of(4), "outside the mapping");
        // SAFETY: `at` is inside the mapping.
        let counter = unsafe { self.start.add(at) };
        // SAFETY: aligned (asserted), mapped as long as `self` lives, and only ever used atomically.
        unsafe { AtomicU32::from_ptr(counter.cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and no reference to it outlives `self`.
        unsafe { munmap(self.start.cast(), self.length) }.ok();
    }
}

/// Binds to the link's first queue. The kernel gives a queue free some time after its last socket was closed (a work
/// queue does it), and answers EBUSY until then.
fn bind_when_free(socket: &OwnedFd, index: u32) -> Result<(), Errno> {
    let end = Instant::now() + FREED;
    loop {
        match bind(socket, &SocketAddrXdp::new(SocketAddrXdpFlags::XDP_COPY, index, 0)) {
            Err(Errno::BUSY) if Instant::now() < end => sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
}

pub(super) fn send(index: u32, frames: &[Vec<u8>]) -> Result<usize, Errno> {
    if frames.len() > RING as usize || frames.iter().any(|frame| frame.len() > CHUNK) {
        return Err(Errno::MSGSIZE);
    }
    let socket = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let memory = Mapping::anonymous(CHUNK * RING as usize)?;
    set_xdp_umem_reg(
        &socket,
        XdpUmemReg {
            addr: memory.start.addr() as u64,
            len: memory.length as u64,
            chunk_size: CHUNK as u32,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        },
    )?;
    // The kernel wants both rings of the memory before it binds, used or not.
    set_xdp_umem_fill_ring_size(&socket, RING)?;
    set_xdp_umem_completion_ring_size(&socket, RING)?;
    set_xdp_tx_ring_size(&socket, RING)?;
    let at = xdp_mmap_offsets(&socket)?.tx;
    let (producer, descriptors) = (at.producer as usize, at.desc as usize);
    let ring = Mapping::ring(&socket, descriptors + RING as usize * size_of::<XdpDesc>(), XDP_PGOFF_TX_RING)?;
    bind_when_free(&socket, index)?;

    for (number, frame) in frames.iter().enumerate() {
        memory.write(number * CHUNK, frame);
        let descriptor = XdpDesc {
            addr: (number * CHUNK) as u64,
            len: frame.len() as u32,
            options: XdpDescOptions::empty(),
        };
        let mut bytes = descriptor.addr.to_ne_bytes().to_vec();
        bytes.extend(descriptor.len.to_ne_bytes());
        bytes.extend(descriptor.options.bits().to_ne_bytes());
        ring.write(descriptors + number * size_of::<XdpDesc>(), &bytes);
    }
    ring.counter(producer).store(frames.len() as u32, Ordering::Release);
    // The wake-up makes the kernel send what is in the ring, up to a budget: until it has taken everything.
    while ring.counter(at.consumer as usize).load(Ordering::Acquire) < frames.len() as u32 {
        match wake(&socket, &[], SendFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(frames.len())
}
