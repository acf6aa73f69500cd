//! The image, asked on the host: what `explain`, tests and the simulator decide with is the kernel's own `decide`.

use agent_common::bytes::Loop;
use agent_common::image::Policy;
use agent_common::place_index::PlaceIndex;
use agent_common::verdict::View;

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

impl View for HostView<'_> {
    fn policy(&self) -> &Policy {
        self.policy
    }

    fn index(&self) -> &PlaceIndex {
        self.index
    }

    fn now(&self) -> u64 {
        self.now
    }
}
