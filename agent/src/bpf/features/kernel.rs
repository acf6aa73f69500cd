//! Probes of the kernel's BPF: the smallest program or map that needs a feature.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use agent_common::image::Policy;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};

use super::super::sys::{Mapped, set_inner};
use super::call::{
    AttachType, EXIT, MapCreate, ProgType, call, create_map, link, load, load_integer_type, number,
    open_raw_tracepoint, set, update,
};
use super::scratch::ScratchCgroup;
use super::{Feature, Probed};

/// `enum bpf_map_type`.
const ARRAY_OF_MAPS: u32 = 12;
const SK_STORAGE: u32 = 24;
const RINGBUF: u32 = 27;
/// Map flags: memory as it is needed; an accepted socket has a copy of its listener's.
const NO_PREALLOC: u32 = 1;
const CLONE: u32 = 1 << 9;
/// `enum bpf_func_id`.
const SET_RETVAL: i32 = 187;

/// Tries everything here.
pub(super) fn probe(scratch: Result<&ScratchCgroup, &str>) -> Vec<Probed> {
    let mut found = vec![
        Probed::tried(Feature::SocketStorage, "created, with CLONE", socket_storage()),
        Probed::tried(Feature::RingBuffer, "created", ring_buffer()),
        Probed::tried(Feature::MapInMap, "a mapped policy in a slot", map_in_map()),
        bpf_loop(),
        Probed::tried(Feature::SetRetval, "loaded in connect4", set_retval()),
        Probed::tried(Feature::Birth, "raw tracepoint cgroup_mkdir", raw_tracepoint(c"cgroup_mkdir")),
        Probed::tried(Feature::Release, "raw tracepoint cgroup_release", raw_tracepoint(c"cgroup_release")),
    ];
    match scratch {
        Ok(cgroup) => found.extend(links(cgroup.path())),
        Err(why) => {
            found.push(Probed::unknown(Feature::CgroupLink, why));
            found.push(Probed::unknown(Feature::LinkUpdate, why));
        }
    }
    found
}

fn socket_storage() -> io::Result<()> {
    let types = load_integer_type()?;
    create_map(MapCreate {
        map_type: SK_STORAGE,
        key_size: 4,
        value_size: 4,
        map_flags: NO_PREALLOC | CLONE,
        btf_fd: number(types.as_fd()),
        btf_key_type_id: 1,
        btf_value_type_id: 1,
        ..MapCreate::default()
    })
    .map(drop)
}

fn ring_buffer() -> io::Result<()> {
    let max_entries = u32::try_from(rustix::param::page_size()).map_err(io::Error::other)?;
    create_map(MapCreate { map_type: RINGBUF, max_entries, ..MapCreate::default() }).map(drop)
}

/// The agent's own form: a policy that is mapped here, in the slot of an array of maps.
fn map_in_map() -> io::Result<()> {
    let inner = Mapped::<Policy>::create()?;
    let outer = create_map(MapCreate {
        map_type: ARRAY_OF_MAPS,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        inner_map_fd: number(inner.as_fd()),
        ..MapCreate::default()
    })?;
    set_inner(outer.as_fd(), 0, inner.as_fd())
}

/// A program with a callback needs type information of its functions; whether the verifier knows the helper can be
/// asked with less.
fn bpf_loop() -> Probed {
    let how = "the verifier knows it";
    match is_helper_supported(ProgramType::CgroupSkb, BpfHelper::BPF_FUNC_loop) {
        Ok(true) => Probed::found(Feature::BpfLoop, how),
        Ok(false) => Probed::missing(Feature::BpfLoop, "the verifier does not know it"),
        Err(error) => Probed::unknown(Feature::BpfLoop, error.to_string()),
    }
}

fn set_retval() -> io::Result<()> {
    let program = [set(1, -libc::EPERM), call(SET_RETVAL), set(0, 0), EXIT];
    load(ProgType::CgroupSockAddr, AttachType::Inet4Connect, &program).map(drop)
}

/// For as long as the probe takes, an empty program runs at this tracepoint.
fn raw_tracepoint(name: &CStr) -> io::Result<()> {
    let program = load(ProgType::RawTracepoint, AttachType::Unspecified, &[set(0, 0), EXIT])?;
    open_raw_tracepoint(name, program.as_fd()).map(drop)
}

fn links(cgroup: &Path) -> [Probed; 2] {
    let attach = || {
        let cgroup = File::open(cgroup)?;
        let program = load(ProgType::CgroupSkb, AttachType::InetEgress, &[set(0, 1), EXIT])?;
        link(program.as_fd(), number(cgroup.as_fd()), AttachType::InetEgress)
    };
    let how = "attached to a cgroup of its own";
    match attach() {
        Ok(link) => {
            let replace = || {
                let program = load(ProgType::CgroupSkb, AttachType::InetEgress, &[set(0, 1), EXIT])?;
                update(link.as_fd(), program.as_fd())
            };
            let replaced = Probed::tried(Feature::LinkUpdate, "program replaced", replace());
            [Probed::found(Feature::CgroupLink, how), replaced]
        }
        Err(error) => [
            Probed::tried(Feature::CgroupLink, how, Err(error)),
            Probed::unknown(Feature::LinkUpdate, "no link to try it on"),
        ],
    }
}
