//! An audit fence: everything arrives, and each flow that it would block is reported.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::flows::{Destination, Flow, PORT, Shape, must_echo, shapes};
use crate::policies::{FENCE, eea_only};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

const REPORTED: Duration = Duration::from_secs(10);

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(Place::Anywhere, "audit::everything_arrives_and_each_would_be_block_is_an_event", run)]
}

fn run() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    for shape in shapes() {
        must_echo(&mut crm, shape, shape.target(Destination::Forbidden, PORT), "fence off")?;
    }

    let setup = scene.agent()?.policy(&eea_only(&scene, "Audit"))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    for shape in shapes() {
        let before = shape.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
        let mut flow = Flow::open(&mut crm, shape, shape.target(Destination::Forbidden, PORT))?;
        let exchange = flow.exchange(&mut crm, true)?;
        ensure!(exchange.echoed, "an audit fence disturbed {}: {exchange:?}", shape.name());
        let after = shape.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
        ensure!(after.with_payload > before.with_payload, "{} was echoed but not seen", shape.name());
        reported(&scene, &watch, shape).with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
        flow.close(&mut crm)?;
    }

    // An allowed flow is no violation.
    for shape in shapes() {
        must_echo(&mut crm, shape, shape.target(Destination::Allowed, PORT), "audit fence on")?;
    }
    let allowed = shapes()[0].wire(Destination::Allowed, PORT);
    watch.wait_for("the flow to the allowed address", REPORTED, |event| event.is_to(allowed.ip()))?;
    let wrong = watch.events().into_iter().find(|event| {
        event.is("kind", "violation") && !event.is("country", "US") || event.is("verdict", "Block")
    });
    ensure!(wrong.is_none(), "an audit fence blocked, or called an allowed flow a violation: {wrong:?}");

    // The mutant: an agent without the fence sees the same flow and must not call it a violation, so what was
    // reported above came from the fence.
    drop(watch);
    agent.stop()?;
    let setup = scene.agent()?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let remote = shapes()[0].target(Destination::Forbidden, PORT);
    must_echo(&mut crm, shapes()[0], remote, "without the fence")?;
    watch.wait_for("the same flow, observed", REPORTED, |event| event.is_to(remote.ip()))?;
    ensure!(!watch.events().iter().any(|event| event.is("kind", "violation")), "a violation of no fence");
    Ok(Outcome::Passed)
}

/// The violation of this shape, with every field that the contract promises.
fn reported(scene: &Scene, watch: &agent_tests::events::Watch, shape: Shape) -> Result<()> {
    let remote = shape.wire(Destination::Forbidden, PORT);
    let protocol = if shape.used == crate::flows::Use::Tcp { "tcp" } else { "udp" };
    let what = format!("the violation of {} to {remote}", shape.name());
    let event = watch.wait_for(&what, REPORTED, |event| {
        event.is("kind", "violation") && event.is_to(remote.ip()) && event.is("protocol", protocol)
    })?;
    let text = [
        ("verdict", "Allow"),
        ("would_be", "Block"),
        ("fence", FENCE),
        ("country", "US"),
        ("direction", "Outbound"),
        ("cgroup", scene.crm.name()),
    ];
    for (field, value) in text {
        ensure!(event.is(field, value), "{what}: {field} is not {value}: {}", event.0);
    }
    ensure!(event.flag("enforced") == Some(false), "{what}: enforced: {}", event.0);
    ensure!(event.number("port") == Some(u64::from(PORT)), "{what}: port: {}", event.0);
    for field in ["time", "source", "comm"] {
        ensure!(event.text(field).is_some(), "{what}: no {field}: {}", event.0);
    }
    Ok(())
}
