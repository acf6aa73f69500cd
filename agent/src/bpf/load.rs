//! Loads every program; the kernel's verifier has the last word.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_common::control::Control;
use aya::maps::{Array, MapData, MapError};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use aya_log::EbpfLogger;
use thiserror::Error;

use super::image::take;

/// Why the kernel side is not there.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A build without kernel programs.
    #[error("this ringfence was built without its kernel programs: build it with `cargo xtask build`")]
    Stub,
    /// The object itself is refused: maps or BTF.
    #[error(
        "the kernel refuses the maps of the kernel object: {0}; ringfence needs Linux 6.1 or newer and CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"
    )]
    Object(#[from] EbpfError),
    /// A program is refused.
    #[error(
        "the kernel refuses program {name}: {source}; ringfence needs Linux 6.1 or newer and CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"
    )]
    Program {
        /// The program's name.
        name: String,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// A map that the agent needs is not in the object.
    #[error("the kernel object has no map {0}: object and agent are of different builds")]
    NoMap(&'static str),
    /// A map can't be used as expected.
    #[error("map {name}: {source}")]
    Map {
        /// The map's name.
        name: &'static str,
        /// What went wrong.
        source: MapError,
    },
    /// No random numbers.
    #[error("the kernel gives no random numbers: {0}")]
    Random(std::io::Error),
}

/// What the verifier said of one program.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The program's name.
    pub name: String,
    /// Instructions that the verifier walked; its limit is a million.
    pub instructions: Option<u32>,
}

/// Loads the object and all its programs, with maps of their own; nothing is attached yet.
pub fn load(object: &[u8]) -> Result<(Ebpf, Vec<Loaded>), LoadError> {
    load_over(object, &BTreeMap::new())
}

/// As [`load`], but the programs use the maps that are pinned, by name, at these paths.
pub(crate) fn load_over(
    object: &[u8],
    pinned: &BTreeMap<String, PathBuf>,
) -> Result<(Ebpf, Vec<Loaded>), LoadError> {
    if object.is_empty() {
        return Err(LoadError::Stub);
    }
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    for (name, path) in pinned {
        loader.map_pin_path(name, path);
    }
    let mut ebpf = loader.load(object)?;
    let mut loaded = Vec::new();
    for (name, program) in ebpf.programs_mut() {
        #[expect(clippy::wildcard_enum_match_arm, reason = "aya's enum: other kinds of program are not ours")]
        let result = match program {
            Program::CgroupSkb(p) => p.load().and_then(|()| p.info()),
            Program::CgroupSock(p) => p.load().and_then(|()| p.info()),
            Program::CgroupSockAddr(p) => p.load().and_then(|()| p.info()),
            Program::SchedClassifier(p) => p.load().and_then(|()| p.info()),
            _ => continue,
        };
        match result {
            Ok(info) => {
                loaded
                    .push(Loaded { name: name.to_owned(), instructions: info.verified_instruction_count() });
            }
            Err(source) => {
                return Err(LoadError::Program { name: name.to_owned(), source: Box::new(source) });
            }
        }
    }
    loaded.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((ebpf, loaded))
}

/// Writes the secrets of this boot; programs refuse to work without the map, so this comes before attaching.
pub fn seed(ebpf: &mut Ebpf) -> Result<Array<MapData, Control>, LoadError> {
    let mut control: Array<MapData, Control> = take(ebpf, "CONTROL")?;
    let mut bytes = [0; 16];
    getrandom(&mut bytes).map_err(LoadError::Random)?;
    let bits = u128::from_ne_bytes(bytes);
    let key = [(bits >> 64) as u64, bits as u64];
    control
        .set(0, Control { epoch: 1, key, zero: 0 }, 0)
        .map_err(|source| LoadError::Map { name: "CONTROL", source })?;
    Ok(control)
}

/// The control value of maps that were taken over: secrets and epoch stay, and with them what sockets remember.
pub(crate) fn keep_seed(ebpf: &mut Ebpf) -> Result<Array<MapData, Control>, LoadError> {
    take(ebpf, "CONTROL")
}

/// Debug lines of the kernel programs.
pub type KernelLog = EbpfLogger<&'static dyn log::Log>;

/// Takes the kernel programs' debug lines; none if the object has none.
pub fn kernel_log(ebpf: &mut Ebpf) -> Option<KernelLog> {
    EbpfLogger::init(ebpf)
        .inspect_err(|error| tracing::debug!(%error, "the kernel programs' debug lines are not available"))
        .ok()
}

fn getrandom(buffer: &mut [u8]) -> std::io::Result<()> {
    let n = rustix::rand::getrandom(&mut *buffer, rustix::rand::GetRandomFlags::empty())?;
    if n == buffer.len() { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}
