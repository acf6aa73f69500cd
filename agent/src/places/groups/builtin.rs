//! The groups that come with the binary: `agent/data/groups.csv`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;

use super::{Days, Entry, Groups};
use crate::places::csv;
use crate::places::error::PlacesError;

const DATA: &str = include_str!("../../../data/groups.csv");
const NAME: &str = "groups.csv";

impl Groups {
    /// The built-in groups.
    ///
    /// # Errors
    /// Only if the binary is damaged: a test reads the same data.
    pub fn builtin() -> Result<Self, PlacesError> {
        parse(DATA)
    }
}

/// Lines `group,member,validFrom,validUntil,reference`. A group must stand above the groups that name it, which rules out cycles.
fn parse(text: &'static str) -> Result<Groups, PlacesError> {
    let mut groups = Groups { groups: BTreeMap::new() };
    for (line, [group, member, from, until, reference]) in csv::lines(text, NAME)? {
        let bad = |what: String| PlacesError::BuiltIn { name: NAME, what: format!("line {line}: {what}") };
        let day = |text: &str| match text {
            "" => Ok(None),
            text => text.parse::<Date>().map(Some).map_err(|error| bad(error.to_string())),
        };
        let days = Days { from: day(from)?, until: day(until)? };
        let member = groups.resolve(member).ok_or_else(|| bad(format!("unknown member {member:?}")))?;
        let entry = Entry { member, days, reference: Arc::from(reference) };
        groups.groups.entry(Arc::from(group)).or_default().push(entry);
    }
    Ok(groups)
}
