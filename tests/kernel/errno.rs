//! A blocked `connect` or `sendto` answers at once, with the errno that the operator chose: callers' fallbacks
//! depend on it. (With EPERM the sendmsg hooks are not attached: egress gives it by itself.)

use agent_tests::actor::{Command, Outcome as Call, Repeat};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::flows::{Address, Destination, Flow, PORT, Shape, Use, must_echo};
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::{Outcome, Place, Tier, in_vm, trial};

/// No blocked connect may take this long, also on a busy machine; a SYN that is tried again takes a second.
const SLOW_MICROS: u64 = 500_000;
/// Median of a blocked connect, microseconds: the bar of the design is 1 ms.
const MEDIAN_MICROS: u64 = 1_000;
/// Under emulation an instruction takes many times as long.
const MEDIAN_MICROS_EMULATED: u64 = 20_000;

pub(crate) fn trials() -> Vec<Trial> {
    let choices =
        [(None, "EPERM"), (Some("ECONNREFUSED"), "ECONNREFUSED"), (Some("EHOSTUNREACH"), "EHOSTUNREACH")];
    choices
        .into_iter()
        .map(|(choice, expected)| {
            let name = match choice {
                None => format!("errno::a_blocked_connect_answers_{expected}_by_default"),
                Some(_) => format!("errno::a_blocked_connect_answers_{expected}_when_told_to"),
            };
            trial(Place::Anywhere, name, move || run(choice, expected))
        })
        .collect()
}

fn run(choice: Option<&str>, expected: &str) -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let connected = [Use::Tcp, Use::UdpConnected]
        .into_iter()
        .flat_map(|used| [Address::V4, Address::V6, Address::Mapped].map(|address| Shape { address, used }));
    let shapes: Vec<Shape> = connected.collect();
    for shape in &shapes {
        must_echo(&mut crm, *shape, shape.target(Destination::Forbidden, PORT), "fence off")?;
    }

    let mut setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
    if let Some(choice) = choice {
        setup = setup.arg("--errno").arg(choice);
    }
    let agent = setup.start()?;
    for shape in &shapes {
        let mut flow = Flow::open(&mut crm, *shape, shape.target(Destination::Forbidden, PORT))?;
        let exchange = flow.exchange(&mut crm, false)?;
        let as_chosen = exchange.connect.as_ref().is_some_and(|outcome| outcome.is_error(expected));
        ensure!(as_chosen, "{}: expected {expected}: {exchange:?}", shape.name());
        ensure!(exchange.connect_micros < SLOW_MICROS, "{}: not at once: {exchange:?}", shape.name());
        flow.close(&mut crm)?;
    }
    for address in [Address::V4, Address::V6, Address::Mapped] {
        let shape = Shape { address, used: Use::UdpUnconnected };
        let mut flow = Flow::open(&mut crm, shape, shape.target(Destination::Forbidden, PORT))?;
        let exchange = flow.exchange(&mut crm, false)?;
        ensure!(exchange.send.is_error(expected), "{}: expected {expected}: {exchange:?}", shape.name());
        flow.close(&mut crm)?;
    }

    let rounds = match Tier::from_environment() {
        Tier::Default => 500,
        Tier::All => 20_000,
    };
    let to = shapes[0].target(Destination::Forbidden, PORT);
    let load = Command::Load {
        what: Repeat::Connect,
        to: vec![to],
        for_ms: 20_000,
        rounds,
        until: Some(Call::Done),
        pause_us: 0,
    };
    let answer = crm.tell(&load)?;
    ensure!(answer.times(to, expected) == rounds, "not every connect was refused: {:?}", answer.tally);
    let mut micros = answer.each_micros;
    micros.sort_unstable();
    let median = micros[micros.len() / 2];
    let limit = if in_vm() { MEDIAN_MICROS_EMULATED } else { MEDIAN_MICROS };
    println!(
        "a blocked connect took {median} µs (median of {}), at most {:?} µs",
        micros.len(),
        micros.last()
    );
    ensure!(median < limit, "median {median} µs, the bar is {limit} µs");

    // The mutant: without the hooks the connect succeeds, so the errno above was the fence's.
    agent.stop()?;
    must_echo(&mut crm, shapes[0], to, "agent stopped")?;
    Ok(Outcome::Passed)
}
