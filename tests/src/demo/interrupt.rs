//! Ctrl-C ends the demo where it is; everything that it made is taken away on the way out.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::{Context, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Somebody asked the demo to end.
#[derive(Debug)]
pub(super) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl Error for Interrupted {}

/// From here on SIGINT, SIGTERM and SIGHUP no longer kill this process: [`check`] says that they came. Children are
/// not affected: their handlers are reset when they start.
pub(super) fn listen() -> Result<()> {
    let (ready, wait) = sync_channel(1);
    thread::Builder::new().name("interrupt".into()).spawn(move || {
        let listening = Builder::new_current_thread().enable_all().build().and_then(|runtime| {
            let _context = runtime.enter();
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let signals = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()?;
            Ok((runtime, signals))
        });
        match listening {
            Err(error) => {
                ready.send(Err(error)).ok();
            }
            Ok((runtime, mut signals)) => {
                ready.send(Ok(())).ok();
                runtime.block_on(async {
                    if let [interrupt, terminate, hangup] = &mut signals[..] {
                        tokio::select! {
                            _ = interrupt.recv() => {}
                            _ = terminate.recv() => {}
                            _ = hangup.recv() => {}
                        }
                    }
                });
                ASKED.store(true, Ordering::Relaxed);
                // The handlers stay, so that a second Ctrl-C does not cut the cleaning short.
                runtime.block_on(std::future::pending::<()>());
            }
        }
    })?;
    wait.recv().context("the thread for signals died")?.context("cannot listen for signals")
}

/// Whether somebody asked.
pub(super) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Ends the demo if somebody asked.
///
/// # Errors
/// [`Interrupted`].
pub(super) fn check() -> Result<()> {
    if asked() { Err(Interrupted.into()) } else { Ok(()) }
}
