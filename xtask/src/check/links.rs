//! Every relative link of README.md and docs/ leads to a file that exists.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::workspace;

pub(crate) fn check() -> Result<()> {
    let files = documents()?;
    let mut dead = Vec::new();
    let mut count = 0;
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let folder = file.parent().unwrap_or(workspace::root());
        for (line, link) in links(&text) {
            count += 1;
            if !folder.join(&link).exists() {
                dead.push(format!("{}:{line}: no such file: {link}", workspace::shown(file)));
            }
        }
    }
    ensure!(dead.is_empty(), "dead links\n  {}", dead.join("\n  "));
    println!("· links: {count} in {} documents lead somewhere", files.len());
    Ok(())
}

/// README.md and other documents at the top, and all of docs/.
fn documents() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(workspace::root().to_owned(), false), (workspace::root().join("docs"), true)];
    while let Some((folder, deep)) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() && deep {
                folders.push((path, true));
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Line number and target, without its `#section`, of each `[…](target)` that is not a web address.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") {
                found.push((number + 1, Path::new(file).display().to_string()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::links;

    #[test]
    fn files_are_links_and_web_addresses_sections_and_code_are_not() {
        let text = "[a](docs/a.md) and [b](../b.rs#L3 \"title\")\n[web](https://example.com/x) [s](#section)\n\
            ```\n[no](none.md)\n```\n![picture](p.svg)";
        let expected = [(1, "docs/a.md"), (1, "../b.rs"), (6, "p.svg")];
        assert_eq!(links(text), expected.map(|(line, link)| (line, link.to_owned())));
    }
}
