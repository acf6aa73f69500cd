//! Policies that change while programs run: Audit becomes Enforce, and an exception comes and goes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use super::client::Transport;
use super::policies::{self, LlmMode};
use super::screen::Screen;
use super::stage::{self, DNS, ECHO, MODEL, OTHER, Spot, Stage, WEB};
use super::traffic::{Change, Traffic};
use super::visit::{Promise, Visit};
use crate::agent::{Agent, Setup};
use crate::events::Watch;
use crate::frame;

/// How long the traffic may take to show what is waited for.
const SHOWN: Duration = Duration::from_secs(10);
/// Attempts before the flip.
const BEFORE: u64 = 150;
/// Refused attempts after it.
const AFTER: u64 = 300;
/// How long the exception lives.
const LIFE: Duration = Duration::from_secs(4);
/// How far from its time the exception may end, milliseconds.
const TOLERANCE_MS: i64 = 500;
/// The errors of a refused or cut flow.
const REFUSED: [&str; 1] = ["EPERM"];
const CUT: [&str; 3] = ["no answer", "ECONNABORTED", "EPIPE"];

/// One forbidden target of the traffic.
struct Target {
    kind: &'static str,
    protocol: u8,
    to: SocketAddr,
    after: &'static [&'static str],
}

impl Target {
    const fn new(
        kind: &'static str,
        protocol: u8,
        spot: Spot,
        port: u16,
        after: &'static [&'static str],
    ) -> Self {
        Self { kind, protocol, to: SocketAddr::new(spot.address, port), after }
    }

    /// As `traffic.py` wants it.
    fn text(&self) -> String {
        format!("{}:{}", self.kind, self.to)
    }
}

const FORBIDDEN: [Target; 4] = [
    Target::new("udp", frame::UDP, stage::LLM_API, WEB, &REFUSED),
    Target::new("udp", frame::UDP, stage::CHINA, DNS, &REFUSED),
    Target::new("tcp", frame::TCP, stage::LLM_ANYCAST, WEB, &REFUSED),
    Target::new("held", frame::TCP, stage::LLM_API, ECHO, &CUT),
];

/// Datagrams, and TCP segments with data, that arrived at the forbidden targets so far.
fn arrived(stage: &Stage) -> Result<u64> {
    FORBIDDEN.iter().try_fold(0, |sum, target| {
        Ok(sum + stage.sniffer.frames_of(target.protocol, target.to)?.with_payload)
    })
}

/// Audit, then Enforce, with traffic that does not stop.
pub(super) fn audit_first(
    stage: &Stage,
    screen: &mut Screen,
    agent: &Agent,
    setup: &Setup,
    watch: &Watch,
) -> Result<()> {
    screen.act(
        "Audit first, then Enforce, while traffic flows",
        &[
            "docs/examples/llm-cluster-only.yaml: llm may talk to its own network only. It begins in mode Audit: all",
            "passes, and each flow that it would block is reported.",
        ],
    );
    let llm = &stage.llm;
    let visits = [
        (Visit::curl(llm, stage::LOCAL_MODEL, MODEL), Promise::Passes),
        (Visit::curl(llm, stage::LLM_ANYCAST, WEB), Promise::WouldBlock),
        (Visit::python(llm, Transport::Udp, stage::CHINA, DNS), Promise::WouldBlock),
    ];
    for (visit, promise) in visits {
        visit.judged(stage, screen, watch, promise)?;
    }

    let model = format!("tcp:{}", stage::LOCAL_MODEL.port(MODEL));
    let mut targets: Vec<String> = FORBIDDEN.iter().map(Target::text).collect();
    targets.push(model.clone());
    let begin = arrived(stage)?;
    let mut traffic = Traffic::start(stage, llm, &targets)?;
    traffic.until("traffic to flow", SHOWN, |_| {}, |seen| seen.good >= BEFORE)?;
    let passed = arrived(stage)? - begin;
    println!();
    screen.say(&format!(
        "A Python program in llm now sends 100 times a second to {} targets; over one it holds a connection.",
        targets.len()
    ));
    screen.promise(
        passed > 0,
        &format!("mode Audit: the sniffer saw {passed} datagrams and segments with data"),
    );

    let old = agent.generation()?;
    let start = Instant::now();
    let new = agent.publish(setup, &policies::fences(LlmMode::Enforce)?)?;
    let took = start.elapsed();
    let acknowledged = arrived(stage)?;
    screen.say(&format!(
        "The file now says `mode: Enforce`; acknowledged after {} ms: generation {old} → {new}.",
        took.as_millis()
    ));
    let already = traffic.bad;
    traffic.until(
        "every forbidden target to be refused",
        SHOWN,
        |change| show(screen, change),
        |seen| {
            seen.bad >= already + AFTER
                && FORBIDDEN.iter().all(|target| seen.is(&target.text(), target.after))
        },
    )?;
    let leaked = arrived(stage)? - acknowledged;
    screen.promise(
        leaked == 0,
        &format!("{} refused attempts since; the sniffer saw {leaked} arrive", traffic.bad - already),
    );
    screen.promise(
        traffic.is(&model, &["connected"]),
        "the model in the same network was reached all the time",
    );
    drop(traffic);
    Visit::curl(llm, stage::LLM_ANYCAST, WEB).judged(stage, screen, watch, Promise::Blocked)?;
    Ok(())
}

