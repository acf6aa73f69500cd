//! Double.
use std::sync::Arc;

use jiff::civil::Date;

use super::{CountryCode, PlaceInfo, special_name};

const EU: &str =
    "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE GF GP MQ RE YT MF AX";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jurisdiction(Arc<str>);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GroupsError(String);

#[derive(Clone, Debug, Default)]
pub struct Groups {
    more: Vec<(Arc<str>, Vec<Arc<str>>, Option<Date>, Option<Date>)>,
}

const SPECIALS: [&str; 9] = [
    "UNKNOWN",
    "LOOPBACK",
    "LINK-LOCAL",
    "CLUSTER",
    "PRIVATE",
    "METADATA",
    "MULTICAST",
    "RESERVED",
    "ANYCAST",
];

impl Groups {
    pub fn builtin() -> Self {
        Self::default()
    }

    pub fn resolve(&self, name: &str) -> Option<Jurisdiction> {
        let known = CountryCode::parse(name).is_some()
            || SPECIALS.contains(&name)
            || ["EU", "EEA", "EFTA", "GDPR-ADEQUATE"].contains(&name)
            || self.more.iter().any(|m| &*m.0 == name);
        known.then(|| Jurisdiction(Arc::from(name)))
    }

    pub fn matches(&self, j: &Jurisdiction, place: &PlaceInfo, date: Date) -> bool {
        self.has(&j.0, place, date)
    }

    fn has(&self, name: &str, place: &PlaceInfo, date: Date) -> bool {
        if special_name(place.kind) == Some(name) {
            return true;
        }
        if let Some((_, members, from, until)) = self.more.iter().find(|m| &*m.0 == name) {
            return from.is_none_or(|f| f <= date)
                && until.is_none_or(|u| date <= u)
                && members.iter().any(|m| self.has(m, place, date));
        }
        let Some(country) = place.judged_country() else { return false };
        let is = |list: &str| list.split(' ').any(|c| c == country.as_str());
        match name {
            "EU" => is(EU),
            "EEA" => is(EU) || is("IS LI NO"),
            "EFTA" => is("IS LI NO CH"),
            "GDPR-ADEQUATE" => is("AD AR BR CH FO GB GG IL IM JE NZ UY"),
            code => country.as_str() == code,
        }
    }

    pub fn jurisdictions_of(&self, place: &PlaceInfo, date: Date) -> Vec<Arc<str>> {
        let mut all: Vec<Arc<str>> = ["EU", "EEA", "EFTA", "GDPR-ADEQUATE"]
            .into_iter()
            .map(Arc::from)
            .chain(self.more.iter().map(|m| m.0.clone()))
            .filter(|n: &Arc<str>| self.has(n, place, date))
            .collect();
        all.extend(special_name(place.kind).map(Arc::from));
        all.extend(place.judged_country().map(|c| Arc::from(c.as_str())));
        all.sort();
        all
    }

    pub fn suggest(&self, name: &str) -> Option<String> {
        CountryCode::meant_by(name).map(|c| c.to_string())
    }

    pub fn add(
        &mut self,
        name: &str,
        members: &[Arc<str>],
        from: Option<Date>,
        until: Option<Date>,
    ) -> Result<(), GroupsError> {
        for m in members {
            if self.resolve(m).is_none() {
                return Err(GroupsError(format!("unknown member {m}")));
            }
        }
        self.more.push((Arc::from(name), members.to_vec(), from, until));
        Ok(())
    }
}
