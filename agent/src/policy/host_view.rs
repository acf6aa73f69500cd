//! The image, asked on the host: what `explain`, tests and the simulator decide with is the kernel's own `decide`.

use agent_common::bytes::Loop;
use agent_common::image::Policy;
use agent_common::place_index::PlaceIndex;
use agent_common::verdict::{Rules, View};

/// An image in memory and a moment.
#[derive(Clone, Copy)]
pub struct HostView<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The place index that the policy names.
    pub index: &'a PlaceIndex,
    /// Boot-time nanoseconds.
    pub now: u64,
}

impl Loop for HostView<'_> {}

impl Rules for HostView<'_> {
    fn policy(&self) -> &Policy {
        self.policy
    }

    fn now(&self) -> u64 {
        self.now
    }
}

impl View for HostView<'_> {
    fn index(&self) -> &PlaceIndex {
        self.index
    }
}

/// A policy and a moment: what one fence is asked with, where the place is already known.
#[derive(Clone, Copy)]
pub struct PolicyAt<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Boot-time nanoseconds.
    pub now: u64,
}

impl Loop for PolicyAt<'_> {}

impl Rules for PolicyAt<'_> {
    fn policy(&self) -> &Policy {
        self.policy
    }

    fn now(&self) -> u64 {
        self.now
    }
}
