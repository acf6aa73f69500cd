//! No input makes the validator panic, hang, or accept what it has found an error in.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use agent::policy::{Checked, Context, Level, SourceFile, check};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use proptest::sample::{Index, select};

use crate::cases;
use crate::subject::now;

fn check_bytes(bytes: &[u8]) -> Checked {
    let groups = agent::places::Groups::builtin().expect("the built-in data is sound");
    let file = SourceFile { name: "input.yaml".into(), bytes: bytes.into() };
    check(&[file], Context { now: now(), groups: &groups, cgroups: None })
}

fn sound(checked: &Checked) -> bool {
    checked.set.is_some() != checked.findings.iter().any(|f| f.level == Level::Error)
}

/// Everything that we know how to write, good and bad.
fn corpus() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["fixtures/policies/bad", "fixtures/policies/doubtful", "../docs/examples"];
    let mut files = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(root.join(folder)).expect("fixtures");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        files.extend(paths.filter(|p| p.extension().is_some_and(|e| e == "yaml")));
    }
    files.sort();
    files.iter().map(|path| fs::read(path).expect("a fixture can be read")).collect()
}

/// One change to a text.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Remove(Index, u8),
    Insert(Index, &'static str),
    Repeat(Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let pieces = vec![
        "---\n",
        "&a ",
        "*a",
        "<<: ",
        "!x ",
        "? ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        ">\n",
        "\t",
        "\0",
        "\u{feff}",
        "%YAML 1.2\n",
        "...\n",
        "#",
        "null",
        "~",
        "\r",
        "\u{2028}",
        "🜨",
        "99999999999999999999",
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, n)| Change::Remove(at, n)),
        (any::<Index>(), select(pieces)).prop_map(|(at, piece)| Change::Insert(at, piece)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, n)| Change::Repeat(at, n)),
    ]
}

fn apply(text: &mut Vec<u8>, change: &Change) {
    if text.is_empty() {
        return;
    }
    match change {
        Change::Set(at, byte) => {
            let at = at.index(text.len());
            text[at] = *byte;
        }
        Change::Remove(at, n) => {
            let from = at.index(text.len());
            let to = (from + usize::from(*n)).min(text.len());
            text.drain(from..to);
        }
        Change::Insert(at, piece) => {
            let at = at.index(text.len());
            text.splice(at..at, piece.bytes());
        }
        Change::Repeat(at, n) => {
            let from = at.index(text.len());
            let piece = text[from..(from + usize::from(*n)).min(text.len())].to_vec();
            text.splice(from..from, piece);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(3000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(sound(&check_bytes(&bytes)));
    }

    #[test]
    fn random_text_is_refused_or_read(text in "[ -~\n\u{e9}]{0,300}") {
        prop_assert!(sound(&check_bytes(text.as_bytes())));
    }

    #[test]
    fn damaged_documents_are_refused_or_read(mut text in select(corpus()), changes in vec(change(), 1..6)) {
        for change in &changes {
            apply(&mut text, change);
        }
        prop_assert!(sound(&check_bytes(&text)));
    }
}

/// A text that a parser could choke on is answered within the deadline, with an error that names the bound.
fn bounded(text: &str, says: &str) {
    let began = Instant::now();
    let checked = check_bytes(text.as_bytes());
    assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
    assert!(checked.set.is_none());
    let said: Vec<String> = checked.findings.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|f| f.contains(says)), "{said:?}");
}

#[test]
fn aliases_that_unfold_without_end_meet_a_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", ")));
    }
    bounded(&text, "once aliases are written out");
    let many = format!("a: &a [{}]\nb: [{}]\n", ["x"; 1000].join(", "), ["*a"; 1000].join(", "));
    bounded(&many, "once aliases are written out");
}

#[test]
fn an_alias_inside_itself_is_refused() {
    bounded("a: &a [*a]\n", "contains itself");
}

#[test]
fn deep_nesting_meets_a_bound() {
    bounded(&"[".repeat(5000), "nested deeper");
    bounded(&format!("a: {}1{}", "{b: ".repeat(60), "}".repeat(60)), "nested deeper");
}

#[test]
fn more_documents_than_any_policy_has_are_refused() {
    bounded(&"a: b\n---\n".repeat(9000), "more than 8192 documents together");
}

/// Checks that hold things against each other must not take the square of a large file.
#[test]
fn long_lists_are_checked_in_time() {
    let head = "apiVersion: ringfence.dev/v1alpha1\nkind: GeoFence\nmetadata: {name: f}\nspec:\n";
    let list = |n: u32, item: fn(u32) -> String| (0..n).map(item).collect::<Vec<_>>().join(", ");
    let paths = list(40_000, |n| format!("/p{n}"));
    bounded(&format!("{head}  subjects: [{{cgroups: [{paths}]}}]\n"), "subjects name 40000 cgroups");
    let nets = |first: u32| list(30_000, if first == 0 { |n| v4(n, 10) } else { |n| v4(n, 20) });
    let rules = format!(
        "  allow: [{{name: a, cidrs: [{}]}}]\n  block: [{{name: b, cidrs: [{}]}}]\n  default: Maybe\n",
        nets(0),
        nets(1)
    );
    bounded(&format!("{head}  subjects: [{{all: true}}]\n{rules}"), "can't be `Maybe`");
}

fn v4(n: u32, first: u32) -> String {
    format!("{first}.{}.{}.0/24", n / 256, n % 256)
}

#[test]
fn a_huge_file_is_refused_by_its_size() {
    bounded(&"# nothing\n".repeat(500_000), "more than");
}
