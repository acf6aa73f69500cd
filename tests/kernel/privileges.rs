//! Least privilege: the agent starts, enforces and takes over with three capabilities, and keeps two.

use std::collections::BTreeSet;
use std::fs;

use agent_tests::agent::{Agent, Privileges};
use anyhow::{Context, Result, ensure};
use caps::Capability;
use libtest_mimic::Trial;

use crate::flows::{Address, Destination, Flow, PORT, Shape, Use};
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

const NEEDED: [Capability; 3] = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];
const SHAPES: [Shape; 2] = [
    Shape { address: Address::V4, used: Use::Tcp },
    Shape { address: Address::V6, used: Use::UdpUnconnected },
];

pub(crate) fn trials() -> Vec<Trial> {
    let enough = "privileges::three_capabilities_are_enough_to_start_enforce_reload_and_take_over";
    vec![
        trial(Place::Anywhere, enough, enough_to_run),
        trial(Place::Anywhere, "privileges::a_running_agent_has_two_capabilities_left_in_every_thread", left),
        trial(Place::Anywhere, "privileges::without_one_of_the_three_the_start_says_which", too_few),
    ]
}

fn enough_to_run() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let policy = eea_only(&scene, "Enforce");
    let setup = scene.agent()?.policy(&policy)?.keep_on_exit().privileges(Privileges::Only(&NEEDED));
    let mut agent = setup.start().context("with three capabilities")?;
    for turn in ["the first agent", "its successor"] {
        for shape in SHAPES {
            for (destination, passes) in [(Destination::Allowed, true), (Destination::Forbidden, false)] {
                let mut flow = Flow::open(&mut crm, shape, shape.target(destination, PORT))?;
                let exchange = flow.exchange(&mut crm, passes)?;
                ensure!(exchange.echoed == passes, "{turn}: {destination:?}, {}: {exchange:?}", shape.name());
            }
        }
        // A new image needs new maps, and they are made without what only loading takes.
        agent.publish(&setup, &format!("{policy}# {turn}\n"))?;
        agent.kill()?;
        agent = setup.start().context("taking over with three capabilities")?;
    }
    agent.stop()?;
    Ok(Outcome::Passed)
}

fn left() -> Result<Outcome> {
    let scene = Scene::new()?;
    let agent = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.start()?;
    let two = 1u64 << Capability::CAP_BPF.index() | 1 << Capability::CAP_NET_ADMIN.index();
    let expected =
        [("CapInh", 0), ("CapPrm", two), ("CapEff", two), ("CapBnd", 0), ("CapAmb", 0), ("NoNewPrivs", 1)];
    let threads = threads(&agent)?;
    ensure!(threads.len() > 2, "an agent of {} threads: where are the others?", threads.len());
    for thread in threads {
        let status = fs::read_to_string(format!("/proc/{}/task/{thread}/status", agent.pid()))?;
        for (name, value) in expected {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let found = u64::from_str_radix(line.with_context(|| format!("no {name}"))?.trim(), 16)?;
            ensure!(found == value, "thread {thread}: {name} is {found:016x}, not {value:016x}");
        }
    }
    Ok(Outcome::Passed)
}

fn threads(agent: &Agent) -> Result<BTreeSet<String>> {
    let folder = fs::read_dir(format!("/proc/{}/task", agent.pid()))?;
    Ok(folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn too_few() -> Result<Outcome> {
    const WITHOUT: [(&str, [Capability; 2]); 3] = [
        ("CAP_BPF", [NEEDED[1], NEEDED[2]]),
        ("CAP_NET_ADMIN", [NEEDED[0], NEEDED[2]]),
        ("CAP_PERFMON", [NEEDED[0], NEEDED[1]]),
    ];
    let scene = Scene::new()?;
    for (name, others) in &WITHOUT {
        let setup = scene.agent()?.privileges(Privileges::Only(others));
        let (code, said) = setup.run_to_refusal()?;
        ensure!(code == Some(1) && said.contains(name), "without {name}: {code:?}\n{said}");
        ensure!(!setup.pins().exists(), "without {name} something was left behind");
    }
    Ok(Outcome::Passed)
}
