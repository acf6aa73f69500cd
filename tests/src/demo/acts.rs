//! The story, act by act. Each begins with a sentence or two on what it shows.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::client::{Answer, Reply, Transport};
use super::policies::{self, LlmMode};
use super::screen::Screen;
use super::stage::{self, DNS, EARLY, Stage, WEB};
use super::visit::{Promise, Visit};
use super::{flip, summary};
use crate::agent::{self, Agent, Setup};
use crate::deadline::wait_for;
use crate::events::Watch;

/// How long new data may take to be in force.
const REREAD: Duration = Duration::from_secs(20);
/// The prefix of [`stage::AWS_IRELAND`] in Amazon's list.
const IRISH_PREFIX: &str = "52.93.127.27/32";

/// Plays every act.
pub(super) fn play(stage: &Stage, screen: &mut Screen) -> Result<()> {
    no_fence(stage, screen)?;

    let setup = Setup::new(&stage.root)?;
    let list = setup.policy_path().with_file_name("aws-ip-ranges.json");
    let (with, without) = policies::provider_ranges(IRISH_PREFIX)?;
    fs::write(&list, without)?;
    let setup = setup.policy(&policies::fences(LlmMode::Audit)?)?;
    let setup = setup.arg("--provider-ranges").arg(&list).keep_on_exit();
    let begin = Instant::now();
    let agent = setup.start()?;
    let started = begin.elapsed();
    let watch = agent.watch(&["--all"])?;

    let mut told = || -> Result<()> {
        two_fences(stage, screen, &watch, started)?;
        a_better_source(stage, screen, &agent, &watch, &list, &with)?;
        flip::audit_first(stage, screen, &agent, &setup, &watch)?;
        flip::exception(stage, screen, &agent, &setup, &watch)?;
        summary::show(stage, screen, &watch)
    };
    told().with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
    drop(watch);
    killed(stage, screen, &setup, agent)
}

fn no_fence(stage: &Stage, screen: &mut Screen) -> Result<()> {
    screen.act(
        "No fence",
        &[
            "Two workloads, crm and llm, each in a cgroup of its own. Their network is a namespace whose far end",
            "answers on every address of the world and has no way out: nothing of this leaves the machine.",
        ],
    );
    // On a port that no later act uses, so that the judge can tell their frames apart.
    let visits = [
        Visit::curl(&stage.crm, stage::SALESFORCE, EARLY),
        Visit::curl(&stage.crm, stage::GERMANY_V6, EARLY),
        Visit::python(&stage.llm, Transport::Tcp, stage::CHINA, EARLY),
        Visit::curl(&stage.llm, stage::LOCAL_MODEL, EARLY),
    ];
    for visit in visits {
        let before = stage.sniffer.frames_to(visit.spot.address)?;
        let answer = visit.alone(stage, screen)?;
        ensure!(answer.reply == Reply::Reached, "without a fence {} must be reached", visit.to());
        let seen = stage.sniffer.frames_to(visit.spot.address)?.frames - before.frames;
        ensure!(seen > 0, "{} was reached, but the sniffer saw no frame: it can judge nothing", visit.to());
    }
    screen.promise(
        true,
        "all reached; a sniffer at the far end, the judge of this demo, saw the frames of each",
    );
    Ok(())
}

fn two_fences(stage: &Stage, screen: &mut Screen, watch: &Watch, started: Duration) -> Result<()> {
    screen.act(
        "Two fences",
        &[
            "docs/examples/crm-stays-in-the-eea.yaml, mode Enforce: crm may send to the EEA, to countries with a GDPR",
            "adequacy decision, and to its own network. The kernel decides at connect() or the first packet.",
            "First line: what the program saw. Second: what a subscriber of the event stream saw.",
        ],
    );
    screen.dim(&format!(
        "ringfence run: ready {} ms after its start, the whole world loaded",
        started.as_millis()
    ));
    let crm = &stage.crm;
    let visits = [
        (Visit::curl(crm, stage::GERMANY, WEB), Promise::Passes),
        (Visit::curl(crm, stage::GERMANY_V6, WEB), Promise::Passes),
        (Visit::curl(crm, stage::SWITZERLAND, WEB), Promise::Passes),
        (Visit::python(crm, Transport::Udp, stage::BRAZIL, DNS), Promise::Passes),
        (Visit::curl(crm, stage::LOCAL_SHOP, WEB), Promise::Passes),
        (Visit::curl(crm, stage::SALESFORCE, WEB), Promise::Blocked),
        (Visit::python(crm, Transport::Tcp, stage::SALESFORCE_MAPPED, WEB), Promise::Blocked),
        (Visit::python(crm, Transport::Udp, stage::UNITED_STATES_V6, WEB), Promise::Blocked),
        (Visit::curl(crm, stage::JAPAN, WEB), Promise::Blocked),
        (Visit::python(crm, Transport::Udp, stage::ANYCAST, DNS), Promise::Blocked),
        (Visit::curl(crm, stage::UNKNOWN, WEB), Promise::Blocked),
        (Visit::curl(crm, stage::LISTED, WEB), Promise::Blocked),
    ];
    let forbidden = [stage::UNITED_STATES_V6, stage::JAPAN, stage::ANYCAST, stage::UNKNOWN, stage::LISTED];
    for (visit, promise) in visits {
        visit.judged(stage, screen, watch, promise)?;
    }
    let mut leaked = 0;
    for spot in forbidden {
        leaked += stage.sniffer.frames_to(spot.address)?.frames;
    }
    screen.say("Japan is adequate only for some recipients: never silently. Anycast and unknown places fall to `unknown`.");
    screen.promise(leaked == 0, &format!("the sniffer saw {leaked} frames to the places that were refused"));
    Ok(())
}

