//! `ringfence doctor` on this kernel: its answers are those that the kernel's own symbols, the mount table and the
//! process's status give, and it leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use agent::bpf::verified::{INSTRUCTIONS_BAR, INSTRUCTIONS_LIMIT, STACK_BAR, STACK_LIMIT};
use agent_tests::agent::binary;
use agent_tests::cgroup::Cgroup;
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::degraded::{requiring, without};
use crate::flows::{Address, Destination, PORT, Shape, Use, must_echo};
use crate::policies::FENCE;
use crate::scene::Scene;
use crate::suite::{Outcome, Place, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(Place::Anywhere, "doctor::what_it_finds_is_what_the_kernels_symbols_say", symbols),
        trial(Place::Anywhere, "doctor::what_it_says_of_the_node_is_what_the_node_says", node),
        trial(Place::Anywhere, "doctor::every_program_loads_and_attaches_and_its_cost_is_told", programs),
        trial(Place::Anywhere, "doctor::a_required_feature_that_is_switched_off_is_exit_1", switched_off),
        trial(Place::Anywhere, "doctor::it_asks_a_running_agent_and_changes_nothing", beside_an_agent),
    ]
}

/// A feature, and a function that is in the kernel (or in a module that the probe has loaded) exactly if it has it.
const SYMBOLS: [(&str, &str); 11] = [
    ("socketStorage", "bpf_sk_storage_clone"),
    ("ringBuffer", "ringbuf_map_alloc"),
    ("mapInMap", "array_map_mmap"),
    ("bpfLoop", "bpf_loop"),
    ("setRetval", "bpf_set_retval"),
    ("birth", "__traceiter_cgroup_mkdir"),
    ("release", "__traceiter_cgroup_release"),
    ("tcx", "tcx_link_attach"),
    ("clsact", "clsact_init"),
    ("sockDestroy", "tcp_diag_destroy"),
    ("kprobes", "register_kprobe"),
];

/// `ringfence doctor` on a cgroup, with some features taken away.
pub(crate) fn doctor(root: &Path, taken: &str, more: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    // The flag wins over the environment, for the tests that name one.
    command
        .args(["doctor", "--cgroup-root"])
        .arg(root)
        .args(more)
        .env("RINGFENCE_SOCKET", "/nowhere/agent.sock");
    without(&mut command, taken).output().context("cannot start ringfence doctor")
}

fn report(output: &Output) -> Result<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).with_context(|| format!("doctor -o json: {said}"))
}

/// The line of a feature.
pub(crate) fn feature<'a>(report: &'a Value, name: &str) -> Result<&'a Value> {
    let features = report["features"].as_array().context("no features")?;
    features.iter().find(|f| f["feature"] == name).with_context(|| format!("no feature {name} in {report}"))
}

fn presence<'a>(report: &'a Value, name: &str) -> Result<&'a str> {
    feature(report, name)?["presence"].as_str().with_context(|| format!("{name} has no presence"))
}

fn symbols() -> Result<Outcome> {
    let root = Cgroup::root()?;
    let report = report(&doctor(root.path(), "", &["-o", "json"])?)?;
    // Read afterwards: a probe may have loaded the module that has the function.
    let symbols = fs::read_to_string("/proc/kallsyms").context("the kernel's symbols")?;
    let names: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        // Compilers add `.isra.0` and the like.
        .map(|name| name.split('.').next().unwrap_or(name))
        .collect();
    ensure!(
        names.contains("cgroup_mkdir"),
        "/proc/kallsyms holds no symbols that this test could compare with"
    );
    for (name, symbol) in SYMBOLS {
        let wanted = if names.contains(symbol) { "found" } else { "missing" };
        let line = feature(&report, name)?;
        ensure!(line["presence"] == wanted, "{name} ({symbol}) should be {wanted}: {line}");
    }
    Ok(Outcome::Passed)
}

fn node() -> Result<Outcome> {
    let root = Cgroup::root()?;
    let output = doctor(root.path(), "", &["-o", "json"])?;
    let report = report(&output)?;
    let status = fs::read_to_string("/proc/self/status")?;
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("no CapEff")?;
    let held = u64::from_str_radix(held.trim(), 16)?;
    // Bits of include/uapi/linux/capability.h.
    for (name, bit) in
        [("capNetAdmin", 12), ("capSysPtrace", 19), ("capSysAdmin", 21), ("capPerfmon", 38), ("capBpf", 39)]
    {
        let wanted = if held >> bit & 1 == 1 { "found" } else { "missing" };
        ensure!(presence(&report, name)? == wanted, "{name} should be {wanted}");
    }

    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let of_kind = |kind: &str| mounts.lines().filter(|line| line.split(' ').nth(2) == Some(kind)).count();
    ensure!(presence(&report, "cgroup2")? == "found", "cgroup2 is mounted");
    let pure = if of_kind("cgroup") == 0 { "found" } else { "missing" };
    ensure!(presence(&report, "pureCgroups")? == pure, "{} v1 hierarchies are mounted", of_kind("cgroup"));
    let pins = mounts.lines().any(|line| line.contains(" /sys/fs/bpf bpf "));
    ensure!(presence(&report, "pinning")? == if pins { "found" } else { "missing" }, "bpffs mounted: {pins}");
    let jit = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable")?;
    let wanted = if jit.trim() == "0" { "missing" } else { "found" };
    ensure!(presence(&report, "jit")? == wanted, "bpf_jit_enable is {}", jit.trim());

    ensure!(output.status.code() == Some(0) && report["can_enforce"] == true, "{report}");
    let table = doctor(root.path(), "", &[])?;
    let text = String::from_utf8_lossy(&table.stdout);
    let last = text.lines().last().unwrap_or_default();
    ensure!(last.starts_with("ringfence can enforce here"), "the last line is: {last}");
    Ok(Outcome::Passed)
}

