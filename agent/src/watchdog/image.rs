//! The image in the kernel held against the one that was published.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alarms::{Alarms, Weight};
use crate::bpf::image_watch::{ImageWatch, Other};
use crate::policy::in_force::History;

/// What the engine is asked to do, because it alone writes these maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    /// Write the control value again.
    Control,
    /// Publish what is in force again; `index`: with its places.
    Image {
        /// The place index too.
        index: bool,
    },
}

/// Asks the engine.
pub(crate) type Ask = Box<dyn Fn(Mend, String) + Send>;

/// An engine that has not mended it by now is busy or can't.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the image's maps.
pub(super) struct Image {
    maps: ImageWatch,
    history: Arc<History>,
    ask: Ask,
    asked: Option<Instant>,
}

impl Image {
    pub(super) fn new(maps: ImageWatch, history: Arc<History>, ask: Ask) -> Self {
        Self { maps, history, ask, asked: None }
    }

    pub(super) fn look(&mut self, alarms: &Alarms) {
        let before = self.history.quiet();
        let now = self.history.now();
        let found = self.maps.look(now.as_deref().map(|f| (&f.policy, &f.index)));
        // A publication on the way: what was read may be of either image.
        if before.is_none() || before != self.history.quiet() {
            return;
        }
        let Some((other, mend)) = found.map(|other| (other.to_string(), mend(&other))) else {
            self.asked = None;
            alarms.over("image");
            return;
        };
        match self.asked {
            Some(asked) if asked.elapsed() < PATIENCE => {}
            Some(_) => {
                let detail = format!("{other}; it was to be published again and is not yet");
                alarms.stands("image", "image", &detail, Weight::Degrades);
                self.ask(mend, other);
            }
            None => self.ask(mend, other),
        }
    }

    /// Pins the policy in force again, if its pin is gone; true if it was.
    pub(super) fn pin_again(&self) -> Result<bool, crate::bpf::pin::PinError> {
        let before = self.history.quiet();
        let Some(now) = self.history.now() else { return Ok(false) };
        if self.maps.is_pinned(&now.policy) || before.is_none() || before != self.history.quiet() {
            return Ok(false);
        }
        self.maps.pin_again(&now.policy).map(|()| true)
    }

    fn ask(&mut self, mend: Mend, found: String) {
        self.asked = Some(Instant::now());
        (self.ask)(mend, found);
    }
}

fn mend(found: &Other) -> Mend {
    match found {
        Other::Unreadable(..) | Other::Policy { .. } | Other::Content => Mend::Image { index: false },
        Other::Index { .. } => Mend::Image { index: true },
        Other::Control => Mend::Control,
    }
}
