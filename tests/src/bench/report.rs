//! The table: what was measured, how far it scatters, and how it stands to goal and floor.

use super::bar::{Bar, Word};
use super::stats::Sample;

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Part of another: `0.97`.
    Ratio,
    /// Multiple of another: `12.3×`.
    Times,
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Mebibytes.
    Mebibytes,
    /// Events, connects or datagrams a second.
    PerSecond,
    /// Gigabits a second.
    Gigabits,
    /// A number of things.
    Count,
}

impl Unit {
    /// A value in this unit.
    pub(crate) fn show(self, value: f64) -> String {
        let digits = |value: f64| match value.abs() {
            v if v < 10.0 => format!("{value:.2}"),
            v if v < 100.0 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        };
        match self {
            Self::Ratio => format!("{value:.3}"),
            Self::Times => format!("{value:.1}×"),
            Self::Nanoseconds => format!("{} ns", digits(value)),
            Self::Microseconds => format!("{} µs", digits(value)),
            Self::Milliseconds => format!("{} ms", digits(value)),
            Self::Mebibytes => format!("{} MiB", digits(value)),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Gigabits => format!("{} Gbit/s", digits(value)),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// One figure.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    what: String,
    unit: Unit,
    sample: Sample,
    /// What two equal things differ by in the same rounds.
    spread: Option<f64>,
    /// The figure would be exactly 1 without an effect, so that the spread can hide it.
    neutral_at_one: bool,
    bar: Option<Bar>,
}

impl Row {
    /// A figure without a bar.
    pub(crate) fn new(what: impl Into<String>, unit: Unit, sample: Sample) -> Self {
        Self { what: what.into(), unit, sample, spread: None, neutral_at_one: false, bar: None }
    }

    /// What it must reach.
    pub(crate) const fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }

    /// What the same measurement of two equal things shows. Printed, and no more.
    pub(crate) const fn beside(mut self, spread: f64) -> Self {
        self.spread = Some(spread);
        self
    }

    /// As [`Self::beside`], for a figure that would be 1 without an effect: inside the spread nothing is claimed.
    pub(crate) const fn against(mut self, spread: f64) -> Self {
        self.spread = Some(spread);
        self.neutral_at_one = true;
        self
    }

    fn word(&self) -> Option<Word> {
        let spread = self.spread.filter(|_| self.neutral_at_one);
        self.bar.map(|bar| bar.judge(self.sample.median, spread))
    }

    fn cells(&self) -> [String; 7] {
        let scatters = self.sample.q1 < self.sample.q3;
        let range = || format!("{} – {}", self.unit.show(self.sample.q1), self.unit.show(self.sample.q3));
        let limit = |pick: fn(Bar) -> f64| {
            self.bar.map(|bar| format!("{} {}", bar.sign(), self.unit.show(pick(bar)))).unwrap_or_default()
        };
        [
            self.what.clone(),
            self.unit.show(self.sample.median),
            if scatters { range() } else { String::new() },
            self.spread.map(|spread| format!("±{:.1} %", spread * 100.0)).unwrap_or_default(),
            limit(Bar::goal),
            limit(Bar::floor),
            self.word().map(|word| word.to_string()).unwrap_or_default(),
        ]
    }
}

const HEAD: [&str; 7] = ["what", "median", "quartiles", "A/A", "goal", "floor", "verdict"];

/// All figures, by section, with what has to be said of them.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    title: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Begins a section.
    pub(crate) fn section(&mut self, title: &str) {
        self.sections.push(Section { title: title.to_owned(), rows: Vec::new(), notes: Vec::new() });
    }

    fn last(&mut self) -> &mut Section {
        if self.sections.is_empty() {
            self.section("");
        }
        self.sections.last_mut().expect("invariant: there is one now")
    }

    /// Adds a figure to the section.
    pub(crate) fn row(&mut self, row: Row) {
        self.last().rows.push(row);
    }

