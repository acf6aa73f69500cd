//! AF_PACKET: frames past the IP layer. `packet_snd` hands them to the device's queue; no socket of the IP layer
//! and no cgroup hook ever sees them.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send as send_once, socket_with};

pub(super) fn send(index: u32, frames: &[Vec<u8>]) -> Result<usize, Errno> {
    // Protocol 0: transmit only.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, index)?;
    super::each(frames, |frame| send_once(&socket, frame, SendFlags::empty()).map(drop))
}

fn bind(socket: &OwnedFd, index: u32) -> Result<(), Errno> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a local of the type and length that the family has.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
    };
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// `errno` of the call that has just failed.
pub(super) fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
