//! The table of docs/threat-model.md, read: what the page claims is what the suite runs.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::Row;
use super::fate::Fate;

/// The page, as of this build.
const PAGE: &str = include_str!("../../../docs/threat-model.md");
/// First line of each part of the table.
const HEAD: &str = "| id | way out | profile | outcome | by | test |";
/// Who can take a way out: capabilities of the workload, or what it needs beside them.
const PROFILES: [&str; 5] = ["none", "NET_RAW", "NET_ADMIN", "SYS_ADMIN", "hardware"];
/// Said in a row whose test cannot run on the kernel that the page was measured on.
const NOT_RUN: &str = "not run on this kernel: ";
/// Heading of the section that has advice for each row that is out of scope.
const ADVICE: &str = "## Out of scope";

/// One row as the page has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: &'static str,
    pub(crate) fate: Fate,
    /// The page says that its test does not run on the kernel that was measured on.
    pub(crate) not_run: bool,
    /// Name of the file that holds its test, without `.rs`.
    file: &'static str,
}

/// All rows of the page.
///
/// # Errors
/// A row is not as the table's head says, or an id comes twice.
pub(crate) fn claims() -> Result<Vec<Claim>> {
    parse(PAGE)
}

fn parse(page: &'static str) -> Result<Vec<Claim>> {
    let mut claims: Vec<Claim> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        if line != HEAD {
            continue;
        }
        for (number, line) in lines.by_ref().skip(1).take_while(|(_, line)| line.starts_with('|')) {
            let claim = claim(line).with_context(|| format!("docs/threat-model.md:{}", number + 1))?;
            ensure!(
                claims.iter().all(|other| other.id != claim.id),
                "docs/threat-model.md:{}: a second row `{}`",
                number + 1,
                claim.id
            );
            claims.push(claim);
        }
    }
    ensure!(!claims.is_empty(), "docs/threat-model.md has no table that begins with `{HEAD}`");
    Ok(claims)
}

fn claim(line: &'static str) -> Result<Claim> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [id, way_out, profile, outcome, by, test] = cells[..] else {
        bail!("{} cells, not 6", cells.len());
    };
    ensure!(is_kebab(id), "`{id}` is no id: lower-case words joined by `-`");
    ensure!(!way_out.is_empty() && !by.is_empty(), "`{id}`: an empty cell");
    ensure!(
        PROFILES.contains(&profile),
        "`{id}`: unknown profile `{profile}`; one of {}",
        PROFILES.join(", ")
    );
    let fate = Fate::ALL.into_iter().find(|fate| fate.word() == outcome);
    let fate = fate.with_context(|| format!("`{id}`: unknown outcome `{outcome}`"))?;
    let file = test.strip_prefix('[').and_then(|test| test.split_once(']'));
    let (file, link) = file.with_context(|| format!("`{id}`: `{test}` is no link to a test's file"))?;
    ensure!(
        link.strip_prefix("(../tests/kernel/bypass/").and_then(|link| link.strip_suffix(".rs)"))
            == Some(file),
        "`{id}`: `{link}` does not lead to {file}.rs"
    );
    Ok(Claim { id, fate, not_run: by.contains(NOT_RUN), file })
}

fn is_kebab(id: &str) -> bool {
    !id.is_empty()
        && id.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
}

/// Everything that is wrong between page and suite, one thing a string.
pub(crate) fn disagreements(claims: &[Claim], rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    for claim in claims {
        match rows.iter().find(|row| row.id == claim.id) {
            None => wrong.push(format!("row `{}` has no test", claim.id)),
            Some(row) if row.file != claim.file => {
                wrong.push(format!(
                    "the test of `{}` is in {}.rs, not in {}.rs",
                    claim.id, row.file, claim.file
                ));
            }
            Some(_) => {}
        }
        if claim.fate == Fate::OutOfScope && !advised(PAGE).contains(claim.id) {
            wrong.push(format!("`{}` is out of scope and nothing is said of what to do about it", claim.id));
        }
    }
    let mut seen = BTreeSet::new();
    for row in rows {
        if !claims.iter().any(|claim| claim.id == row.id) {
            wrong.push(format!("test `{}` has no row in docs/threat-model.md", row.id));
        }
        if !seen.insert(row.id) {
            wrong.push(format!("there are two tests `{}`", row.id));
        }
    }
    wrong
}

/// Ids in bold at the beginning of the points of the advice: `- **a**, **b**: …`.
fn advised(page: &'static str) -> BTreeSet<&'static str> {
    let section = page.split_once(ADVICE).map_or("", |(_, rest)| rest);
    let points = section.lines().filter_map(|line| line.strip_prefix("- ")?.split_once(':'));
    points.flat_map(|(ids, _)| ids.split(", ")).map(|id| id.trim_matches('*')).collect()
}

/// What is wrong with this very check: each bad page and each missing test must be found.
///
/// # Errors
/// One was not.
pub(crate) fn check_itself() -> Result<()> {
    const ROW: &str = "| a-1 | w | none | judged | egress | [f](../tests/kernel/bypass/f.rs) |";
    let page = |row: &str| -> &'static str { format!("{HEAD}\n|---|\n{row}\n").leak() };
    let good = parse(page(ROW))?;
    ensure!(good == [Claim { id: "a-1", fate: Fate::Judged, not_run: false, file: "f" }], "{good:?}");
    for (from, to) in [
        ("a-1", "A 1"),
        ("none", "nobody"),
        ("judged", "fine"),
        ("egress", ""),
        ("egress |", ""),
        ("/f.rs", "/g.rs"),
        (ROW, ""),
        (ROW, &format!("{ROW}\n{ROW}")),
    ] {
        let bad = ROW.replace(from, to);
        ensure!(parse(page(&bad)).is_err(), "a bad table was taken for a good one: {bad}");
    }
    let row = |id, file| Row { id, file, test: |_| bail!("not to be run") };
    ensure!(disagreements(&good, &[row("a-1", "f")]).is_empty(), "page and suite agree and it is not seen");
    for rows in [vec![], vec![row("a-1", "g")], vec![row("a-1", "f"), row("b", "f")]] {
        ensure!(!disagreements(&good, &rows).is_empty(), "page and suite disagree and it is not seen");
    }
    Ok(())
}
