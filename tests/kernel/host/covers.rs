//! What is guarded and what is not, and that it is said: interfaces that appear, shared namespaces, the host's network.

use agent_tests::actor::Actor;
use agent_tests::agent::Agent;
use agent_tests::events::Event;
use agent_tests::tamper::{detach, pinned_link};
use anyhow::{Result, ensure};
use serde_json::Value;

use super::has_tcx;
use super::stage::{FRAMES, SOON, Stage, hand_over, interface, target};
use crate::flows::{Address, Destination, PORT, must_echo, shapes};
use crate::suite::Outcome;

fn guard(interface: &Value) -> Option<&str> {
    interface.get("guard").and_then(Value::as_str)
}

/// By tcx where the kernel has it, else by clsact: nothing less is chosen.
fn is_guarded(link: &str) -> Result<impl Fn(&Value) -> bool> {
    let best = if has_tcx()? { "tcx" } else { "clsact" };
    Ok(move |it: &Value| it.get("name").and_then(Value::as_str) == Some(link) && guard(it) == Some(best))
}

/// A pod that is made while the agent runs. Its first packets need neighbour discovery, in both families.
pub(super) fn a_new_pod() -> Result<Outcome> {
    let stage = Stage::new()?;
    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", ""))?;
    let agent = setup.start()?;
    let pod = stage.node.pod(7)?;
    let mut crm = Actor::start(&pod.namespace, &stage.crm)?;
    interface(&agent, "the new pod's interface to be guarded", is_guarded(&pod.host_link)?)?;
    for shape in shapes() {
        must_echo(&mut crm, shape, shape.target(Destination::Allowed, PORT), "from a new pod")?;
    }
    let to = target(Address::V4, Destination::Forbidden);
    let before = stage.sniffer.frames_to(to.ip())?.frames;
    hand_over(&mut crm, &stage.frame_of(&pod, to))?;
    let arrived = stage.sniffer.frames_to(to.ip())?.frames - before;
    ensure!(arrived == 0, "{arrived} of {FRAMES} frames of a new pod arrived");
    let is_guarded = is_guarded(&pod.host_link)?;
    let counted = interface(&agent, "the frames to be counted", |it| {
        is_guarded(it) && it.get("blocked").and_then(Value::as_u64) == Some(FRAMES)
    })?;
    ensure!(counted.get("workload").and_then(Value::as_str) == Some(stage.crm.name()), "{counted}");

    // Its last process ends: nothing is guarded for nobody.
    drop(crm);
    agent_tests::deadline::wait_for("the interface to be let go of", SOON, || {
        let status = agent.status()?;
        let all = status.get("interfaces").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(all.is_empty().then_some(()))
    })?;
    Ok(Outcome::Passed)
}

/// Root takes the guard off its interface: a tcx link. A filter of clsact is not asked about.
pub(super) fn a_detached_guard() -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", ""))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let guarded = interface(&agent, "the interface to be guarded", is_guarded(&stage.pod.host_link)?)?;
    let index = guarded.get("index").and_then(Value::as_u64).unwrap_or_default();
    let link = setup.pins().join(format!("links/veth-{index}"));
    let (id, program) = pinned_link(&link)?;
    detach(id)?;
    let told = |event: &Event| {
        event.is("kind", "tamper")
            && event.flag("repaired") == Some(true)
            && event.text("what").is_some_and(|what| what.starts_with("host layer at interface"))
    };
    watch.wait_for("the detached guard to be told", SOON, told)?;
    let (new, now) = pinned_link(&link)?;
    ensure!(new != id && now == program, "link {id}, program {program} became {new}, {now}");
    let to = target(Address::V4, Destination::Forbidden);
    let arrived = stage.arrive(&mut crm, &stage.frame(to), to)?;
    ensure!(arrived == 0, "{arrived} of {FRAMES} frames arrived after the repair");
    Ok(Outcome::Passed)
}

/// A fence that requires the layer, in a namespace that the workload has not for itself.
pub(super) fn a_shared_namespace() -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let other = stage.root.child("other")?;
    let stranger = Actor::start(&stage.pod.namespace, &other)?;
    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", "  require: [hostLayer]\n"))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    let shared = interface(&agent, "the namespace to be called shared", |it| guard(it) == Some("shared"))?;
    let detail = shared.get("detail").and_then(Value::as_str).unwrap_or_default();
    ensure!(detail.contains(&stranger.pid().to_string()), "who shares it is not said: {shared}");
    state(&agent, "Degraded")?;

    // What can be enforced is, and says that it is only a part.
    let shape = shapes()[1];
    let to = shape.target(Destination::Forbidden, PORT);
    let mut flow = crate::flows::Flow::open(&mut crm, shape, to)?;
    ensure!(!flow.exchange(&mut crm, false)?.echoed, "the cgroup hooks do not hold");
    let is_partial = |event: &Event| event.is_to(to.ip()) && event.flag("partial") == Some(true);
    watch.wait_for("a partial violation", SOON, is_partial)?;

    // The stranger leaves: guarded, ready.
    drop(stranger);
    interface(&agent, "the namespace to be guarded", is_guarded(&stage.pod.host_link)?)?;
    state(&agent, "Ready")?;
    Ok(Outcome::Passed)
}

pub(super) fn the_hosts_network() -> Result<Outcome> {
    let stage = Stage::new()?;
    let _crm = Actor::start(stage.host(), &stage.crm)?;
    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", ""))?;
    let agent = setup.start()?;
    let found = interface(&agent, "the workload to be said unguarded", |it| guard(it) == Some("none"))?;
    let detail = found.get("detail").and_then(Value::as_str).unwrap_or_default();
    ensure!(detail.contains("no own interface"), "{found}");
    // Nothing requires the layer: the agent does all that the fence asks for.
    state(&agent, "Ready")?;
    Ok(Outcome::Passed)
}

fn state(agent: &Agent, wanted: &str) -> Result<()> {
    agent_tests::deadline::wait_for(&format!("the agent to be {wanted}"), SOON, || {
        Ok(agent.status()?.get("state").and_then(Value::as_str).filter(|s| *s == wanted).map(drop))
    })
}
