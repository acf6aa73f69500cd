//! The suites: what each one runs, and with what around it.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::build;
use crate::build_ebpf::Object;
use crate::refresh_data;
use crate::run::{Step, ask, tied};
use crate::vm::verifier::Figures;
use crate::vm::{Executable, Payload, Plan, Series};
use crate::workspace::{self, HOST_PACKAGES};

use super::outcome::Outcome;
use super::summary::Summary;

/// `[[test]]`s that need root and a kernel; all others run everywhere.
const KERNEL_SUITE: &str = "kernel";
/// A suite that takes longer hangs. All of them together must stay under 25 minutes in the default tier.
const LONGEST: Duration = Duration::from_secs(1800);

/// How much to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent<'a> {
    /// Only tests whose name contains this.
    pub(crate) filter: Option<&'a str>,
    /// `default` or `all`: `RINGFENCE_TIER`, from which suites take their counts.
    pub(crate) tier: &'static str,
}

/// Unit and property tests and the host suites, of every package but the kernel side.
pub(crate) fn host(extent: Extent<'_>) -> Result<Outcome> {
    if let Err(error) = refresh_data::fetch() {
        println!("  without the real country database two tests are skipped: {error:#}");
    }
    let mut command = workspace::cargo();
    command.arg("test").args(HOST_PACKAGES).args(["--no-fail-fast", "--lib", "--bins"]);
    for name in host_test_targets()? {
        command.args(["--test", &name]);
    }
    command.env("RINGFENCE_TIER", extent.tier).arg("--").args(extent.filter);
    // Otherwise libtest swallows the `SKIP` lines of tests that pass.
    command.arg("--nocapture");
    run("host", Step::new("host tests", "test-host", command))
}

/// Examples in documentation.
pub(crate) fn doc(extent: Extent<'_>) -> Result<Outcome> {
    let mut command = workspace::cargo();
    command.arg("test").args(HOST_PACKAGES).args(["--no-fail-fast", "--doc", "--"]).args(extent.filter);
    run("doc", Step::new("examples in documentation", "test-doc", command))
}

/// The kernel suite on the running kernel.
pub(crate) fn kernel(extent: Extent<'_>) -> Result<Outcome> {
    workspace::require_root("test")?;
    let mut build = workspace::cargo();
    build.arg("test").args(HOST_PACKAGES).args(["--no-run", "--test", KERNEL_SUITE]);
    build.args(["--message-format", "json-render-diagnostics"]);
    let mut executables = Vec::new();
    Step::new("kernel suite", "build-kernel-suite", build)
        .run_reading(|line| executables.extend(Executable::parse(line)))?
        .succeeded()?;
    let suite = executables.into_iter().find(|it| it.target == KERNEL_SUITE);
    let suite = suite.with_context(|| format!("cargo built no test target `{KERNEL_SUITE}`"))?;

    let mut command = tied(&suite.path);
    command
        .env("RINGFENCE_BIN", build::binary())
        .env("RINGFENCE_BIN_OTHER", build::other_binary())
        .env("RINGFENCE_EBPF_OBJECT", Object::Production.path())
        .env("RINGFENCE_PROBE_OBJECT", Object::Probe.path())
        .env("RINGFENCE_TIER", extent.tier)
        .args(extent.filter);
    let mut lines = Vec::new();
    let ended = Step::new("kernel suite on this kernel", "test-kernel", command)
        .showing_output()
        .within(LONGEST)
        .run_reading(|line| lines.push(line.to_owned()))?;
    let figures = Figures::of(&lines);
    figures.store("running")?;
    let failure = ended.status.success().then_some(()).ok_or_else(|| ended.failure("failed")).err();
    let failure = failure.or_else(|| figures.check(extent.filter.is_none()).err());
    Ok(Outcome { summary: Summary::of(&lines), seconds: ended.seconds, failure, ..Outcome::named("kernel") })
}

/// The kernel suite on Debian's kernels.
pub(crate) fn machines(series: &[&str], extent: Extent<'_>) -> Result<Vec<Outcome>> {
    let payload = Payload::build()?;
    let plan = Plan { filter: extent.filter, tier: extent.tier, deadline: LONGEST };
    series
        .iter()
        .map(|series| {
            let name = format!("vm-{series}");
            let series: Series = series.parse().map_err(anyhow::Error::msg)?;
            Ok(match payload.boot(&series, &plan) {
                Ok(report) => Outcome {
                    summary: report.summary,
                    seconds: report.seconds,
                    failure: report.failure,
                    ..Outcome::named(&name)
                },
                Err(error) => Outcome::not_run(&name, error),
            })
        })
        .collect()
}

fn run(name: &str, step: Step) -> Result<Outcome> {
    let mut lines = Vec::new();
    let ended = step.within(LONGEST).run_reading(|line| lines.push(line.to_owned()))?;
    let failure = ended.status.success().then_some(()).ok_or_else(|| ended.failure("failed")).err();
    Ok(Outcome { summary: Summary::of(&lines), seconds: ended.seconds, failure, ..Outcome::named(name) })
}

/// Names of all `[[test]]`s of the workspace but the kernel suite's.
fn host_test_targets() -> Result<Vec<String>> {
    let mut command = workspace::cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    let metadata = ask(command)?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("`cargo metadata` printed no JSON")?;
    Ok(test_targets(&metadata).into_iter().filter(|name| name != KERNEL_SUITE).collect())
}

fn test_targets(metadata: &serde_json::Value) -> Vec<String> {
    let list = |value: &serde_json::Value, key: &str| value.get(key).and_then(|it| it.as_array()).cloned();
    let packages = list(metadata, "packages").unwrap_or_default();
    let targets = packages.iter().filter_map(|package| list(package, "targets")).flatten();
    let is_test = |target: &serde_json::Value| {
        list(target, "kind").is_some_and(|kinds| kinds.iter().any(|it| it == "test"))
    };
    let name = |target: serde_json::Value| target.get("name").and_then(|it| it.as_str()).map(str::to_owned);
    targets.filter(is_test).filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::{KERNEL_SUITE, host_test_targets, test_targets};

    #[test]
    fn test_targets_are_found_by_kind() {
        let metadata = r#"{"packages": [{"targets": [{"kind": ["lib"], "name": "a"}, {"kind": ["test"], "name": "drift"}]},
            {"targets": [{"kind": ["test"], "name": "sim"}]}, {"targets": []}]}"#;
        assert_eq!(test_targets(&serde_json::from_str(metadata).unwrap()), ["drift", "sim"]);
        assert!(test_targets(&serde_json::Value::Null).is_empty());
    }

    #[test]
    fn the_kernel_suite_is_no_host_test() {
        assert!(!host_test_targets().unwrap().contains(&KERNEL_SUITE.to_owned()));
    }
}
