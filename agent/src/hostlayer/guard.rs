//! One guarded interface.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use agent_common::host::Veth;
use thiserror::Error;

use super::clsact;
use super::netlink::{Netlink, NetlinkError};
use crate::bpf::host::{HostProgram, interface_of, link_name};
use crate::bpf::pin::{PinDirectory, PinError};
use crate::bpf::post::Post;
use crate::events::model::words::Guard;

/// How a program gets to an interface: tried, not looked up by version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// tcx, and clsact once the kernel has said that it has none.
    Tcx,
    /// clsact.
    Clsact,
}

/// Why an interface is not guarded, or can't be let go.
#[derive(Debug, Error)]
pub enum GuardError {
    /// The kernel did not answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The pin directory.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// Interfaces at which an agent, this one or an earlier one, has left a program.
pub(super) fn left(pins: &PinDirectory) -> Result<BTreeSet<u32>, PinError> {
    let links = pins.link_names()?;
    let links = links.iter().filter_map(|name| interface_of(name));
    Ok(links.chain(pins.filters()?).collect())
}

/// Detaches what is at an interface, whoever put it there.
pub(super) fn release(pins: &PinDirectory, netlink: &mut Netlink, index: u32) -> Result<(), GuardError> {
    pins.unlink(&link_name(index))?;
    clsact::detach(netlink, index)?;
    pins.forget_filter(index)?;
    Ok(())
}

/// Takes away every filter that an agent has left; its links go with their pins.
///
/// # Errors
/// No netlink, or a filter that stays.
pub fn release_filters(pins: &PinDirectory) -> Result<usize, GuardError> {
    let filters = pins.filters()?;
    if filters.is_empty() {
        return Ok(0);
    }
    let mut netlink = Netlink::open()?;
    for index in &filters {
        release(pins, &mut netlink, *index)?;
    }
    Ok(filters.len())
}

/// What became of a guard since the last look.
pub(super) enum Held {
    /// Nothing.
    Well,
    /// Something that is put right.
    Again(String),
    /// Something that can't be.
    Not(String),
    /// Its interface went meanwhile.
    Gone,
}

/// A program at an interface.
#[derive(Debug)]
pub(super) struct Attached {
    /// What the kernel side knows of the interface.
    pub(super) veth: Veth,
    /// A tcx link; a filter has none.
    link: Option<Post>,
}

impl Attached {
    /// Attaches the program to an interface that is assigned already.
    pub(super) fn attach(
        method: &mut Method,
        program: &HostProgram,
        pins: &PinDirectory,
        netlink: &mut Netlink,
        index: u32,
        veth: Veth,
    ) -> Result<Self, GuardError> {
        if *method == Method::Tcx {
            match program.attach_tcx(pins, index)? {
                Some(link) => return Ok(Self { veth, link: Some(link) }),
                None => *method = Method::Clsact,
            }
        }
        // Noted first: whoever takes everything away must know of it.
        pins.note_filter(index, program.as_fd())?;
        clsact::attach(netlink, index, program.as_fd())?;
        Ok(Self { veth, link: None })
    }

    /// Looks at it, and puts it right. A filter is no link: nobody tells what has become of it, and nobody asks.
    pub(super) fn hold(&mut self) -> Held {
        let Some(post) = &mut self.link else { return Held::Well };
        if let Some(wrong) = post.hold() {
            return match wrong.failed {
                None => {
                    // What can't be pinned now is found in the next look.
                    post.keep();
                    Held::Again(wrong.found)
                }
                Some(error) if error.raw_os_error() == Some(libc::ENODEV) => Held::Gone,
                Some(error) => Held::Not(format!("{}; it can't be put right: {error}", wrong.found)),
            };
        }
        match post.keep() {
            None => Held::Well,
            Some(Ok(())) => Held::Again("its pin was removed or replaced".to_owned()),
            Some(Err(error)) => Held::Not(error.to_string()),
        }
    }

    pub(super) const fn guard(&self) -> Guard {
        if self.link.is_some() { Guard::Tcx } else { Guard::Clsact }
    }
}
