//! The command line, and how much is measured.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [--quick] [--only SECTION]... [--record] [--country-db FILE]

  --quick            fewer rounds: under 90 s instead of under 6 minutes
  --only SECTION     traffic, lookup, index, release, agent or events; repeatable
  --record           rewrite docs/benchmarks.md with the result
  --country-db FILE  the world of this MMDB instead of the built-in one

No figure makes the command fail; it fails only if something can't be measured.";

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Fewer rounds.
    pub(crate) quick: bool,
    /// These sections; empty: all.
    pub(crate) only: Vec<String>,
    /// Rewrite the document.
    pub(crate) record: bool,
    /// Another world.
    pub(crate) country_db: Option<PathBuf>,
    /// Only say how it is used.
    pub(crate) help: bool,
}

impl Options {
    /// Reads arguments; `sections` are the names that exist.
    ///
    /// # Errors
    /// An unknown argument or section, with the usage.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>, sections: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--record" => options.record = true,
                "--help" | "-h" => options.help = true,
                "--only" => {
                    let name = arguments.next().context("--only needs a section")?;
                    if !sections.contains(&name.as_str()) {
                        bail!("no section {name:?}: there are {}", sections.join(", "));
                    }
                    options.only.push(name);
                }
                "--country-db" => {
                    options.country_db = Some(arguments.next().context("--country-db needs a file")?.into());
                }
                other => bail!("unknown argument {other:?}\n{USAGE}"),
            }
        }
        Ok(options)
    }

    /// Whether a section is to be measured.
    pub(crate) fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == section)
    }

    /// How much is measured.
    pub(crate) const fn effort(&self) -> Effort {
        if self.quick {
            Effort {
                rounds: 9,
                slice: Duration::from_millis(60),
                lookups: 5,
                builds: 5,
                starts: 3,
                refused: 2_000,
                hub_events: 300_000,
                flood: Duration::from_secs(3),
            }
        } else {
            Effort {
                rounds: 25,
                slice: Duration::from_millis(120),
                lookups: 15,
                builds: 15,
                starts: 9,
                refused: 10_000,
                hub_events: 1_000_000,
                flood: Duration::from_secs(10),
            }
        }
    }
}

/// Counts and times of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of traffic; each gives every mode one slice.
    pub(crate) rounds: u32,
    /// One slice of traffic.
    pub(crate) slice: Duration,
    /// Rounds of lookups.
    pub(crate) lookups: u32,
    /// Index builds, swaps and policy flips.
    pub(crate) builds: u32,
    /// Starts of an agent.
    pub(crate) starts: u32,
    /// Refused connects.
    pub(crate) refused: u32,
    /// Events through the hub.
    pub(crate) hub_events: u64,
    /// How long violations are made at 10,000 a second.
    pub(crate) flood: Duration,
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(text: &str) -> anyhow::Result<Options> {
        Options::parse(text.split_whitespace().map(str::to_owned), &["lookup", "traffic"])
    }

    #[test]
    fn sections_are_chosen_by_name() {
        let options = parse("--quick --only lookup").unwrap();
        assert!(options.quick && options.wants("lookup") && !options.wants("traffic"));
        assert!(parse("").unwrap().wants("traffic"));
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        for text in ["--only nothing", "--only", "--fast", "lookup"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
