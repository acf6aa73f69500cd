//! What became of a way out, in the words of docs/threat-model.md, and how a test finds out.

use std::fmt;

use anyhow::{Result, ensure};

/// The outcome of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No frame arrived, and nothing else comes through this way either.
    Blocked,
    /// No frame arrived at a forbidden destination, and an allowed one was reached the same way.
    Judged,
    /// Frames arrived, and an event names what happened.
    Seen,
    /// Frames arrived, and no claim is made.
    OutOfScope,
}

impl Fate {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Blocked, Self::Judged, Self::Seen, Self::OutOfScope];

    /// As the table writes it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Judged => "judged",
            Self::Seen => "seen",
            Self::OutOfScope => "out of scope",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What a row's test found.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The outcome that it observed.
    Fate(Fate),
    /// It could not be tried here, and why.
    NotHere(String),
}

/// Frames that the judge counted, by who sent them and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Arms {
    /// From a workload without a fence to a destination that the fence forbids: the proof that this is a way out.
    pub(crate) unfenced: u64,
    /// From the fenced workload to the same destination: the leak.
    pub(crate) forbidden: u64,
    /// From the fenced workload to a destination that its fence allows.
    pub(crate) allowed: u64,
}

impl Arms {
    /// What the counts mean.
    ///
    /// # Errors
    /// Nothing arrived unfenced: then nothing can be said.
    pub(crate) fn fate(self) -> Result<Fate> {
        ensure!(
            self.unfenced > 0,
            "nothing arrived from the unfenced workload: this shows nothing ({self:?})"
        );
        Ok(match self {
            Self { forbidden: 1.., .. } => Fate::OutOfScope,
            Self { allowed: 1.., .. } => Fate::Judged,
            Self { .. } => Fate::Blocked,
        })
    }
}
