//! One socket option that rustix has no safe form of.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

const SOL_NETLINK: libc::c_int = 270;
const NETLINK_GET_STRICT_CHK: libc::c_int = 12;

/// Makes the kernel refuse what it does not understand in a netlink question, rather than to answer another one. Since
/// 4.20.
pub(crate) fn strict_netlink(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the option's value is one live integer of the length given.
    let r = unsafe {
        libc::setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, std::ptr::from_ref(&on).cast(), length)
    };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
