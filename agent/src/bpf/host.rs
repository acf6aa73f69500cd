//! The host layer's program and maps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_common::host::{Veth, VethCounts};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError};
use aya::programs::{Program, ProgramError};
use thiserror::Error;

use super::image::take;
use super::load::LoadError;
use super::sys::attach_tcx;

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

    /// In front of all other programs of the interface's ingress; attached as long as the descriptor, or a pin, lives.
    ///
    /// # Errors
    /// What the kernel said; `EINVAL` where it has no tcx (before 6.6).
    pub(crate) fn attach_tcx(&self, index: u32) -> io::Result<OwnedFd> {
        attach_tcx(self.0.as_fd(), index)
    }
}

impl AsFd for HostProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
