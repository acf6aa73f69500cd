//! Which cgroup is which workload: numbers for subjects, and the tables that tell the kernel.
//!
//! A subject's cgroup must have its workload when the first process in it sends the first byte. Where the kernel can give
//! it at birth ([`Birth::Kernel`]), it is told the subjects' paths, and what is done here is for cgroups that were there
//! before. Elsewhere every cgroup above a subject is **watched**: all its children are entered in the identity table,
//! those that are no subjects too (as 0), so that a child which is not entered is a stranger; the kernel judges it by all
//! the fences that could be meant until it is entered here.
//!
//! Orders that must hold:
//! - what is entered before a policy is in force must not change what the policy before it says: ids are never given to
//!   another path, and a number that a generation does not know is no subject of it;
//! - a cgroup is watched only when its children are entered, and entered itself only when it is watched: at no moment is
//!   a new child of a known cgroup nobody's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use agent_common::birth::PathKey;
use agent_common::limits::{MAX_CGROUP_LEVEL, MAX_IDENTITIES};

use super::cgroup_path::CgroupPath;
use super::compile::Workload;
use super::ids::{Role, WorkloadIds};
use super::publish::PublicationError;
use crate::bpf::adopt::Inherited;
use crate::bpf::birth::Birth;
use crate::bpf::identity::IdentityMaps;
use crate::identity::cgroups::CgroupFs;

/// Above this many entries the tables are tidied, down to [`TIDY`]: room for what is born meanwhile.
const CROWDED: usize = MAX_IDENTITIES / 8 * 7;
/// See [`CROWDED`].
const TIDY: usize = MAX_IDENTITIES / 4 * 3;
/// Looks between two counts of the tables.
const LOOKS: u32 = 64;

/// The subjects of a policy and the cgroups that are watched for them, each with its workload id.
#[derive(Clone, Debug, Default)]
pub(super) struct Roll {
    subjects: BTreeMap<CgroupPath, u32>,
    watched: BTreeMap<CgroupPath, u32>,
}

impl Roll {
    pub(super) fn workloads(&self) -> Vec<Workload> {
        list(&self.subjects)
    }

    pub(super) fn watched(&self) -> Vec<Workload> {
        list(&self.watched)
    }

    /// Whether a subject lies below a path.
    fn has_below(&self, path: &CgroupPath) -> bool {
        // All that begin alike come right after it.
        let alike = self.subjects.range(path..).take_while(|(p, _)| p.as_str().starts_with(path.as_str()));
        alike.skip(usize::from(self.subjects.contains_key(path))).any(|(p, _)| path.holds(p))
    }
}

fn list(of: &BTreeMap<CgroupPath, u32>) -> Vec<Workload> {
    of.iter().map(|(path, id)| Workload { id: *id, path: path.clone() }).collect()
}

/// Keeps the kernel's identity tables.
pub struct Identities {
    maps: IdentityMaps,
    cgroups: Arc<CgroupFs>,
    birth: Birth,
    /// Where the hooks are attached: above it nothing is judged.
    root: CgroupPath,
    /// Every subject that ever was, with its id, and every watched cgroup, with that of strangers below.
    ids: WorkloadIds,
    /// Of the policy in force.
    roll: Roll,
    /// Paths that the kernel was told.
    expected: BTreeSet<CgroupPath>,
    /// Cgroups that were there at the last look and are in the table, with what was entered.
    entered: HashMap<u64, u32>,
    /// Cgroups that are watched.
    watching: HashMap<u64, u32>,
    looks: u32,
}

impl Identities {
    /// Over the kernel's tables; nothing is entered yet. `root` is where the hooks will be attached.
    #[must_use]
    pub fn new(maps: IdentityMaps, cgroups: Arc<CgroupFs>, root: CgroupPath, birth: Birth) -> Self {
        Self {
            maps,
            cgroups,
            birth,
            root,
            ids: WorkloadIds::default(),
            roll: Roll::default(),
            expected: BTreeSet::new(),
            entered: HashMap::new(),
            watching: HashMap::new(),
            looks: 0,
        }
    }

