//! `docs/benchmarks.md`: the result of a full run, with all that it takes to judge and to repeat it.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::machine::Machine;
use super::options::Options;
use super::report::Report;

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench --record`; do not edit. What is compared, and how:

- **Ratios, not speeds.** All modes of a section take turns in short slices within one run (and every other round runs
  backwards), each on a stage of its own: two network namespaces, a cgroup, servers on processor 0, the load on processor 1.
  Times in which the load was ready and another program had its processor do not count.
- **A/A** is what the same measurement of two equal things shows in the same rounds (the farther quartile). A ratio to
  \"none\" inside it is *not resolvable*, unless the goal holds even with the whole spread against it.
- The fence allows the EEA and stands over the whole world; traffic goes to 16,384 (or 16) random EEA addresses, so that
  every lookup is made and nothing is dropped. The peers refuse the same countries. Each mode is first shown to stop what it
  must. nftables and the trie program do less: IPv4 only or no extension headers, no record of flows, one fence.
- Goals and floors are the design's. *met*: the goal; *floor*: only the floor; *MISSED*: not even that.
";

const TAIL: &str = "\
## Repeat it

```
cargo xtask bench                  # under 6 minutes, root
cargo xtask bench --quick          # under 90 s
cargo xtask bench --only lookup    # one section
cargo xtask bench --record         # and rewrite this page
```

No figure makes the command fail. Other programs on the machine widen the spreads; nothing else runs while figures for this
page are taken.
";

/// The bars that have fallen, as lines.
pub(crate) fn fallen(report: &Report) -> Vec<String> {
    let fallen = report.fallen();
    if fallen.is_empty() {
        return vec!["\nEvery bar stands.".to_owned()];
    }
    let lines = fallen.iter().map(|line| format!("- {}", line.replace("**", "")));
    std::iter::once("\nFallen bars:".to_owned()).chain(lines).collect()
}

/// Rewrites the document.
///
/// # Errors
/// It can't be written.
pub(crate) fn write(machine: &Machine, report: &Report, options: &Options) -> Result<()> {
    let mut text = format!("{HEAD}\n");
    machine.lines().try_for_each(|(what, value)| writeln!(text, "- {what}: {value}"))?;
    if options.quick {
        text.push_str("- a quick run: fewer rounds, wider spreads\n");
    }
    text.push_str("\n## Fallen bars\n\n");
    let fallen = report.fallen();
    if fallen.is_empty() {
        text.push_str("None.\n");
    }
    fallen.iter().try_for_each(|line| writeln!(text, "- {line}"))?;
    write!(text, "\n## Figures\n\n{}{TAIL}", report.markdown())?;
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("docs/benchmarks.md is rewritten");
    Ok(())
}
