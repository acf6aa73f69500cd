//! A fence's row: for each place, the bits of the rules that match it.

use std::collections::HashMap;

use agent_common::image::PlaceKind;
use jiff::civil::Date;

use super::plan::Plan;
use crate::places::{Groups, Jurisdiction, PlaceInfo, PlaceTable};
use crate::policy::set::{PolicySet, Rule};

/// Matches rules against places.
pub(super) struct Rows<'a> {
    table: &'a PlaceTable,
    groups: &'a Groups,
    today: Date,
}

impl<'a> Rows<'a> {
    pub(super) fn new(table: &'a PlaceTable, groups: &'a Groups, today: Date) -> Self {
        Self { table, groups, today }
    }

    /// Writes all rows, and zeros behind them.
    pub(super) fn write(&self, set: &'a PolicySet, plan: &Plan, out: &mut [u64]) {
        // Few names are used by many rules: each is held against the places once.
        let mut known: HashMap<&str, Vec<bool>> = HashMap::new();
        let places = self.table.places.len();
        out.fill(0);
        for (at, fence) in plan.fences.iter().enumerate() {
            let row = &mut out[at * places..(at + 1) * places];
            for (bit, planned) in fence.rules(set).iter().enumerate() {
                let rule = planned.rule;
                for (name, jurisdiction) in &rule.jurisdictions {
                    known.entry(name).or_insert_with(|| self.places_of(jurisdiction));
                }
                let lists: Vec<&[bool]> =
                    rule.jurisdictions.iter().map(|(name, _)| &*known[&**name]).collect();
                for (id, (cell, place)) in row.iter_mut().zip(&self.table.places).enumerate() {
                    let inside = lists.is_empty() || lists.iter().any(|list| list[id]);
                    if inside && may_match(rule, place) {
                        *cell |= 1 << bit;
                    }
                }
            }
        }
    }

    fn places_of(&self, jurisdiction: &Jurisdiction) -> Vec<bool> {
        self.table.places.iter().map(|place| self.groups.matches(jurisdiction, place, self.today)).collect()
    }
}

/// Whether a rule matches a place, jurisdictions and ports aside. LOOPBACK is never judged, so no rule matches it.
fn may_match(rule: &Rule, place: &PlaceInfo) -> bool {
    place.kind != PlaceKind::Loopback && rule.cidr_set.is_none_or(|set| place.cidr_sets.contains(&set))
}
