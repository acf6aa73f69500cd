//! What the validator says of bad and of doubtful documents, word for word, with line and column.
//!
//! Beside each `NAME.yaml` in `fixtures/policies/{bad,doubtful}` stands what must be said of it, `NAME.findings`.
//! After a change of words, `RINGFENCE_BLESS=1 cargo test -p agent-tests --test sim snapshots` writes them anew: read
//! the difference before it is committed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use agent::places::Groups;
use agent::policy::{CgroupPath, Checked, Context, Level, check, load};

use crate::subject::now;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/policies").join(name)
}

fn check_file(path: &Path) -> Checked {
    let files = load(path).expect("a fixture can be read");
    let groups = Groups::builtin().expect("the built-in data is sound");
    let cgroups: BTreeSet<CgroupPath> =
        ["/crm", "/llm", "/exists"].into_iter().map(|p| CgroupPath::parse(p).expect("a path")).collect();
    check(&files, Context { now: now(), groups: &groups, cgroups: Some(&cgroups) })
}

/// Holds every fixture of a folder against what is said of it beside; returns the fixtures.
fn hold(name: &str) -> Vec<(PathBuf, Checked)> {
    let folder = folder(name);
    let bless = std::env::var_os("RINGFENCE_BLESS").is_some();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&folder).expect("fixtures").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    paths.sort();
    let mut wrong = Vec::new();
    let mut out = Vec::new();
    for path in paths {
        let checked = check_file(&path);
        let prefix = format!("{}:", path.display());
        let said: String = checked
            .findings
            .iter()
            .map(|finding| {
                // Fixtures lie elsewhere on every machine; findings that name another line of the file too.
                let text = finding.to_string();
                format!(
                    "{}\n",
                    text.strip_prefix(&prefix).expect("the file comes first").replace(&prefix, "FILE:")
                )
            })
            .collect();
        let beside = path.with_extension("findings");
        if bless {
            fs::write(&beside, &said).expect("fixtures can be written");
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- said\n{said}", path.display()));
        }
        out.push((path, checked));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    out
}

#[test]
fn bad_documents_are_refused_whole_with_line_column_and_mend() {
    let fixtures = hold("bad");
    assert!(fixtures.len() >= 50, "fixtures are missing: only {} were found", fixtures.len());
    for (path, checked) in fixtures {
        assert!(checked.set.is_none(), "{} was accepted", path.display());
        let placed = checked.findings.iter().all(|f| f.line > 0 && f.column > 0 && f.mend.is_some());
        assert!(placed, "{}: a finding without place or mend", path.display());
    }
}

#[test]
fn doubtful_documents_are_accepted_with_a_warning() {
    let fixtures = hold("doubtful");
    assert!(fixtures.len() >= 13, "fixtures are missing: only {} were found", fixtures.len());
    for (path, checked) in fixtures {
        assert!(checked.set.is_some(), "{} was refused", path.display());
        let warned = checked.findings.iter().any(|f| f.level == Level::Warning);
        assert!(warned, "{} passed without a word", path.display());
    }
}
