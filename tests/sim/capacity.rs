//! Capacities: what does not fit is refused with the number and the mend, and the output is left as it was.

use std::fmt::Write;
use std::sync::Arc;

use agent::places::PlaceTable;
use agent::policy::{CgroupPath, Clock, CompileError, Manifest, PolicySet, Settings, Workload, compile};
use agent_common::image::{Policy, WORKLOAD_PRESENT, head_flags, set_flags};
use agent_common::limits::{FENCES_PER_SET, MAX_WORKLOADS};

use crate::subject::{checked, now, table};

/// A fence around some cgroups.
pub(crate) fn fence(name: &str, cgroups: &str, rules: &str) -> String {
    format!(
        "apiVersion: ringfence.dev/v1alpha1\nkind: GeoFence\nmetadata: {{name: {name}}}\nspec:\n  mode: Enforce\n  \
         subjects: [{{cgroups: [{cgroups}]}}]\n{rules}"
    )
}

pub(crate) fn set(documents: &[String]) -> PolicySet {
    let checked = checked(documents);
    checked.set.unwrap_or_else(|| panic!("{:?}", checked.findings))
}

fn workload(id: u32, path: &str) -> Workload {
    Workload { id, path: CgroupPath::parse(path).expect("a path") }
}

pub(crate) fn settings() -> Settings {
    Settings {
        generation: 3,
        index_slot: 1,
        min_level: 1,
        max_level: 1,
        watched: Vec::new(),
        errno: 111,
        flows: true,
        events_per_second: 50,
        clock: Clock { wall_minus_boot: 0 },
        now: now(),
    }
}

fn into(out: &mut Policy, set: &PolicySet, workloads: &[Workload]) -> Result<Manifest, CompileError> {
    compile(set, &table(&set.cidr_sets()), &set.groups, workloads, &settings(), out)
}

/// Holds the error's words, and that the output still holds what was compiled before.
fn refused(set: &PolicySet, table: &Arc<PlaceTable>, workloads: &[Workload], says: &str) {
    let mut out = Policy::boxed();
    into(&mut out, &crate::capacity::set(&[fence("before", "\"/before\"", "")]), &[workload(9, "/before")])
        .expect("a small policy fits");
    let error = compile(set, table, &set.groups, workloads, &settings(), &mut out).expect_err("it can't fit");
    let said = error.to_string();
    assert!(said.contains(says), "{said}");
    assert!(said.contains(": "), "no mend: {said}");
    assert_eq!(out.workloads[9], WORKLOAD_PRESENT | 1, "the output was touched");
    assert_eq!(out.sets[1].len, 1);
}

#[test]
fn seventeen_fences_on_one_workload_are_refused_by_name() {
    let documents: Vec<String> =
        (0..=FENCES_PER_SET).map(|n| fence(&format!("f{n:02}"), "\"/crm\"", "")).collect();
    let set = set(&documents);
    let table = table(&[]);
    refused(
        &set,
        &table,
        &[workload(1, "/crm")],
        "17 fences stand around /crm, and at most 16 can (f00, f01,",
    );
    let mut out = Policy::boxed();
    into(&mut out, &set, &[workload(1, "/other")]).expect("nobody has them");
}

#[test]
fn seventeen_fences_that_could_be_meant_for_a_new_cgroup_are_refused_by_name() {
    let documents: Vec<String> =
        (0..=FENCES_PER_SET).map(|n| fence(&format!("f{n:02}"), &format!("\"/units/w{n}\""), "")).collect();
    let below = |path| Settings { watched: vec![workload(50, path)], ..settings() };
    let compiled = |settings: &Settings, set: &PolicySet| {
        compile(set, &table(&[]), &set.groups, &[], settings, &mut Policy::boxed()).map(|m| m.sets)
    };
    let error = compiled(&below("/units"), &set(&documents)).expect_err("it can't fit").to_string();
    assert!(error.contains("17 fences could be meant for a new cgroup below /units"), "{error}");
    assert!(error.contains("f00, f01,") && error.contains("join fences"), "{error}");
    let sixteen = compiled(&below("/units"), &set(&documents[1..])).expect("16 fit");
    assert_eq!(sixteen.last().map(|s| s.len()), Some(FENCES_PER_SET));
    let elsewhere = compiled(&below("/other"), &set(&documents)).expect("none is meant");
    assert_eq!(elsewhere.len(), 1);
}

#[test]
fn what_is_watched_shows_in_the_head_and_has_a_name_of_its_own() {
    let set = set(&[fence("f", "\"/units/crm\"", "")]);
    let mut out = Policy::boxed();
    let watching = Settings { watched: vec![workload(50, "/units")], ..settings() };
    let workloads = [workload(1, "/units/crm")];
    let manifest = compile(&set, &table(&[]), &set.groups, &workloads, &watching, &mut out).expect("fits");
    assert_eq!(out.head.flags & head_flags::WATCHING, head_flags::WATCHING);
    assert_eq!(manifest.workload(50).map(|w| w.path.as_str()), Some("/units/*"));
    into(&mut out, &set, &workloads).expect("fits");
    assert_eq!(out.head.flags & head_flags::WATCHING, 0);
}

#[test]
fn more_port_classes_than_a_byte_names_are_refused() {
    let ports = |n: u32| {
        let list: Vec<String> = (0..n).map(|p| (1000 + 2 * p).to_string()).collect();
        list
    };
    // Each rule's ports are a class of their own; 64 rules a fence.
    let mut documents = Vec::new();
    for (number, chunk) in ports(300).chunks(60).enumerate() {
        let mut rules = "  allow:\n".to_owned();
        for port in chunk {
            writeln!(rules, "    - {{name: p{port}, jurisdictions: [DE], ports: [{port}]}}")
                .expect("a String");
        }
        documents.push(fence(&format!("f{number}"), "\"/crm\"", &rules));
    }
    refused(&set(&documents), &table(&[]), &[workload(1, "/crm")], "302 classes, and an image holds 256");
}

