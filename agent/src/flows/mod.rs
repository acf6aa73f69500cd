//! Flows that were open when a policy, or the end of an exception, began to block them.
//!
//! Their bytes stop at once, at egress, whatever happens here. With `--netns-entry` the agent also *ends* them, so that
//! the program is told instead of waiting for an answer: after each publication, when a fenced cgroup appears and when
//! an exception ends, a pass goes through the open sockets of the fenced workloads, asks the image in force about each,
//! and ends those that it blocks, by their exact cookie.
//!
//! ```text
//! engine ─ask─▶ this thread ─▶ namespaces ─▶ diag (dump) ─▶ judge ─▶ diag (destroy) ─▶ record, report
//! ```
//!
//! One pass at a time; what is asked for meanwhile is one more pass. Nothing here decides anything: a socket that is
//! missed is silent, not open.

mod diag;
mod judge;
mod namespaces;
mod netlink;
mod pass;
mod record;
mod report;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_common::image::Policy;

use self::pass::{Ground, pass};
pub use self::record::Witness;
use self::record::boot_ns;
pub use self::report::Report;
use crate::events::enrich::Enricher;
use crate::events::hub::Hub;
use crate::identity::cgroups::CgroupFs;
use crate::policy::in_force::{History, InForce};

/// How long the thread sleeps at most: its clock stands still while the machine is suspended, exceptions end all the
/// same.
const SLEEP: Duration = Duration::from_secs(5);

/// A pass looks at every socket of the node's fenced workloads. After it the thread rests for so many times as long, so
/// that cgroups that come and go all the time can't keep it busy.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_secs(2);

/// Asks for a pass.
#[derive(Clone, Debug)]
pub struct Asker(SyncSender<()>);

impl Asker {
    /// Soon there will be a pass that begins after this call.
    pub fn ask(&self) {
        match self.0.try_send(()) {
            // One that has not begun is asked for already: it will do.
            Ok(()) | Err(TrySendError::Full(())) => {}
            // The agent is ending.
            Err(TrySendError::Disconnected(())) => {}
        }
    }
}

/// What keeps flows from being ended, as of the last pass.
#[derive(Debug, Default)]
pub struct Problems(Mutex<Vec<String>>);

impl Problems {
    /// One sentence each.
    #[must_use]
    pub fn now(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, problems: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = problems;
    }
}

/// Ends blocked flows: what a thread of its own [runs](Self::run).
pub struct Flows {
    asked: Receiver<()>,
    history: Arc<History>,
    cgroups: Arc<CgroupFs>,
    root: PathBuf,
    storage: Option<OwnedFd>,
    witness: Arc<Witness>,
    problems: Arc<Problems>,
    enricher: Enricher,
    hub: Arc<Hub>,
}

/// A channel to ask for passes: its first end is the engine's, its second goes to [`Flows::new`]. Apart from it because
/// the first image is published before anything else is there.
#[must_use]
pub fn channel() -> (Asker, Receiver<()>) {
    let (sender, receiver) = sync_channel(1);
    (Asker(sender), receiver)
}

impl Flows {
    /// `storage` is the kernel programs' socket storage.
    #[must_use]
    pub fn new(
        asked: Receiver<()>,
        history: Arc<History>,
        cgroups: Arc<CgroupFs>,
        root: PathBuf,
        storage: Option<OwnedFd>,
        enricher: Enricher,
        hub: Arc<Hub>,
    ) -> Self {
        let (witness, problems) = (Arc::default(), Arc::default());
        Self { asked, history, cgroups, root, storage, witness, problems, enricher, hub }
    }

    /// What the ring reader shows its events to.
    #[must_use]
    pub fn witness(&self) -> Arc<Witness> {
        Arc::clone(&self.witness)
    }

    /// What is wrong.
    #[must_use]
    pub fn problems(&self) -> Arc<Problems> {
        Arc::clone(&self.problems)
    }

    /// Runs until nobody can ask any more. Each pass is told to `tell`.
    pub fn run(mut self, mut tell: impl FnMut(&Report)) {
        // The first image is in force before this thread begins.
        let mut judged_at = boot_ns();
        loop {
            match self.asked.recv_timeout(self.sleep(judged_at)) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) if self.ended_since(judged_at) => {}
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let Some(in_force) = self.history.now() else { continue };
            judged_at = boot_ns();
            let Some(report) = self.pass(&in_force) else { continue };
            self.problems.set(report.problems());
            tell(&report);
            if report.unsupported {
                return;
            }
            std::thread::sleep((report.took * REST).min(LONGEST_REST));
        }
    }

    fn pass(&mut self, in_force: &InForce) -> Option<Report> {
        let (cgroups, root, storage) = (&*self.cgroups, &*self.root, self.storage.as_ref());
        let (report, records) = pass(&Ground { in_force, cgroups, root, storage }).unzip();
        let untold = self.witness.untold(records.unwrap_or_default());
        self.enricher.refresh();
        self.hub.publish_all(untold.iter().map(|record| self.enricher.enrich(record)));
        report
    }

    fn sleep(&self, judged_at: u64) -> Duration {
        let end = self.history.now().and_then(|f| next_end(&f.policy, f.manifest.fences.len(), judged_at));
        let left = end.map(|end| Duration::from_nanos(end.saturating_sub(boot_ns())));
        left.map_or(SLEEP, |left| left.min(SLEEP))
    }

    fn ended_since(&self, judged_at: u64) -> bool {
        let end = self.history.now().and_then(|f| next_end(&f.policy, f.manifest.fences.len(), judged_at));
        end.is_some_and(|end| end <= boot_ns())
    }
}

/// When the first exception ends that had not ended at `since` (boot-time ns), by the kernel's own numbers.
fn next_end(policy: &Policy, fences: usize, since: u64) -> Option<u64> {
    let fences = policy.fences.iter().take(fences);
    let windows = fences.flat_map(|f| f.windows.iter().take(f.exception_count as usize));
    windows.map(|w| w.until).filter(|until| *until > since).min()
}

#[cfg(test)]
mod tests {
    use agent_common::image::{Policy, Window};

    use super::{channel, next_end};

    #[test]
    fn what_is_asked_for_while_one_is_due_is_the_same_pass() {
        let (asker, asked) = channel();
        (0..1_000).for_each(|_| asker.ask());
        assert_eq!(asked.try_iter().count(), 1);
        asker.ask();
        assert_eq!(asked.try_iter().count(), 1);
        drop(asked);
        asker.ask();
    }

    #[test]
    fn the_next_end_is_the_first_after_the_last_pass_of_fences_in_use() {
        let mut policy = Policy::boxed();
        let ends = [(0, 70), (0, 50), (1, 60)];
        for (at, (fence, until)) in ends.into_iter().enumerate() {
            policy.fences[fence].windows[at] = Window { from: 0, until };
            policy.fences[fence].exception_count = 3;
        }
        // Not a fence of this image.
        policy.fences[2].windows[0] = Window { from: 0, until: 55 };
        policy.fences[2].exception_count = 1;
        let next = |since| next_end(&policy, 2, since);
        assert_eq!((next(0), next(49), next(50), next(60)), (Some(50), Some(50), Some(60), Some(70)));
        assert_eq!(next(70), None);
    }
}
