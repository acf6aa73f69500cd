//! The host layer's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use crate::bpf::host::{HostMaps, HostProgram};
use crate::config::{Config, HostLayer, OnExit};
use crate::hostlayer::guard::Method;
use crate::hostlayer::keeper::Keeper;
use crate::hostlayer::report::Report;
use crate::hostlayer::wait::Waker;
use crate::identity::cgroups::CgroupFs;
use crate::policy::in_force::History;
use crate::policy::lacks::Lacks;
use crate::watchdog::Alarms;

/// The running host layer, or what stands for it where it is off.
pub(super) struct Guarding {
    report: Arc<Report>,
    running: Option<Running>,
}

struct Running {
    waker: Waker,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Guards what is to be guarded now, and from now on in a thread of its own.
pub(super) fn begin(
    config: &Config,
    kernel: &mut Kernel,
    history: &Arc<History>,
    cgroups: &Arc<CgroupFs>,
    lacks: &Arc<Lacks>,
    alarms: &Arc<Alarms>,
) -> Result<Guarding> {
    let method = match config.host_layer {
        HostLayer::Auto => Method::Tcx,
        HostLayer::Clsact => Method::Clsact,
        HostLayer::Off => return Ok(Guarding { report: Arc::default(), running: None }),
    };
    let program = HostProgram::of(&kernel.ebpf)?;
    let maps = HostMaps::take(&mut kernel.ebpf)?;
    let mut keeper = Keeper::new(
        program,
        Arc::clone(&kernel.pins),
        maps,
        method,
        Arc::clone(history),
        Arc::clone(cgroups),
        Arc::clone(lacks),
    )
    .context("the host layer (switch it off with --host-layer off)")?
    .alarming(Arc::clone(alarms));
    if let Err(error) = keeper.look() {
        tracing::error!(%error, "host layer: the first look; another follows");
    }
    let (report, waker) = (keeper.report(), keeper.waker());
    let stay = config.on_exit == OnExit::Keep;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let thread =
        std::thread::Builder::new().name("hostlayer".into()).spawn(move || keeper.run(&told, stay))?;
    Ok(Guarding { report, running: Some(Running { waker, stop, thread }) })
}

impl Guarding {
    /// What it says of itself.
    pub(super) fn report(&self) -> Arc<Report> {
        Arc::clone(&self.report)
    }

    /// Makes it look at once; `None` where it is off.
    pub(super) fn waker(&self) -> Option<Waker> {
        self.running.as_ref().map(|r| r.waker.clone())
    }

    /// Ends; lets go of every interface, if nothing is to stay.
    pub(super) fn end(self) -> Result<()> {
        let Some(running) = self.running else { return Ok(()) };
        running.stop.store(true, Ordering::Release);
        running.waker.wake();
        if running.thread.join().is_err() {
            bail!("the host layer panicked; this is a fault of the agent, please report it");
        }
        Ok(())
    }
}
