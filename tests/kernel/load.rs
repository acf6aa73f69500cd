//! Every program loads with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON alone, within the bars for instructions
//! and stack. Prints one `VERIFIER` line a program, which `cargo xtask vm` collects per kernel.

use std::path::PathBuf;
use std::process::Command;

use agent::bpf::verified::{INSTRUCTIONS_BAR, STACK_BAR};
use agent_tests::verifier::MARK;
use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;

use crate::suite::{Outcome, Place, trial};

/// The object that the binary embeds.
const OBJECT: &str = "RINGFENCE_EBPF_OBJECT";
/// The object with the test-only programs.
pub(crate) const PROBE_OBJECT: &str = "RINGFENCE_PROBE_OBJECT";

pub(crate) fn trials() -> Vec<Trial> {
    [(OBJECT, "the_agents_object"), (PROBE_OBJECT, "the_probe_object")]
        .map(|(variable, object_name)| {
            let name = format!("load::every_program_of_{object_name}_loads_with_three_capabilities");
            trial(Place::Anywhere, name, move || run(&object(variable)?))
        })
        .into()
}

/// The object's path; without [`OBJECT`], the file beside the probe object that the build leaves there.
pub(crate) fn object(variable: &str) -> Result<PathBuf> {
    let mend = format!(
        "{variable} names no kernel object: run `cargo xtask build-ebpf --probe` or `cargo xtask test`"
    );
    let named = std::env::var_os(variable).map(PathBuf::from);
    let beside =
        std::env::var_os(PROBE_OBJECT).map(|probe| PathBuf::from(probe).with_file_name("ringfence-ebpf.o"));
    let path = named.or(beside).context(mend.clone())?;
    ensure!(path.is_file(), "{mend} ({} is no file)", path.display());
    Ok(path)
}

fn run(object: &PathBuf) -> Result<Outcome> {
    let output =
        Command::new("/proc/self/exe").env(MARK, object).output().context("cannot start the loader")?;
    let said = String::from_utf8_lossy(&output.stdout);
    // On lines of their own, below the runner's `test … `.
    println!("\n{}", said.trim_end());
    ensure!(
        output.status.success(),
        "{}\n{said}{}",
        object.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("VERIFIER ")).collect();
    ensure!(!lines.is_empty(), "the loader reported no program of {}", object.display());
    for line in lines {
        let (instructions, stack) = (number(line, " insns=")?, number(line, " stack=")?);
        ensure!(instructions <= INSTRUCTIONS_BAR, "more than {INSTRUCTIONS_BAR} instructions: {line}");
        ensure!(stack <= STACK_BAR, "more than {STACK_BAR} bytes of stack: {line}");
    }
    Ok(Outcome::Passed)
}

fn number(line: &str, key: &str) -> Result<u64> {
    match line.split_once(key).and_then(|(_, rest)| rest.split(' ').next()) {
        Some(digits) => digits.parse().with_context(|| format!("{key} of {line}")),
        None => bail!("no{key} in {line}"),
    }
}
