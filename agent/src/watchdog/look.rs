//! One look, and the thread that takes it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use super::alarms::{Alarms, Weight};
use super::canary::{Canary, Fate};
use super::image::{Ask, Image};
use super::{LOOK, SWITCH};
use crate::bpf::image_watch::ImageWatch;
use crate::bpf::keepsake::Keepsakes;
use crate::bpf::pin::{PinDirectory, PinError};
use crate::bpf::post::{Company, Post};
use crate::policy::in_force::History;

/// What is watched.
pub(crate) struct Everything {
    /// Links, in the order in which they are put right.
    pub(crate) posts: Vec<Post>,
    /// Where all of it is pinned.
    pub(crate) pins: Arc<PinDirectory>,
    /// Pinned maps and programs.
    pub(crate) keepsakes: Keepsakes,
    /// The image's maps.
    pub(crate) image: ImageWatch,
    /// What was published.
    pub(crate) history: Arc<History>,
    /// How the engine is asked to publish again.
    pub(crate) ask: Ask,
    /// The canary.
    pub(crate) canary: Canary,
}

/// What takes part in a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    Canary,
    None,
}

/// The watchdog. It holds the links: they stay attached as long as it lives, whatever becomes of their pins.
pub(crate) struct Watchdog {
    posts: Vec<Post>,
    pins: Arc<PinDirectory>,
    keepsakes: Keepsakes,
    image: Image,
    canary: Canary,
    alarms: Arc<Alarms>,
    part: Part,
}

/// Keys of programs that are not ours begin so.
const COMPANY: &str = "company of ";

impl Watchdog {
    pub(crate) fn new(watched: Everything, alarms: Arc<Alarms>) -> Self {
        let Everything { posts, pins, keepsakes, image, history, ask, canary } = watched;
        let part = match std::env::var(SWITCH).as_deref() {
            Ok("off") => Part::None,
            Ok("canary") => Part::Canary,
            Ok(_) | Err(_) => Part::All,
        };
        if part != Part::All {
            tracing::warn!(?part, "the watchdog does not look at everything ({SWITCH}, for tests)");
        }
        Self { posts, pins, keepsakes, image: Image::new(image, history, ask), canary, alarms, part }
    }

