//! An enforcing fence: not one frame of a forbidden flow arrives, for new sockets and for those that were
//! open before; allowed flows and workloads outside the fence do not notice.

use agent_tests::actor::Actor;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use crate::flows::{Destination, Flow, OUTSIDE_PORT, PORT, Shape, Use, must_echo, shapes};
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

/// When the forbidden flow's socket was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// While the fence was in force.
    New,
    /// Before, and it had exchanged bytes.
    Held,
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for (age, said) in [(Age::New, "a_new_socket"), (Age::Held, "a_socket_older_than_the_fence")] {
        for shape in shapes() {
            let name = format!("enforce::no_frame_of_{}_from_{said}", shape.name());
            all.push(trial(Place::Anywhere, name, move || run(shape, age)));
        }
    }
    all
}

fn run(shape: Shape, age: Age) -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let mut other = scene.other_actor()?;
    let forbidden = shape.target(Destination::Forbidden, PORT);
    let allowed = shape.target(Destination::Allowed, PORT);

    // Act one: no fence. Everything arrives, and the judge sees it.
    let mut flow = Flow::open(&mut crm, shape, forbidden)?;
    let exchange = flow.exchange(&mut crm, true)?;
    ensure!(exchange.echoed, "fence off: no echo: {exchange:?}");
    let mut held_allowed = Flow::open(&mut crm, shape, allowed)?;
    ensure!(held_allowed.exchange(&mut crm, true)?.echoed, "fence off: no echo of the allowed flow");
    ensure!(
        shape.arrived(&scene.sniffer, Destination::Forbidden, PORT)?.with_payload > 0,
        "fence off: the flow was echoed but the sniffer saw nothing of it"
    );
    if age == Age::New {
        // By a reset, so that every later frame is the new socket's.
        flow.reset(&mut crm)?;
        flow = Flow::open(&mut crm, shape, forbidden)?;
    }

    // Act two: the fence.
    let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
    let agent = setup.start()?;
    let leak = leak(&scene, &mut crm, shape, age, &mut flow)
        .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
    ensure!(leak.is_none(), "LEAK: {leak:?}\nringfence run said:\n{}", agent.said());
    ensure!(held_allowed.exchange(&mut crm, true)?.echoed, "fence on: the open allowed flow was disturbed");
    must_echo(&mut crm, shape, allowed, "fence on, a new allowed flow")?;
    let outside = shape.target(Destination::Forbidden, OUTSIDE_PORT);
    must_echo(&mut other, shape, outside, "fence on, a workload outside the fence")?;

    // Act three: the mutant. Without the hooks the very same judgement must find a leak.
    agent.stop()?;
    let mut flow = Flow::open(&mut crm, shape, forbidden)?;
    let leak = self::leak(&scene, &mut crm, shape, Age::New, &mut flow)?;
    ensure!(leak.is_some(), "the hooks are detached and still the judge sees no leak: it is blind");
    Ok(Outcome::Passed)
}

/// Tries the forbidden flow and judges it. `Some` says what leaked.
fn leak(scene: &Scene, crm: &mut Actor, shape: Shape, age: Age, flow: &mut Flow) -> Result<Option<String>> {
    let before = shape.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
    let exchange = flow.exchange(crm, false)?;
    let after = shape.arrived(&scene.sniffer, Destination::Forbidden, PORT)?;
    // An established connection may still acknowledge and end; its bytes may not pass.
    let frames = match (shape.used, age) {
        (Use::Tcp, Age::Held) => after.with_payload - before.with_payload,
        (Use::Tcp | Use::UdpConnected | Use::UdpUnconnected, _) => after.frames - before.frames,
    };
    let leaked = frames > 0 || exchange.echoed;
    Ok(leaked.then(|| format!("{frames} frames of {} ({age:?}) arrived: {exchange:?}", shape.name())))
}
