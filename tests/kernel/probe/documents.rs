//! (c) Verdicts of what people write: the documents of docs/examples, compiled over the whole world.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent::places::{Groups, WorldBuilder};
use agent::policy::host_view::HostView;
use agent::policy::image::world;
use agent::policy::{
    CgroupPath, Checked, Clock, Context as Against, PolicySet, Settings, SourceFile, Workload, check, compile,
};
use agent_common::address::Address;
use agent_common::probe::{BATCH, Batch, VerdictQuestion};
use agent_common::sock::Cached;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::draw::Draw;
use super::places::embedded;
use super::verdicts::{ask, boot_time, check as same, question};
use super::{Probe, count};
use crate::suite::Outcome;

const DOCUMENTS: [(&str, &str); 5] = [
    ("fence.yaml", include_str!("../../../docs/examples/crm-stays-in-the-eea.yaml")),
    ("exception.yaml", include_str!("../../../docs/examples/crm-exception.yaml")),
    ("llm.yaml", include_str!("../../../docs/examples/llm-cluster-only.yaml")),
    ("override.yaml", include_str!("../../../docs/examples/place-override.yaml")),
    ("group.yaml", include_str!("../../../docs/examples/jurisdiction-group.yaml")),
];
/// While the exception among them lives.
const NOW: &str = "2026-12-01T12:00:00Z";
const WORKLOADS: [&str; 3] = ["/ringfence-demo/crm", "/ringfence-demo/llm", "/ringfence-demo/other"];

pub(super) fn run() -> Result<Outcome> {
    let now: Timestamp = NOW.parse()?;
    let set = documents(now)?;
    let world = world(WorldBuilder::builtin(), &set)?;
    let workloads = workloads()?;
    let settings = Settings {
        generation: 1,
        index_slot: 0,
        min_level: 2,
        max_level: 2,
        watched: Vec::new(),
        errno: 1,
        flows: true,
        events_per_second: 1000,
        clock: Clock { wall_minus_boot: now.as_nanosecond() - i128::from(boot_time()) },
        now,
    };

    let mut probe = Probe::load()?;
    let mut sets = 0;
    let (policy, index) = probe.publish(
        |index| Ok(world.fill(index).map(|_| ())?),
        |new| {
            sets = compile(&set, &world.table(), &set.groups, &workloads, &settings, new.value())?.sets.len();
            Ok(())
        },
    )?;
    ensure!(sets == WORKLOADS.len(), "{sets} sets of fences for {WORKLOADS:?}");

    let mut map = probe.array::<Batch<VerdictQuestion>>("PROBE_VERDICTS")?;
    let mut draw = Draw::new(19);
    let (mut blocked, mut allowed, mut would_be) = (0usize, 0usize, 0usize);
    for _ in 0..count(40_000, 1_000_000, 0).div_ceil(BATCH) {
        let questions = Batch(std::array::from_fn(|_| {
            let remote = remote(&mut draw, world.ranges_v4(), world.ranges_v6());
            question(&mut draw, remote, sets)
        }));
        for answer in ask(&probe, &mut map, questions)?.0 {
            same(HostView { policy: &policy, index: &index, now: answer.before }, &answer)?;
            let cached = Cached(answer.decision);
            let which = match (cached.blocked(), cached.violation()) {
                (true, _) => &mut blocked,
                (false, true) => &mut would_be,
                (false, false) => &mut allowed,
            };
            *which += 1;
        }
    }
    let all = [blocked, allowed, would_be];
    ensure!(
        all.iter().all(|n| *n > 100),
        "one-sided: {blocked} blocked, {would_be} in audit, {allowed} allowed"
    );
    Ok(Outcome::Passed)
}

fn documents(now: Timestamp) -> Result<PolicySet> {
    let files = DOCUMENTS.map(|(name, text)| SourceFile::new(name, text));
    let groups = Groups::builtin()?;
    let Checked { findings, set } = check(&files, Against { now, groups: &groups, cgroups: None });
    set.with_context(|| format!("docs/examples has errors: {findings:?}"))
}

fn workloads() -> Result<Vec<Workload>> {
    let numbered = WORKLOADS.iter().zip(1..);
    numbered.map(|(path, id)| Ok(Workload { id, path: CgroupPath::parse(path)? })).collect()
}

/// Range edges and what lies near them.
fn remote(draw: &mut Draw, v4: &[(u32, u16)], v6: &[(u128, u16)]) -> Address {
    let edge = draw.of(v4).0.wrapping_add(draw.of(&[u32::MAX, 0, 1]));
    match draw.below(8) {
        0..4 => IpAddr::V4(Ipv4Addr::from_bits(edge)).into(),
        4..7 => {
            IpAddr::V6(Ipv6Addr::from_bits(draw.of(v6).0.wrapping_add(draw.of(&[u128::MAX, 0, 1])))).into()
        }
        _ => embedded(draw, edge),
    }
}
