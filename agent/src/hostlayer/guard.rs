//! One guarded interface.

use std::os::fd::{AsFd, OwnedFd};

use agent_common::host::Veth;

use super::clsact;
use super::netlink::{Netlink, NetlinkError};
use crate::bpf::host::HostProgram;
use crate::events::model::words::Guard;

/// How a program gets to an interface: tried, not looked up by version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// tcx, and clsact once the kernel has said that it has none.
    Tcx,
    /// clsact.
    Clsact,
}

/// A program at an interface.
#[derive(Debug)]
pub(super) struct Attached {
    /// What the kernel side knows of the interface.
    pub(super) veth: Veth,
    /// A tcx link detaches when this is dropped; a filter does not.
    link: Option<OwnedFd>,
}

impl Attached {
    /// Attaches the program to an interface that is assigned already.
    pub(super) fn attach(
        method: &mut Method,
        program: &HostProgram,
        netlink: &mut Netlink,
        index: u32,
        veth: Veth,
    ) -> Result<Self, NetlinkError> {
        if *method == Method::Tcx {
            match program.attach_tcx(index) {
                Ok(link) => return Ok(Self { veth, link: Some(link) }),
                // What a kernel says to a kind of link that it does not know.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => *method = Method::Clsact,
                Err(source) => return Err(NetlinkError::Call { call: "attaching by tcx", source }),
            }
        }
        clsact::attach(netlink, index, program.as_fd())?;
        Ok(Self { veth, link: None })
    }

    pub(super) const fn guard(&self) -> Guard {
        if self.link.is_some() { Guard::Tcx } else { Guard::Clsact }
    }
}
