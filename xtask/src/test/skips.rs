//! The list of tests that may be skipped, `xtask/skips.txt`: a skip that is not in it fails the run.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::workspace;

const FILE: &str = "xtask/skips.txt";

/// Patterns of `<suite> <test>`, where a `*` at the end stands for anything.
#[derive(Debug)]
pub(crate) struct Allowed {
    patterns: Vec<(String, String)>,
}

impl Allowed {
    pub(crate) fn load() -> Result<Self> {
        let text = fs::read_to_string(workspace::root().join(FILE))
            .with_context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text).with_context(|| format!("{FILE} is not as its first lines say"))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            let words: Vec<&str> = entry.split_whitespace().collect();
            let reason = line.split_once('#').map(|(_, reason)| reason.trim()).unwrap_or_default();
            ensure!(
                words.len() == 2 && !reason.is_empty(),
                "line {}: expected `<suite> <test>   # <reason>`, found `{line}`",
                number + 1
            );
            patterns.push((words[0].to_owned(), words[1].to_owned()));
        }
        Ok(Self { patterns })
    }

    /// Those of `skipped` that nobody has allowed.
    pub(crate) fn unseen<'a>(&self, suite: &str, skipped: &'a BTreeSet<String>) -> Vec<&'a str> {
        let fits = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
            Some(prefix) => text.starts_with(prefix),
            None => text == pattern,
        };
        let allowed =
            |test: &str| self.patterns.iter().any(|(its, name)| fits(its, suite) && fits(name, test));
        skipped.iter().map(String::as_str).filter(|test| !allowed(test)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Allowed;

    #[test]
    fn only_what_is_listed_for_the_suite_may_be_skipped() {
        let allowed =
            Allowed::parse("# head\n\nvm-* load::lsm_*  # no LSM there\nkernel one # why\n").unwrap();
        let skipped: BTreeSet<String> = ["load::lsm_a", "one", "two"].map(str::to_owned).into();
        assert_eq!(allowed.unseen("vm-6.1", &skipped), ["one", "two"]);
        assert_eq!(allowed.unseen("kernel", &skipped), ["load::lsm_a", "two"]);
    }

    #[test]
    fn an_entry_without_a_reason_is_refused_with_its_line() {
        for wrong in ["kernel one", "kernel one #", "one # why", "kernel one two # why"] {
            let error = Allowed::parse(&format!("# head\n{wrong}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn the_list_in_the_repository_is_well_formed() {
        Allowed::load().unwrap();
    }
}