    /// Goes on from what an earlier agent left in the tables: its subjects are those of the image in force, until the
    /// first of our own is.
    pub(super) fn resume(&mut self, ids: WorkloadIds, inherited: Option<&Inherited>) {
        self.ids = ids;
        let Some(inherited) = inherited else { return };
        self.expected = inherited.paths.iter().map(|(path, _)| path.clone()).collect();
        self.roll = Roll {
            subjects: self.ids.among(Role::Subject, &inherited.workloads).collect(),
            watched: self.ids.among(Role::Stranger, &inherited.workloads).collect(),
        };
    }

    /// Numbers the subjects of a policy, and says what must be watched for them.
    pub(super) fn roll(&mut self, paths: &BTreeSet<CgroupPath>) -> Roll {
        let mut roll = Roll::default();
        for path in paths {
            roll.subjects.insert(path.clone(), self.ids.number(path, Role::Subject));
            if self.birth.covers(path) || !self.birth.watches() {
                continue;
            }
            for above in path.and_above().skip(1) {
                if !self.root.holds(&above) {
                    break;
                }
                let id = self.ids.number(&above, Role::Stranger);
                roll.watched.insert(above, id);
            }
        }
        self.ids.keep();
        roll
    }

    /// The levels at which the kernel looks for subjects; none at all without subjects.
    pub(super) fn levels(&self, roll: &Roll) -> Result<(u32, u32), PublicationError> {
        if let Some(path) = roll.subjects.keys().find(|p| p.level() > MAX_CGROUP_LEVEL) {
            return Err(PublicationError::TooDeep { path: path.clone() });
        }
        let levels = || roll.subjects.keys().chain(roll.watched.keys()).map(CgroupPath::level);
        match (levels().min(), levels().max()) {
            (Some(_), Some(_)) if !self.cgroups.levels_are_depths() => Ok((0, MAX_CGROUP_LEVEL)),
            (Some(min), Some(max)) => Ok((min, max)),
            _ => Ok((1, 0)),
        }
    }

    /// Before a policy is in force: the kernel is told its subjects, and whose the cgroups are that are there.
    pub(super) fn prepare(&mut self, roll: &Roll) -> Result<(), PublicationError> {
        for (path, id) in &roll.subjects {
            if self.birth.covers(path)
                && !self.expected.contains(path)
                && let Some(key) = PathKey::of(path.as_str())
            {
                self.maps.expect(&key, *id)?;
                self.expected.insert(path.clone());
            }
        }
        self.look(roll).map(|_| ())
    }

    /// When it is in force: what was just being made when the kernel was told, and what is no subject any more. True if a
    /// socket may have to find its workload anew.
    pub(super) fn settle(&mut self, roll: Roll) -> Result<bool, PublicationError> {
        let changed = self.look(&roll);
        let gone: Vec<CgroupPath> =
            self.expected.iter().filter(|path| !roll.subjects.contains_key(path)).cloned().collect();
        self.roll = roll;
        for path in gone {
            if let Some(key) = PathKey::of(path.as_str()) {
                self.maps.unexpect(&key)?;
            }
            self.expected.remove(&path);
        }
        changed
    }

    /// Cgroups came or went; without paths, all are looked at. True if a socket may have to find its workload anew.
    pub(super) fn follow(&mut self, touched: &[PathBuf]) -> Result<bool, PublicationError> {
        let roll = std::mem::take(&mut self.roll);
        let done = self.follow_in(&roll, touched);
        self.roll = roll;
        done
    }

