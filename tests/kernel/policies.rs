//! Policies that the tests use, as text: what a person would write.

use std::fmt::Write;

use crate::scene::Scene;

/// Name of the fence in [`eea_only`].
pub(crate) const FENCE: &str = "crm-stays-in-the-eea";
/// Name of its allow rule.
pub(crate) const RULE: &str = "eea";

/// The workload `crm` may send to the EEA and to nowhere else.
pub(crate) fn eea_only(scene: &Scene, mode: &str) -> String {
    fence(FENCE, mode, scene.crm.name(), RULE, &["EEA"])
}

/// One fence with one allow rule; everything else falls to the default, Block.
pub(crate) fn fence(name: &str, mode: &str, cgroup: &str, rule: &str, jurisdictions: &[&str]) -> String {
    let jurisdictions = jurisdictions.join(", ");
    format!(
        "---\n\
         apiVersion: ringfence.dev/v1alpha1\n\
         kind: GeoFence\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 mode: {mode}\n\
         \x20 subjects: [{{cgroups: [\"{cgroup}\"]}}]\n\
         \x20 allow: [{{name: {rule}, jurisdictions: [{jurisdictions}]}}]\n\
         \x20 default: Block\n"
    )
}

/// A hole in the fence `fence` until `expires_at` (RFC 3339).
pub(crate) fn exception(name: &str, fence: &str, allow: &str, expires_at: &str) -> String {
    format!(
        "---\n\
         apiVersion: ringfence.dev/v1alpha1\n\
         kind: GeoFenceException\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 fence: {fence}\n\
         \x20 allow: [{allow}]\n\
         \x20 reason: a test of exceptions\n\
         \x20 approvedBy: the test suite\n\
         \x20 expiresAt: {expires_at}\n"
    )
}

/// Places of addresses, above every other source.
pub(crate) fn places(name: &str, countries: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (number, (cidr, country)) in countries.iter().enumerate() {
        write!(
            text,
            "---\n\
             apiVersion: ringfence.dev/v1alpha1\n\
             kind: PlaceOverride\n\
             metadata: {{name: {name}-{number}}}\n\
             spec: {{cidrs: [\"{cidr}\"], country: {country}, reason: a test of places}}\n"
        )
        .expect("invariant: writing to a String does not fail");
    }
    text
}
