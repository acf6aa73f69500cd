//! House rules that clippy does not know, over all Rust sources but generated ones.
//!
//! The scanner reads lines, not syntax: code below `#[cfg(test)]` and in a package's `tests/` is test code. A rule that
//! it gets wrong somewhere is worth a clearer line there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// A file that is longer holds more than one idea.
const MOST_LINES: usize = 500;
const PACKAGES: [&str; 6] = ["agent", "agent-common", "agent-ebpf", "proto", "tests", "xtask"];
/// Where `unsafe` may stand outside tests: at the system call, the kernel context, the map and the ring.
const UNSAFE_FILES: [&str; 5] = ["agent/src/bpf/", "/ctx.rs", "/maps.rs", "/emit.rs", "/pod.rs"];

/// Files that are only compiled for tests: the module that declares them says `#[cfg(test)]`.
const TEST_FILES: [&str; 5] = ["/tests.rs", "_tests.rs", "/fixtures.rs", "/fake_agent.rs", "/grpc/bench.rs"];

/// What must not stand in a line outside tests, and why.
const FORBIDDEN: [(&str, &str); 7] = [
    (".unwrap()", "return an error, or `expect(\"invariant: …\")` if it can't happen"),
    ("panic!(", "return an error"),
    ("todo!(", "finish it or leave it out"),
    ("unimplemented!(", "finish it or leave it out"),
    ("unreachable_unchecked", "undefined if it is reached; the verifier is the gate"),
    ("// TODO", "finish it or leave it out"),
    ("// FIXME", "finish it or leave it out"),
];

pub(crate) fn check() -> Result<()> {
    let mut faults = Vec::new();
    let mut files = Vec::new();
    for package in PACKAGES {
        collect(&workspace::root().join(package), &mut files)?;
    }
    files.sort();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        faults.extend(faults_of(&workspace::shown(file), &text));
    }
    ensure!(faults.is_empty(), "against the house rules\n  {}", faults.join("\n  "));
    println!("· sources: {} files keep the house rules", files.len());
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !["generated", "target"].contains(&name) {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn faults_of(file: &str, text: &str) -> Vec<String> {
    // This file quotes what it forbids.
    if file == "xtask/src/check/source.rs" {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_LINES {
        faults.push(format!("{file}: {lines} lines, more than {MOST_LINES}: split it by idea"));
    }
    let mut in_tests = file.starts_with("tests/")
        || file.contains("/tests/")
        || TEST_FILES.iter().any(|end| file.ends_with(end));
    for (number, line) in text.lines().enumerate() {
        let at = format!("{file}:{}", number + 1);
        let code = line.trim_start();
        in_tests |= code.starts_with("#[cfg(test)]");
        if code.starts_with("#[ignore]") {
            faults.push(format!("{at}: say why: `#[ignore = \"…\"]`"));
        }
        if in_tests {
            continue; // what stands in a test never runs in an agent; clippy still asks for each SAFETY comment
        }
        let is_unsafe =
            ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"].iter().any(|it| code.contains(it));
        if is_unsafe
            && !code.starts_with("//")
            && !UNSAFE_FILES.iter().any(|place| format!("/{file}").contains(place))
        {
            faults.push(format!("{at}: `unsafe` belongs to {}", UNSAFE_FILES.join(" ")));
        }
        for (word, mend) in FORBIDDEN {
            if code.contains(word) && (word.starts_with("//") || !code.starts_with("//")) {
                faults.push(format!("{at}: `{word}` outside tests: {mend}"));
            }
        }
        if code.contains(".expect(\"") && !code.contains(".expect(\"invariant: ") && !code.starts_with("//") {
            faults.push(format!("{at}: `expect` must state its invariant: `expect(\"invariant: …\")`"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::faults_of;

    #[test]
    fn each_rule_names_file_and_line() {
        for (line, rule) in [
            ("    x.unwrap();", ".unwrap()"),
            ("    panic!(\"no\");", "panic!("),
            ("    // TODO later", "// TODO"),
            ("    x.expect(\"fine\");", "invariant"),
            ("    unsafe { x() }", "unsafe"),
            ("    #[ignore]", "say why"),
        ] {
            let faults = faults_of("agent/src/x.rs", &format!("fn f() {{\n{line}\n}}\n"));
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with("agent/src/x.rs:2: ") && faults[0].contains(rule), "{faults:?}");
        }
    }

    #[test]
    fn tests_may_unwrap_and_comments_may_name_what_is_forbidden() {
        assert!(
            faults_of("agent/src/x.rs", "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }\n").is_empty()
        );
        assert!(faults_of("tests/src/x.rs", "fn f() { x.unwrap() }\n").is_empty());
        assert!(faults_of("agent/src/x.rs", "// never .unwrap() here, nor unsafe { }\n").is_empty());
        assert!(faults_of("agent/src/x.rs", "x.expect(\"invariant: checked above\");\n").is_empty());
    }

    #[test]
    fn unsafe_has_its_places() {
        for file in [
            "agent/src/bpf/load.rs",
            "agent-ebpf/src/ctx.rs",
            "agent-common/src/pod.rs",
            "tests/src/netns.rs",
        ] {
            assert!(faults_of(file, "unsafe { x() }\n").is_empty(), "{file}");
        }
        assert_eq!(faults_of("agent-ebpf/src/hooks/connect.rs", "unsafe { x() }\n").len(), 1);
    }

    #[test]
    fn a_long_file_is_told_to_split() {
        assert_eq!(faults_of("agent/src/x.rs", &"\n".repeat(501)).len(), 1);
        assert!(faults_of("agent/src/x.rs", &"\n".repeat(500)).is_empty());
    }
}