fn a_better_source(
    stage: &Stage,
    screen: &mut Screen,
    agent: &Agent,
    watch: &Watch,
    list: &Path,
    with: &str,
) -> Result<()> {
    screen.act(
        "Who says where an address is",
        &[
            "A country database is a guess. It puts this machine of Amazon's region in Ireland into the United States,",
            "so the fence refuses it. Amazon publishes where its ranges are; that list goes before the database.",
        ],
    );
    let ireland = || Visit::curl(&stage.crm, stage::AWS_IRELAND, WEB);
    let spot = stage::AWS_IRELAND.address.to_string();
    lookup(screen, &[&spot])?;
    ireland().judged(stage, screen, watch, Promise::Blocked)?;

    let before = agent.generation()?;
    let begin = Instant::now();
    let new = list.with_extension("new");
    fs::write(&new, with)?;
    fs::rename(&new, list)?;
    wait_for("the provider's list to be in force", REREAD, || {
        Ok((agent.generation()? > before).then_some(()))
    })?;
    screen.say(&format!(
        "Amazon's list is replaced by one that has the range; {} ms later generation {} is in force:",
        begin.elapsed().as_millis(),
        agent.generation()?
    ));
    lookup(screen, &["--provider-ranges", &list.display().to_string(), &spot])?;
    let event = ireland().judged(stage, screen, watch, Promise::Passes)?;
    screen.promise(
        event.is("country", "IE"),
        "the same address is now in Ireland, and the event says who said so",
    );
    Ok(())
}

/// Runs `ringfence lookup` and shows its answer.
fn lookup(screen: &Screen, arguments: &[&str]) -> Result<()> {
    let output = Command::new(agent::binary()?).arg("lookup").args(arguments).output()?;
    ensure!(output.status.success(), "ringfence lookup: {}", String::from_utf8_lossy(&output.stderr));
    let shown: Vec<&str> =
        arguments.iter().map(|argument| argument.rsplit('/').next().unwrap_or(argument)).collect();
    screen.dim(&format!("$ ringfence lookup {}", shown.join(" ")));
    screen.dim(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

fn killed(stage: &Stage, screen: &mut Screen, setup: &Setup, agent: Agent) -> Result<()> {
    screen.act(
        "The agent is killed",
        &[
            "What is enforced lies pinned in the kernel; the agent is only its keeper. It is killed with SIGKILL, then",
            "another one is started: it takes over what is in force and says how long nobody was reading.",
        ],
    );
    agent.kill()?;
    let visit = Visit::curl(&stage.crm, stage::JAPAN, WEB);
    let refused = |answer: Answer| matches!(answer.reply, Reply::Refused(_));
    let answer = visit.alone(stage, screen)?;
    screen.promise(refused(answer), "with the agent dead the place is refused all the same");
    let agent = setup.start()?;
    let watch = agent.watch(&[])?;
    let gap = watch.wait_for("the gap to be announced", REREAD, |event| event.is("kind", "gap"))?;
    let word = |field| gap.text(field).unwrap_or("?");
    screen.dim(&format!("gap: nobody was reading from {} to {}", word("begin"), word("end")));
    drop(watch);
    agent.stop()?;
    let (_, said) = setup.uninstall()?;
    screen.dim("$ ringfence uninstall");
    screen.dim(said.trim_end());
    let answer = visit.alone(stage, screen)?;
    screen.promise(
        answer.reply == Reply::Reached,
        "uninstalled, the refused place is reached again: it was the fence",
    );
    Ok(())
}
