//! Plain CSV, for what no provider's own format says: `cidr,country,provider,region`.

use std::sync::Arc;

use super::{Contents, Flaw, Range, Where, network};
use crate::places::country::CountryCode;

const HEADER: &str = "cidr,country,provider,region";

/// A header, then a range a line. The country is a code, `ANYCAST`, or `-` for what the region table says of the
/// provider's region; provider and region may be empty otherwise. Lines that are empty or start with `#` say nothing.
pub(super) fn read(text: &str) -> Result<Contents, Flaw> {
    let lines = text.lines().enumerate().map(|(at, line)| (format!("line {}", at + 1), line.trim()));
    let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    match lines.next() {
        Some((_, header)) if header.replace(' ', "") == HEADER => {}
        Some((at, _)) => return Err(Flaw(at, format!("neither JSON nor CSV with the header {HEADER:?}"))),
        None => return Err(Flaw("whole file".to_owned(), "it is empty".to_owned())),
    }
    let ranges = lines
        .map(|(at, line)| range(line).map_err(|what| Flaw(at.clone(), what)).and_then(|range| range.at(&at)));
    Ok(Contents { provider: None, date: None, ranges: ranges.collect::<Result<_, _>>()? })
}

/// A line that has been cut but whose network is still text.
struct Line<'a> {
    cidr: &'a str,
    place: Where,
    provider: &'a str,
    region: &'a str,
}

fn range(line: &str) -> Result<Line<'_>, String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [cidr, country, provider, region] = fields[..] else {
        return Err(format!("{} fields, {HEADER} are 4", fields.len()));
    };
    if line.contains('"') {
        return Err("quotes are not understood: leave them out".to_owned());
    }
    let place = match country {
        "ANYCAST" => Where::Anycast,
        "-" if provider.is_empty() || region.is_empty() => {
            return Err("country `-` needs a provider and its region".to_owned());
        }
        "-" => Where::Region,
        code => {
            Where::Country(code.parse::<CountryCode>().map_err(|error| format!("{error}, or ANYCAST, or -"))?)
        }
    };
    Ok(Line { cidr, place, provider, region })
}

impl Line<'_> {
    fn at(self, at: &str) -> Result<Range, Flaw> {
        Ok(Range {
            net: network(self.cidr, || at.to_owned())?,
            provider: Arc::from(self.provider),
            region: (!self.region.is_empty()).then(|| Arc::from(self.region)),
            place: self.place,
        })
    }
}
