//! Jurisdictions: named, dated sets of places that a policy can name.
//!
//! Countries go by their code, specials by their name in capitals, groups by theirs. Groups are data
//! (`agent/data/groups.csv` and `JurisdictionGroup` documents), each entry with its reference and its days.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_common::image::PlaceKind;
use jiff::civil::Date;

use super::country::CountryCode;
use super::place::{PlaceInfo, special_name};

mod add;
mod builtin;
mod suggest;
#[cfg(test)]
mod tests;

pub use add::{GroupError, GroupSpec};

/// What a policy names, resolved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Jurisdiction {
    /// A country.
    Country(CountryCode),
    /// A kind of place that has a name: `ANYCAST`, `PRIVATE`, …
    Special(PlaceKind),
    /// A group, by its name in these [`Groups`].
    Group(Arc<str>),
}

impl Jurisdiction {
    /// The name that a policy writes.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::Country(code) => Arc::from(code.as_str()),
            Self::Special(kind) => Arc::from(special_name(*kind).unwrap_or_default()),
            Self::Group(name) => Arc::clone(name),
        }
    }
}

/// One entry of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    member: Jurisdiction,
    days: Days,
    reference: Arc<str>,
}

/// From when until when, both days included, in UTC. `None` is without end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Days {
    from: Option<Date>,
    until: Option<Date>,
}

impl Days {
    fn include(self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day <= until)
    }
}

/// An entry of a group whose last day is near.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Expiring {
    /// The last day on which it matches.
    pub until: Date,
    /// The group.
    pub group: Arc<str>,
    /// The member that will stop matching.
    pub member: Arc<str>,
    /// What its membership rests on.
    pub reference: Arc<str>,
}

/// The built-in groups and those of `JurisdictionGroup` documents. A group never contains itself, by any way.
#[derive(Clone, Debug)]
pub struct Groups {
    groups: BTreeMap<Arc<str>, Vec<Entry>>,
}

impl Groups {
    /// What a name means, in exactly this spelling.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<Jurisdiction> {
        if let Some(code) = CountryCode::parse(name) {
            return Some(Jurisdiction::Country(code));
        }
        if let Some(kind) = PlaceKind::ALL.into_iter().find(|kind| special_name(*kind) == Some(name)) {
            return Some(Jurisdiction::Special(kind));
        }
        self.groups.get_key_value(name).map(|(name, _)| Jurisdiction::Group(Arc::clone(name)))
    }

    /// Whether a place lies in a jurisdiction on a day (UTC). A group that these groups don't have contains nothing.
    #[must_use]
    pub fn matches(&self, jurisdiction: &Jurisdiction, place: &PlaceInfo, day: Date) -> bool {
        match jurisdiction {
            Jurisdiction::Country(code) => place.judged_country() == Some(*code),
            Jurisdiction::Special(kind) => place.kind == *kind,
            Jurisdiction::Group(name) => {
                let entries = self.groups.get(name).map(Vec::as_slice).unwrap_or_default();
                entries.iter().any(|e| e.days.include(day) && self.matches(&e.member, place, day))
            }
        }
    }

    /// All jurisdictions that a place lies in on a day (UTC), sorted by name: its country or special, and groups.
    #[must_use]
    pub fn jurisdictions_of(&self, place: &PlaceInfo, day: Date) -> Vec<Arc<str>> {
        let own = match (special_name(place.kind), place.judged_country()) {
            (Some(name), _) => Some(Arc::from(name)),
            (None, Some(code)) => Some(Arc::from(code.as_str())),
            (None, None) => None,
        };
        let groups = self
            .groups
            .keys()
            .filter(|name| self.matches(&Jurisdiction::Group(Arc::clone(name)), place, day));
        let mut names: Vec<Arc<str>> = own.into_iter().chain(groups.cloned()).collect();
        names.sort_unstable();
        names
    }

    /// The names of all groups, sorted.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    /// What a group's entries rest on: member and reference, in the order of the data.
    pub fn references(&self, group: &str) -> impl Iterator<Item = (Arc<str>, &Arc<str>)> {
        let entries = self.groups.get(group).map(Vec::as_slice).unwrap_or_default();
        entries.iter().map(|entry| (entry.member.name(), &entry.reference))
    }

    /// Entries that match on `today` (UTC) and stop within so many days, soonest first.
    #[must_use]
    pub fn expiring(&self, today: Date, within_days: u16) -> Vec<Expiring> {
        let horizon = today.saturating_add(jiff::Span::new().days(i64::from(within_days)));
        let mut soon: Vec<Expiring> = self
            .entries()
            .filter(|(_, entry)| entry.days.include(today))
            .filter_map(|(group, entry)| {
                let until = entry.days.until.filter(|until| *until <= horizon)?;
                Some(Expiring {
                    until,
                    group: Arc::clone(group),
                    member: entry.member.name(),
                    reference: Arc::clone(&entry.reference),
                })
            })
            .collect();
        soon.sort_unstable();
        soon
    }

    /// The next day after `day` on which some entry starts or has stopped matching: policies must be compiled anew.
    #[must_use]
    pub fn next_change(&self, day: Date) -> Option<Date> {
        self.entries()
            .flat_map(|(_, entry)| {
                let stopped = entry.days.until.and_then(|until| until.tomorrow().ok());
                [entry.days.from, stopped]
            })
            .flatten()
            .filter(|change| *change > day)
            .min()
    }

    fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.groups.iter().flat_map(|(name, entries)| entries.iter().map(move |entry| (name, entry)))
    }
}
