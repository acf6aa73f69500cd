//! (c) Verdicts, exceptions around their boundaries among them.

use std::time::Duration;

use agent::policy::host_view::HostView;
use agent_common::address::Address;
use agent_common::flow::{Direction, Flow, flags};
use agent_common::limits::CANARY;
use agent_common::place_index::PlaceIndex;
use agent_common::probe::{Batch, UNANSWERED, VerdictQuestion};
use agent_common::sock::Cached;
use agent_common::verdict::decide;
use anyhow::{Result, ensure};
use aya::maps::{Array, MapData};
use rustix::time::{ClockId, clock_gettime};

use super::draw::Draw;
use super::places::embedded;
use super::policy::{PLACES, PORTS, PROTOCOLS, SETS, fill};
use super::{ANY_PACKET, Probe, count};
use crate::suite::Outcome;

pub(super) type Questions = Array<MapData, Batch<VerdictQuestion>>;

/// Rounds of the same questions, over a span in which exceptions begin and end.
const ROUNDS: u64 = 20;
/// At which exceptions begin and end, over that span.
const MOMENTS: usize = 48;
/// However slow the machine.
const LEAST_ROUNDS: u64 = 3;

pub(super) fn random() -> Result<Outcome> {
    let mut probe = Probe::load()?;
    let mut map = probe.array::<Batch<VerdictQuestion>>("PROBE_VERDICTS")?;
    let (_, index) = probe.publish(stripes, |_| Ok(()))?;
    let mut draw = Draw::new(17);
    let mut seen = Seen::default();
    // Exceptions begin and end while the rounds run. How long that must be depends on how fast this machine is.
    let mut span = 20_000_000;
    for _ in 0..count(60, 2000, 8) {
        let began = boot_time();
        let moments: [u64; MOMENTS] =
            std::array::from_fn(|_| (began + draw.below(span)).saturating_sub(span / 4));
        let policy = probe.republish(|new| {
            fill(new.value(), &mut draw, &moments);
            Ok(())
        })?;
        let questions = Batch(std::array::from_fn(|_| {
            let remote = remote(&mut draw);
            question(&mut draw, remote, SETS)
        }));
        let published = boot_time();
        let mut before: Option<Batch<VerdictQuestion>> = None;
        let mut rounds = 0;
        while rounds < LEAST_ROUNDS || boot_time() < began + span {
            let answers = ask(&probe, &mut map, questions)?;
            for (number, answer) in answers.0.iter().enumerate() {
                // A verdict reads the clock for each fence: across a boundary there is no one right answer.
                if moments.iter().any(|at| (answer.before..=answer.after).contains(at)) {
                    seen.across += 1;
                    continue;
                }
                check(HostView { policy: &policy, index: &index, now: answer.before }, answer)?;
                seen.count(answer);
                let changed = before.is_some_and(|b| b.0[number].decision != answer.decision);
                seen.changed += usize::from(changed);
            }
            before = Some(answers);
            rounds += 1;
        }
        span = 2 * (published - began) + ROUNDS * (boot_time() - published) / rounds;
    }
    seen.all()
}

/// What the answers must have among them, or the test shows less than it claims.
#[derive(Debug, Default)]
struct Seen {
    reasons: u32,
    blocked: usize,
    would_be: usize,
    teredo: usize,
    full_sets: usize,
    changed: usize,
    compared: usize,
    across: usize,
}

impl Seen {
    fn count(&mut self, answer: &VerdictQuestion) {
        self.compared += 1;
        let cached = Cached(answer.decision);
        self.reasons |= 1 << (cached.outcome() >> 16 & 31);
        self.blocked += usize::from(cached.blocked());
        self.would_be += usize::from(cached.violation() && !cached.blocked());
        self.teredo += usize::from(answer.remote.hi >> 32 == 0x2001_0000);
        self.full_sets += usize::from(answer.set == SETS as u64 - 1);
    }

    /// `changed`: verdicts that an exception's boundary changed between two rounds. `across`: answers that were not
    /// compared, at most one in twenty.
    fn all(self) -> Result<Outcome> {
        let enough = self.reasons == 0x7fff
            && self.across * 20 < self.compared
            && [self.blocked, self.would_be, self.teredo, self.full_sets, self.changed]
                .iter()
                .all(|n| *n > 0);
        ensure!(enough, "the questions were one-sided: {self:?}");
        Ok(Outcome::Passed)
    }
}

/// Asks the kernel; every answer is cleared first.
pub(super) fn ask(
    probe: &Probe,
    map: &mut Questions,
    questions: Batch<VerdictQuestion>,
) -> Result<Batch<VerdictQuestion>> {
    map.set(0, questions, 0)?;
    probe.run("probe_decide", &ANY_PACKET)?;
    Ok(map.get(&0, 0)?)
}

/// The host's answer at the time that `view` has, which is the kernel's.
pub(super) fn check(view: HostView<'_>, answer: &VerdictQuestion) -> Result<()> {
    let host = on_the_host(view, answer);
    let kernel = (answer.decision, answer.until);
    ensure!(host == kernel, "{answer:x?}:\nkernel {kernel:x?}\nhost   {host:x?}");
    Ok(())
}

fn on_the_host(view: HostView<'_>, q: &VerdictQuestion) -> (u64, u64) {
    let flow = Flow {
        remote: q.remote,
        port: q.port as u16,
        protocol: q.protocol as u8,
        direction: if q.direction == 0 { Direction::Outbound } else { Direction::Inbound },
        flags: q.flags as u32,
    };
    let decision = decide(&view, q.set as u32, &flow);
    (Cached::new(&decision).0, decision.until)
}

/// Place ids in turn over both address spaces: `PLACES` stripes.
fn stripes(index: &mut PlaceIndex) -> Result<()> {
    let v4: Vec<_> = (0..256u32).map(|top| (top << 24, (top as usize % PLACES) as u16)).collect();
    let v6: Vec<_> = (0..256u128).map(|top| (top << 120, (top as usize * 7 % PLACES) as u16)).collect();
    index.build(&v4, &v6)?;
    Ok(())
}

fn remote(draw: &mut Draw) -> Address {
    let v4 = draw.u32();
    match draw.below(9) {
        8 => CANARY,
        0..4 => Address::v4(v4),
        4..6 => Address { hi: draw.u64(), lo: draw.u64() },
        _ => embedded(draw, v4),
    }
}

/// A question about a flow to `remote`, of one of so many sets.
pub(super) fn question(draw: &mut Draw, remote: Address, sets: usize) -> VerdictQuestion {
    let bits = draw.of(&[
        0,
        0,
        0,
        0,
        flags::NO_PORT,
        flags::ROUTED,
        flags::UNREADABLE | flags::NO_PORT,
        flags::SOCKET | flags::NO_PORT,
        flags::SOCKET | flags::NO_PORT | flags::RAW,
        flags::STACK | flags::NO_PORT,
    ]);
    VerdictQuestion {
        remote,
        port: if bits & flags::NO_PORT == 0 { draw.of(&PORTS).into() } else { 0 },
        protocol: draw.of(&PROTOCOLS).into(),
        direction: draw.of(&[0, 0, 0, 1]),
        flags: bits.into(),
        set: draw.below(sets as u64),
        before: UNANSWERED,
        decision: UNANSWERED,
        until: UNANSWERED,
        after: UNANSWERED,
    }
}

/// `CLOCK_BOOTTIME` in nanoseconds.
pub(super) fn boot_time() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
