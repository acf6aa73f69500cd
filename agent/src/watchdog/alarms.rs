//! What is not as it should be: told as events, kept for the status.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::events::hub::Hub;
use crate::events::model::notice::Tamper;
use crate::events::model::{Body, Event};

/// What something that stands means for the agent's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// What is enforced may not be what should be: Degraded.
    Degrades,
    /// To be known, and no more: programs of others may well be there with reason.
    Told,
}

struct Trouble {
    detail: String,
    weight: Weight,
}

/// Shared by whoever looks.
pub struct Alarms {
    hub: Arc<Hub>,
    /// What stands, by a key that its finder chose.
    standing: Mutex<BTreeMap<String, Trouble>>,
    looks: AtomicU64,
    found: AtomicU64,
    repaired: AtomicU64,
    /// What the canary's looks come to, for people.
    canary: Mutex<String>,
}

impl Alarms {
    /// Nothing is wrong yet. Events go to `hub`.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            standing: Mutex::default(),
            looks: AtomicU64::new(0),
            found: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
            canary: Mutex::new("has not been sent yet".to_owned()),
        }
    }

    /// Something was wrong and is put right. `what`: a hook, a pin, a map.
    pub fn repaired(&self, what: &str, detail: &str) {
        tracing::error!(what, "tampered with: {detail}");
        self.repaired.fetch_add(1, Ordering::Relaxed);
        self.tell(what, detail, true);
        self.over(what);
    }

    /// Something is wrong and stays so for now: told when it is new, or says something new.
    pub fn stands(&self, key: &str, what: &str, detail: &str, weight: Weight) {
        let trouble = Trouble { detail: detail.to_owned(), weight };
        let before = lock(&self.standing).insert(key.to_owned(), trouble);
        if before.is_some_and(|before| before.detail == detail) {
            return;
        }
        match weight {
            Weight::Degrades => tracing::error!(what, "tampered with, and not put right: {detail}"),
            Weight::Told => tracing::warn!(what, "{detail}"),
        }
        self.tell(what, detail, false);
    }

    /// What stood under a key is as it should be.
    pub fn over(&self, key: &str) {
        if let Some(trouble) = lock(&self.standing).remove(key) {
            tracing::info!(what = key, "no longer so: {}", trouble.detail);
        }
    }

    /// Keys of all that stands and begins so.
    #[must_use]
    pub fn standing(&self, prefix: &str) -> Vec<String> {
        lock(&self.standing).keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// What makes the agent Degraded, one sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let standing = lock(&self.standing);
        let degrading = standing.iter().filter(|(_, trouble)| trouble.weight == Weight::Degrades);
        degrading.map(|(key, trouble)| format!("{key}: {}", trouble.detail)).collect()
    }

    /// All that stands and does not make the agent Degraded, one sentence each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let standing = lock(&self.standing);
        let told = standing.values().filter(|trouble| trouble.weight == Weight::Told);
        told.map(|trouble| trouble.detail.clone()).collect()
    }

    /// What was found and put right since the start, and what the canary says; for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let (looks, found, repaired) = (count(&self.looks), count(&self.found), count(&self.repaired));
        format!(
            "{looks} looks, tampering found {found}, repaired {repaired}; the canary {}",
            lock(&self.canary)
        )
    }

    /// A look was taken.
    pub(super) fn looked(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// What the canary's looks come to; said in the log when it is something new.
    pub(super) fn canary(&self, says: &str) {
        let mut now = lock(&self.canary);
        if *now != says {
            tracing::info!("the canary {says}");
            says.clone_into(&mut now);
        }
    }

    fn tell(&self, what: &str, detail: &str, repaired: bool) {
        self.found.fetch_add(1, Ordering::Relaxed);
        let tamper = Tamper { what: what.into(), detail: detail.into(), repaired };
        self.hub.publish(Event { time: Timestamp::now(), body: Body::Tamper(tamper) });
    }
}

/// A panic of another thread can't leave these half changed: take them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Alarms, Weight};
    use crate::events::hub::Hub;

    fn alarms() -> (Arc<Hub>, Alarms) {
        let hub = Hub::new("node-1", 16.try_into().unwrap()).unwrap();
        (Arc::clone(&hub), Alarms::new(hub))
    }

    #[test]
    fn what_stands_is_told_once_until_it_says_something_new_or_comes_again() {
        let (hub, alarms) = alarms();
        let say = |detail| alarms.stands("egress", "egress", detail, Weight::Degrades);
        for (detail, events) in [("gone", 1), ("gone", 1), ("gone again", 2), ("gone again", 2)] {
            say(detail);
            assert_eq!(hub.head(), events);
        }
        assert_eq!(alarms.problems(), ["egress: gone again"]);
        alarms.over("egress");
        assert!(alarms.problems().is_empty());
        say("gone again");
        assert_eq!(hub.head(), 3);
    }

    #[test]
    fn a_repair_ends_what_stood_and_company_degrades_nothing() {
        let (hub, alarms) = alarms();
        alarms.stands("egress", "egress", "gone", Weight::Degrades);
        alarms.stands("foreign", "egress", "somebody else is here", Weight::Told);
        alarms.repaired("egress", "attached again");
        assert!(alarms.problems().is_empty());
        assert_eq!(alarms.notes(), ["somebody else is here"]);
        assert_eq!(hub.head(), 3);
        assert!(
            alarms.summary().starts_with("0 looks, tampering found 3, repaired 1; "),
            "{}",
            alarms.summary()
        );
    }
}
