//! The program as a filter of the `clsact` qdisc: for kernels without tcx (before 6.6).
//!
//! A filter belongs to its interface, not to a process: it outlives the agent without a pin, and the next agent puts its
//! program in the same place, which the kernel does in one step. Numbers are of `linux/pkt_sched.h` and
//! `linux/pkt_cls.h`; they are kernel ABI.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::attributes::put;
use super::netlink::{Netlink, NetlinkError};

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;

const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`.
const INGRESS: u32 = 0xffff_fff2;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
/// `TCA_BPF_FLAG_ACT_DIRECT`: what the program returns is what happens.
const ACT_DIRECT: u32 = 1;

/// In front of all others.
const PRIORITY: u32 = 1;
/// `ETH_P_ALL`, in network order as the kernel wants it.
const ALL_PROTOCOLS: u32 = 3u16.to_be() as u32;
/// By which our filter is known again.
const HANDLE: u32 = 0x5246_0001;

/// `struct tcmsg`.
fn message(interface: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut message = vec![0; 4];
    for word in [interface, handle, parent, info] {
        message.extend(word.to_ne_bytes());
    }
    message
}

/// Puts the program at the interface's ingress, in the place of the one that an earlier agent left.
pub(super) fn attach(
    netlink: &mut Netlink,
    interface: u32,
    program: BorrowedFd<'_>,
) -> Result<(), NetlinkError> {
    let mut qdisc = message(interface, CLSACT_HANDLE, TC_H_CLSACT, 0);
    put(&mut qdisc, TCA_KIND, b"clsact\0");
    match netlink.request("adding the clsact qdisc", RTM_NEWQDISC, CREATE | EXCLUSIVE, &qdisc) {
        Ok(()) => {}
        Err(error) if error.errno() == Some(libc::EEXIST) => {}
        Err(error) => return Err(error),
    }
    let mut options = Vec::new();
    put(&mut options, TCA_BPF_FD, &program.as_fd().as_raw_fd().to_ne_bytes());
    put(&mut options, TCA_BPF_NAME, b"ringfence_host\0");
    put(&mut options, TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes());
    let mut filter = message(interface, HANDLE, INGRESS, PRIORITY << 16 | ALL_PROTOCOLS);
    put(&mut filter, TCA_KIND, b"bpf\0");
    put(&mut filter, TCA_OPTIONS, &options);
    netlink.request("adding a filter", RTM_NEWTFILTER, CREATE | REPLACE, &filter)
}

/// Takes it away; the qdisc stays, others may use it. Nothing there is no error, nor is an interface that is gone.
pub(super) fn detach(netlink: &mut Netlink, interface: u32) -> Result<(), NetlinkError> {
    let mut filter = message(interface, HANDLE, INGRESS, PRIORITY << 16 | ALL_PROTOCOLS);
    put(&mut filter, TCA_KIND, b"bpf\0");
    match netlink.request("removing a filter", RTM_DELTFILTER, 0, &filter) {
        Ok(()) => Ok(()),
        // No such filter, no qdisc to hold one, no such interface.
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Ok(()),
        Err(error) => Err(error),
    }
}
