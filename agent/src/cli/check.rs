//! `ringfence check`: policy files against the schema, each other, and what this build can do.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use crate::places::Groups;
use crate::policy::{CgroupPath, Checked, Context, Finding, Level, PolicySet, check, load_all};

const EXAMPLES: &str = "\
Examples:
  ringfence check fences/                     all *.yaml, *.yml and *.json of a folder, as one policy
  ringfence check crm.yaml exceptions.yaml    some files, as one policy
  ringfence check -o json fences/ | jq -r '.findings[].message'
  ringfence check --cgroup-root /sys/fs/cgroup fences/    say also which subjects match nothing here

Exit codes: 0 accepted (perhaps with warnings), 1 refused.";

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Arguments of `ringfence check`.
#[derive(Clone, Debug, Args)]
#[command(about = "Check policy files", after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Policy files, or folders of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    /// Judge dates as of this moment (RFC 3339)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Warn of subjects that match no cgroup below this cgroup2 mount
    #[arg(long, value_name = "DIR")]
    cgroup_root: Option<PathBuf>,
}

/// A finding for machines.
#[derive(Serialize)]
struct FindingLine<'a> {
    level: &'static str,
    file: &'a str,
    line: u32,
    column: u32,
    message: &'a str,
    mend: Option<&'a str>,
}

impl<'a> FindingLine<'a> {
    fn new(finding: &'a Finding) -> Self {
        let level = match finding.level {
            Level::Error => "Error",
            Level::Warning => "Warning",
        };
        Self {
            level,
            file: &finding.file,
            line: finding.line,
            column: finding.column,
            message: &finding.message,
            mend: finding.mend.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    accepted: bool,
    findings: Vec<FindingLine<'a>>,
}

/// Checks and prints.
///
/// # Errors
/// If a file can't be read or the result can't be printed; findings are no error but the result.
pub fn run(args: &CheckArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let files = load_all(&args.files)?;
    let groups = Groups::builtin()?;
    let cgroups = match &args.cgroup_root {
        Some(root) => Some(
            cgroups_below(root).with_context(|| format!("can't list the cgroups of {}", root.display()))?,
        ),
        None => None,
    };
    let now = args.at.unwrap_or_else(Timestamp::now);
    let checked = check(&files, Context { now, groups: &groups, cgroups: cgroups.as_ref() });
    match args.output {
        Format::Text => print_text(&checked, out)?,
        Format::Json => {
            let findings = checked.findings.iter().map(FindingLine::new).collect();
            serde_json::to_writer(&mut *out, &Report { accepted: checked.set.is_some(), findings })?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(if checked.set.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_text(checked: &Checked, out: &mut impl Write) -> std::io::Result<()> {
    for finding in &checked.findings {
        writeln!(out, "{finding}")?;
    }
    match &checked.set {
        Some(set) => writeln!(out, "accepted: {}", summary(set)),
        None => {
            let errors = checked.findings.iter().filter(|f| f.level == Level::Error).count();
            writeln!(out, "refused: {}; nothing of it would be put in force", count(errors, "error"))
        }
    }
}

fn summary(set: &PolicySet) -> String {
    let parts = [
        count(set.fences.len(), "fence"),
        count(set.exceptions.len(), "exception"),
        count(set.overrides.len(), "place override"),
    ];
    parts.join(", ")
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The cgroups below a cgroup2 mount, as policies name them.
fn cgroups_below(root: &Path) -> std::io::Result<BTreeSet<CgroupPath>> {
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            // Links are no cgroups; the kernel makes none.
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let path = entry.path();
            let below = path.strip_prefix(root).map(|p| format!("/{}", p.display()));
            found.extend(below.ok().and_then(|text| CgroupPath::parse(&text).ok()));
            open.push(path);
        }
    }
    Ok(found)
}
