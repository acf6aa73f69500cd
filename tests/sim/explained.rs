//! `ringfence explain` and `ringfence check` as a person or a script runs them, without an agent.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use agent::cli::check::{self, CheckArgs};
use agent::cli::explain::{self, ExplainArgs};
use agent::policy::CgroupPath;
use clap::{Args, FromArgMatches};
use serde_json::Value;

use crate::subject::Subject;

fn examples() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").display().to_string()
}

fn parse<T: Args + FromArgMatches>(args: &[&str]) -> T {
    let command = T::augment_args(clap::Command::new("test").no_binary_name(true));
    let matches = command.try_get_matches_from(args).expect("arguments");
    T::from_arg_matches(&matches).expect("arguments")
}

/// The JSON answer for a cgroup, a destination and a moment, under the examples' policy.
fn ask(cgroup: &str, to: &str, at: &str) -> Value {
    let policy = examples();
    let args: ExplainArgs =
        parse(&["--policy", &policy, "--cgroup", cgroup, "--to", to, "--at", at, "-o", "json"]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = explain::run(&args, &mut out, &mut err).expect("an answer");
    assert_eq!(exit, ExitCode::SUCCESS, "{}", String::from_utf8_lossy(&err));
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    assert_eq!(text.lines().count(), 1, "one object a line");
    serde_json::from_str(&text).expect("JSON")
}

const CRM: &str = "/ringfence-demo/crm";
const LLM: &str = "/ringfence-demo/llm";
const NOW: &str = "2026-11-20T12:00:00Z";

#[test]
fn the_answer_names_what_decided() {
    for (cgroup, to, verdict, would_be, reason, fence, rule) in [
        (CRM, "198.51.100.7:443", "Allow", "Allow", "AllowRule", "crm-stays-in-the-eea", "eea-and-adequate"),
        (
            CRM,
            "[2001:db8:f00d::1]:443/tcp",
            "Allow",
            "Allow",
            "AllowRule",
            "crm-stays-in-the-eea",
            "eea-and-adequate",
        ),
        (
            CRM,
            "[::ffff:198.51.100.7]:443",
            "Allow",
            "Allow",
            "AllowRule",
            "crm-stays-in-the-eea",
            "eea-and-adequate",
        ),
        (CRM, "203.0.113.9:443", "Block", "Block", "BlockRule", "crm-stays-in-the-eea", "known-bad"),
        (CRM, "192.0.2.1:443", "Block", "Block", "Unknown", "crm-stays-in-the-eea", "unknown"),
        (CRM, "10.1.2.3:5432", "Allow", "Allow", "Internal", "crm-stays-in-the-eea", "internal"),
        (CRM, "169.254.169.254:80", "Block", "Block", "Metadata", "crm-stays-in-the-eea", "metadata"),
        (CRM, "17.0.0.1/icmp", "Block", "Block", "Protocol", "crm-stays-in-the-eea", "icmp"),
        (CRM, "198.51.100.7/gre", "Block", "Block", "Protocol", "crm-stays-in-the-eea", "gre"),
        (CRM, "198.51.100.7/99", "Block", "Block", "Protocol", "crm-stays-in-the-eea", "raw"),
        (LLM, "17.0.0.1:443/udp", "Allow", "Block", "Default", "llm-cluster-only", "default"),
    ] {
        let answer = ask(cgroup, to, NOW);
        let told = ["verdict", "would_be", "reason", "fence", "rule"]
            .map(|key| answer[key].as_str().unwrap_or("null"));
        assert_eq!(told, [verdict, would_be, reason, fence, rule], "{cgroup} {to}");
        assert_eq!(answer["matched"].as_array().map(Vec::len), Some(1), "{cgroup} {to}");
        assert_eq!(answer["matched"][0]["fence"], fence);
    }
}

#[test]
fn an_exception_opens_its_port_until_its_end() {
    let rule = |to, at| {
        let answer = ask(CRM, to, at);
        (answer["verdict"].as_str().map(str::to_owned), answer["rule"].as_str().map(str::to_owned))
    };
    let some = |a: &str, b: &str| (Some(a.to_owned()), Some(b.to_owned()));
    let open = some("Allow", "crm-migration-to-us-vendor");
    assert_eq!(rule("17.0.0.1:443/tcp", "2026-11-01T00:00:00Z"), open);
    assert_eq!(rule("17.0.0.1:443/tcp", "2027-01-14T23:59:59.999999999Z"), open);
    let shut = some("Block", "default");
    assert_eq!(rule("17.0.0.1:443/tcp", "2026-10-31T23:59:59.999999999Z"), shut);
    assert_eq!(rule("17.0.0.1:443/tcp", "2027-01-15T00:00:00Z"), shut);
    assert_eq!(rule("17.0.0.1:443/udp", NOW), shut);
    assert_eq!(rule("17.0.0.1:444/tcp", NOW), shut);
}

#[test]
fn the_place_comes_with_its_source_and_date() {
    let answer = ask(CRM, "17.0.0.1:443", NOW);
    assert_eq!(answer["country"], "US");
    assert_eq!(answer["layer"], "country");
    assert!(answer["jurisdictions"].as_array().expect("a list").contains(&Value::from("US")));
    assert!(answer["source"].as_str().expect("a source").contains("dbip"));
    assert!(answer["data_date"].as_str().expect("a date").starts_with("20"));
    let answer = ask(CRM, "198.51.100.7:443", NOW);
    assert_eq!(answer["country"], "DE");
    assert_eq!(answer["source"], "PlaceOverride/hosting-frankfurt");
    let jurisdictions = answer["jurisdictions"].as_array().expect("a list");
    assert!(["DE", "EU", "EEA", "BOARD-APPROVED"].iter().all(|j| jurisdictions.contains(&Value::from(*j))));
}

#[test]
fn loopback_and_strangers_are_not_judged() {
    let loopback = ask(CRM, "127.0.0.1:80", NOW);
    assert_eq!(loopback["reason"], "Loopback");
    assert_eq!(loopback["fence"], Value::Null);
    assert_eq!(loopback["rule"], "loopback");
    assert_eq!(loopback["matched"], Value::Array(Vec::new()), "no fence is asked");
    let stranger = ask("/ringfence-demo/crm2", "17.0.0.1:443", NOW);
    assert_eq!(stranger["verdict"], "Allow");
    assert_eq!(stranger["reason"], "NoFence");
    assert_eq!(stranger["rule"], Value::Null);
    assert_eq!(stranger["matched"], Value::Array(Vec::new()));
    let below = ask("/ringfence-demo/crm/worker/7", "17.0.0.1:443", "2027-06-01T00:00:00Z");
    assert_eq!(below["verdict"], "Block", "a fence holds for everything below its cgroup");
}

/// An agent has many workloads; the deepest that holds a cgroup is the one.
#[test]
fn a_cgroup_belongs_to_the_deepest_workload_above_it() {
    let subject = Subject::of_documents(&[]).expect("no documents are a policy");
    let workload = |path: &str| {
        let path = CgroupPath::parse(path).expect("a path");
        subject.manifest.workload_of(&path).map(|w| w.path.to_string())
    };
    assert_eq!(workload("/a/b/c/d").as_deref(), Some("/a/b/c"));
    assert_eq!(workload("/a/x").as_deref(), Some("/a"));
    assert_eq!(workload("/x").as_deref(), Some("/"));
}

#[test]
fn text_for_people_says_the_same() {
    let policy = examples();
    let args: ExplainArgs =
        parse(&["--policy", &policy, "--cgroup", LLM, "--to", "[2001:db8:f00d::1]:443", "--at", NOW]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    explain::run(&args, &mut out, &mut err).expect("an answer");
    let text = String::from_utf8(out).expect("UTF-8");
    for part in
        ["Allow (an Audit fence would block it)", "[2001:db8:f00d::1]:443/tcp", "llm-cluster-only (Audit)"]
    {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
}

#[test]
fn a_policy_with_an_error_is_not_explained_but_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("bad.yaml").display().to_string();
    fs::write(&path, "kind: GeoFence\n").expect("a file");
    let args: ExplainArgs = parse(&["--policy", &path, "--cgroup", CRM, "--to", "17.0.0.1:443"]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = explain::run(&args, &mut out, &mut err).expect("findings are no failure to run");
    assert_eq!(exit, ExitCode::FAILURE);
    assert!(out.is_empty());
    assert!(String::from_utf8_lossy(&err).contains(&format!("{path}:1:1: error: `apiVersion` is missing")));
}

fn run_check(args: &[&str]) -> (ExitCode, String) {
    let args: CheckArgs = parse(args);
    let mut out = Vec::new();
    let exit = check::run(&args, &mut out).expect("a result");
    (exit, String::from_utf8(out).expect("UTF-8"))
}

#[test]
fn check_prints_file_line_and_column_and_exits_by_errors_alone() {
    let fixture = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/policies").join(name).display().to_string()
    };
    let bad = fixture("bad/uk-is-gb.yaml");
    let (exit, text) = run_check(&[&bad, "--at", NOW]);
    assert_eq!(exit, ExitCode::FAILURE);
    assert!(
        text.starts_with(&format!("{bad}:7:38: error: unknown jurisdiction `UK`; did you mean GB?\n")),
        "{text}"
    );

    let (exit, text) = run_check(&[&bad, "-o", "json", "--at", NOW]);
    assert_eq!(exit, ExitCode::FAILURE);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["accepted"], false);
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["level"], &finding["line"], &finding["column"]),
        (&"Error".into(), &7.into(), &38.into())
    );

    let (exit, text) = run_check(&[&fixture("doubtful/dns-blocked.yaml"), "--at", NOW]);
    assert_eq!(exit, ExitCode::SUCCESS);
    assert!(
        text.contains(": warning: ")
            && text.ends_with("accepted: 1 fence, 0 exceptions, 0 place overrides\n")
    );

    let gone: CheckArgs = parse(&["/nowhere/at/all.yaml"]);
    let error = check::run(&gone, &mut Vec::new()).expect_err("there is no such file").to_string();
    assert!(error.contains("/nowhere/at/all.yaml"), "{error}");
}
