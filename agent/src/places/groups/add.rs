//! Adding groups: everything is checked before anything is taken in.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;

use super::{Days, Entry, Groups, Jurisdiction};

/// A group as a document gives it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupSpec {
    /// Its name: a DNS label, in either case.
    pub name: String,
    /// Countries, specials and groups.
    pub members: Vec<String>,
    /// What it rests on.
    pub reference: String,
    /// The first day (UTC) on which it matches.
    pub valid_from: Option<Date>,
    /// The last day (UTC) on which it matches.
    pub valid_until: Option<Date>,
}

/// Why groups were refused. None of them has been taken in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    /// The name can't be told from another, or can't be written in a policy.
    #[error("{name:?} is not a group name: use letters, digits and inner hyphens, 3 to 63 of them")]
    Name {
        /// The group.
        name: String,
    },
    /// The name is a country's, a special's, a built-in group's or another document's (in either case).
    #[error("jurisdiction group {name}: {taken} exists already: choose another name")]
    Taken {
        /// The group.
        name: String,
        /// What has the name.
        taken: String,
    },
    /// A group of nothing.
    #[error("jurisdiction group {name} has no members: name a country or a group")]
    Empty {
        /// The group.
        name: String,
    },
    /// A member that is nothing that is known.
    #[error("jurisdiction group {name}: member {member:?} is not known{}", mend(.meant))]
    UnknownMember {
        /// The group.
        name: String,
        /// The member.
        member: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A group that contains itself.
    #[error("jurisdiction group {name} contains itself: {}: remove one of these members", .way.join(" → "))]
    Cycle {
        /// The group.
        name: String,
        /// From the group to itself.
        way: Vec<String>,
    },
    /// It ends before it begins.
    #[error("jurisdiction group {name}: validUntil {until} lies before validFrom {from}: swap them")]
    Days {
        /// The group.
        name: String,
        /// First day.
        from: Date,
        /// Last day.
        until: Date,
    },
}

fn mend(meant: &Option<String>) -> String {
    meant.as_ref().map(|name| format!(": did you mean {name}?")).unwrap_or_default()
}

impl Groups {
    /// Adds one group, whose members must be known.
    ///
    /// # Errors
    /// As [`GroupError`] lists.
    pub fn add(&mut self, group: &GroupSpec) -> Result<(), GroupError> {
        self.add_all(std::slice::from_ref(group)).map_err(|(_, error)| error)
    }

    /// Adds groups that may name each other, in any order: all of them, or on an error none.
    ///
    /// # Errors
    /// The position of the first offending group, and what is wrong with it.
    pub fn add_all(&mut self, specs: &[GroupSpec]) -> Result<(), (usize, GroupError)> {
        let mut candidate = self.clone();
        for (at, spec) in specs.iter().enumerate() {
            candidate.check_name(spec).map_err(|error| (at, error))?;
            candidate.groups.insert(Arc::from(spec.name.as_str()), Vec::new());
        }
        let mut added: BTreeMap<Arc<str>, Vec<Entry>> = BTreeMap::new();
        for (at, spec) in specs.iter().enumerate() {
            let entries = candidate.read(spec).map_err(|error| (at, error))?;
            added.insert(Arc::from(spec.name.as_str()), entries);
        }
        candidate.groups.extend(added);
        for (at, spec) in specs.iter().enumerate() {
            let mut way = vec![spec.name.clone()];
            if candidate.leads_back(&spec.name, &mut way) {
                return Err((at, GroupError::Cycle { name: spec.name.clone(), way }));
            }
        }
        *self = candidate;
        Ok(())
    }

    fn check_name(&self, spec: &GroupSpec) -> Result<(), GroupError> {
        let name = &spec.name;
        let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        let bad = !(3..=63).contains(&name.len())
            || !name.bytes().all(inner)
            || name.starts_with('-')
            || name.ends_with('-');
        if let Some(taken) = self.in_either_case(name) {
            return Err(GroupError::Taken { name: name.clone(), taken });
        }
        if bad { Err(GroupError::Name { name: name.clone() }) } else { Ok(()) }
    }

    fn read(&self, spec: &GroupSpec) -> Result<Vec<Entry>, GroupError> {
        let name = || spec.name.clone();
        if spec.members.is_empty() {
            return Err(GroupError::Empty { name: name() });
        }
        if let (Some(from), Some(until)) = (spec.valid_from, spec.valid_until)
            && until < from
        {
            return Err(GroupError::Days { name: name(), from, until });
        }
        let days = Days { from: spec.valid_from, until: spec.valid_until };
        let reference: Arc<str> = Arc::from(spec.reference.as_str());
        let entry = |member: &String| match self.resolve(member) {
            Some(member) => Ok(Entry { member, days, reference: Arc::clone(&reference) }),
            None => Err(GroupError::UnknownMember {
                name: name(),
                member: member.clone(),
                meant: self.suggest(member),
            }),
        };
        spec.members.iter().map(entry).collect()
    }

    /// Whether the last group of `way` leads to `target`; if so, `way` is the way there. Built-in groups and those
    /// that were checked before have no cycle, so that any cycle passes through a group of this batch.
    fn leads_back(&self, target: &str, way: &mut Vec<String>) -> bool {
        // No way without a repetition is longer than there are groups.
        if way.len() > self.groups.len() {
            return false;
        }
        let entries = way.last().and_then(|name| self.groups.get(name.as_str()));
        for entry in entries.into_iter().flatten() {
            let Jurisdiction::Group(name) = &entry.member else { continue };
            let seen = way.iter().any(|passed| passed.as_str() == &**name);
            way.push(name.to_string());
            if &**name == target || (!seen && self.leads_back(target, way)) {
                return true;
            }
            way.pop();
        }
        false
    }
}
