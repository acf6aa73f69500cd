//! `raw_tp/cgroup_mkdir`: a subject's cgroup has its workload before anybody can be in it.
//!
//! Kernel: `cgroup_mkdir` (kernel/cgroup/cgroup.c) traces after the cgroup is complete and before `kernfs_activate`
//! makes its directory visible, under `cgroup_mutex`: no path leads into it yet, for `cgroup.procs` and `CLONE_INTO_CGROUP`
//! both begin with the directory. Raw tracepoints since 4.17; `bpf_probe_read_kernel` since 5.5, with CAP_PERFMON.
//!
//! Only subjects themselves are looked for: what is born below one finds it by its ancestors.
//!
//! *On error:* the cgroup is left to the agent, which is told of it by inotify (counters `cgroup_unread`,
//! `cgroup_unnamed`).

use agent_common::wire::Counter;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::ctx::CgroupEvent;
use crate::maps::{count, identify, layout, path_buffer, workload_at};

#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
fn ringfence_cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    let event = CgroupEvent::new(&ctx);
    let (Some(layout), Some(path)) = (layout(), path_buffer()) else { return 0 };
    match event.id(layout) {
        Ok(Some(id)) if event.path(path) => {
            if let Some(workload) = workload_at(path)
                && !identify(id, workload)
            {
                count(Counter::CgroupUnnamed);
            }
        }
        Ok(None) => {}
        Ok(Some(_)) | Err(_) => count(Counter::CgroupUnread),
    }
    0
}
