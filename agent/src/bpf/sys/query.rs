//! What runs at a cgroup, whoever attached it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::bpf;

const BPF_PROG_QUERY: libc::c_long = 16;
/// With the programs of the cgroups above, in the order in which they run.
const BPF_F_QUERY_EFFECTIVE: u32 = 1;
/// `BPF_CGROUP_MAX_PROGS` of kernel/bpf/cgroup.c: at one cgroup, for one hook.
const PER_CGROUP: usize = 64;

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads; the rest, per-program flags among it, must be zero for an
/// effective query.
#[repr(C)]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    _pad: u32,
}

/// Ids of the programs that run for a cgroup's sockets at a hook, first to last. Needs CAP_NET_ADMIN.
///
/// Programs of cgroups below run before these, and are not told: they differ by cgroup.
pub(crate) fn effective(cgroup: BorrowedFd<'_>, attach: u32) -> io::Result<Vec<u32>> {
    let mut room = PER_CGROUP;
    loop {
        let mut ids = vec![0u32; room];
        let mut attr = QueryAttr {
            target: cgroup.as_raw_fd() as u32,
            attach_type: attach,
            query_flags: BPF_F_QUERY_EFFECTIVE,
            attach_flags: 0,
            program_ids: ids.as_mut_ptr() as u64,
            count: u32::try_from(room).map_err(io::Error::other)?,
            _pad: 0,
        };
        match bpf(BPF_PROG_QUERY, &mut attr) {
            Ok(_) => {
                ids.truncate(attr.count as usize);
                return Ok(ids);
            }
            // `count` says now how many there are.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && attr.count as usize > room => {
                room = attr.count as usize;
            }
            Err(error) => return Err(error),
        }
    }
}
