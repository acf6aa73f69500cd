//! The ways past a fence that docs/threat-model.md lists, each tried against the real kernel.
//!
//! A row's test returns the outcome that it *observed*; it must be the one that the page declares. Page and suite are
//! compared first, so that no row can be without a test and no test without a row.
//!
//! Reading order: [`fate`] (what can become of a way out), [`table`] (the page, read), [`stage`] (one agent and one
//! fence, shared by the rows), [`pods`] (the same with network namespaces of the workloads' own), then the rows, a file
//! a family.

mod addresses;
mod fate;
mod handed;
mod hosts;
mod net_admin;
mod net_raw;
mod nft;
mod outside;
mod places;
mod pods;
mod protocols;
mod relays;
mod routes;
mod sockets;
mod stack_life;
mod stage;
mod subflow;
mod table;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;

use self::fate::Finding;
use self::stage::Stage;
use self::table::Claim;
use crate::suite::{Outcome, Place, in_vm, trial};

/// The stage of the rows that share one. A row that fails takes it down with it, so that it can spoil no other.
type Shared = Arc<Mutex<Option<Stage>>>;

/// Tries a way out and says what became of it.
type Test = fn(&mut Stage) -> Result<Finding>;

/// One row's test.
pub(crate) struct Row {
    /// As in the table.
    pub(crate) id: &'static str,
    /// The file that holds it, without `.rs`.
    pub(crate) file: &'static str,
    pub(crate) test: Test,
}

/// The rows of one file: call it with `file!()`.
fn rows_of<const N: usize>(file: &'static str, tests: [(&'static str, Test); N]) -> Vec<Row> {
    let file = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(file);
    tests.into_iter().map(|(id, test)| Row { id, file, test }).collect()
}

fn rows() -> Vec<Row> {
    let files = [
        sockets::rows(),
        handed::rows(),
        addresses::rows(),
        protocols::rows(),
        subflow::rows(),
        routes::rows(),
        places::rows(),
        relays::rows(),
        net_raw::rows(),
        net_admin::rows(),
        outside::rows(),
        hosts::rows(),
        stack_life::rows(),
    ];
    files.into_iter().flatten().collect()
}

pub(crate) fn trials() -> Vec<Trial> {
    let shared = Shared::default();
    let mut trials = vec![
        trial(Place::Anywhere, "bypass::every_row_has_a_test_and_every_test_a_row", page_and_suite_agree),
        trial(Place::Anywhere, "bypass::a_page_that_says_something_else_is_found_out", || {
            table::check_itself().map(|()| Outcome::Passed)
        }),
    ];
    for row in rows() {
        let shared = Arc::clone(&shared);
        trials.push(trial(Place::Anywhere, format!("bypass::{}", row.id), move || run(&row, &shared)));
    }
    trials
}

fn page_and_suite_agree() -> Result<Outcome> {
    let wrong = table::disagreements(&table::claims()?, &rows());
    ensure!(wrong.is_empty(), "docs/threat-model.md and its tests disagree:\n  {}", wrong.join("\n  "));
    Ok(Outcome::Passed)
}

fn run(row: &Row, shared: &Shared) -> Result<Outcome> {
    let claims = table::claims()?;
    let claim =
        claims.iter().find(|claim| claim.id == row.id).context("it has no row in docs/threat-model.md")?;
    // A poisoned lock means that a row panicked: it had taken the stage, and it is gone.
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stage = match shared.take() {
        Some(stage) => stage,
        None => Stage::new()?,
    };
    let finding =
        (row.test)(&mut stage).with_context(|| format!("ringfence run said:\n{}", stage.agent().said()))?;
    *shared = Some(stage);
    judge(claim, finding)
}

fn judge(claim: &Claim, finding: Finding) -> Result<Outcome> {
    match finding {
        Finding::Fate(fate) => {
            ensure!(fate == claim.fate, "observed: {fate}; docs/threat-model.md says: {}", claim.fate);
            ensure!(
                !claim.not_run || in_vm(),
                "docs/threat-model.md says that this does not run here; it did"
            );
            println!("bypass::{}: {fate}, as docs/threat-model.md says", claim.id);
            Ok(Outcome::Passed)
        }
        Finding::NotHere(reason) if claim.not_run || in_vm() => Ok(Outcome::Skipped(reason)),
        Finding::NotHere(reason) => {
            bail!("it cannot run here ({reason}), and docs/threat-model.md does not say so")
        }
    }
}
