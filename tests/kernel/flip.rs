//! Two images that differ in places, fences and exceptions at once, flipped every 100 ms under load: no
//! verdict that neither image would give, and no lost event that is not announced.
//!
//! **How a mixture would show.** Each destination below gets the *same* verdict from both images, but for
//! different reasons, so that any state made of parts of both gives another verdict:
//!
//! | | image A | image B | both say | a mixture of | says |
//! |---|---|---|---|---|---|
//! | x | is DE; fence allows DE | is US; fence allows US | Allow | places, fence | Block |
//! | y | is US | is DE | Block | places, fence | **Allow** |
//! | z | is CN; exception opens CN | is RU; exception opens RU | Allow | places, exceptions | Block |
//! | u | is RU | is CN | Block | places, exceptions | **Allow** |
//! | w | a rule allows KP | an exception opens KP | Allow | B's fence, A's exceptions | Block |
//! | v | an exception opens IR | a rule allows IR | Allow | A's fence, B's exceptions | Block |
//!
//! So there is nothing to time: during the whole load x, z, w and v must never be refused, and of y and u
//! not one frame may arrive. The sniffer counts both. That the judgement can fail is shown with an image
//! that *is* such a mixture, published on purpose, and with the hooks detached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use agent_tests::actor::{Actor, Answer, Command, Repeat};
use agent_tests::events::{Event, no_unannounced_loss};
use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use libtest_mimic::Trial;

use crate::flows::PORT;
use crate::policies::{exception, fence, places};
use crate::scene::Scene;
use crate::suite::{Outcome, Place, Tier, trial};

const EVERY: Duration = Duration::from_millis(100);
/// The load runs longer than the flips by this much on either side.
const AROUND: Duration = Duration::from_millis(500);

/// A destination and what both images say of it.
struct Target {
    name: char,
    last_byte: u8,
    allowed: bool,
    country: [&'static str; 2],
}

const TARGETS: [Target; 6] = [
    Target { name: 'x', last_byte: 1, allowed: true, country: ["DE", "US"] },
    Target { name: 'y', last_byte: 2, allowed: false, country: ["US", "DE"] },
    Target { name: 'z', last_byte: 3, allowed: true, country: ["CN", "RU"] },
    Target { name: 'u', last_byte: 4, allowed: false, country: ["RU", "CN"] },
    Target { name: 'w', last_byte: 5, allowed: true, country: ["KP", "KP"] },
    Target { name: 'v', last_byte: 6, allowed: true, country: ["IR", "IR"] },
];

impl Target {
    fn v4(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(46, 4, 20, self.last_byte)), PORT)
    }

    fn v6(&self) -> SocketAddr {
        let ip = Ipv6Addr::new(0x2a01, 0x4f8, 0, 0x20, 0, 0, 0, u16::from(self.last_byte));
        SocketAddr::new(IpAddr::V6(ip), PORT)
    }
}

fn addresses() -> Vec<SocketAddr> {
    TARGETS.iter().flat_map(|target| [target.v4(), target.v6()]).collect()
}

const FENCES: [&str; 2] = ["flip-a", "flip-b"];

/// The policy with the places, the fence and the exception of image A (0) or B (1) each.
fn policy(scene: &Scene, place: usize, fence_of: usize, exception_of: usize) -> String {
    let mut countries = Vec::new();
    for target in &TARGETS {
        let (v4, v6) = (target.v4().ip(), target.v6().ip());
        countries.push((format!("{v4}/32"), target.country[place]));
        countries.push((format!("{v6}/128"), target.country[place]));
    }
    let countries: Vec<(&str, &str)> = countries.iter().map(|(cidr, code)| (cidr.as_str(), *code)).collect();
    let allow = [["DE", "KP"], ["US", "IR"]][fence_of];
    let open = [["CN", "IR"], ["RU", "KP"]][exception_of];
    let until = (Timestamp::now() + Duration::from_secs(3600)).to_string();
    // The exception names the fence that is there, or the policy would be refused as a whole.
    let name = FENCES[fence_of];
    [
        places("flip", &countries),
        fence(name, "Enforce", scene.crm.name(), "allowed", &allow),
        exception("opened", name, &format!("{{jurisdictions: [{}]}}", open.join(", ")), &until),
    ]
    .concat()
}

pub(crate) fn trials() -> Vec<Trial> {
    let name = "flip::no_verdict_of_neither_image_and_no_unannounced_loss_flipping_every_100_ms_under_load";
    vec![trial(Place::Host, name, run)]
}

