//! Random policies and flows, small enough that rules meet each other often.

use proptest::collection::vec;
use proptest::option::{self, weighted};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};

use crate::model::{
    BOOTED_BEFORE, CELLS, CIDRS, ExceptionModel, FenceModel, FlowModel, JURISDICTIONS, PATHS, PROTOCOLS,
    PolicyModel, PortRange, Remote, RuleModel, SPAN, Subjects, Word,
};

/// Ports around the edges of the ranges that rules name.
const PORTS: [u16; 9] = [1, 22, 52, 53, 54, 443, 444, 8080, 65535];

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![Just(Word::Allow), Just(Word::Block)]
}

fn port_range() -> impl Strategy<Value = PortRange> {
    let transport = option::of(select(vec!["tcp", "udp"]));
    (transport, select(PORTS.to_vec()), select(PORTS.to_vec())).prop_map(|(transport, a, b)| PortRange {
        transport,
        from: a.min(b),
        to: a.max(b),
    })
}

fn rule() -> impl Strategy<Value = RuleModel> {
    let jurisdictions = vec(select(JURISDICTIONS.to_vec()), 0..3);
    let cidrs = vec(0..CIDRS.len(), 0..2);
    let ports = prop_oneof![3 => Just(Vec::new()), 2 => vec(port_range(), 1..3)];
    (jurisdictions, cidrs, ports).prop_filter_map("a rule says where", |(jurisdictions, cidrs, ports)| {
        let where_to = !jurisdictions.is_empty() || !cidrs.is_empty();
        where_to.then_some(RuleModel { jurisdictions, cidrs, ports })
    })
}

fn subjects() -> impl Strategy<Value = Subjects> {
    prop_oneof![
        1 => Just(Subjects::All),
        4 => vec(0..PATHS.len(), 1..3).prop_map(Subjects::Paths),
    ]
}

/// Often the ones that flows have, so that what comes after the protocol decides too.
fn protocols() -> impl Strategy<Value = Vec<&'static str>> {
    let names: Vec<&'static str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
    prop_oneof![
        1 => Just(Vec::new()),
        2 => Just(vec!["icmp", "udplite", "sctp", "raw"]),
        2 => subsequence(names, 0..=PROTOCOLS.len()),
    ]
}

pub(crate) fn fence() -> impl Strategy<Value = FenceModel> {
    let words = ([word(), word(), word()], word(), option::of(word()), word());
    // More than ten rules of a side would sort b10 before b2, and the naive evaluator goes by position.
    let rules = (vec(rule(), 0..4), vec(rule(), 0..4));
    (any::<bool>(), subjects(), weighted(0.7, Just(())), rules, words, protocols()).prop_map(
        |(enforce, subjects, judge, (allow, block), (internal, default, unknown, dns), protocols)| {
            FenceModel {
                enforce,
                subjects,
                internal,
                judge_inbound: judge.is_some(),
                allow,
                block,
                default,
                unknown,
                dns,
                protocols,
            }
        },
    )
}

/// An exception to one of so many fences.
pub(crate) fn exception(fences: usize) -> impl Strategy<Value = ExceptionModel> {
    let window = (option::of(-SPAN..SPAN - 1), 1..SPAN);
    (0..fences, option::of(subjects()), vec(rule(), 1..3), window).prop_map(
        |(fence, subjects, allow, (not_before, length))| ExceptionModel {
            fence,
            subjects,
            allow,
            not_before,
            expires_at: not_before.unwrap_or(0) + length,
        },
    )
}

pub(crate) fn policy() -> impl Strategy<Value = PolicyModel> {
    vec(fence(), 1..5).prop_flat_map(|fences| {
        let exceptions = vec(exception(fences.len()), 0..4);
        (Just(fences), exceptions).prop_map(|(fences, exceptions)| PolicyModel { fences, exceptions })
    })
}

fn remote() -> impl Strategy<Value = Remote> {
    let cell = || 0..CELLS.len();
    prop_oneof![
        4 => cell().prop_map(Remote::V4),
        1 => cell().prop_map(Remote::Mapped),
        1 => cell().prop_map(Remote::Nat64),
        1 => cell().prop_map(Remote::SixToFour),
        2 => cell().prop_map(Remote::V6),
        2 => (cell(), cell()).prop_map(|(server, client)| Remote::Teredo { server, client }),
    ]
}

/// Moments at, just before and just after whole seconds: where windows begin and end. All after the boot.
fn moment() -> impl Strategy<Value = i64> {
    (1 - BOOTED_BEFORE..=2 * SPAN, -1i64..=1).prop_map(|(second, off)| second * 1_000_000_000 + off)
}

pub(crate) fn flow() -> impl Strategy<Value = FlowModel> {
    let workload = prop_oneof![1 => Just(None), 6 => (0..PATHS.len()).prop_map(Some)];
    let protocol =
        select(vec![6u8, 6, 6, 17, 17, 17, 136, 1, 58, 132, 33, 2, 47, 4, 41, 50, 51, 115, 0, 59, 99, 255]);
    let port = prop_oneof![1 => Just(None), 5 => select(PORTS.to_vec()).prop_map(Some)];
    let rare = || weighted(0.1, Just(()));
    (workload, remote(), port, protocol, any::<bool>(), rare(), moment()).prop_map(
        |(workload, remote, port, protocol, inbound, routed, at)| FlowModel {
            workload,
            remote,
            // Protocols without ports have none to know.
            port: if matches!(protocol, 6 | 17 | 136) { port } else { None },
            protocol,
            inbound,
            routed: routed.is_some(),
            at,
        },
    )
}

pub(crate) fn flows() -> impl Strategy<Value = Vec<FlowModel>> {
    vec(flow(), 100)
}
