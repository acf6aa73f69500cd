//! Cgroups that the agent has not seen yet: whatever it has got to, nobody is judged by less than what is meant for it.

use std::collections::{BTreeMap, BTreeSet};

use agent::policy::{CgroupPath, Manifest, PolicySet, Settings, Workload, compile};
use agent_common::bytes::Loop;
use agent_common::image::Policy;
use agent_common::lineage::{Lineage, Walk};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::subsequence;
use proptest::test_runner::Config;

use crate::capacity::{fence, set, settings};
use crate::cases;
use crate::subject::table;

/// Every cgroup of the tree, parents first; a cgroup's id is its position.
const TREE: [&str; 11] =
    ["/", "/a", "/b", "/a/a", "/a/b", "/b/a", "/a/a/a", "/a/a/b", "/a/b/a", "/b/a/a", "/b/a/a/a"];

/// How far the agent has got with one cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Not,
    /// Watched, if it has to be, and not entered.
    Watched,
    /// Watched, if it has to be, and entered.
    Entered,
}

/// The agent's tables, and the cgroup that is asked about.
#[derive(Clone, Copy)]
struct Tables<'a> {
    of: &'a str,
    identity: &'a BTreeMap<u64, u32>,
    strangers: &'a BTreeMap<u64, u32>,
}

fn id(path: &str) -> u64 {
    let at = TREE.iter().position(|p| *p == path).expect("a path of the tree");
    1 + u64::try_from(at).expect("a small number")
}

fn level(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// `path` and everything above it.
fn lineage(path: &str) -> Vec<&str> {
    TREE.into_iter().filter(|p| holds(p, path)).collect()
}

fn holds(above: &str, path: &str) -> bool {
    above == "/" || path == above || path.starts_with(&format!("{above}/"))
}

impl Lineage for Tables<'_> {
    fn ancestor(self, at: i32) -> u64 {
        let found = lineage(self.of).into_iter().find(|p| i32::try_from(level(p)) == Ok(at));
        found.map_or(0, id)
    }
    fn identity(self, cgroup: u64) -> Option<u32> {
        self.identity.get(&cgroup).copied()
    }
    fn strangers(self, cgroup: u64) -> Option<u32> {
        self.strangers.get(&cgroup).copied()
    }
}

#[derive(Clone, Copy)]
struct Host;
impl Loop for Host {}

/// A fence of its own around each subject, and an image that watches what is above them.
struct World {
    policy: Box<Policy>,
    manifest: Manifest,
    subjects: Vec<&'static str>,
    watched: Vec<&'static str>,
}

const STRANGERS: u32 = 100;

impl World {
    fn new(subjects: Vec<&'static str>) -> Self {
        let watched: Vec<&str> =
            TREE.into_iter().filter(|p| subjects.iter().any(|s| holds(p, s) && s != p)).collect();
        let documents: Vec<String> =
            subjects.iter().map(|s| fence(&format!("f{}", id(s)), &format!("\"{s}\""), "")).collect();
        let of = |paths: &[&str], first: u32| -> Vec<Workload> {
            let workload = |p: &&str| Workload {
                id: first + u32::try_from(id(p)).expect("a small number"),
                path: CgroupPath::parse(p).expect("a path"),
            };
            paths.iter().map(workload).collect()
        };
        let settings =
            Settings { min_level: 0, max_level: 4, watched: of(&watched, STRANGERS), ..settings() };
        let set: PolicySet = set(&documents);
        let mut policy = Policy::boxed();
        let workloads = of(&subjects, 0);
        let manifest = compile(&set, &table(&[]), &set.groups, &workloads, &settings, &mut policy)
            .expect("a small policy fits");
        Self { policy, manifest, subjects, watched }
    }

    /// The fences that are meant for a cgroup.
    fn meant(&self, path: &str) -> BTreeSet<String> {
        self.subjects.iter().filter(|s| holds(s, path)).map(|s| format!("f{}", id(s))).collect()
    }

    /// The fences that the kernel judges it by, as far as the agent has got.
    fn judged_by(&self, path: &str, seen: &[Seen]) -> BTreeSet<String> {
        let (mut identity, mut strangers) = (BTreeMap::new(), BTreeMap::new());
        for (path, seen) in TREE.iter().zip(seen) {
            let number = u32::try_from(id(path)).expect("a small number");
            if *seen != Seen::Not && self.watched.contains(path) {
                strangers.insert(id(path), STRANGERS + number);
            }
            if *seen == Seen::Entered {
                identity.insert(id(path), if self.subjects.contains(path) { number } else { 0 });
            }
        }
        let tables = Tables { of: path, identity: &identity, strangers: &strangers };
        let mut walk = Walk::new(&self.policy, tables, 0);
        Host.repeat(walk.turns(), &mut walk);
        let set = self.policy.set_of(walk.found()).unwrap_or(0);
        let fences = self.manifest.sets.get(set as usize).map_or(&[][..], |s| s);
        fences.iter().map(|at| self.manifest.fences[usize::from(*at)].name.to_string()).collect()
    }
}

fn subjects() -> impl Strategy<Value = Vec<&'static str>> {
    // The root of the tree is where the hooks are: it is there from the start.
    subsequence(TREE[1..].to_vec(), 1..=5)
}

fn seen() -> impl Strategy<Value = Vec<Seen>> {
    let one = any::<u8>().prop_map(|n| [Seen::Not, Seen::Watched, Seen::Entered][usize::from(n % 3)]);
    // Before a policy is in force, everything from the root down was entered once: the root is always.
    (Just(Seen::Entered), proptest::collection::vec(one, TREE.len() - 1))
        .prop_map(|(root, rest)| std::iter::once(root).chain(rest).collect())
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(cases(512)) })]

    #[test]
    fn however_far_the_agent_got_no_fence_that_is_meant_is_missing(subjects in subjects(), seen in seen()) {
        let world = World::new(subjects);
        for path in TREE {
            let (meant, by) = (world.meant(path), world.judged_by(path, &seen));
            prop_assert!(meant.is_subset(&by), "{} is judged by {:?}, and {:?} are meant", path, by, meant);
        }
    }

    #[test]
    fn when_all_are_entered_everybody_is_judged_by_what_is_meant_and_nothing_else(subjects in subjects()) {
        let world = World::new(subjects);
        let seen = [Seen::Entered; TREE.len()];
        for path in TREE {
            prop_assert_eq!(world.judged_by(path, &seen), world.meant(path), "{}", path);
        }
    }
}

#[test]
fn a_stranger_has_the_fences_below_its_parent_and_around_it_and_no_others() {
    let world = World::new(vec!["/a", "/a/a", "/a/b/a", "/b"]);
    let mut seen = [Seen::Entered; TREE.len()];
    let fences = |paths: &[&str]| paths.iter().map(|p| format!("f{}", id(p))).collect::<BTreeSet<_>>();
    seen[3] = Seen::Not; // /a/a
    assert_eq!(world.judged_by("/a/a", &seen), fences(&["/a", "/a/a", "/a/b/a"]));
    // What is below a stranger may be known: then it is somebody.
    assert_eq!(world.judged_by("/a/a/b", &seen), fences(&["/a", "/a/a", "/a/b/a"]));
    assert_eq!(world.judged_by("/a/b/a", &seen), fences(&["/a", "/a/b/a"]));
    // Nothing is watched for below /b: a new cgroup there is /b's.
    seen[5] = Seen::Not; // /b/a
    assert_eq!(world.judged_by("/b/a", &seen), fences(&["/b"]));
}
