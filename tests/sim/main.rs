//! Policy without a kernel: documents in, verdicts out, through the very code that the agent and the kernel run.
//!
//! [`naive`] is the design's text written down a second time, in the plainest way there is, over [`model`]'s own
//! types: it knows nothing of images, bits and port classes. [`compared`] holds the two against each other over
//! random policies and flows; [`properties`] holds the promises that the design makes; [`snapshots`] the messages for
//! bad documents; [`hostile`] that no input makes the validator panic; [`examples`] that what we show works; [`capacity`] that what does
//! not fit is refused; [`strangers`] how cgroups that were not seen yet are judged; [`decide`] the edges that the compiler never reaches; [`files`] and [`explained`] the outside.

mod capacity;
mod compared;
mod decide;
mod examples;
mod explained;
mod files;
mod generate;
mod hostile;
mod model;
mod naive;
mod properties;
mod snapshots;
mod strangers;
mod subject;
mod yaml;

/// Cases of a property test: few in the default tier, many with `RINGFENCE_TIER=all`.
fn cases(default: u32) -> u32 {
    let all = std::env::var_os("RINGFENCE_TIER").is_some_and(|tier| tier == "all");
    if all { default.saturating_mul(20) } else { default }
}
