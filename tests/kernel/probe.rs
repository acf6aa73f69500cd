//! Kernel against host: the same bytes in, the same answers out.
//!
//! The test-only programs of the probe object wrap the production parser, place index and verdict, and answer through
//! the production maps, which the agent's own `ImageMaps` fills. The host runs the same source over *the same
//! pages*. What this finds is what a compiler, the verifier's rewrites, a JIT or a map's layout do differently, and
//! values left from the packet before.

mod documents;
mod draw;
mod headers;
mod places;
mod policy;
mod verdicts;

use std::fs;

use agent::bpf::image::{ImageMaps, MappedIndex, NewPolicy, PublishedPolicy};
use agent::bpf::load;
use agent_common::place_index::PlaceIndex;
use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData};
use aya::programs::{CgroupSkb, TestRun, TestRunOptions};
use aya::{Ebpf, Pod};
use libtest_mimic::Trial;

use crate::load::{PROBE_OBJECT, object};
use crate::suite::{Place, Tier, in_vm, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            Place::Anywhere,
            "probe::crowded_ranges_have_the_same_places_in_kernel_and_host",
            places::crowded,
        ),
        trial(Place::Host, "probe::the_whole_world_has_the_same_places_in_kernel_and_host", places::world),
        trial(Place::Anywhere, "probe::headers_are_read_alike_by_kernel_and_host", headers::run),
        trial(
            Place::Anywhere,
            "probe::random_policies_give_the_same_verdicts_in_kernel_and_host",
            verdicts::random,
        ),
        trial(
            Place::Host,
            "probe::compiled_documents_give_the_same_verdicts_in_kernel_and_host",
            documents::run,
        ),
    ]
}

/// A count by tier: on a host by default, on a host with `--all`, in a machine without an accelerator.
fn count(default: usize, all: usize, machine: usize) -> usize {
    match Tier::from_environment() {
        _ if in_vm() => machine,
        Tier::Default => default,
        Tier::All => all,
    }
}

/// The loaded probe object.
struct Probe {
    ebpf: Ebpf,
    maps: ImageMaps,
}

impl Probe {
    fn load() -> Result<Self> {
        let path = object(PROBE_OBJECT)?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (mut ebpf, _) = load::load(&bytes)?;
        let control = load::seed(&mut ebpf)?;
        let maps = ImageMaps::take(&mut ebpf, control)?;
        Ok(Self { ebpf, maps })
    }

    /// A map of questions or answers.
    fn array<T: Pod>(&mut self, name: &str) -> Result<Array<MapData, T>> {
        let map = self.ebpf.take_map(name).with_context(|| format!("the probe object has no map {name}"))?;
        Array::try_from(map).with_context(|| format!("map {name}"))
    }

    /// Puts an image in force.
    fn publish(
        &mut self,
        fill: impl FnOnce(&mut PlaceIndex) -> Result<()>,
        policy: impl FnOnce(&mut NewPolicy) -> Result<()>,
    ) -> Result<(PublishedPolicy, MappedIndex)> {
        let mut index = self.maps.new_index()?;
        fill(index.value())?;
        let mut new = self.maps.new_policy()?;
        policy(&mut new)?;
        new.value().head.index_slot = self.maps.next_slot(true);
        let (policy, index) = self.maps.publish(new, Some(index))?;
        Ok((policy, index.map()?))
    }

    /// Puts another policy over the same places in force.
    fn republish(&mut self, policy: impl FnOnce(&mut NewPolicy) -> Result<()>) -> Result<PublishedPolicy> {
        let mut new = self.maps.new_policy()?;
        policy(&mut new)?;
        new.value().head.index_slot = self.maps.next_slot(false);
        Ok(self.maps.publish(new, None)?.0)
    }

    /// Runs a program on a packet, given from its network header on.
    fn run(&self, program: &str, packet: &[u8]) -> Result<()> {
        // The test run takes an Ethernet frame. Its type is "local experimental": with that of IP some kernels refuse
        // short packets before the program sees them.
        let mut frame = vec![0; 12];
        frame.extend_from_slice(&[0x88, 0xb5]);
        frame.extend_from_slice(packet);
        let program = self.ebpf.program(program).with_context(|| format!("no program {program}"))?;
        let program: &CgroupSkb = program.try_into()?;
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
        let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
        ensure!(
            result.return_value == 1,
            "the program could not do its work: it returned {}",
            result.return_value
        );
        Ok(())
    }
}

/// A packet for programs that don't look at it.
const ANY_PACKET: [u8; 20] = [0; 20];