    /// Looks until the other end of `stop` is gone.
    pub(crate) fn run(mut self, stop: &Receiver<()>) {
        loop {
            self.look();
            match stop.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) {
        if self.part == Part::All {
            self.look_at_links();
            self.look_at_pins();
            self.image.look(&self.alarms);
            self.look_at_company();
        }
        if self.part != Part::None {
            self.send_canary();
        }
        self.alarms.looked();
    }

    fn look_at_links(&mut self) {
        for post in &mut self.posts {
            let Some(wrong) = post.hold() else {
                self.alarms.over(post.name());
                continue;
            };
            let name = post.name();
            match wrong.failed {
                None => {
                    // What can't be pinned now is found, and told, with the pins.
                    post.keep();
                    self.alarms.repaired(name, &format!("{}; put right", wrong.found));
                }
                Some(why) => {
                    let detail = format!("{}; it can't be put right: {why}", wrong.found);
                    self.alarms.stands(name, name, &detail, Weight::Degrades);
                }
            }
        }
    }

    fn look_at_pins(&self) {
        match self.pin_again() {
            Ok(again) => {
                self.alarms.over("pins");
                if !again.is_empty() {
                    let detail = format!("removed or replaced, and pinned again: {}", again.join(", "));
                    self.alarms.repaired("pins", &detail);
                }
            }
            Err(error) => {
                let detail = format!(
                    "{error}. The fences hold as long as this agent runs; it pins them again by itself once it can"
                );
                self.alarms.stands("pins", "pins", &detail, Weight::Degrades);
            }
        }
    }

    /// Pins what is not pinned as it should be; what that was.
    fn pin_again(&self) -> Result<Vec<String>, PinError> {
        let mut again = Vec::new();
        if self.pins.renew()? {
            again.push(format!("{} itself", self.pins.path().display()));
        }
        for post in &self.posts {
            if let Some(result) = post.keep() {
                result?;
                again.push(format!("link {}", post.name()));
            }
        }
        again.extend(self.keepsakes.pin_again()?.into_iter().map(|path| short(path, self.pins.path())));
        if self.image.pin_again()? {
            again.push("the policy in force".to_owned());
        }
        Ok(again)
    }

    /// Who else has programs where ours are.
    fn look_at_company(&self) {
        let mut there = BTreeSet::new();
        for post in &self.posts {
            let name = post.name();
            match post.company() {
                None => {}
                Some(Err(error)) => {
                    self.alarms.stands(
                        &format!("order of {name}"),
                        name,
                        &error.to_string(),
                        Weight::Degrades,
                    );
                }
                Some(Ok(company)) => self.weigh(post, &company, &mut there),
            }
        }
        for gone in self.alarms.standing(COMPANY).into_iter().filter(|key| !there.contains(key)) {
            self.alarms.over(&gone);
        }
    }

    fn weigh(&self, post: &Post, company: &Company, there: &mut BTreeSet<String>) {
        let name = post.name();
        let key = format!("order of {name}");
        let Some(ours) = company.ours else {
            let detail = format!(
                "our program {} does not run, although its link is attached: those that do are {:?}",
                post.program(),
                company.all
            );
            self.alarms.stands(&key, name, &detail, Weight::Degrades);
            return;
        };
        self.alarms.over(&key);
        for (at, id) in company.all.iter().enumerate().filter(|(at, _)| *at != ours) {
            let key = format!("{COMPANY}{name}: {id}");
            let detail = foreign(name, *id, (at + 1, ours + 1, company.all.len()));
            // Told once each: where it runs may change with other programs.
            if self.alarms.standing(&key).is_empty() {
                self.alarms.stands(&key, name, &detail, Weight::Told);
            }
            there.insert(key);
        }
    }

    fn send_canary(&self) {
        const KEY: &str = "canary";
        match self.canary.send() {
            Fate::Refused => {
                self.alarms.over(KEY);
                self.alarms.canary("is refused by every hook");
            }
            Fate::Through(hooks) => {
                let detail = format!(
                    "what every socket below the root is refused got through ({}): these hooks do not act, whatever \
                     their links say. `bpftool cgroup tree` shows what runs; restart the agent if it can't be seen why",
                    hooks.join(", ")
                );
                self.alarms.stands(KEY, KEY, &detail, Weight::Degrades);
                self.alarms.canary("gets through");
            }
            Fate::Untold(why) => {
                self.alarms.over(KEY);
                self.alarms.canary(&why);
            }
        }
    }
}

/// What a program of somebody else does to what we judge. `places`: where it runs, where ours does, of how many.
fn foreign(hook: &str, id: u32, (theirs, ours, all): (usize, usize, usize)) -> String {
    let (order, effect) = if theirs < ours {
        ("before", "it may change what ours then judges, and calls are judged as it leaves them")
    } else {
        ("after", "it may change what ours has judged; packets are judged by egress as they leave")
    };
    format!(
        "a program that is not ours (id {id}) runs {order} ours at {hook} ({theirs} of {all}, ours is {ours}): {effect}. \
         `bpftool prog show id {id}` names it; `bpftool cgroup detach` takes it away, if it does not belong there"
    )
}

fn short(path: &Path, directory: &Path) -> String {
    path.strip_prefix(directory).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::foreign;

    #[test]
    fn a_foreign_program_is_described_by_where_it_runs() {
        let before = foreign("connect4", 57, (1, 2, 3));
        assert!(before.contains("(id 57) runs before ours at connect4 (1 of 3, ours is 2)"), "{before}");
        assert!(before.contains("judged as it leaves them"), "{before}");
        let after = foreign("egress", 57, (3, 2, 3));
        assert!(after.contains("runs after ours") && after.contains("bpftool prog show id 57"), "{after}");
    }
}