fn run() -> Result<Outcome> {
    let seconds = match Tier::from_environment() {
        Tier::Default => 20,
        Tier::All => 120,
    };
    let scene = Scene::with_udp(&[])?;
    let (mut udp, mut tcp) = (scene.crm_actor()?, scene.crm_actor()?);

    // Act one: no fence, everything passes, so the judge must object.
    let verdicts = brief_load(&mut udp, &mut tcp)?;
    ensure!(judge(&scene, &verdicts).is_err(), "no fence, and the judge is content");

    // Act two: the flips.
    let setup = scene.agent()?.policy(&policy(&scene, 0, 0, 0))?;
    let agent = setup.start()?;
    let scene_frames = frames(&scene)?;
    let watch = agent.watch(&["--all"])?;
    let first = agent.generation()?;
    let flipping = Duration::from_secs(seconds);
    let load = |what, pause_us| Command::Load {
        what,
        to: addresses(),
        for_ms: u64::try_from((flipping + AROUND * 2).as_millis()).unwrap_or(u64::MAX),
        rounds: 0,
        until: None,
        pause_us,
    };
    let (udp_load, tcp_load) = (load(Repeat::SendTo, 500), load(Repeat::Connect, 2_000));
    udp.begin(&udp_load)?;
    tcp.begin(&tcp_load)?;
    let flips = flip(&scene, &setup, flipping)?;
    let verdicts = [udp.answer(flipping)?, tcp.answer(flipping)?];
    let published = agent.generation()? - first;
    let calls: u64 =
        verdicts.iter().flat_map(|answer| addresses().into_iter().map(|to| answer.calls(to))).sum();
    println!("flip: {flips} policies written, {published} images published, {calls} calls judged");
    judge_since(&scene, &verdicts, &scene_frames)
        .with_context(|| format!("ringfence run said:\n{}", agent.said()))?;
    // Reloads that come faster than they can be built are folded; on a busy machine some are.
    ensure!(published * 3 >= flips, "only {published} images for {flips} policies: this was no flipping");

    // The events tell the same story.
    let last_sent = TARGETS[1].v4();
    watch.wait_for("violations of the load", Duration::from_secs(10), |event| event.is_to(last_sent.ip()))?;
    let events = watch.events();
    no_unannounced_loss(&events)?;
    events.iter().try_for_each(of_one_image)?;
    for fence in FENCES {
        ensure!(
            events.iter().any(|event| event.is("fence", fence)),
            "no event of {fence}: was it ever in force?"
        );
    }

    // Mutants: images that are such mixtures, published on purpose.
    for (place, fence_of, exception_of) in [(0, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)] {
        agent.publish(&setup, &policy(&scene, place, fence_of, exception_of))?;
        let before = frames(&scene)?;
        let verdicts = brief_load(&mut udp, &mut tcp)?;
        let caught = judge_since(&scene, &verdicts, &before).is_err();
        ensure!(caught, "places of {place}, fence of {fence_of}, exceptions of {exception_of}: not noticed");
    }
    agent.publish(&setup, &policy(&scene, 1, 1, 1))?;
    let before = frames(&scene)?;
    judge_since(&scene, &brief_load(&mut udp, &mut tcp)?, &before).context("image B alone")?;
    // And the last: no hooks.
    agent.stop()?;
    let verdicts = brief_load(&mut udp, &mut tcp)?;
    ensure!(judge(&scene, &verdicts).is_err(), "the hooks are detached and the judge is content");
    Ok(Outcome::Passed)
}

/// Writes A and B in turn, one each 100 ms of the clock, for `duration`; returns how many.
fn flip(scene: &Scene, setup: &agent_tests::agent::Setup, duration: Duration) -> Result<u64> {
    let images = [policy(scene, 0, 0, 0), policy(scene, 1, 1, 1)];
    let start = Instant::now();
    let mut flips = 0;
    for image in images.iter().rev().cycle() {
        let due = start + AROUND + EVERY * u32::try_from(flips)?;
        if due > start + AROUND + duration {
            break;
        }
        // This is the pace of the test, not a wait for something.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        setup.write_policy(image)?;
        flips += 1;
    }
    Ok(flips)
}

/// A few rounds of the same calls.
fn brief_load(udp: &mut Actor, tcp: &mut Actor) -> Result<[Answer; 2]> {
    let brief =
        |what| Command::Load { what, to: addresses(), for_ms: 5_000, rounds: 3, until: None, pause_us: 0 };
    Ok([udp.tell(&brief(Repeat::SendTo))?, tcp.tell(&brief(Repeat::Connect))?])
}

/// Frames to each address so far.
fn frames(scene: &Scene) -> Result<Vec<u64>> {
    addresses().into_iter().map(|to| Ok(scene.sniffer.frames_to(to.ip())?.frames)).collect()
}

fn judge(scene: &Scene, verdicts: &[Answer]) -> Result<()> {
    judge_since(scene, verdicts, &vec![0; addresses().len()])
}

/// Every call to an allowed destination succeeded; of the others, none did and not one frame arrived since.
fn judge_since(scene: &Scene, verdicts: &[Answer], before: &[u64]) -> Result<()> {
    let arrived = frames(scene)?;
    let targets = TARGETS.iter().flat_map(|target| [(target, target.v4()), (target, target.v6())]);
    for (((target, to), before), arrived) in targets.zip(before).zip(arrived) {
        let only = if target.allowed { "done" } else { "EPERM" };
        for answer in verdicts {
            let (right, all) = (answer.times(to, only), answer.calls(to));
            if right != all {
                let of = answer.tally.get(&to.to_string());
                bail!("{} ({to}): {right} of {all} calls ended with {only}: {of:?}", target.name);
            }
        }
        if !target.allowed {
            ensure!(arrived == *before, "LEAK: {} frames to {} ({to})", arrived - before, target.name);
        }
    }
    Ok(())
}

/// An event's fence and the country that it saw must be of the same image.
fn of_one_image(event: &Event) -> Result<()> {
    let Some(target) = TARGETS.iter().find(|t| event.is_to(t.v4().ip()) || event.is_to(t.v6().ip())) else {
        return Ok(());
    };
    let Some(image) = FENCES.iter().position(|fence| event.is("fence", fence)) else {
        return Ok(());
    };
    ensure!(
        event.is("country", target.country[image]),
        "{}: fence of image {image}, country of the other: {}",
        target.name,
        event.0
    );
    let verdict = if target.allowed { "Allow" } else { "Block" };
    ensure!(event.is("verdict", verdict), "{}: a verdict of neither image: {}", target.name, event.0);
    Ok(())
}
