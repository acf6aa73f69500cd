//! Upgrades back and forth under flood, between agents of the same layout of maps and of another one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent_tests::agent::{binary, other_binary};
use agent_tests::deadline::wait_for;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use super::flood::{Flood, median};
use super::{is_tracepoint, links};
use crate::policies::eea_only;
use crate::scene::Scene;
use crate::suite::{Outcome, Place, Tier, in_vm, trial};

const SOON: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let same = "pins::upgrades_to_the_same_layout_under_flood_leak_nothing_and_break_nothing";
    let other = "pins::upgrades_to_another_layout_and_back_under_flood_leak_nothing_and_break_nothing";
    vec![
        trial(Place::Anywhere, same, || run(&[binary()?])),
        trial(Place::Anywhere, other, || match other_binary()? {
            Some(other) => run(&[binary()?, other]),
            None => Ok(Outcome::Skipped("no second agent: RINGFENCE_BIN_OTHER is not set".into())),
        }),
    ]
}

/// Each binary in turn; half of the upgrades find their predecessor stopped, half of them killed.
fn run(binaries: &[PathBuf]) -> Result<Outcome> {
    let times = match Tier::from_environment() {
        _ if in_vm() => 2,
        // Of two tests: 10 and 200.
        Tier::Default => 5,
        Tier::All => 100,
    };
    let scene = Scene::new()?;
    let mut flood = Flood::open(&scene)?;
    let mut setup = scene.agent()?.policy(&eea_only(&scene, "Enforce"))?.keep_on_exit();
    let mut agent = setup.start()?;
    let first = links(&setup)?;
    flood.begin(&scene)?;
    let mut back = Vec::new();
    for (round, binary) in (1..=times).zip(binaries.iter().cycle().skip(1)) {
        let when = format!("around upgrade {round} of {times}");
        if round % 2 == 0 {
            agent.kill()?;
        } else {
            agent.stop()?;
        }
        setup.use_binary(binary);
        let start = Instant::now();
        agent = setup.start()?;
        back.push(start.elapsed());
        flood.exchange(&when)?;
        flood.judge(&scene, &when)?;
        for (name, (link, _)) in links(&setup)? {
            let first = first.get(&name).with_context(|| format!("{when}: {name} was left behind"))?;
            ensure!(
                is_tracepoint(&name) || first.0 == link,
                "{when}: {name} has another link than at the beginning"
            );
        }
        let watch = agent.watch(&["--all"])?;
        watch
            .wait_for("the gap", SOON, |event| event.is("kind", "gap"))
            .with_context(|| format!("{when}; the agent said:\n{}", agent.said()))?;
        let maps = std::fs::read_dir(setup.pins())?.flatten();
        let maps = maps.filter(|entry| entry.path().join("CONTROL").exists()).count();
        ensure!(maps == 1, "{when}: {maps} sets of maps are pinned");
    }
    println!("{times} upgrades under flood: back in service after {:?} (median)", median(&mut back));

    // The mutant.
    agent.kill()?;
    setup.uninstall()?;
    wait_for("the flood to leak without hooks", SOON, || Ok((flood.leaked(&scene)? > 0).then_some(())))?;
    Ok(Outcome::Passed)
}
