//! How a new cgroup of a subject gets its workload: in the kernel at birth, or, where those programs do not load, by
//! watching what its parents bring forth.
//!
//! Two raw tracepoints. A raw tracepoint is attached by a link alone: no perf event and no mount of tracefs, which a
//! container does not have; its link can be pinned. It is not told the cgroup's id but where `struct cgroup` lies, hence
//! the [`Layout`]. Needs CAP_PERFMON beside CAP_BPF (`bpf_probe_read_kernel`), a kernel with BTF, and paths that mean the
//! same to the kernel and to us: not so inside a cgroup namespace.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::AsFd;

use agent_common::birth::{Layout, PathKey};
use aya::Ebpf;
use aya::maps::{Array, MapData, MapError};
use aya::programs::{Program, ProgramError, RawTracePoint};
use thiserror::Error;

use super::btf::{BtfError, offsets};
use super::features::Feature;
use super::features::switches::{Switches, UnknownFeature, WITHOUT};
use super::image::take;
use super::link::{KeptLink, Place};
use super::load::{LoadError, Loaded};
use super::pin::{PinDirectory, PinError};
use crate::policy::CgroupPath;

/// For tests: `off` gives up both ways, so that the leak which they close can be seen. ([`WITHOUT`] `=birth` takes the
/// first away.)
pub const SWITCH: &str = "RINGFENCE_BIRTH";

/// A tracepoint and its program.
struct Tracepoint {
    name: &'static str,
    kernel_name: &'static CStr,
    program: &'static str,
}

/// Release first: what is born is surely let go.
const TRACEPOINTS: [Tracepoint; 2] = [
    Tracepoint {
        name: "cgroup_release",
        kernel_name: c"cgroup_release",
        program: "ringfence_cgroup_release",
    },
    Tracepoint { name: "cgroup_mkdir", kernel_name: c"cgroup_mkdir", program: "ringfence_cgroup_mkdir" },
];

/// How new cgroups of subjects are met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Birth {
    /// The kernel gives them their workload before anybody can be in them.
    Kernel,
    /// Strangers below a watched cgroup are judged by all fences that could be meant, until they are classified.
    Watch {
        /// Why not [`Birth::Kernel`].
        why: String,
    },
    /// Not before they are noticed. For tests only.
    Off,
}

impl Birth {
    /// Whether the kernel itself gives the cgroup at this path its workload.
    #[must_use]
    pub fn covers(&self, path: &CgroupPath) -> bool {
        match self {
            Self::Kernel => PathKey::of(path.as_str()).is_some(),
            Self::Watch { .. } | Self::Off => false,
        }
    }

    /// Whether strangers are watched for where the kernel does not know a path.
    #[must_use]
    pub const fn watches(&self) -> bool {
        match self {
            Self::Kernel | Self::Watch { .. } => true,
            Self::Off => false,
        }
    }
}

impl fmt::Display for Birth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("new cgroups of subjects are known to the kernel at birth"),
            Self::Watch { why } => write!(
                f,
                "new cgroups beside subjects get the strictest fences that could be meant, until they are \
                 classified, for the kernel can't know them at birth: {why}"
            ),
            Self::Off => write!(
                f,
                "new cgroups of subjects are not fenced until they are noticed ({SWITCH}=off, for tests)"
            ),
        }
    }
}

#[derive(Debug, Error)]
enum Missing {
    #[error(
        "the agent is in a cgroup namespace, where paths are others than the kernel's: run it in the host's"
    )]
    Namespace,
    #[error(transparent)]
    Types(#[from] BtfError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("map LAYOUT: {0}")]
    Layout(#[from] MapError),
    #[error("the kernel object has no program {0}")]
    NoProgram(&'static str),
    #[error("raw_tp/{name}: {source} (it needs CAP_BPF and CAP_PERFMON)")]
    Refused { name: &'static str, source: Box<ProgramError> },
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Switches(#[from] UnknownFeature),
    #[error("it was switched off by {WITHOUT}")]
    SwitchedOff,
}

/// Loads and attaches what there is to be had; `real_paths`: the agent sees cgroup paths as the kernel does.
///
/// Before the first policy is published: there must be no moment between the two. An earlier agent's programs go on beside
/// ours until the links settle.
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    pins: &PinDirectory,
    real_paths: bool,
    programs: &mut Vec<Loaded>,
) -> (Birth, Vec<KeptLink>) {
    if std::env::var_os(SWITCH).is_some_and(|value| value == "off") {
        return (Birth::Off, Vec::new());
    }
    match try_attach(ebpf, pins, real_paths) {
        Ok((loaded, links)) => {
            programs.extend(loaded);
            (Birth::Kernel, links)
        }
        Err(why) => {
            detach(ebpf);
            (Birth::Watch { why: why.to_string() }, Vec::new())
        }
    }
}

/// What was attached, by the verifier's figures and by link.
type Attached = (Vec<Loaded>, Vec<KeptLink>);

fn try_attach(ebpf: &mut Ebpf, pins: &PinDirectory, real_paths: bool) -> Result<Attached, Missing> {
    if Switches::from_environment()?.without(Feature::Birth) {
        return Err(Missing::SwitchedOff);
    }
    if !real_paths {
        return Err(Missing::Namespace);
    }
    let mut map: Array<MapData, Layout> = take(ebpf, "LAYOUT")?;
    map.set(0, layout()?, 0)?;
    let mut attached = Attached::default();
    for tracepoint in &TRACEPOINTS {
        let (loaded, link) = one(ebpf, pins, tracepoint)?;
        attached.0.push(loaded);
        attached.1.push(link);
    }
    Ok(attached)
}

fn layout() -> Result<Layout, BtfError> {
    let [cgroup_kn, cgroup_root, kn_id, root_hierarchy] = offsets([
        ("cgroup", "kn"),
        ("cgroup", "root"),
        ("kernfs_node", "id"),
        ("cgroup_root", "hierarchy_id"),
    ])?;
    Ok(Layout { cgroup_kn, cgroup_root, kn_id, root_hierarchy })
}

fn one(ebpf: &mut Ebpf, pins: &PinDirectory, tracepoint: &Tracepoint) -> Result<(Loaded, KeptLink), Missing> {
    let name = tracepoint.name;
    let refused = |source| Missing::Refused { name, source: Box::new(source) };
    let program = program(ebpf, tracepoint.program).ok_or(Missing::NoProgram(tracepoint.program))?;
    program.load().map_err(refused)?;
    let place = Place::Tracepoint { name: tracepoint.kernel_name };
    let link = pins.link(name, program.fd().map_err(refused)?.as_fd(), &place)?;
    let instructions = program.info().map_err(refused)?.verified_instruction_count();
    Ok((Loaded { name: tracepoint.program.to_owned(), instructions }, link))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Option<&'a mut RawTracePoint> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "aya's enum: other kinds of program are not ours")]
    match ebpf.program_mut(name)? {
        Program::RawTracePoint(program) => Some(program),
        _ => None,
    }
}

/// Half of it is worse than none: nobody would let go what was born, or know what is let go.
fn detach(ebpf: &mut Ebpf) {
    for tracepoint in &TRACEPOINTS {
        if let Some(program) = program(ebpf, tracepoint.program) {
            // An error: it was never loaded.
            program.unload().ok();
        }
    }
}

/// The tracepoints' names and programs, for status and doctor.
pub fn tracepoints() -> impl Iterator<Item = (&'static str, &'static str)> {
    TRACEPOINTS.iter().map(|t| (t.name, t.program))
}
