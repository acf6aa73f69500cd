//! What is tested: documents through the validator and the compiler into an image, and flows through `decide`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use agent::places::{CountryCode, Groups, Layer, PlaceInfo, PlaceTable, Source};
use agent::policy::host_view::HostView;
use agent::policy::{
    CgroupPath, Checked, Clock, Context, Manifest, PolicySet, Settings, SourceFile, Workload, check, compile,
};
use agent_common::address::Address;
use agent_common::flow::{Direction, Flow, flags};
use agent_common::image::Policy;
use agent_common::place_index::PlaceIndex;
use agent_common::verdict::{Decision, NONE, Verdict, decide, outcomes};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::model::{BOOTED_BEFORE, CELLS, EPOCH, FlowModel, PATHS, PolicyModel, Remote, Word};
use crate::naive::{Answer, Says};
use crate::yaml::{Order, documents};

/// Nanoseconds from 1970 to the boot of the machine that the tests pretend to be.
const BOOT: i128 = (EPOCH as i128 - BOOTED_BEFORE as i128) * 1_000_000_000;

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(EPOCH).expect("in range")
}

/// A compiled policy.
pub(crate) struct Subject {
    policy: Box<Policy>,
    pub(crate) manifest: Manifest,
}

/// The index of the small world: it is the same for all policies.
fn index() -> &'static PlaceIndex {
    static INDEX: OnceLock<Box<PlaceIndex>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let id = |cell: usize| u16::try_from(cell).expect("few cells") + 1;
        let v4: Vec<(u32, u16)> = std::iter::once((0, 0))
            .chain((0..CELLS.len()).map(|c| (u32::from(v4(c)) & 0xffff_0000, id(c))))
            .chain([(20 << 24 | 16 << 16, 0)])
            .collect();
        let v6: Vec<(u128, u16)> = std::iter::once((0, 0))
            .chain((0..CELLS.len()).map(|c| (u128::from(v6(c)) >> 96 << 96, id(c) + 16)))
            .chain([(0x2a00_0010 << 96, 0)])
            .collect();
        let mut index = PlaceIndex::boxed();
        index.build(&v4, &v6).expect("a small world fits");
        index
    })
}

fn v4(cell: usize) -> Ipv4Addr {
    Ipv4Addr::new(20, u8::try_from(cell).expect("few cells"), 1, 7)
}

fn v6(cell: usize) -> Ipv6Addr {
    Ipv6Addr::new(0x2a00, u16::try_from(cell).expect("few cells"), 0, 0, 0, 0, 0, 1)
}

/// The places by id: nothing, the cells over IPv4, the cells over IPv6. CIDR lists cut nothing, because they are made
/// of whole cells; which cells they take in is asked of `ipnet`.
pub(crate) fn table(sets: &[(u32, Vec<IpNet>)]) -> Arc<PlaceTable> {
    let place = |cell: usize, address: IpAddr| {
        let info = CELLS[cell];
        let covering = sets.iter().filter(|(_, nets)| nets.iter().any(|net| net.contains(&address)));
        PlaceInfo {
            kind: info.kind,
            country: info.country.and_then(CountryCode::parse),
            registered: None,
            provider: None,
            region: None,
            source: 0,
            resolver: info.resolver,
            cidr_sets: covering.map(|(id, _)| *id).collect(),
        }
    };
    let mut places = vec![PlaceInfo { resolver: false, ..place(7, IpAddr::V4(Ipv4Addr::new(1, 0, 0, 0))) }];
    places.extend((0..CELLS.len()).map(|c| place(c, v4(c).into())));
    places.extend((0..CELLS.len()).map(|c| place(c, v6(c).into())));
    let sources = vec![Source { name: "test".to_owned(), layer: Layer::Country, date: None, digest: None }];
    Arc::new(PlaceTable { places, sources, warnings: Vec::new() })
}

/// Checks documents, one file each, at the moment of the tests.
pub(crate) fn checked(documents: &[String]) -> Checked {
    let files: Vec<SourceFile> =
        documents.iter().enumerate().map(|(n, text)| SourceFile::new(&format!("{n}.yaml"), text)).collect();
    let groups = Groups::builtin().expect("the built-in data is sound");
    check(&files, Context { now: now(), groups: &groups, cgroups: None })
}

impl Subject {
    /// The image of a policy. `None` if the generator made a contradiction, which the validator refuses.
    pub(crate) fn of(policy: &PolicyModel) -> Option<Self> {
        Self::of_documents(&documents(policy, Order::Forwards))
    }

