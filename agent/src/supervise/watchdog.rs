//! The watchdog, as part of the agent: begun when everything is attached and pinned, ended before anything is let go.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result};

use super::engine::Message;
use super::kernel::Kernel;
use crate::bpf::image::ControlMark;
use crate::bpf::image_watch::ImageWatch;
use crate::bpf::keepsake::Keepsakes;
use crate::bpf::post::posts;
use crate::config::Config;
use crate::identity::cgroups::CgroupFs;
use crate::policy::in_force::History;
use crate::watchdog::canary::Canary;
use crate::watchdog::{Alarms, Everything, Watchdog};

/// The thread; dropping this ends it and waits for it. It holds the links until then, and their pins afterwards.
pub(super) struct Watching {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Takes the links of `kernel` under watch, in a thread of its own: a policy that takes long to publish must not keep it
/// from looking.
pub(super) fn begin(
    config: &Config,
    root: &Path,
    kernel: &mut Kernel,
    (history, cgroups, alarms): (Arc<History>, &CgroupFs, Arc<Alarms>),
    mark: Arc<ControlMark>,
    engine: Sender<Message>,
) -> Result<Watching> {
    let watched = Everything {
        posts: posts(&kernel.ebpf, root, std::mem::take(&mut kernel.links))?,
        keepsakes: Keepsakes::of(&kernel.pins)?,
        image: ImageWatch::open(&kernel.pins, mark)?,
        pins: Arc::clone(&kernel.pins),
        history,
        ask: Box::new(move |mend, found| {
            // The engine has ended: so will this.
            let _: Result<(), _> = engine.send(Message::Mend(mend, found));
        }),
        canary: Canary::new(cgroups.path(root)?, config.knobs.errno),
    };
    let watchdog = Watchdog::new(watched, alarms);
    let (stop, stopped) = channel();
    let thread = Builder::new().name("watchdog".into()).spawn(move || watchdog.run(&stopped));
    Ok(Watching { stop: Some(stop), thread: Some(thread.context("the watchdog's thread")?) })
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the watchdog panicked; this is a fault of the agent, please report it");
        }
    }
}