    fn follow_in(&mut self, roll: &Roll, touched: &[PathBuf]) -> Result<bool, PublicationError> {
        let mut changed = false;
        for directory in touched {
            let path = self.cgroups.name_of(directory).and_then(|name| CgroupPath::parse(&name).ok());
            let Some(path) = path else { return self.look(roll) };
            let above = path.and_above().nth(1);
            if roll.watched.contains_key(&path) || roll.has_below(&path) {
                return self.look(roll);
            }
            if (roll.subjects.contains_key(&path) || above.is_some_and(|a| roll.watched.contains_key(&a)))
                && let Some(cgroup) = self.cgroups.id(&path)?
            {
                changed |= self.enter(cgroup, self.id_of(&path))?;
            }
        }
        if touched.is_empty() { self.look(roll) } else { Ok(changed) }
    }

    /// 0 for what was never a subject.
    fn id_of(&self, path: &CgroupPath) -> u32 {
        if path.is_pattern() { 0 } else { self.ids.get(path, Role::Subject).unwrap_or(0) }
    }

    /// Everything that is there. True if something was entered.
    fn look(&mut self, roll: &Roll) -> Result<bool, PublicationError> {
        let mut changed = false;
        let mut live = HashSet::new();
        // Deepest first: children before those they are children of.
        let mut watched: Vec<(&CgroupPath, u32)> = roll.watched.iter().map(|(p, id)| (p, *id)).collect();
        watched.sort_by_key(|(path, _)| std::cmp::Reverse(path.level()));
        let mut ready = HashSet::new();
        for (path, stranger) in watched {
            let Some((id, children)) = self.cgroups.children(path)? else { continue };
            for (name, child) in children {
                // A name that is not UTF-8 is no subject's.
                let below = name.map(|name| path.child(&name));
                if below.as_ref().is_some_and(|b| roll.watched.contains_key(b)) && !ready.contains(&child) {
                    continue;
                }
                live.insert(child);
                changed |= self.enter(child, below.map_or(0, |b| self.id_of(&b)))?;
            }
            if self.watching.get(&id) != Some(&stranger) {
                self.maps.watch(id, stranger)?;
                self.watching.insert(id, stranger);
            }
            ready.insert(id);
        }
        for (path, id) in &roll.subjects {
            let watched = path.and_above().nth(1).is_some_and(|above| roll.watched.contains_key(&above));
            if !watched && let Some(cgroup) = self.cgroups.id(path)? {
                live.insert(cgroup);
                changed |= self.enter(cgroup, *id)?;
            }
        }
        self.entered.retain(|id, _| live.contains(id));
        self.watching.retain(|id, _| ready.contains(id));
        self.looks += 1;
        if self.looks >= LOOKS {
            self.looks = 0;
            self.tidy()?;
        }
        Ok(changed)
    }

    /// Enters a cgroup; false if the kernel knew already.
    fn enter(&mut self, cgroup: u64, workload: u32) -> Result<bool, PublicationError> {
        if self.entered.get(&cgroup) == Some(&workload) {
            return Ok(false);
        }
        let known = self.maps.identity(cgroup)?;
        // What a subject was is not taken from it: the policy in force may be one that still knows it.
        let fine = known == Some(workload) || (workload == 0 && known.is_some());
        if !fine && self.maps.identify(cgroup, workload).is_err() {
            self.tidy()?;
            self.maps.identify(cgroup, workload)?;
        }
        self.entered.insert(cgroup, workload);
        Ok(!fine)
    }

    /// Makes room where the kernel does not do it itself.
    ///
    /// A cgroup that is gone stays in the table while there is room: a socket that was made in it may live on in another
    /// process, and still belongs to the workload. Ids are not given out twice, so an entry can't come to mean another
    /// cgroup; the lowest are the oldest.
    fn tidy(&mut self) -> Result<(), PublicationError> {
        let mut all = self.maps.cgroups()?;
        if all.len() <= CROWDED {
            return Ok(());
        }
        let spare = all.len() - TIDY;
        all.sort_unstable();
        let gone =
            all.into_iter().filter(|id| !self.entered.contains_key(id) && !self.watching.contains_key(id));
        for cgroup in gone.take(spare) {
            self.maps.forget(cgroup)?;
        }
        Ok(())
    }
}
