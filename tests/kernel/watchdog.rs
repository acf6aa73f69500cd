//! What somebody with root's privileges does to the agent's links, pins and maps is seen, told and put right within ten
//! seconds, by an agent that has CAP_BPF and CAP_NET_ADMIN left.

mod company;
mod image;
mod links;
mod pins;

use std::time::{Duration, Instant};

use agent_tests::actor::Actor;
use agent_tests::agent::{Agent, Privileges, Setup};
use agent_tests::cgroup::Cgroup;
use agent_tests::deadline::wait_for;
use agent_tests::events::{Event, Watch};
use anyhow::{Context, Result, ensure};
use caps::Capability;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::flows::{Address, Destination, Flow, PORT, Shape, Use, must_echo};
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::Outcome;

const SHAPE: Shape = Shape { address: Address::V4, used: Use::UdpUnconnected };
/// What the agent promises.
const PROMISED: Duration = Duration::from_secs(10);
const NEEDED: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];

pub(crate) fn trials() -> Vec<Trial> {
    [links::trials(), pins::trials(), image::trials(), company::trials()].into_iter().flatten().collect()
}

/// A stage with a fence in force, an agent with the least privileges, and its events.
struct Guarded {
    crm: Actor,
    watch: Watch,
    agent: Agent,
    setup: Setup,
    /// The agent's own cgroup; goes before its parent.
    home: Option<Cgroup>,
    scene: Scene,
}

impl Guarded {
    fn start() -> Result<Self> {
        Self::with(Scene::new()?, |setup, _| Ok(setup))
    }

    /// Where somebody else's programs may be already.
    fn in_company(scene: Scene) -> Result<Self> {
        Self::open(scene, |setup, _| Ok(setup))
    }

    fn with(scene: Scene, more: impl FnOnce(Setup, &Scene) -> Result<Setup>) -> Result<Self> {
        let guarded = Self::open(scene, more)?;
        ensure!(guarded.tampers().is_empty(), "before anybody tampered: {:?}", guarded.tampers());
        Ok(guarded)
    }

    fn open(scene: Scene, more: impl FnOnce(Setup, &Scene) -> Result<Setup>) -> Result<Self> {
        let mut crm = scene.crm_actor()?;
        must_echo(&mut crm, SHAPE, SHAPE.target(Destination::Forbidden, PORT), "fence off")?;
        let setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?;
        let setup = more(setup.privileges(Privileges::Only(&NEEDED)), &scene)?;
        let agent = setup.start()?;
        let watch = agent.watch(&["--all"])?;
        let mut guarded = Self { crm, watch, agent, setup, home: None, scene };
        guarded.looked(1)?;
        guarded.holds("at first")?;
        Ok(guarded)
    }

    fn passes(&mut self, destination: Destination) -> Result<bool> {
        let mut flow = Flow::open(&mut self.crm, SHAPE, SHAPE.target(destination, PORT))?;
        let echoed = flow.exchange(&mut self.crm, false)?.echoed;
        flow.close(&mut self.crm)?;
        Ok(echoed)
    }

    /// The fence blocks what it should, and only that.
    fn holds(&mut self, when: &str) -> Result<()> {
        ensure!(!self.passes(Destination::Forbidden)?, "{when}: the fence does not hold");
        ensure!(self.passes(Destination::Allowed)?, "{when}: what is allowed is blocked");
        Ok(())
    }

    /// Waits for an event about tampering, as long as the agent has for it from `since` on; how long it took.
    fn told(&self, since: Instant, what: &str, says: &str, repaired: bool) -> Result<Duration> {
        let wanted = |event: &Event| {
            event.is("kind", "tamper")
                && event.is("what", what)
                && event.flag("repaired") == Some(repaired)
                && event.text("detail").is_some_and(|detail| detail.contains(says))
        };
        let left = PROMISED.saturating_sub(since.elapsed());
        let claim = format!("tampering with {what}: {says:?}, repaired: {repaired}");
        self.watch
            .wait_for(&claim, left, wanted)
            .with_context(|| format!("the agent said:\n{}", self.agent.said()))?;
        let took = since.elapsed();
        println!("{claim}: told after {} ms", took.as_millis());
        Ok(took)
    }

    fn tampers(&self) -> Vec<String> {
        let tampers = self.watch.events().into_iter().filter(|event| event.is("kind", "tamper"));
        tampers.map(|event| event.text("detail").unwrap_or_default().to_owned()).collect()
    }

    fn state(&self) -> Result<String> {
        let status = self.agent.status()?;
        Ok(status.get("state").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    fn wait_for_state(&self, state: &str) -> Result<()> {
        wait_for(&format!("state {state}"), PROMISED, || Ok((self.state()? == state).then_some(())))
            .with_context(|| format!("the agent said:\n{}", self.agent.said()))
    }

    /// What status says of the watchdog.
    fn summary(&self) -> Result<String> {
        let status = self.agent.status()?;
        let programs = status.get("programs").and_then(Value::as_array).context("no programs in status")?;
        let watchdog = programs.iter().find(|p| p.get("name").and_then(Value::as_str) == Some("watchdog"));
        let detail = watchdog.and_then(|w| w.get("detail")).and_then(Value::as_str);
        Ok(detail.context("status does not mention the watchdog")?.to_owned())
    }

    /// Waits until it has looked so often more.
    fn looked(&self, more: u64) -> Result<()> {
        let looks = || -> Result<u64> {
            let summary = self.summary()?;
            let word = summary.split("; ").nth(1).and_then(|rest| rest.split(' ').next());
            word.and_then(|number| number.parse().ok()).with_context(|| format!("no looks in {summary:?}"))
        };
        let wanted = looks()? + more;
        let limit = Duration::from_secs(5 * (more + 2));
        wait_for("the watchdog's next look", limit, || Ok((looks()? >= wanted).then_some(())))
    }

    fn link(&self, name: &str) -> std::path::PathBuf {
        self.setup.pins().join("links").join(name)
    }

    fn stop(self) -> Result<Outcome> {
        self.agent.stop()?;
        Ok(Outcome::Passed)
    }
}