fn programs() -> Result<Outcome> {
    let root = Cgroup::root()?;
    let output = doctor(root.path(), "", &["--verbose", "-o", "json"])?;
    let report = report(&output)?;
    let programs = report["programs"].as_array().context("no programs")?;
    let names: BTreeSet<&str> = programs.iter().filter_map(|p| p["program"].as_str()).collect();
    for hook in agent::bpf::attach::HOOKS {
        ensure!(names.contains(hook.program), "{} is not told: {names:?}", hook.program);
    }
    for program in programs {
        ensure!(program["loads"] == true && program["error"].is_null(), "{program}");
        ensure!(program["hook"].is_null() || program["attaches"] == true, "{program}");
        let cost = |field: &str| {
            program["verifier"][field].as_u64().with_context(|| format!("no {field}: {program}"))
        };
        // That the bars are kept is the claim of `load`.
        ensure!((1..=INSTRUCTIONS_LIMIT).contains(&cost("instructions")?), "{program}");
        ensure!((1..=STACK_LIMIT).contains(&cost("stack_bytes")?), "{program}");
        ensure!(cost("instructions_bar")? == INSTRUCTIONS_BAR, "{program}");
        ensure!(cost("stack_bar_bytes")? == STACK_BAR, "{program}");
    }
    let quick = doctor(root.path(), "", &["-o", "json"])?;
    let quick: Value = serde_json::from_slice(&quick.stdout)?;
    ensure!(quick["programs"][0]["verifier"].is_null(), "costs are told without --verbose: {quick}");
    Ok(Outcome::Passed)
}

fn switched_off() -> Result<Outcome> {
    let root = Cgroup::root()?;
    let output = doctor(root.path(), "ringBuffer,birth", &["-o", "json"])?;
    let report = report(&output)?;
    ensure!(output.status.code() == Some(1) && report["can_enforce"] == false, "{report}");
    ensure!(presence(&report, "birth")? == "missing" && presence(&report, "release")? == "found", "{report}");
    for field in ["lost", "mend"] {
        let text = feature(&report, "ringBuffer")?[field].as_str().unwrap_or_default();
        ensure!(!text.is_empty(), "ringBuffer is missing without {field}");
    }
    let unknown = doctor(root.path(), "ringBufer", &[])?;
    let said = String::from_utf8_lossy(&unknown.stderr);
    ensure!(unknown.status.code() == Some(1) && said.contains("`ringBufer`"), "a typo was taken: {said}");
    Ok(Outcome::Passed)
}

fn beside_an_agent() -> Result<Outcome> {
    let scene = Scene::new()?;
    let mut crm = scene.crm_actor()?;
    let shape = Shape { address: Address::V4, used: Use::Tcp };
    let setup = scene.agent()?.policy(&requiring(&scene, "[hostLayer]"))?.arg("--allow-partial");
    let agent = setup.start()?;
    let before = (agent.status()?, below(scene.root.path())?);

    let socket = setup.socket();
    let socket = socket.to_str().context("a socket path that is not UTF-8")?;
    let output = doctor(scene.root.path(), "", &["--socket", socket, "-o", "json"])?;
    let asked = report(&output)?;
    let needed_by = &feature(&asked, "hostLayer")?["needed_by"];
    ensure!(*needed_by == serde_json::json!([FENCE]), "needed by {needed_by}");
    let output = doctor(scene.root.path(), "hostLayer", &["--socket", socket, "-o", "json"])?;
    let asked = report(&output)?;
    ensure!(output.status.code() == Some(1), "what a fence requires is missing, and yet: {asked}");
    let of_files = setup.policy_path();
    let of_files = of_files.to_str().context("a policy path that is not UTF-8")?;
    let output = doctor(scene.root.path(), "hostLayer", &["--policy", of_files, "-o", "json"])?;
    ensure!(output.status.code() == Some(1), "the same of its file: {}", report(&output)?);

    let after = (agent.status()?, below(scene.root.path())?);
    for field in ["generation", "state", "programs"] {
        ensure!(before.0[field] == after.0[field], "{field}: {} became {}", before.0[field], after.0[field]);
    }
    ensure!(before.1 == after.1, "cgroups before {:?}, after {:?}", before.1, after.1);
    must_echo(&mut crm, shape, shape.target(Destination::Allowed, PORT), "after the doctor")?;
    Ok(Outcome::Passed)
}

fn below(directory: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(directory)?.flatten();
    Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
