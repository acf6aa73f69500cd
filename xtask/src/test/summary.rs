//! Counts from what test programs print: libtest's own and libtest-mimic's are the same words.
//!
//! A test that can't do its work here prints `SKIP <name>: <reason>` and ends as passed or as ignored, or it carries
//! `#[ignore = "<reason>"]`; each way it is counted as skipped, once. A test that is ignored without a reason is a
//! fault: nobody would see it.

use std::collections::BTreeSet;
use std::fmt;

/// What one suite did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Names, as the tests printed them.
    pub(crate) skipped: BTreeSet<String>,
    /// Tests that were ignored, with or without a reason.
    pub(crate) ignored: u64,
    /// Names of failed tests.
    pub(crate) failures: Vec<String>,
}

impl Summary {
    /// Reads everything that a suite printed; it may have been several programs.
    pub(crate) fn of(lines: &[String]) -> Self {
        let mut all = Self::default();
        let mut in_failures = false;
        for line in lines {
            if let Some(name) = skip(line).or_else(|| ignored(line)) {
                all.skipped.insert(name.to_owned());
            } else if let Some([passed, failed, ignored]) = result(line) {
                all.passed += passed;
                all.failed += failed;
                all.ignored += ignored;
                in_failures = false;
            } else if line == "failures:" {
                in_failures = true;
            } else if let Some(name) =
                line.strip_prefix("    ").filter(|name| in_failures && !name.starts_with(' '))
            {
                all.failures.push(name.to_owned());
            } else if !line.is_empty() {
                in_failures = false;
            }
        }
        // Of the skipped, those that did not end as ignored ended as passed.
        let skipped = all.skipped.len() as u64;
        all.passed = all.passed.saturating_sub(skipped.saturating_sub(all.ignored));
        all
    }

    /// Whether no test ran or was skipped.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed == 0 && self.skipped.is_empty()
    }

    /// Ignored tests for which nothing says why.
    pub(crate) fn silently_ignored(&self) -> u64 {
        self.ignored.saturating_sub(self.skipped.len() as u64)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

/// The name in `SKIP name: reason`, which may follow `test name ... ` on the same line.
fn skip(line: &str) -> Option<&str> {
    let at = line.find("SKIP ")?;
    if at != 0 && !line[..at].ends_with("... ") {
        return None;
    }
    // Names have colons of their own: `module::test: reason`.
    let (name, reason) = line[at + "SKIP ".len()..].split_once(": ")?;
    (!reason.trim().is_empty() && !name.is_empty() && !name.contains(' ')).then_some(name)
}

/// The name in `test name ... ignored, reason`.
fn ignored(line: &str) -> Option<&str> {
    let (name, reason) = line.strip_prefix("test ")?.split_once(" ... ignored, ")?;
    (!reason.trim().is_empty()).then_some(name.trim_end())
}

/// Passed, failed, ignored of `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn result(line: &str) -> Option<[u64; 3]> {
    let counts = &line[line.find("test result: ")?..];
    let count = |name: &str| {
        counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(name)?.trim().parse::<u64>().ok())
    };
    Some([count("passed")?, count("failed")?, count("ignored")?])
}

#[cfg(test)]
mod tests {
    use super::Summary;

    fn summary(text: &str) -> Summary {
        Summary::of(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn programs_are_added_up() {
        let text = "running 3 tests\ntest a ... ok\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\n\
            test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.10s\n";
        let all = summary(text);
        assert_eq!((all.passed, all.failed, all.skipped.len()), (7, 2, 0));
        assert_eq!(all.to_string(), "7 passed, 2 failed, 0 skipped");
    }

    #[test]
    fn failed_tests_are_named_and_their_output_is_not_taken_for_names() {
        let text = "failures:\n\n---- a::b stdout ----\n    at src/lib.rs\nthread panicked\n\nfailures:\n    a::b\n    c\n\n\
            test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured\n    not this\n";
        assert_eq!(summary(text).failures, ["a::b", "c"]);
    }

    #[test]
    fn a_skip_is_no_pass_whether_it_ends_as_passed_or_as_ignored() {
        let passed =
            "SKIP a: no kprobes\ntest a ... ok\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!((summary(passed).passed, summary(passed).skipped.len()), (1, 1));
        let ignored =
            "test a ... SKIP a: no kprobes\nignored\ntest result: ok. 1 passed; 0 failed; 1 ignored; 0 x";
        assert_eq!((summary(ignored).passed, summary(ignored).skipped.len()), (1, 1));
        assert_eq!(summary(ignored).silently_ignored(), 0);
        let both = "test m::a  ... SKIP m::a: why\ntest m::a   ... ignored, why\n\
            test result: ok. 1 passed; 0 failed; 1 ignored; 0 x";
        assert_eq!((summary(both).passed, summary(both).skipped.len()), (1, 1));
    }

    #[test]
    fn an_ignored_test_without_a_reason_is_noticed() {
        let text = "test a ... ignored\ntest result: ok. 1 passed; 0 failed; 1 ignored; 0 measured";
        assert_eq!(summary(text).silently_ignored(), 1);
        let no_reason = "SKIP a: \ntest result: ok. 1 passed; 0 failed; 1 ignored; 0 measured";
        assert_eq!(summary(no_reason).silently_ignored(), 1);
    }

    #[test]
    fn words_in_passing_are_no_skips() {
        assert!(summary("we SKIP this: no\nSKIP two words: no\nSKIP colon:no").skipped.is_empty());
    }
}