    pub(crate) fn of_documents(documents: &[String]) -> Option<Self> {
        let checked = checked(documents);
        let Some(set) = checked.set else {
            let errors: Vec<String> = checked
                .findings
                .iter()
                .filter(|f| f.level.word() == "error")
                .map(|f| f.to_string())
                .collect();
            assert!(
                errors.iter().all(|e| e.contains("allows exactly what")),
                "the generator writes valid documents: {errors:#?}"
            );
            return None;
        };
        Some(Self::compiled(&set))
    }

    fn compiled(set: &PolicySet) -> Self {
        let path = |p: &str| CgroupPath::parse(p).expect("a path of the model");
        let workloads: Vec<Workload> = (1..)
            .zip(PATHS)
            .map(|(id, p)| Workload { id, path: path(p) })
            .chain([Workload { id: 0, path: CgroupPath::root() }])
            .collect();
        let settings = Settings {
            generation: 7,
            index_slot: 0,
            min_level: 1,
            max_level: 3,
            watched: Vec::new(),
            errno: 1,
            flows: false,
            events_per_second: 10,
            clock: Clock { wall_minus_boot: BOOT },
            now: now(),
        };
        let mut policy = Policy::boxed();
        let table = table(&set.cidr_sets());
        let manifest = compile(set, &table, &set.groups, &workloads, &settings, &mut policy)
            .expect("a small policy fits into an image");
        Self { policy, manifest }
    }

    /// The moment of a flow as the kernel counts: nanoseconds since boot.
    pub(crate) fn boot_ns(&self, model: &FlowModel) -> u64 {
        let ns = i128::from(EPOCH) * 1_000_000_000 + i128::from(model.at) - BOOT;
        u64::try_from(ns).expect("flows are asked about after boot")
    }

    fn ask(&self, model: &FlowModel) -> (HostView<'_>, u32, Flow) {
        let view = HostView { policy: &self.policy, index: index(), now: self.boot_ns(model) };
        let workload = model.workload.map_or(0, |w| u32::try_from(w).expect("few paths") + 1);
        let set = self.policy.set_of(workload).expect("every path is a workload");
        let mut bits = 0;
        if model.port.is_none() {
            bits |= flags::NO_PORT;
        }
        if model.routed {
            bits |= flags::ROUTED;
        }
        let flow = Flow {
            remote: Address::from(address(model.remote)),
            port: model.port.unwrap_or(0),
            protocol: model.protocol,
            direction: if model.inbound { Direction::Inbound } else { Direction::Outbound },
            flags: bits,
        };
        (view, set, flow)
    }

    /// The decision itself.
    pub(crate) fn decision(&self, model: &FlowModel) -> Decision {
        let (view, set, flow) = self.ask(model);
        decide(&view, set, &flow)
    }

    /// The answer in the naive evaluator's terms.
    pub(crate) fn answer(&self, model: &FlowModel) -> Answer {
        let (view, set, flow) = self.ask(model);
        let decision = decide(&view, set, &flow);
        let mut says = Vec::new();
        // No fence was asked: loopback, or no fence at all.
        if decision.outcome.fence() != NONE {
            outcomes(&view, set, &flow, |outcome| {
                let fence = self.manifest.fence(outcome).expect("a fence of the manifest");
                let rule = self.manifest.rule_name(outcome).expect("everything that decides has a name");
                says.push(Says {
                    fence: fence.name.to_string(),
                    enforce: outcome.enforces(),
                    verdict: word(outcome.verdict()),
                    rule: rule.to_owned(),
                });
            });
        }
        Answer { enforced: word(decision.enforced), would_be: word(decision.would_be), says }
    }
}

fn word(verdict: Verdict) -> Word {
    match verdict {
        Verdict::Allow => Word::Allow,
        Verdict::Block => Word::Block,
    }
}

fn address(remote: Remote) -> IpAddr {
    let bits = |cell: usize| u128::from(u32::from(v4(cell)));
    match remote {
        Remote::V4(cell) => v4(cell).into(),
        Remote::Mapped(cell) => v4(cell).to_ipv6_mapped().into(),
        Remote::Nat64(cell) => Ipv6Addr::from(0x0064_ff9b_u128 << 96 | bits(cell)).into(),
        Remote::SixToFour(cell) => Ipv6Addr::from(0x2002_u128 << 112 | bits(cell) << 80 | 1).into(),
        Remote::V6(cell) => v6(cell).into(),
        Remote::Teredo { server, client } => {
            let client = !bits(client) & 0xffff_ffff;
            Ipv6Addr::from(0x2001_0000_u128 << 96 | bits(server) << 64 | client).into()
        }
    }
}
