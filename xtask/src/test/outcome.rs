//! What became of each suite, the table of them, and whether the whole is good.

use std::fmt::Write as _;

use super::skips::Allowed;
use super::summary::Summary;

/// What became of one suite.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) suite: String,
    pub(crate) summary: Summary,
    pub(crate) seconds: f64,
    /// Why the suite failed as a whole: a test did, it did not build, it was killed, …
    pub(crate) failure: Option<anyhow::Error>,
}

impl Outcome {
    pub(crate) fn named(suite: &str) -> Self {
        Self { suite: suite.to_owned(), summary: Summary::default(), seconds: 0.0, failure: None }
    }

    /// A suite that could not even start. That is a failure, never a skip.
    pub(crate) fn not_run(suite: &str, error: anyhow::Error) -> Self {
        Self { failure: Some(error), ..Self::named(suite) }
    }

    /// Everything that is wrong with it, one thing a string.
    fn faults(&self, allowed: &Allowed) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(error) = &self.failure {
            faults.push(format!("{error:#}"));
        }
        if !self.summary.failures.is_empty() {
            faults.push(format!("failed: {}", self.summary.failures.join(", ")));
        }
        let unseen = allowed.unseen(&self.suite, &self.summary.skipped);
        if !unseen.is_empty() {
            faults.push(format!("skipped, but not listed in xtask/skips.txt: {}", unseen.join(", ")));
        }
        if self.summary.silently_ignored() > 0 {
            let count = self.summary.silently_ignored();
            faults.push(format!(
                "{count} ignored without a reason (`SKIP <test>: <reason>` or `#[ignore = \"<reason>\"]`)"
            ));
        }
        faults
    }

    /// Failed tests; a suite that is at fault in another way counts as one.
    fn failed(&self, allowed: &Allowed) -> u64 {
        self.summary.failed.max(u64::from(!self.faults(allowed).is_empty()))
    }
}

/// Faults, table and last line, as printed; and whether all is good.
pub(crate) fn report(outcomes: &[Outcome], allowed: &Allowed) -> (String, bool) {
    let mut text = String::from("\n");
    for outcome in outcomes {
        for fault in outcome.faults(allowed) {
            let _infallible = writeln!(text, "{}: {fault}\n", outcome.suite);
        }
    }
    let widest = outcomes.iter().map(|outcome| outcome.suite.len()).max().unwrap_or(0).max("suite".len());
    let _infallible = writeln!(text, "{:widest$}  passed  failed  skipped  seconds", "suite");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for outcome in outcomes {
        let counts = (outcome.summary.passed, outcome.failed(allowed), outcome.summary.skipped.len());
        let _infallible = writeln!(
            text,
            "{:widest$}  {:>6}  {:>6}  {:>7}  {:>7.1}",
            outcome.suite, counts.0, counts.1, counts.2, outcome.seconds
        );
        passed += counts.0;
        failed += counts.1;
        skipped += counts.2;
    }
    let _infallible = write!(text, "\n{passed} passed, {failed} failed, {skipped} skipped");
    (text, failed == 0)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::{Outcome, report};
    use crate::test::skips::Allowed;
    use crate::test::summary::Summary;

    fn outcome(suite: &str, passed: u64, failed: u64, skipped: &[&str]) -> Outcome {
        let skipped = skipped.iter().map(|name| (*name).to_owned()).collect();
        Outcome {
            summary: Summary { passed, failed, skipped, ..Summary::default() },
            ..Outcome::named(suite)
        }
    }

    fn allowed() -> Allowed {
        Allowed::load().unwrap()
    }

    #[test]
    fn the_last_line_adds_all_suites_up() {
        let (text, good) = report(&[outcome("host", 40, 0, &[]), outcome("vm-6.12", 2, 0, &[])], &allowed());
        assert!(good && text.ends_with("\n42 passed, 0 failed, 0 skipped"), "{text}");
        assert!(text.contains("\nvm-6.12       2       0        0      0.0\n"), "{text}");
    }

    #[test]
    fn a_suite_that_did_not_run_is_a_failure_with_its_reason() {
        let broken = Outcome::not_run("kernel", anyhow!("needs root"));
        let (text, good) = report(&[outcome("host", 1, 0, &[]), broken], &allowed());
        assert!(
            !good && text.contains("kernel: needs root") && text.ends_with("1 passed, 1 failed, 0 skipped"),
            "{text}"
        );
    }

    #[test]
    fn a_skip_that_nobody_allowed_and_a_silent_ignore_are_failures() {
        let (text, good) = report(&[outcome("host", 1, 0, &["nobody::knows"])], &allowed());
        assert!(!good && text.contains("not listed in xtask/skips.txt: nobody::knows"), "{text}");
        let mut silent = outcome("host", 1, 0, &[]);
        silent.summary.ignored = 1;
        let (text, good) = report(&[silent], &allowed());
        assert!(!good && text.contains("1 ignored without a reason"), "{text}");
    }
}
