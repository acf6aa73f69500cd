//! Files and folders, as operators, editors and the kubelet make them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use agent::policy::source::digest;
use agent::policy::{Level, SourceError, SourceFile, load, load_all};

use crate::subject::checked;

const FENCE: &str = "apiVersion: ringfence.dev/v1alpha1\nkind: GeoFence\nmetadata: {name: crm}\nspec:\n  \
                     subjects: [{cgroups: [\"/crm\"]}]\n";

fn names(folder: &Path) -> Vec<String> {
    let files = load(folder).expect("a folder that can be read");
    let name = |f: &SourceFile| Path::new(&*f.name).file_name().map(|n| n.to_string_lossy().into_owned());
    files.iter().filter_map(name).collect()
}

#[test]
fn a_folder_gives_its_policy_files_sorted_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["b.yml", "a.yaml", "c.json", ".hidden.yaml", "notes.txt", "a.yaml~", "a.yaml.swp"] {
        fs::write(dir.path().join(name), FENCE).expect("a file");
    }
    fs::create_dir(dir.path().join("d.yaml")).expect("a folder named like a file");
    assert_eq!(names(dir.path()), ["a.yaml", "b.yml", "c.json"]);
}

#[test]
fn a_mounted_config_map_is_read_once_and_follows_the_swap() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    for (version, text) in [("..2026_11_20_1", "kind: A\n"), ("..2026_11_20_2", "kind: B\n")] {
        fs::create_dir(at(version)).expect("a version");
        fs::write(at(version).join("fence.yaml"), text).expect("a file");
    }
    symlink("..2026_11_20_1", at("..data")).expect("a link");
    symlink("..data/fence.yaml", at("fence.yaml")).expect("a link");
    assert_eq!(names(dir.path()), ["fence.yaml"]);
    let before = digest(&load(dir.path()).expect("read"));

    symlink("..2026_11_20_2", at("..data_tmp")).expect("a link");
    fs::rename(at("..data_tmp"), at("..data")).expect("the swap");
    let after = load(dir.path()).expect("read");
    assert_eq!(&*after[0].bytes, b"kind: B\n");
    assert_ne!(digest(&after), before);
}

#[test]
fn what_can_not_be_read_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let dangling = dir.path().join("gone.yaml");
    symlink("nowhere", &dangling).expect("a link");
    for error in [load(dir.path()), load(&dangling), load_all(&[dir.path(), Path::new("/dev/null")])] {
        let error = error.expect_err("it can't be read");
        assert!(matches!(error, SourceError::Io { .. }), "{error}");
        assert!(error.to_string().contains("gone.yaml"), "{error}");
    }
    assert!(matches!(load(Path::new("/dev/null")), Err(SourceError::Kind { .. })));
}

#[test]
fn a_digest_depends_on_contents_alone() {
    let file = |name: &str, text: &str| SourceFile::new(name, text);
    let one = digest(&[file("a", "x"), file("b", "y")]);
    assert_eq!(one, digest(&[file("c", "y"), file("d", "x")]));
    assert_ne!(one, digest(&[file("a", "xy"), file("b", "")]));
    assert_ne!(one, digest(&[file("a", "x")]));
    assert_eq!(one.to_string().len(), 64);
}

#[test]
fn json_is_read_too_indented_with_tabs_or_not_at_all() {
    let tabs = "{\n\t\"apiVersion\": \"ringfence.dev/v1alpha1\",\n\t\"kind\": \"GeoFence\",\n\t\"metadata\": \
                {\"name\": \"crm\"},\n\t\"spec\": {\n\t\t\"subjects\": [{\"cgroups\": [\"/crm\"]}],\n\t\t\"allow\": \
                [\n\t\t\t{\"name\": \"a\", \"jurisdictions\": [\"NO\"], \"ports\": [443]}\n\t\t]\n\t}\n}\n";
    for text in [tabs.to_owned(), tabs.replace(['\n', '\t'], "")] {
        let checked = checked(&[text]);
        assert_eq!(checked.findings, []);
        assert_eq!(checked.set.expect("accepted").fences.len(), 1);
    }
}

#[test]
fn norway_is_a_country_and_not_false() {
    let text = format!("{FENCE}  allow: [{{name: a, jurisdictions: [NO, SE]}}]\n");
    let set = checked(&[text]).set.expect("accepted");
    let named: Vec<&str> = set.fences[0].allow[0].jurisdictions.iter().map(|(name, _)| &**name).collect();
    assert_eq!(named, ["NO", "SE"]);
}

#[test]
fn a_document_with_an_error_refuses_the_documents_of_other_files_too() {
    let checked = checked(&[FENCE.to_owned(), "kind: GeoFence\n".to_owned()]);
    assert!(checked.set.is_none());
    assert!(checked.findings.iter().all(|f| f.level == Level::Error && &*f.file == "1.yaml"));
}

#[test]
fn no_documents_are_a_policy_of_no_fences() {
    for text in ["", "# nothing yet\n", "---\n---\n"] {
        let checked = checked(&[text.to_owned()]);
        assert_eq!(checked.findings, [], "{text:?}");
        assert!(checked.set.expect("accepted").fences.is_empty());
    }
}
