//! What the kernel's verifier spent on each program: kept per kernel, bounded, and written down.
//!
//! The suite prints `VERIFIER kernel=<release> program=<name> insns=<n> stack=<s>`; `stack` may be the verifier's own
//! `<main>+<callee>+…`, of which the sum is taken (no chain of calls can need more).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

use super::folder;

/// A quarter of the verifier's limit of 1,000,000: what is left is for the next kernel, which may count differently.
const MOST_INSNS: u64 = 250_000;
/// Of the 512 bytes that a chain of calls may use.
const MOST_STACK: u64 = 400;

const DOCUMENT: &str = "docs/verifier.md";
const BEGIN: &str = "<!-- written by `cargo xtask vm --record` -->";
const END: &str = "<!-- end -->";
const PREFACE: &str = "# What the verifier spends on each program\n\n\
    Instructions processed and bytes of stack when the production and the probe object are loaded, per kernel. A test\n\
    run fails when a program passes 250,000 instructions (a quarter of the limit) or 400 bytes of stack on any kernel.\n\n\
    Stack is that of the deepest chain of calls, each frame as the verifier's log has it. Against its limit of 512 the\n\
    kernel rounds each frame up (to 32 bytes on 6.1, later to 16 where programs are compiled), and 6.11 and later add 24\n\
    bytes to a frame with a `bpf_loop`, which they inline.\n\n";

/// One program on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Figure {
    kernel: String,
    program: String,
    insns: u64,
    stack: u64,
}

impl Figure {
    /// `None`: not such a line. `Some(Err)`: one that can't be read.
    fn parse(line: &str) -> Option<Result<Self>> {
        let fields = &line[line.find("VERIFIER kernel=")? + "VERIFIER ".len()..];
        let field = |name: &str| {
            fields.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let parse = || {
            let stack: Option<u64> = field("stack")?.split('+').map(|part| part.parse::<u64>().ok()).sum();
            Some(Self {
                kernel: field("kernel")?.to_owned(),
                program: field("program")?.to_owned(),
                insns: field("insns")?.parse().ok()?,
                stack: stack?,
            })
        };
        Some(parse().with_context(|| format!("the suite printed a line that is not as agreed: {line}")))
    }

    fn line(&self) -> String {
        let Self { kernel, program, insns, stack } = self;
        format!("VERIFIER kernel={kernel} program={program} insns={insns} stack={stack}")
    }

    fn is_within_bounds(&self) -> bool {
        self.insns <= MOST_INSNS && self.stack <= MOST_STACK
    }
}

/// All figures that a run printed.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    figures: Vec<Figure>,
    unreadable: Vec<anyhow::Error>,
}

impl Figures {
    pub(crate) fn of(lines: &[String]) -> Self {
        let mut all = Self::default();
        for parsed in lines.iter().filter_map(|line| Figure::parse(line)) {
            match parsed {
                Ok(figure) => all.figures.push(figure),
                Err(error) => all.unreadable.push(error),
            }
        }
        all
    }

    /// # Errors
    /// A program is beyond its bounds, a line can't be read, or there is none though some are `expected`.
    pub(crate) fn check(&self, expected: bool) -> Result<()> {
        if let Some(error) = self.unreadable.first() {
            bail!("{error:#}");
        }
        ensure!(!expected || !self.figures.is_empty(), "the suite printed no line `VERIFIER kernel=…`");
        let beyond: Vec<String> =
            self.figures.iter().filter(|it| !it.is_within_bounds()).map(Figure::line).collect();
        ensure!(
            beyond.is_empty(),
            "beyond {MOST_INSNS} instructions or {MOST_STACK} bytes of stack:\n  {}",
            beyond.join("\n  ")
        );
        Ok(())
    }

    /// Keeps them in `target/vm/verifier-<name>.txt`; a run that printed none leaves the last ones.
    pub(crate) fn store(&self, name: &str) -> Result<()> {
        if self.figures.is_empty() {
            return Ok(());
        }
        let path = folder()?.join(format!("verifier-{name}.txt"));
        let text: String = self.figures.iter().map(|figure| figure.line() + "\n").collect();
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Writes the table of docs/verifier.md from all stored figures.
pub(crate) fn record() -> Result<()> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder()?)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("verifier-") && name.ends_with(".txt") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    let figures = Figures::of(&lines);
    figures.check(true)?;
    let running =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?;
    ensure!(
        figures.figures.iter().any(|figure| figure.kernel == running.trim()),
        "there are no figures of the running kernel {} yet. Run `cargo xtask test --only kernel` first",
        running.trim()
    );
    let path = workspace::root().join(DOCUMENT);
    let old = fs::read_to_string(&path).unwrap_or_else(|_| format!("{PREFACE}{BEGIN}\n{END}\n"));
    let new = with_table(&old, &table(&figures.figures))
        .with_context(|| format!("cannot place the table in {DOCUMENT}"))?;
    fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {DOCUMENT}");
    Ok(())
}

