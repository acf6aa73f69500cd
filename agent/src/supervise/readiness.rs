//! What must be so before anything is attached: a first start that could not keep its promise is refused, with the
//! mend, unless the operator has said that less will do.

use std::path::Path;

use anyhow::{Result, bail};

use crate::bpf::features::switches::Switches;
use crate::bpf::features::{Feature, Presence, Probed, probe_host_layer};
use crate::config::{Config, HostLayer};
use crate::identity::layout::Layout;
use crate::policy::lacks::{Lack, Lacks, Missing, Scope};
use crate::policy::schema::Requirement;

/// Whether an earlier agent has left something in force. Then to refuse would leave its old programs and policy: what
/// would be refused is said, and the agent goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing is in force.
    First,
    /// Pins are adopted.
    Again,
}

/// The node itself: its cgroups, and what tests took away.
pub(super) fn check_node(config: &Config, root: &Path, start: Start) -> Result<()> {
    let refused = Layout::of_this_host(Some(root)).refuse_hybrid(config.allow_hybrid_cgroups);
    match (refused, start) {
        (Ok(()), Start::First | Start::Again) => {}
        (Err(error), Start::First) => return Err(error.into()),
        (Err(error), Start::Again) => tracing::warn!("{error}"),
    }
    if let Some(feature) = Switches::from_environment()?.required().next() {
        let (name, lost, mend) = (feature.name(), feature.lost(), feature.mend());
        bail!("this kernel lacks {name}: {lost}; {mend}");
    }
    Ok(())
}

/// What fences may require and this node can't have. A layer that comes up says so itself, with [`Lacks::set`].
pub(super) fn look_for_layers(config: &Config, lacks: &Lacks) -> Result<()> {
    let lack = match config.host_layer {
        HostLayer::Off => Some(Lack {
            lost: format!("it was switched off, and {}", Feature::HostLayer.lost()),
            mend: "run without `--host-layer off`".to_owned(),
        }),
        HostLayer::Auto | HostLayer::Clsact => {
            lack_of_layer(&probe_host_layer(&Switches::from_environment()?))
        }
    };
    lacks.set(Requirement::HostLayer, Scope::Node, lack);
    Ok(())
}

/// Only what was tried and does not work is missing before it is attached. Trying clsact takes CAP_SYS_ADMIN, which the
/// agent has given up by now: a kernel without tcx leaves the question open, and attaching answers it.
fn lack_of_layer(probed: &Probed) -> Option<Lack> {
    match probed.presence {
        Presence::Missing => Some(Lack {
            lost: format!("{}, and {}", probed.detail, Feature::HostLayer.lost()),
            mend: Feature::HostLayer.mend().to_owned(),
        }),
        Presence::Unknown => {
            tracing::info!(
                why = probed.detail,
                "host layer: whether it can be had will show when it is attached"
            );
            None
        }
        // Where it can be had the layer says itself for whom it has nothing to guard.
        Presence::Found => None,
    }
}

/// What the fences of the first policy require.
pub(super) fn check_requirements(missing: &[Missing], allow_partial: bool, start: Start) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    if allow_partial || start == Start::Again {
        missing.iter().for_each(|m| tracing::warn!("{m}"));
        return Ok(());
    }
    let lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
    bail!(
        "{}\nnothing was attached; with --allow-partial what can be enforced is enforced, the state is Degraded, and \
         events say `partial`",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::{Feature, Presence, Probed, lack_of_layer};

    #[test]
    fn a_layer_that_could_not_be_tried_is_not_missing() {
        for (presence, is_missing) in
            [(Presence::Found, false), (Presence::Unknown, false), (Presence::Missing, true)]
        {
            let probed = Probed { feature: Feature::HostLayer, presence, detail: "as tried".to_owned() };
            let lack = lack_of_layer(&probed);
            assert_eq!(lack.is_some(), is_missing, "{presence:?}: {lack:?}");
        }
    }
}
