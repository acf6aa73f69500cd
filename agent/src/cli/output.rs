//! What every verb prints alike: exit codes, colour, text that is safe on a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use jiff::SignedDuration;

/// How a verb ends; the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked to.
    Fine,
    /// It did not.
    Failed,
    /// It was asked for something that makes no sense.
    Usage,
    /// It found violations or differences.
    Found,
    /// The agent can't be reached.
    Unreachable,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Found => 3,
            Self::Unreachable => 4,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Colours with a meaning; the words next to them say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Blocked, broken.
    Bad,
    /// Would be blocked, lost, degraded.
    Warn,
    /// Let through, in order.
    Good,
    /// Of less interest.
    Dim,
}

/// Whether to paint at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// No colour.
    pub const PLAIN: Self = Self { colour: false };

    /// Colour on a terminal, unless `NO_COLOR` is set and not empty (<https://no-color.org>).
    #[must_use]
    pub fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::choose(std::io::stdout().is_terminal(), refused)
    }

    const fn choose(terminal: bool, refused: bool) -> Self {
        Self { colour: terminal && !refused }
    }

    /// `text` in a colour. Pad it before: the escape codes have no width.
    #[must_use]
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Bad => "31",
            Colour::Warn => "33",
            Colour::Good => "32",
            Colour::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// `text` without what a terminal would obey: process and cgroup names are the workload's to choose.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        // Beyond the control characters, what turns the reading direction around.
        if letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            // Writing to a String can't fail.
            _ = write!(safe, "\\u{{{:x}}}", u32::from(letter));
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// A length of time on the command line: `500ms`, `10s`, `1m 30s`; above zero, at most a day.
///
/// # Errors
/// Says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted = "give a time such as 500ms, 10s or 2m, at most 24h";
    let signed: SignedDuration = text.parse().map_err(|error| format!("{error}; {wanted}"))?;
    match Duration::try_from(signed) {
        Ok(duration) if !duration.is_zero() && duration <= Duration::from_secs(24 * 60 * 60) => Ok(duration),
        Ok(_) | Err(_) => Err(wanted.to_owned()),
    }
}

/// Bytes for people: `512 B`, `1.5 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths of the unit, in whole numbers: exact, and no float to cast.
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::{Colour, Style, bytes, parse_duration, printable};

    #[test]
    fn colour_is_for_terminals_that_did_not_refuse_it() {
        assert_eq!(Style::choose(true, false).paint(Colour::Bad, "Block"), "\x1b[31mBlock\x1b[0m");
        for style in [Style::choose(true, true), Style::choose(false, false), Style::PLAIN] {
            assert_eq!(style.paint(Colour::Bad, "Block"), "Block");
        }
    }

    #[test]
    fn a_workload_can_not_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n\u{202e}c\u{9b}d é"), "a\\u{1b}[2Jb\\u{a}\\u{202e}c\\u{9b}d é");
    }

    #[test]
    fn durations_are_positive_and_bounded() {
        assert_eq!(parse_duration("1500ms").expect("right").as_millis(), 1500);
        assert_eq!(parse_duration("24h").expect("right").as_secs(), 86_400);
        for wrong in ["", "10", "0s", "-1s", "25h", "soon"] {
            assert!(parse_duration(wrong).expect_err(wrong).contains("give a time such as"), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_below_them() {
        let shown: Vec<String> = [0, 1023, 1024, 1536, 1 << 20, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "15.9 EiB"]);
    }
}