#[test]
fn more_fences_than_an_outcome_can_name_are_refused() {
    let documents: Vec<String> =
        (0..256).map(|n| fence(&format!("f{n}"), &format!("\"/w{n}\""), "")).collect();
    let workloads: Vec<Workload> = (0..256).map(|n| workload(n, &format!("/w{n}"))).collect();
    let set = set(&documents);
    refused(&set, &table(&[]), &workloads, "256 fences are needed, and an image holds 255");
    let mut out = Policy::boxed();
    let manifest = into(&mut out, &set, &workloads[..255]).expect("255 fit");
    assert_eq!(manifest.fences.len(), 255);
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let mut table = (*table(&[])).clone();
    let place = table.places[1].clone();
    table.places.resize(4096, place.clone());
    let documents: Vec<String> =
        (0..65).map(|n| fence(&format!("f{n}"), &format!("\"/w{n}\""), "")).collect();
    let workloads: Vec<Workload> = (0..65).map(|n| workload(n, &format!("/w{n}"))).collect();
    let set = set(&documents);
    refused(&set, &Arc::new(table.clone()), &workloads, "65 fences over 4096 places need 266240 cells");
    table.places.push(place);
    refused(&set, &Arc::new(table), &workloads[..1], "the world has 4097 places, and an image holds 4096");
}

#[test]
fn workload_ids_must_fit_and_differ() {
    let set = set(&[fence("f", "\"/crm\"", "")]);
    let beyond = u32::try_from(MAX_WORKLOADS).expect("a small number");
    refused(&set, &table(&[]), &[workload(beyond, "/crm")], "/crm has the id 16384, and ids end at 16383");
    refused(
        &set,
        &table(&[]),
        &[workload(1, "/crm"), workload(1, "/llm")],
        "/crm and /llm have the same id 1",
    );
}

#[test]
fn an_image_that_is_written_over_another_is_the_image_written_into_zeros() {
    let rules = "  allow: [{name: a, jurisdictions: [DE], ports: [443]}]\n  block: [{name: b, jurisdictions: [US]}]\n";
    let first: Vec<String> = (0..20).map(|n| fence(&format!("f{n}"), &format!("\"/w{n}\""), rules)).collect();
    let many: Vec<Workload> = (0..20).map(|n| workload(n * 7, &format!("/w{n}"))).collect();
    let (mut used, mut fresh) = (Policy::boxed(), Policy::boxed());
    into(&mut used, &set(&first), &many).expect("fits");
    let second = set(&[fence("f", "\"/crm\"", "  default: Allow\n")]);
    let one = [workload(4, "/crm")];
    into(&mut used, &second, &one).expect("fits");
    into(&mut fresh, &second, &one).expect("fits");
    // Debug prints every number of the smaller parts; the large ones are compared as slices.
    assert_eq!(format!("{:?}", used.head), format!("{:?}", fresh.head));
    assert_eq!(format!("{:?}", used.sets), format!("{:?}", fresh.sets));
    assert_eq!(format!("{:?}", &used.fences[..32]), format!("{:?}", &fresh.fences[..32]));
    assert!(used.places == fresh.places && used.workloads == fresh.workloads);
    assert!(used.port_classes == fresh.port_classes && used.rules == fresh.rules);
}

#[test]
fn a_set_enforces_if_one_of_its_fences_does() {
    let audit = fence("audit", "\"/a\", \"/both\"", "").replace("Enforce", "Audit");
    let enforce = fence("enforce", "\"/both\"", "");
    let mut out = Policy::boxed();
    let workloads = [workload(1, "/a"), workload(2, "/both"), workload(3, "/none")];
    into(&mut out, &set(&[audit, enforce]), &workloads).expect("fits");
    let flags = |id| out.set_of(id).map(|set| (out.set(set).len, out.set(set).flags));
    assert_eq!(flags(1), Some((1, 0)));
    assert_eq!(flags(2), Some((2, set_flags::ENFORCES)));
    assert_eq!(flags(3), Some((0, 0)), "a workload that no fence matches is known, and has none");
    assert_eq!(flags(4), None);
}

#[test]
fn the_head_carries_the_settings() {
    let mut out = Policy::boxed();
    into(&mut out, &set(&[]), &[]).expect("nothing fits");
    let head = out.head;
    let told = [head.generation, head.index_slot, head.min_level, head.max_level, head.errno, head.flags];
    assert_eq!((told, head.events_per_second), ([3, 1, 1, 1, 111, 1], 50));
    let unpublished = Settings { generation: 0, ..settings() };
    let set = set(&[]);
    let error = compile(&set, &table(&[]), &set.groups, &[], &unpublished, &mut out);
    assert!(matches!(error, Err(CompileError::Generation)));
}

#[test]
fn the_manifest_says_when_a_group_changes() {
    let group = "apiVersion: ringfence.dev/v1alpha1\nkind: JurisdictionGroup\nmetadata: {name: SOON}\n\
                 spec: {members: [DE], validUntil: 2026-11-21}\n";
    let mut out = Policy::boxed();
    let manifest = into(&mut out, &set(&[group.to_owned()]), &[]).expect("fits");
    // The last day still counts, so the change is the midnight after it.
    assert_eq!(manifest.next_boundary.map(|t| t.to_string()).as_deref(), Some("2026-11-22T00:00:00Z"));
}
