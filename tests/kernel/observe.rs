//! Without a policy the agent observes: nothing is blocked, and every workload below its root is seen.

use std::time::Duration;

use agent_tests::events::Event;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::flows::{Address, Destination, Flow, OUTSIDE_PORT, PORT, Shape, Use, must_echo, shapes};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

const REPORTED: Duration = Duration::from_secs(10);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "observe::without_a_policy_every_flow_passes_and_is_reported", sees_all),
        trial(Place::Anywhere, "observe::the_close_record_has_bytes_packets_and_duration", close_record),
    ]
}

fn sees_all() -> Result<Outcome> {
    let scene = Scene::new()?;
    let (mut crm, mut other) = (scene.crm_actor()?, scene.other_actor()?);
    let setup = scene.agent_with_the_whole_world()?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    for shape in shapes() {
        must_echo(&mut crm, shape, shape.target(Destination::Forbidden, PORT), "observing")?;
        must_echo(&mut other, shape, shape.target(Destination::Allowed, OUTSIDE_PORT), "observing")?;
    }
    for shape in shapes() {
        let protocol = if shape.used == Use::Tcp { "tcp" } else { "udp" };
        for (cgroup, destination, port, country) in [
            (&scene.crm, Destination::Forbidden, PORT, "US"),
            (&scene.other, Destination::Allowed, OUTSIDE_PORT, "DE"),
        ] {
            let remote = shape.wire(destination, port);
            let what = format!("the flow of {} from {} to {remote}", shape.name(), cgroup.name());
            let event = watch
                .wait_for(&what, REPORTED, |event| {
                    event.is_to(remote.ip())
                        && event.is("protocol", protocol)
                        && event.is("cgroup", cgroup.name())
                        && event.number("port") == Some(u64::from(port))
                })
                .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
            ensure!(event.is("verdict", "Allow") && event.is("country", country), "{what}: {}", event.0);
        }
    }
    let blocked = watch.events().into_iter().find(|event| {
        event.is("verdict", "Block") || event.is("would_be", "Block") || event.is("kind", "violation")
    });
    ensure!(blocked.is_none(), "observing, and yet: {blocked:?}");
    Ok(Outcome::Passed)
}

fn close_record() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let setup = scene.agent()?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    for used in [Use::Tcp, Use::UdpConnected] {
        let shape = Shape { address: Address::V4, used };
        let to = shape.target(Destination::Allowed, PORT);
        let mut flow = Flow::open(&mut crm, shape, to)?;
        ensure!(flow.exchange(&mut crm, true)?.echoed, "no echo");
        ensure!(flow.exchange(&mut crm, true)?.echoed, "no echo");
        flow.close(&mut crm)?;
        let protocol = if used == Use::Tcp { "tcp" } else { "udp" };
        let what = format!("the close record of {}", shape.name());
        let event = watch
            .wait_for(&what, REPORTED, |event| {
                event.is_to(to.ip()) && event.is("protocol", protocol) && is_close(event)
            })
            .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
        // Two exchanges of 48 bytes; packets are counted with their headers.
        for field in ["tx_bytes", "rx_bytes"] {
            ensure!(
                event.number(field).is_some_and(|bytes| (96..10_000).contains(&bytes)),
                "{what}: {field}: {}",
                event.0
            );
        }
        for field in ["tx_packets", "rx_packets"] {
            ensure!(
                event.number(field).is_some_and(|packets| (2..40).contains(&packets)),
                "{what}: {field}: {}",
                event.0
            );
        }
        ensure!(event.number("duration_ns").is_some_and(|ns| ns > 0), "{what}: duration: {}", event.0);
    }
    Ok(Outcome::Passed)
}

fn is_close(event: &Event) -> bool {
    event.text("phase").is_some_and(|phase| phase.eq_ignore_ascii_case("close"))
}
