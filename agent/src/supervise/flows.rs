//! Ending blocked flows, as part of the agent: prepared before the first image, begun when hooks are attached, ended
//! after the engine, which asks for its passes, and before the reader, which it waits for.

use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use anyhow::{Result, bail};
use aya::Ebpf;
use jiff::Timestamp;

use crate::bpf::storage::descriptor;
use crate::config::Config;
use crate::events::enrich::Enricher;
use crate::events::hub::Hub;
use crate::events::model::notice::NodeState;
use crate::events::model::{Body, Event};
use crate::flows::{Asker, Flows, channel};
use crate::grpc::backend::Backend;
use crate::identity::cgroups::CgroupFs;
use crate::policy::in_force::History;
use crate::policy::lacks::Lacks;

/// `None` without `--netns-entry`.
pub(super) fn prepare(
    config: &Config,
    ebpf: &Ebpf,
    (history, cgroups, lacks): (Arc<History>, Arc<CgroupFs>, Arc<Lacks>),
    root: &Path,
    hub: Arc<Hub>,
) -> Result<Option<(Flows, Asker)>> {
    if !config.netns_entry {
        return Ok(None);
    }
    let (asker, asked) = channel();
    let enricher = Enricher::new(Arc::clone(&history), Arc::clone(&cgroups), lacks);
    Ok(Some((Flows::new(asked, history, cgroups, root.to_owned(), descriptor(ebpf), enricher, hub), asker)))
}

/// Begins. Each pass is logged, and told in the stream.
pub(super) fn start(flows: Flows, hub: Arc<Hub>, backend: Arc<dyn Backend>) -> Result<JoinHandle<()>> {
    let tell = move |report: &crate::flows::Report| {
        let text = report.to_string();
        if report.problems().is_empty() && report.refused == 0 {
            tracing::info!(generation = report.generation, "{text}");
        } else {
            tracing::warn!(generation = report.generation, "{text}");
        }
        let (state, generation) = (backend.status().state, report.generation.into());
        let body = Body::NodeState(NodeState { state, detail: Some(Arc::from(text)), generation });
        hub.publish(Event { time: Timestamp::now(), body });
    };
    Ok(Builder::new().name("flows".into()).spawn(move || flows.run(tell))?)
}

/// Waits for the pass that may still run. The engine has ended: nobody asks for another.
pub(super) fn join(ending: Option<JoinHandle<()>>) -> Result<()> {
    if ending.is_some_and(|thread| thread.join().is_err()) {
        bail!("the thread that ends blocked flows panicked; this is a fault of the agent, please report it");
    }
    Ok(())
}
