//! What we show people works: the files of `docs/examples` and the policies in `docs/policy.md`.

use std::fs;
use std::path::{Path, PathBuf};

use agent::places::Groups;
use agent::policy::{Checked, Context, SourceFile, check, load};

use crate::subject::now;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn check_files(files: &[SourceFile]) -> Checked {
    let groups = Groups::builtin().expect("the built-in data is sound");
    check(files, Context { now: now(), groups: &groups, cgroups: None })
}

fn accepted_in_silence(what: &str, files: &[SourceFile]) {
    let checked = check_files(files);
    assert_eq!(checked.findings, [], "{what}");
    assert!(checked.set.is_some(), "{what}");
}

#[test]
fn the_folder_of_examples_is_one_policy_without_a_finding() {
    let files = load(&docs().join("examples")).expect("the examples can be read");
    assert!(files.len() >= 5);
    accepted_in_silence("docs/examples", &files);
}

#[test]
fn each_example_stands_alone_but_the_exception_that_needs_its_fence() {
    for file in load(&docs().join("examples")).expect("the examples can be read") {
        let checked = check_files(std::slice::from_ref(&file));
        let alone = !file.name.ends_with("crm-exception.yaml");
        assert_eq!(checked.set.is_some(), alone, "{}: {:?}", file.name, checked.findings);
    }
}

#[test]
fn every_policy_in_the_documentation_is_accepted() {
    let text = fs::read_to_string(docs().join("policy.md")).expect("docs/policy.md");
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(blocks.len() >= 3, "docs/policy.md shows policies");
    let files: Vec<SourceFile> = blocks
        .iter()
        .filter(|block| block.contains("apiVersion:"))
        .enumerate()
        .map(|(n, block)| SourceFile::new(&format!("policy.md block {n}"), block))
        .collect();
    accepted_in_silence("docs/policy.md", &files);
}
