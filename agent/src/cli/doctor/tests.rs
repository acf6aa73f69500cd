//! What is printed, of made-up findings: the same on every machine.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::needs::{Needs, Source};
use super::report::Report;
use super::text;
use crate::bpf::features::programs::ProgramReport;
use crate::bpf::features::{Feature, Need, Presence, Probed};
use crate::bpf::load::LoadError;
use crate::bpf::verified::Figures;
use crate::cli::output::Style;
use crate::grpc::fake_agent::FakeAgent;

fn nobody() -> Needs {
    Needs { source: Source::Nobody("/run/x.sock".into()), required: Vec::new() }
}

fn crm_requires(word: &str) -> Needs {
    Needs { source: Source::Files("fences".into()), required: vec![("crm".into(), word.into())] }
}

fn probed(feature: Feature, presence: Presence) -> Probed {
    Probed { feature, presence, detail: "detail".into() }
}

fn all_but(feature: Feature, presence: Presence) -> Vec<Probed> {
    let of = |f: &Feature| probed(*f, if *f == feature { presence } else { Presence::Found });
    Feature::ALL.iter().map(of).collect()
}

fn egress() -> ProgramReport {
    ProgramReport {
        name: "ringfence_egress".into(),
        hook: Some("egress"),
        loads: Ok(()),
        figures: Some(Figures { instructions: 50_000, stack: 300 }),
        attaches: Some(Ok(())),
    }
}

