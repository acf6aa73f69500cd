//! The host layer's program and maps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_common::host::{Veth, VethCounts};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};
use aya::programs::{Program, ProgramError};
use thiserror::Error;

use super::image::take;
use super::link::Place;
use super::load::LoadError;
use super::pin::{PinDirectory, PinError};
use super::post::Post;

/// The program in the kernel object.
pub const PROGRAM: &str = "ringfence_host";

/// Why an interface is not guarded.
#[derive(Debug, Error)]
pub enum HostError {
    /// A map element can't be written.
    #[error("{what}: {source}")]
    Map {
        /// What was tried.
        what: &'static str,
        /// What aya said.
        source: MapError,
    },
    /// The program is not there.
    #[error("the kernel object has no program {PROGRAM}: object and agent are of different builds")]
    Missing,
    /// The program is not loaded.
    #[error("program {PROGRAM}: {0}")]
    Program(Box<ProgramError>),
    /// No descriptor.
    #[error("program {PROGRAM}: {0}")]
    Descriptor(io::Error),
}

fn map(what: &'static str) -> impl FnOnce(MapError) -> HostError {
    move |source| HostError::Map { what, source }
}

/// What the host layer writes to and reads from.
pub struct HostMaps {
    guarded: Array<MapData, u64>,
    veths: HashMap<MapData, u32, Veth>,
    counts: HashMap<MapData, u32, VethCounts>,
}

impl HostMaps {
    /// Takes the maps out of a loaded object.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        Ok(Self {
            guarded: take(ebpf, "GUARDED")?,
            veths: take(ebpf, "VETHS")?,
            counts: take(ebpf, "VETH_COUNTS")?,
        })
    }

    /// Says how many interfaces are guarded: from the first on, egress vouches for what the address does not show.
    pub(crate) fn announce(&mut self, guarded: usize) -> Result<(), HostError> {
        self.guarded.set(0, guarded as u64, 0).map_err(map("say how many interfaces are guarded"))
    }

    /// Whose interface this is from now on.
    pub(crate) fn assign(&mut self, index: u32, veth: Veth) -> Result<(), HostError> {
        match self.counts.insert(index, VethCounts::default(), BPF_NOEXIST) {
            // Known already: its counts go on.
            Ok(()) => {}
            Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(map("make an interface's counters")(error)),
        }
        self.veths.insert(index, veth, 0).map_err(map("assign an interface"))
    }

    /// The interface is nobody's any more.
    pub(crate) fn release(&mut self, index: u32) -> Result<(), HostError> {
        for done in [self.veths.remove(&index), self.counts.remove(&index)] {
            match done {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(map("release an interface")(error)),
            }
        }
        Ok(())
    }

    /// The interfaces that are assigned, those of an earlier agent among them.
    pub(crate) fn assigned(&self) -> Vec<u32> {
        self.veths.keys().flatten().collect()
    }

    /// What was stopped there.
    pub(crate) fn counts(&self, index: u32) -> VethCounts {
        self.counts.get(&index, 0).unwrap_or_default()
    }
}

/// `BPF_NOEXIST` (include/uapi/linux/bpf.h).
const BPF_NOEXIST: u64 = 1;

/// `enum bpf_attach_type`.
const BPF_TCX_INGRESS: u32 = 46;

/// Name of the link of an interface.
const LINK: &str = "veth-";

/// Name of the link at an interface.
pub(crate) fn link_name(index: u32) -> String {
    format!("{LINK}{index}")
}

/// The interface that a link of this name is at, if it is one of ours.
pub(crate) fn interface_of(link: &str) -> Option<u32> {
    link.strip_prefix(LINK)?.parse().ok()
}

/// The loaded program.
#[derive(Debug)]
pub struct HostProgram(OwnedFd);

impl HostProgram {
    /// Another descriptor of the program, for whoever attaches.
    pub fn of(ebpf: &Ebpf) -> Result<Self, HostError> {
        let program: &Program = ebpf.program(PROGRAM).ok_or(HostError::Missing)?;
        let fd = program.fd().map_err(|error| HostError::Program(Box::new(error)))?;
        fd.as_fd().try_clone_to_owned().map(Self).map_err(HostError::Descriptor)
    }

    /// In front of all other programs of the interface's ingress, kept by a pinned link; `None` where the kernel has no
    /// tcx (before 6.6).
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn attach_tcx(&self, pins: &PinDirectory, index: u32) -> Result<Option<Post>, PinError> {
        let place = Place::Tcx { interface: index, attach: BPF_TCX_INGRESS };
        match pins.link(&link_name(index), self.0.as_fd(), &place) {
            Ok(link) => Post::tcx(link, self.0.as_fd(), index, BPF_TCX_INGRESS).map(Some),
            // What a kernel says to a kind of link that it does not know.
            Err(PinError::Step { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for HostProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
