//! A dated exception opens what it names and nothing else, and ends on time, also when the agent hangs:
//! its end is in the kernel.

use std::time::{Duration, Instant};

use agent_tests::actor::{Command, Outcome as Call, Repeat};
use anyhow::{Result, ensure};
use jiff::Timestamp;
use libtest_mimic::Trial;
use rustix::process::Signal;

use crate::flows::{Address, Destination, Flow, PORT, Shape, Use, must_echo};
use crate::policies::{FENCE, eea_only, exception};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, in_vm, trial};

/// Life of the exception in the test, beside the time that its publication takes.
const LIFE: Duration = Duration::from_secs(3);
/// How far from its time the exception may end, as the test can see it.
const TOLERANCE_MS: i64 = 250;
/// Under emulation a look at the clock takes its time.
const TOLERANCE_MS_EMULATED: i64 = 2_000;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "exception::opens_what_it_names_and_nothing_else", opens),
        trial(Place::Anywhere, "exception::ends_on_time_with_the_agent_stopped_dead", ends_on_time),
    ]
}

const OPENED: Shape = Shape { address: Address::V4, used: Use::UdpUnconnected };
const NOT_OPENED: Shape = Shape { address: Address::Mapped, used: Use::UdpUnconnected };

/// An exception for the address of [`OPENED`] only.
fn for_one_address(expires_at: Timestamp) -> String {
    let cidr = OPENED.wire(Destination::Forbidden, PORT).ip();
    exception(
        "one-address",
        FENCE,
        &format!("{{cidrs: [\"{cidr}/32\"], ports: [{PORT}]}}"),
        &expires_at.to_string(),
    )
}

fn opens() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let to = OPENED.target(Destination::Forbidden, PORT);
    must_echo(&mut crm, OPENED, to, "fence off")?;

    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
    let agent = setup.start()?;
    let mut flow = Flow::open(&mut crm, OPENED, to)?;
    let exchange = flow.exchange(&mut crm, false)?;
    ensure!(!exchange.echoed && exchange.send != Call::Done, "without the exception: {exchange:?}");

    let later = Timestamp::now() + Duration::from_secs(3600);
    agent.publish(&setup, &format!("{}{}", eea_only(&scene, "Enforce"), for_one_address(later)))?;
    ensure!(
        flow.exchange(&mut crm, true)?.echoed,
        "the exception does not open the socket that was refused before"
    );
    must_echo(&mut crm, OPENED, to, "with the exception")?;
    let mut flow = Flow::open(&mut crm, NOT_OPENED, NOT_OPENED.target(Destination::Forbidden, PORT))?;
    let before = NOT_OPENED.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
    ensure!(!flow.exchange(&mut crm, false)?.echoed, "the exception opens more than it names");
    let after = NOT_OPENED.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
    ensure!(after == before, "LEAK beside the exception: {before:?} to {after:?}");

    agent.publish(&setup, &eea_only(&scene, "Enforce"))?;
    let mut flow = Flow::open(&mut crm, OPENED, to)?;
    ensure!(!flow.exchange(&mut crm, false)?.echoed, "the exception is gone but still opens");
    Ok(Outcome::Passed)
}

fn ends_on_time() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let to = OPENED.target(Destination::Forbidden, PORT);

    // How long this machine takes to put a policy in force; the first start takes longer than a change.
    let begun = Instant::now();
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
    let agent = setup.start()?;
    let life = LIFE + begun.elapsed() * 2;

    // Written as whole seconds, as people do.
    let end = Timestamp::from_second((Timestamp::now() + life).as_second() + 1)?;
    agent.publish(&setup, &format!("{}{}", eea_only(&scene, "Enforce"), for_one_address(end)))?;
    must_echo(&mut crm, OPENED, to, "with the exception")?;
    // Stopped: nobody can take the exception out of the maps.
    agent.signal(Signal::STOP)?;

    let send_until_refused = Command::Load {
        what: Repeat::SendTo,
        to: vec![to],
        for_ms: u64::try_from((life * 2 + LIFE).as_millis())?,
        rounds: 0,
        until: Some(Call::Failed("EPERM".to_owned())),
        pause_us: 500,
    };
    let answer = crm.tell(&send_until_refused)?;
    let refused_at = Timestamp::now();
    ensure!(answer.outcome.is_error("EPERM"), "the exception did not end: {:?}", answer.tally);
    ensure!(answer.times(to, "done") > 0, "the exception was over before the test began: {:?}", answer.tally);
    let late_ms = refused_at.as_millisecond() - end.as_millisecond();
    println!("the exception ended {late_ms} ms after its time, with the agent stopped");
    let tolerance_ms = if in_vm() { TOLERANCE_MS_EMULATED } else { TOLERANCE_MS };
    ensure!(late_ms.abs() <= tolerance_ms, "it ended {late_ms} ms after its time");

    let before = OPENED.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
    let mut flow = Flow::open(&mut crm, OPENED, to)?;
    ensure!(!flow.exchange(&mut crm, false)?.echoed, "a new socket passes after the end");
    let after = OPENED.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
    ensure!(after == before, "LEAK after the end: {before:?} to {after:?}");

    // The mutant: without the hooks it passes again.
    agent.kill()?;
    setup.uninstall()?;
    must_echo(&mut crm, OPENED, to, "agent killed and uninstalled")?;
    Ok(Outcome::Passed)
}