fn table(report: &Report<'_>) -> String {
    let mut out = Vec::new();
    text::print(report, Style::PLAIN, &mut out).expect("a Vec takes everything");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn a_line_says_what_was_found_what_is_lost_and_the_mend() {
    let features = [
        probed(Feature::CapBpf, Presence::Found),
        probed(Feature::HostLayer, Presence::Missing),
        probed(Feature::Tcx, Presence::Unknown),
        probed(Feature::Lockdown, Presence::Missing),
    ];
    let programs = [egress()];
    let needs = crm_requires("hostLayer");
    let mut report = Report::new(&features, Ok(&programs), &needs);
    (report.kernel, report.version) = ("6.18.0".into(), "0.1.0");
    let wanted = "\
ringfence 0.1.0 on Linux 6.18.0, with the fences of fences

found    capBpf                   detail
missing  hostLayer                detail
                                  needed by: crm
                                  lost: what leaves without a cgroup socket (AF_PACKET, AF_XDP, TUN, rewritten packets) is not stopped
                                  mend: use Linux 6.6 or newer, or load sch_ingress (CONFIG_NET_SCH_INGRESS)
unknown  tcx                      detail
info     lockdown                 detail

found    ringfence_egress         loads and attaches; 50000 instructions verified (20.0 % of 250000), 300 bytes of stack (75.0 % of 400)

ringfence can enforce here only in part: fences require what is missing (hostLayer); a first start is refused without --allow-partial
";
    assert_eq!(table(&report), wanted);
}

#[test]
fn the_fields_of_the_json_are_stable() {
    let features = [probed(Feature::HostLayer, Presence::Missing)];
    let programs = [egress()];
    let needs = crm_requires("hostLayer");
    let mut report = Report::new(&features, Ok(&programs), &needs);
    (report.kernel, report.version) = ("6.18.0".into(), "0.1.0");
    let wanted = json!({
        "kernel": "6.18.0",
        "version": "0.1.0",
        "can_enforce": false,
        "summary": "ringfence can enforce here only in part: fences require what is missing (hostLayer); a first start \
                    is refused without --allow-partial",
        "policy": "the fences of fences",
        "features": [{
            "feature": "hostLayer",
            "presence": "missing",
            "need": "required",
            "needed_by": ["crm"],
            "detail": "detail",
            "lost": Feature::HostLayer.lost(),
            "mend": Feature::HostLayer.mend(),
        }],
        "programs": [{
            "program": "ringfence_egress",
            "hook": "egress",
            "loads": true,
            "attaches": true,
            "error": null,
            "verifier": {
                "instructions": 50_000, "instructions_bar": 250_000, "stack_bytes": 300, "stack_bar_bytes": 400,
            },
        }],
        "programs_error": null,
    });
    assert_eq!(serde_json::to_value(&report).expect("JSON"), wanted);
}

#[test]
fn only_what_is_required_and_missing_keeps_it_from_enforcing() {
    let needs = nobody();
    for feature in Feature::ALL {
        for presence in [Presence::Found, Presence::Unknown, Presence::Missing] {
            let features = all_but(*feature, presence);
            let report = Report::new(&features, Ok(&[]), &needs);
            let required = feature.need() == Need::Required;
            let wanted = !(required && presence == Presence::Missing);
            assert_eq!(report.can_enforce, wanted, "{} {presence:?}", feature.name());
            assert_eq!(
                report.summary.starts_with("ringfence can enforce here"),
                wanted,
                "{}",
                report.summary
            );
            let named = report.summary.contains(feature.name());
            let told = presence == Presence::Missing && feature.need() != Need::Info
                || presence == Presence::Unknown && required;
            assert_eq!(named, told, "{} {presence:?}: {}", feature.name(), report.summary);
        }
    }
}

#[test]
fn a_requirement_of_a_newer_agent_is_not_taken_for_another() {
    let features = all_but(Feature::HostLayer, Presence::Missing);
    let needs = crm_requires("somethingNew");
    assert!(Report::new(&features, Ok(&[]), &needs).can_enforce);
}

#[test]
fn a_program_that_the_kernel_refuses_is_named_with_what_it_said() {
    let needs = nobody();
    let features = all_but(Feature::CapBpf, Presence::Found);
    let broken = [
        ProgramReport {
            loads: Err("first line\nlast line".into()),
            figures: None,
            attaches: None,
            ..egress()
        },
        ProgramReport { attaches: Some(Err("no room".into())), ..egress() },
    ];
    for program in &broken {
        let programs = std::slice::from_ref(program);
        let report = Report::new(&features, Ok(programs), &needs);
        assert!(!report.can_enforce && report.summary.contains("ringfence_egress"), "{}", report.summary);
        let shown = table(&report);
        let said = if program.loads.is_err() { "said: last line" } else { "said: no room" };
        assert!(shown.contains(said), "{shown}");
    }
}

#[test]
fn a_refused_program_of_a_layer_leaves_the_rest_enforcing() {
    let needs = nobody();
    let features = all_but(Feature::Birth, Presence::Missing);
    let refused = Err("too large".to_owned());
    let program =
        ProgramReport { name: "ringfence_cgroup_mkdir".into(), hook: None, loads: refused, ..egress() };
    let programs = [program];
    let report = Report::new(&features, Ok(&programs), &needs);
    assert!(report.can_enforce && report.summary.contains("without birth"), "{}", report.summary);
    assert!(table(&report).contains("said: too large"), "{}", table(&report));
}

#[test]
fn a_build_without_kernel_programs_can_not_enforce() {
    let needs = nobody();
    let features = all_but(Feature::CapBpf, Presence::Found);
    let report = Report::new(&features, Err(&LoadError::Stub), &needs);
    assert!(!report.can_enforce);
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["programs"], Value::Array(Vec::new()));
    assert!(table(&report).contains("cargo xtask build"), "{}", table(&report));
}

#[test]
fn a_hybrid_host_is_told_which_flag_run_wants() {
    let needs = nobody();
    let features = all_but(Feature::PureCgroups, Presence::Missing);
    let report = Report::new(&features, Ok(&[]), &needs);
    assert!(report.can_enforce && report.summary.contains("--allow-hybrid-cgroups"), "{}", report.summary);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_running_agent_is_asked_what_its_fences_require() {
    let agent = FakeAgent::start();
    let socket = agent.socket();
    let of_agent = |socket: PathBuf| tokio::task::spawn_blocking(move || Needs::of_agent(&socket));
    let needs = of_agent(socket).await.expect("no panic");
    assert_eq!(needs.required, [("crm-stays-in-the-eea".to_owned(), "hostLayer".to_owned())]);
    assert_eq!(needs.fences(Feature::HostLayer), ["crm-stays-in-the-eea"]);
    let nobody = of_agent("/nowhere/agent.sock".into()).await.expect("no panic");
    assert!(matches!(nobody.source, Source::Nobody(_)) && nobody.required.is_empty());
}
