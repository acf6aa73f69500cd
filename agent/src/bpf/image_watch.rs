//! The image's maps as somebody else than their writer sees them: are they what was written?

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_common::control::Control;
use aya::maps::{Array, Map, MapData, MapError};
use thiserror::Error;

use super::adopt::PolicyPin;
use super::image::{ControlMark, PublishedIndex, PublishedPolicy};
use super::load::LoadError;
use super::pin::{PinDirectory, PinError, step};
use super::sys;

/// What is not as it was written.
#[derive(Debug, Error)]
pub(crate) enum Other {
    /// The outer map names another policy, or none.
    #[error("map POLICIES: policy map {found:?} is in force, not ours ({ours})")]
    Policy {
        /// The kernel's id of the map that is there.
        found: Option<u32>,
        /// Of the one that we published.
        ours: u32,
    },
    /// The outer map names another place index, or none.
    #[error("map INDEXES: place index {found:?} is in force, not ours ({ours})")]
    Index {
        /// The kernel's id of the map that is there.
        found: Option<u32>,
        /// Of the one that we published.
        ours: u32,
    },
    /// The policy is ours, and somebody wrote to it.
    #[error("the policy map in force: its head, workloads or fences are not what was published")]
    Content,
    /// Secrets or epoch.
    #[error("map CONTROL: the secrets or the epoch of the sockets' memory are not ours")]
    Control,
    /// The kernel does not say.
    #[error("map {0} can't be read: {1}")]
    Unreadable(&'static str, io::Error),
}

/// Descriptors of its own, so that it sees what programs see.
pub(crate) struct ImageWatch {
    policies: OwnedFd,
    indexes: OwnedFd,
    control: Array<MapData, Control>,
    mark: Arc<ControlMark>,
    pin: PolicyPin,
}

impl ImageWatch {
    /// Opens the maps by their pins; `mark` is what their writer last wrote.
    pub(crate) fn open(pins: &PinDirectory, mark: Arc<ControlMark>) -> Result<Self, PinError> {
        let open = |name: &str| {
            let path = pins.maps().join(name);
            sys::open_pin(&path).map_err(step("opening", &path))
        };
        let path = pins.maps().join("CONTROL");
        let control =
            control(open("CONTROL")?).map_err(|error| step("opening", &path)(io::Error::other(error)))?;
        Ok(Self {
            policies: open("POLICIES")?,
            indexes: open("INDEXES")?,
            control,
            mark,
            pin: PolicyPin::new(pins),
        })
    }

    /// The first thing that is not as it should be, for the image that should be in force. `None` for an earlier agent's
    /// image: nobody knows its policy, only the secrets are looked at.
    pub(crate) fn look(&self, image: Option<(&PublishedPolicy, &PublishedIndex)>) -> Option<Other> {
        let result =
            self.control().and_then(|()| image.map_or(Ok(()), |(policy, index)| self.image(policy, index)));
        result.err()
    }

    fn control(&self) -> Result<(), Other> {
        let unreadable = |error| Other::Unreadable("CONTROL", io::Error::other(error));
        if self.mark.healed.swap(false, Ordering::AcqRel) {
            return Err(Other::Control);
        }
        // The writer writes first and notes then: what is read between is at most one ahead.
        let least = self.mark.epoch.load(Ordering::Acquire);
        let now = self.control.get(&0, 0).map_err(unreadable)?;
        let most = self.mark.epoch.load(Ordering::Acquire) + 1;
        let right = now.key == self.mark.key && now.zero == 0 && (least..=most).contains(&now.epoch);
        if right { Ok(()) } else { Err(Other::Control) }
    }

    fn image(&self, policy: &PublishedPolicy, index: &PublishedIndex) -> Result<(), Other> {
        let policies = |error| Other::Unreadable("POLICIES", error);
        let indexes = |error| Other::Unreadable("INDEXES", error);
        let ours = policy.id().map_err(policies)?;
        let found = sys::inner_id(self.policies.as_fd(), 0).map_err(policies)?;
        if found != Some(ours) {
            return Err(Other::Policy { found, ours });
        }
        // Before its slot is read out of it.
        if !policy.is_whole() {
            return Err(Other::Content);
        }
        let ours = index.id().map_err(indexes)?;
        let found = sys::inner_id(self.indexes.as_fd(), policy.head.index_slot).map_err(indexes)?;
        if found == Some(ours) { Ok(()) } else { Err(Other::Index { found, ours }) }
    }

    /// Whether the policy is pinned under its generation.
    pub(crate) fn is_pinned(&self, policy: &PublishedPolicy) -> bool {
        self.pin.holds(policy)
    }

    /// Pins it again.
    pub(crate) fn pin_again(&self, policy: &PublishedPolicy) -> Result<(), PinError> {
        self.pin.again(policy)
    }
}

fn control(fd: OwnedFd) -> Result<Array<MapData, Control>, LoadError> {
    let refused = |source: MapError| LoadError::Map { name: "CONTROL", source };
    Map::from_map_data(MapData::from_fd(fd).map_err(refused)?).and_then(Array::try_from).map_err(refused)
}
