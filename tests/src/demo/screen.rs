//! What people see: aligned lines, in colours on a terminal.

use agent::cli::output::{Colour, Style, printable};

use super::client::{Answer, Program, Reply};
use super::visit::Visit;
use crate::events::Event;

/// Prints, and counts what was not as promised.
pub(super) struct Screen {
    style: Style,
    act: u32,
    broken: u32,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { style: Style::for_stdout(), act: 0, broken: 0 }
    }

    /// How many promises were not kept so far.
    pub(super) fn broken(&self) -> u32 {
        self.broken
    }

    /// A new act, with a few lines on what it shows.
    pub(super) fn act(&mut self, heading: &str, text: &[&str]) {
        self.act += 1;
        println!("\n── {}. {heading} ", self.act);
        for line in text {
            println!("   {line}");
        }
        println!();
    }

    /// One line of the story.
    pub(super) fn say(&self, text: &str) {
        println!("   {}", text.trim_end());
    }

    /// One line of less interest.
    pub(super) fn dim(&self, text: &str) {
        println!("   {}", self.style.paint(Colour::Dim, text));
    }

    /// What a client saw.
    pub(super) fn client(&self, visit: &Visit<'_>, answer: &Answer) {
        let program = match visit.program {
            Program::Curl => "curl",
            Program::Python => "python",
        };
        let (colour, outcome) = match &answer.reply {
            Reply::Reached => (Colour::Good, "reached".to_owned()),
            Reply::Refused(errno) => (Colour::Bad, format!("refused {errno}")),
            Reply::Silent => (Colour::Bad, "no answer".to_owned()),
        };
        println!(
            "   {:<4} {program:<6} {} {:<27} {:<30} {} {:>7.1} ms",
            visit.workload.name,
            visit.transport.as_str(),
            visit.to().to_string(),
            visit.spot.who,
            self.style.paint(colour, &format!("{outcome:<14}")),
            answer.millis
        );
    }

    /// What the stream said of it.
    pub(super) fn event(&self, event: &Event) {
        let word = |field| event.text(field).map_or_else(|| "-".to_owned(), printable);
        let (colour, verdict) = match (event.text("verdict"), event.text("would_be")) {
            (Some("Block"), _) => (Colour::Bad, "Block"),
            (Some("Allow"), Some("Block")) => (Colour::Warn, "Allow, would Block"),
            (Some("Allow"), _) => (Colour::Good, "Allow"),
            (_, _) => (Colour::Warn, "?"),
        };
        let reason = match (event.text("reason"), event.text("rule")) {
            (Some("AllowRule"), Some(rule)) => format!("allow rule {}", printable(rule)),
            (Some("BlockRule"), Some(rule)) => format!("block rule {}", printable(rule)),
            (Some("Exception"), Some(rule)) => format!("exception {}", printable(rule)),
            (_, _) => format!("its `{}`", word("reason").to_lowercase()),
        };
        let reason = format!("{}: {reason}", word("fence"));
        let date = event.text("data_date").map(|date| format!(" of {date}")).unwrap_or_default();
        let verdict = self.style.paint(colour, &format!("{verdict:<18}"));
        println!(
            "        event {:<4} {verdict} {:<8} {reason:<58} {}",
            event.number("sequence").unwrap_or_default(),
            place(event),
            self.style.paint(Colour::Dim, &format!("{}{}", word("source"), printable(&date))),
        );
    }

    /// Something that was promised, and whether it was kept.
    pub(super) fn promise(&mut self, kept: bool, text: &str) {
        if kept {
            println!("   {} {text}", self.style.paint(Colour::Good, "✓"));
        } else {
            self.broken += 1;
            println!("   {} {text}", self.style.paint(Colour::Bad, "✗ NOT AS PROMISED:"));
        }
    }

    /// As [`Screen::promise`], but says nothing when it was kept.
    pub(super) fn expect(&mut self, kept: bool, text: impl FnOnce() -> String) {
        if !kept {
            self.promise(false, &text());
        }
    }
}

/// The place of an event in a word: a country, or the special that the address is.
pub(super) fn place(event: &Event) -> String {
    const SPECIAL: [&str; 6] = ["ANYCAST", "UNKNOWN", "RESERVED", "PRIVATE", "CLUSTER", "METADATA"];
    let jurisdictions = event.0.get("jurisdictions").and_then(|all| all.as_array());
    let special =
        jurisdictions.into_iter().flatten().filter_map(|one| one.as_str()).find(|one| SPECIAL.contains(one));
    special.or_else(|| event.text("country")).map_or_else(|| "?".to_owned(), printable)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::place;
    use crate::events::Event;

    #[test]
    fn a_special_place_goes_before_the_country_that_a_database_has_for_it() {
        let said = |event| place(&Event(event));
        assert_eq!(said(json!({"country": "DE", "jurisdictions": ["DE", "EEA"]})), "DE");
        assert_eq!(said(json!({"country": "AU", "jurisdictions": ["ANYCAST"]})), "ANYCAST");
        assert_eq!(said(json!({"country": null, "jurisdictions": ["UNKNOWN"]})), "UNKNOWN");
        assert_eq!(said(json!({"country": null, "jurisdictions": []})), "?");
    }
}
