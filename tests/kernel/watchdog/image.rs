//! The image's maps, written to by somebody else.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use agent_tests::tamper::{blank, empty_slot};
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

use super::Guarded;
use crate::flows::Destination;
use crate::suite::{Outcome, Place, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "watchdog::an_emptied_policy_slot_is_filled_again", policy_slot),
        trial(Place::Anywhere, "watchdog::an_emptied_index_slot_is_filled_again", index_slot),
        trial(Place::Anywhere, "watchdog::a_blanked_policy_is_published_again", content),
        trial(Place::Anywhere, "watchdog::blanked_secrets_are_written_again", secrets),
    ]
}

/// Pins of the maps directory that begin so.
fn map(guarded: &Guarded, prefix: &str) -> Result<PathBuf> {
    let directories = fs::read_dir(guarded.setup.pins())?.flatten().map(|entry| entry.path());
    let maps = directories.into_iter().find(|path| path.join("CONTROL").exists()).context("no maps")?;
    let mut files = fs::read_dir(maps)?.flatten().map(|entry| entry.path());
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    files.find(named).with_context(|| format!("no map {prefix}"))
}

fn policy_slot() -> Result<Outcome> {
    let mut guarded = Guarded::start()?;
    let since = Instant::now();
    empty_slot(&map(&guarded, "POLICIES")?, 0)?;
    ensure!(
        guarded.passes(Destination::Forbidden)?,
        "without an image nothing is known, and yet it is blocked"
    );
    guarded.told(since, "image", "map POLICIES", true)?;
    guarded.holds("after the repair")?;
    guarded.stop()
}

fn index_slot() -> Result<Outcome> {
    let mut guarded = Guarded::start()?;
    let path = map(&guarded, "INDEXES")?;
    let since = Instant::now();
    // The first index goes to the second slot.
    empty_slot(&path, 1)?;
    guarded.told(since, "image", "map INDEXES", true)?;
    guarded.holds("after the repair")?;
    guarded.stop()
}

fn content() -> Result<Outcome> {
    let mut guarded = Guarded::start()?;
    let since = Instant::now();
    blank(&map(&guarded, "policy-")?)?;
    guarded.told(since, "image", "not what was published", true)?;
    guarded.holds("after the repair")?;
    guarded.looked(1)?;
    ensure!(guarded.tampers().len() == 1, "told more than once: {:#?}", guarded.tampers());
    guarded.stop()
}

fn secrets() -> Result<Outcome> {
    let mut guarded = Guarded::start()?;
    let since = Instant::now();
    blank(&map(&guarded, "CONTROL")?)?;
    guarded.told(since, "image", "map CONTROL", true)?;
    guarded.holds("after the repair")?;
    guarded.looked(1)?;
    ensure!(guarded.tampers().len() == 1, "told more than once: {:#?}", guarded.tampers());
    guarded.stop()
}
