//! The few system calls that no crate here has a safe form of, and two that need a word.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_TYPE_LPM_TRIE: u32 = 11;
const BPF_F_NO_PREALLOC: u32 = 1;

/// The part of `union bpf_attr` that `BPF_MAP_CREATE` reads here (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The part that batch calls read.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

fn bpf<A>(command: libc::c_long, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a live prefix of `union bpf_attr` of the size given; the kernel takes the rest as zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes an LPM trie for keys of `key_size` bytes (the prefix length's four included) with `u32` values.
pub(super) fn create_trie(key_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    let map_flags = BPF_F_NO_PREALLOC;
    let mut attr =
        CreateAttr { map_type: BPF_MAP_TYPE_LPM_TRIE, key_size, value_size: 4, max_entries, map_flags };
    let fd = i32::try_from(bpf(BPF_MAP_CREATE, &mut attr)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave us this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Writes many entries at once: `keys` are `values.len()` keys of the map's key size, one after the other.
pub(super) fn update_batch(map: BorrowedFd<'_>, keys: &[u8], values: &[u32]) -> io::Result<()> {
    let mut attr = BatchAttr {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(values.len()).map_err(io::Error::other)?,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}

/// Starts a process that is in `cgroup` and `namespace` from its first instruction.
pub(super) fn spawn_in(command: &mut Command, cgroup: &Path, namespace: BorrowedFd<'_>) -> Result<Child> {
    let procs = cgroup.join("cgroup.procs");
    let door =
        OpenOptions::new().write(true).open(&procs).with_context(|| format!("open {}", procs.display()))?;
    let namespace = namespace.try_clone_to_owned()?;
    let enter = move || {
        // "0" means the caller.
        rustix::io::write(&door, b"0")?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    };
    // SAFETY: `enter` makes two system calls on descriptors that it owns, and allocates nothing.
    unsafe { command.pre_exec(enter) };
    command.spawn().with_context(|| format!("start a worker in {}", cgroup.display()))
}

/// Keeps the calling thread, and what it starts, on one processor.
pub(super) fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).with_context(|| {
        format!("stay on processor {processor}: the benchmark needs two, 0 for servers and 1 for the load")
    })
}

/// Keeps all threads of a process on one processor.
pub(super) fn pin_process(pid: u32, processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let id = task.file_name().to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
        // A thread that has ended meanwhile needs no place.
        sched_setaffinity(id, &set).or_else(|error| match error {
            rustix::io::Errno::SRCH => Ok(()),
            error => Err(error),
        })?;
    }
    Ok(())
}

/// `CLOCK_MONOTONIC`: the same in all processes.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
