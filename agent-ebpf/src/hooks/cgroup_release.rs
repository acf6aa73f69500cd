//! `raw_tp/cgroup_release`: the identity of a cgroup goes when nothing refers to it any more.
//!
//! Kernel: `css_release_work_fn` (kernel/cgroup/cgroup.c) traces when the last reference is gone. A removed directory is
//! not enough: every socket that was made in the cgroup holds a reference (`cgroup_sk_alloc`), so a socket that was
//! handed to another process keeps its workload. Ids are not given out twice.
//!
//! *On error:* the entry stays until the agent makes room (counter `cgroup_unread`).

use agent_common::wire::Counter;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::ctx::CgroupEvent;
use crate::maps::{count, forget, layout};

#[raw_tracepoint(tracepoint = "cgroup_release")]
fn ringfence_cgroup_release(ctx: RawTracePointContext) -> i32 {
    let Some(layout) = layout() else { return 0 };
    match CgroupEvent::new(&ctx).id(layout) {
        Ok(Some(id)) => forget(id),
        Ok(None) => {}
        Err(_) => count(Counter::CgroupUnread),
    }
    0
}