/// A change of the traffic, on its line.
fn show(screen: &Screen, change: &Change) {
    let meaning = if change.outcome == "no answer" { "nothing that it sends leaves any more" } else { "" };
    screen.say(&format!("     llm  {:<27} {:<12} {meaning}", change.target, change.outcome));
}

/// A dated hole in a fence: it opens what it names, and the kernel ends it with the agent stopped.
pub(super) fn exception(
    stage: &Stage,
    screen: &mut Screen,
    agent: &Agent,
    setup: &Setup,
    watch: &Watch,
) -> Result<()> {
    screen.act(
        "An exception, with an end",
        &[
            "docs/examples/crm-exception.yaml: the United States, port 443, with a reason, an approver and an end.",
            "The end is in the kernel: we stop the agent (SIGSTOP) and it comes all the same.",
        ],
    );
    let crm = &stage.crm;
    let salesforce = || Visit::curl(crm, stage::SALESFORCE, WEB);
    salesforce().judged(stage, screen, watch, Promise::Blocked)?;
    let (text, end) = policies::with_exception(LIFE)?;
    let generation = agent.publish(setup, &text)?;
    screen.say(&format!("Published with an end at {end}: generation {generation}."));
    salesforce().judged(stage, screen, watch, Promise::Passes)?;
    Visit::curl(crm, stage::SALESFORCE, OTHER).judged(stage, screen, watch, Promise::Blocked)?;
    Visit::curl(crm, stage::JAPAN, WEB).judged(stage, screen, watch, Promise::Blocked)?;

    let target = format!("tcp:{}", stage::SALESFORCE.port(WEB));
    let mut traffic = Traffic::start(stage, crm, std::slice::from_ref(&target))?;
    traffic.until("the exception to be open", SHOWN, |_| {}, |seen| seen.is(&target, &["connected"]))?;
    agent.signal(Signal::STOP)?;
    let mut ended = None;
    let over = traffic.until(
        "the exception to end",
        SHOWN,
        |change| ended = Some(change.at),
        |seen| seen.is(&target, &REFUSED),
    );
    agent.signal(Signal::CONT)?;
    over?;
    let late = ended.map_or(i64::MAX, |at| at.as_millisecond() - end.as_millisecond());
    screen.promise(
        late.abs() <= TOLERANCE_MS,
        &format!("the agent was stopped; the kernel refused {late} ms after the exception's end"),
    );
    drop(traffic);
    salesforce().judged(stage, screen, watch, Promise::Blocked)?;
    Ok(())
}
