//! The peer that people have today: nftables, a set of the countries that are refused, and a match on the cgroup.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::ground::{Ground, prefixes};
use super::stage::Stage;

/// The form of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Neighbouring ranges that are refused joined into one, over the borders of countries.
    Merged,
    /// The prefixes of each country, as lists on the web have them.
    Prefixes,
}

/// The rules as nft reads them, and how many elements they have.
pub(crate) struct Rules {
    text: String,
    pub(crate) elements: usize,
}

/// What the fence refuses (IPv4), as rules for the workload of a stage.
pub(crate) fn rules(ground: &Ground, form: Form, stage: &Stage) -> Rules {
    let refused = |place: u16| place != 0 && !ground.allows(place);
    let mut elements: Vec<String> = Vec::new();
    let mut pending: Option<(u32, u32)> = None;
    for (first, last, _) in ground.ranges_v4().filter(|range| refused(range.2)) {
        match form {
            Form::Prefixes => {
                let of_range = prefixes(first.into(), last.into(), 32);
                elements.extend(
                    of_range
                        .into_iter()
                        .map(|(start, length)| format!("{}/{length}", Ipv4Addr::from_bits(start as u32))),
                );
            }
            Form::Merged => match &mut pending {
                Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
                _ => elements.extend(pending.replace((first, last)).map(range)),
            },
        }
    }
    elements.extend(pending.map(range));
    let (name, level) = cgroup(stage);
    let mut text =
        String::from("table ip bench {\n set refused {\n  type ipv4_addr; flags interval;\n  elements = { ");
    text.push_str(&elements.join(",\n"));
    let chain = format!(
        " }}\n }}\n chain out {{\n  type filter hook output priority 0;\n  \
         socket cgroupv2 level {level} \"{name}\" ip daddr @refused counter drop\n }}\n}}\n"
    );
    text.push_str(&chain);
    Rules { text, elements: elements.len() }
}

fn range((first, last): (u32, u32)) -> String {
    let mut text = Ipv4Addr::from_bits(first).to_string();
    if first != last {
        write!(text, "-{}", Ipv4Addr::from_bits(last)).expect("invariant: writing to a String does not fail");
    }
    text
}

/// The workload's path without its leading slash, and its depth.
fn cgroup(stage: &Stage) -> (&str, usize) {
    let name = stage.workload.name().trim_start_matches('/');
    (name, name.split('/').count())
}

/// Loads rules in the near namespace of a stage; returns how long nft took.
///
/// nft looks cgroups up below /sys/fs/cgroup whatever is mounted there, so it gets a mount namespace in which that is
/// cgroup2.
///
/// # Errors
/// nft is not there or refuses.
pub(crate) fn load(rules: &Rules, stage: &Stage) -> Result<Duration> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("rules.nft");
    std::fs::write(&file, &rules.text)?;
    let took = directory.path().join("took");
    stage.world.near().run(|| {
        let script =
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup && : > \"$2\".begun && nft -f \"$1\" && : > \"$2\"";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .args([&file, &took])
            .output()
            .context("start unshare (util-linux)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "nft refused the country set: {}",
            said.chars().take(500).collect::<String>()
        );
        Ok(())
    })?;
    let at = |path| -> Result<std::time::SystemTime> { Ok(std::fs::metadata(path)?.modified()?) };
    let begun = directory.path().join("took.begun");
    Ok(at(&took)?.duration_since(at(&begun)?)?)
}

/// Checks that the rules see the workload: refused addresses are counted. A rule that never matched would cost nothing.
///
/// # Errors
/// Nothing was dropped.
pub(crate) fn assert_drops(stage: &Stage) -> Result<()> {
    let listed = stage.world.near().run(|| {
        let output = Command::new("nft").args(["list", "chain", "ip", "bench", "out"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    })?;
    let dropped =
        listed.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    ensure!(
        dropped.is_some_and(|packets| packets > 0),
        "nftables dropped nothing to a refused country: {listed}"
    );
    Ok(())
}