fn with_table(document: &str, table: &str) -> Result<String> {
    let begin = document.find(BEGIN).with_context(|| format!("it has no line {BEGIN}"))? + BEGIN.len();
    let end = document[begin..].find(END).with_context(|| format!("it has no line {END}"))? + begin;
    Ok(format!("{}\n{table}{}", &document[..begin], &document[end..]))
}

/// A row a program, a column a kernel: `instructions / stack`.
fn table(figures: &[Figure]) -> String {
    let numbers = |release: &str| -> Vec<u64> {
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    };
    let kernels: BTreeSet<(Vec<u64>, &str)> =
        figures.iter().map(|it| (numbers(&it.kernel), it.kernel.as_str())).collect();
    let mut rows: BTreeMap<&str, BTreeMap<&str, &Figure>> = BTreeMap::new();
    for figure in figures {
        // A program is in both objects; what counts is the worse of the two.
        let cell = rows.entry(&figure.program).or_default().entry(&figure.kernel).or_insert(figure);
        if figure.insns > cell.insns {
            *cell = figure;
        }
    }
    let mut text = String::from("| program |");
    for (_, kernel) in &kernels {
        let _infallible = write!(text, " {kernel} |");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(kernels.len()));
    text.push('\n');
    for (program, row) in rows {
        let _infallible = write!(text, "| {program} |");
        for (_, kernel) in &kernels {
            let _infallible = match row.get(kernel) {
                Some(figure) => write!(text, " {} / {} |", figure.insns, figure.stack),
                None => write!(text, " – |"),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, Figure, Figures, table, with_table};

    fn figures(lines: &[&str]) -> Figures {
        Figures::of(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_is_read_wherever_it_starts_and_a_chain_of_stacks_is_summed() {
        let line = "[  3.1] VERIFIER kernel=6.1.0-56-cloud-amd64 program=egress insns=3955 stack=160+8+0";
        let kernel = "6.1.0-56-cloud-amd64".to_owned();
        let expected = Figure { kernel, program: "egress".to_owned(), insns: 3955, stack: 168 };
        assert_eq!(Figure::parse(line).unwrap().unwrap(), expected);
        assert!(Figure::parse("test verifier ... ok").is_none());
    }

    #[test]
    fn a_line_that_cannot_be_read_fails_the_run() {
        for wrong in ["insns=x stack=8", "insns=1", "insns=1 stack=8+x", "stack=8"] {
            let line = format!("VERIFIER kernel=6.1 program=p {wrong}");
            assert!(
                figures(&[&line]).check(true).unwrap_err().to_string().contains("not as agreed"),
                "{line}"
            );
        }
    }

    #[test]
    fn bounds_hold_to_the_last_instruction_and_byte() {
        let run = |insns: u32, stack: u32| {
            figures(&[&format!("VERIFIER kernel=k program=p insns={insns} stack={stack}")]).check(true)
        };
        run(250_000, 400).unwrap();
        assert!(run(250_001, 8).unwrap_err().to_string().contains("program=p"));
        assert!(run(1, 401).is_err());
    }

    #[test]
    fn a_run_without_figures_fails_unless_it_was_filtered() {
        assert!(figures(&["test x ... ok"]).check(true).is_err());
        figures(&["test x ... ok"]).check(false).unwrap();
    }

    #[test]
    fn the_table_has_kernels_in_order_of_age_and_says_what_is_missing() {
        let all = figures(&[
            "VERIFIER kernel=6.12.1 program=b insns=2 stack=16",
            "VERIFIER kernel=6.1.0-9 program=a insns=1 stack=8",
            "VERIFIER kernel=6.12.1 program=a insns=3 stack=24",
            "VERIFIER kernel=6.12.1 program=a insns=2 stack=8",
        ]);
        let expected =
            "| program | 6.1.0-9 | 6.12.1 |\n|---|---|---|\n| a | 1 / 8 | 3 / 24 |\n| b | – | 2 / 16 |\n";
        assert_eq!(table(&all.figures), expected);
    }

    #[test]
    fn the_table_replaces_only_what_it_wrote_before() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(with_table(&document, "new\n").unwrap(), format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert!(with_table("no marks", "new").is_err());
    }
}
