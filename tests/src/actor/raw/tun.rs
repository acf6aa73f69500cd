//! TUN: packets that come *in* from a device of the workload's own and are forwarded out of the other. A forwarded
//! packet has no socket, so no cgroup hook asks whose it is.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use rustix::io::Errno;

use super::frames::last;
use crate::netlink::Netlink;

const NAME: &str = "rf-tun";
/// `TUNSETIFF` of `linux/if_tun.h`.
const SET_INTERFACE: libc::c_ulong = 0x4004_54ca;
/// `IFF_TUN | IFF_NO_PI`
const PLAIN_TUN: libc::c_short = 0x1001;

pub(super) fn send(packets: &[Vec<u8>]) -> Result<Result<usize, Errno>> {
    let mut device = match OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(device) => device,
        Err(error) => return Ok(Err(Errno::from_io_error(&error).context("/dev/net/tun")?)),
    };
    if let Err(errno) = attach(&device) {
        return Ok(Err(errno));
    }
    let mut netlink = Netlink::open()?;
    netlink.set_up(NAME, true)?;
    netlink.forward_from(NAME)?;
    for packet in packets {
        if let Err(error) = device.write_all(packet) {
            return Ok(Err(Errno::from_io_error(&error).context("write to a TUN device")?));
        }
    }
    Ok(Ok(packets.len()))
}

fn attach(device: &File) -> Result<(), Errno> {
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(NAME.bytes()) {
        *to = from.cast_signed();
    }
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: PLAIN_TUN } };
    // SAFETY: the pointer is to a local of the type that this request has.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), SET_INTERFACE, &raw mut request) };
    if result < 0 { Err(last()) } else { Ok(()) }
}