    /// Adds a sentence below the section's table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.last().notes.push(text.into());
    }

    /// Bars that have fallen: goals that were not reached, and floors.
    pub(crate) fn fallen(&self) -> Vec<String> {
        let mut fallen = Vec::new();
        for row in self.sections.iter().flat_map(|section| &section.rows) {
            let (Some(bar), Some(word)) = (row.bar, row.word()) else { continue };
            let value = row.unit.show(row.sample.median);
            let limit = |limit: f64| format!("{} {}", bar.sign(), row.unit.show(limit));
            let said = match word {
                Word::Met => continue,
                Word::Floor => format!("{value}, goal {} not reached", limit(bar.goal())),
                Word::Missed => format!("{value}, **floor {} broken**", limit(bar.floor())),
                Word::NotResolvable => format!("{value} is inside the A/A spread: not resolvable here"),
            };
            fallen.push(format!("{}: {said}", row.what));
        }
        fallen
    }

    /// The table for a terminal.
    pub(crate) fn plain(&self) -> String {
        let mut widths = HEAD.map(|cell| cell.chars().count());
        for row in self.sections.iter().flat_map(|section| &section.rows) {
            for (width, cell) in widths.iter_mut().zip(row.cells()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: [&str; 7]| {
            let mut text = String::from("  ");
            for (at, (cell, width)) in cells.into_iter().zip(widths).enumerate() {
                let pad = " ".repeat(width - cell.chars().count());
                let cell = if at == 0 || at == 6 { format!("{cell}{pad}") } else { format!("{pad}{cell}") };
                text.push_str(&cell);
                text.push_str("  ");
            }
            text.trim_end().to_owned()
        };
        let mut text = String::new();
        for section in &self.sections {
            let cells: Vec<_> = section.rows.iter().map(Row::cells).collect();
            let rows = cells.iter().map(|cells| line(cells.each_ref().map(String::as_str)));
            text.push_str(&format!("\n{}\n{}\n", section.title, line(HEAD)));
            rows.for_each(|row| text.push_str(&format!("{row}\n")));
            section.notes.iter().for_each(|note| text.push_str(&format!("  · {note}\n")));
        }
        text
    }

    /// The tables for the document.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            text.push_str(&format!("### {}\n\n", section.title));
            text.push_str(&format!("| {} |\n|---|---|---|---|---|---|---|\n", HEAD.join(" | ")));
            for row in &section.rows {
                text.push_str(&format!("| {} |\n", row.cells().join(" | ")));
            }
            text.push('\n');
            section.notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
            if !section.notes.is_empty() {
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Row, Unit};
    use crate::bench::bar::Bar;
    use crate::bench::stats::Sample;

    fn report() -> Report {
        let mut report = Report::default();
        report.section("Traffic");
        let bar = Bar::AtLeast { goal: 0.97, floor: 0.93 };
        for (what, value) in [("good", 0.99), ("fair", 0.95), ("bad", 0.5)] {
            let sample = Sample { median: value, q1: value - 0.01, q3: value + 0.01 };
            report.row(Row::new(what, Unit::Ratio, sample).against(0.001).bar(bar));
        }
        report.row(Row::new("hidden", Unit::Ratio, Sample::one(0.96)).against(0.1).bar(bar));
        report
    }

    #[test]
    fn fallen_bars_are_named_and_those_that_stand_are_not() {
        let fallen = report().fallen();
        assert_eq!(fallen.len(), 3, "{fallen:?}");
        assert_eq!(fallen[0], "fair: 0.950, goal ≥ 0.970 not reached");
        assert_eq!(fallen[1], "bad: 0.500, **floor ≥ 0.930 broken**");
        assert!(fallen[2].contains("not resolvable"));
    }

    #[test]
    fn both_tables_have_a_line_a_figure() {
        let (plain, markdown) = (report().plain(), report().markdown());
        assert!(plain.contains("good") && plain.contains("MISSED"), "{plain}");
        assert!(
            markdown.contains("| bad | 0.500 | 0.490 – 0.510 | ±0.1 % | ≥ 0.970 | ≥ 0.930 | MISSED |"),
            "{markdown}"
        );
    }
}
