//! One pass: every open flow of every namespace of the fenced workloads, judged by the image in force; those that are
//! blocked are ended.
//!
//! What is opened during the pass is judged by the new image anyway, at its first packet. A dump that runs beside
//! programs that open and close sockets can miss one, so a namespace is looked at again until nothing was ended in it.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use agent_common::flow::protocol;
use agent_common::wire;

use super::diag::{Destroyed, Diag, DiagError, ENDABLE, LISTENING, Socket};
use super::judge::{Blocked, Finding, Judge, is_told};
use super::namespaces::{Found, below};
use super::record::{boot_ns, record};
use super::report::Report;
use crate::identity::cgroups::CgroupFs;
use crate::policy::in_force::InForce;

/// How often a namespace is looked at in one pass at most.
const ROUNDS: usize = 4;
/// A pass that takes longer says how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// What a pass works on.
pub(super) struct Ground<'a> {
    pub(super) in_force: &'a InForce,
    pub(super) cgroups: &'a CgroupFs,
    pub(super) root: &'a Path,
    pub(super) storage: Option<&'a OwnedFd>,
}

/// Runs a pass; `None` if no fence can block anything. With it come the records of what was ended without a packet.
pub(super) fn pass(ground: &Ground<'_>) -> Option<(Report, Vec<wire::Event>)> {
    let begun = Instant::now();
    let directories = Judge::directories(ground.in_force, ground.cgroups);
    if directories.is_empty() {
        return None;
    }
    let mut report = Report { generation: ground.in_force.manifest.generation, ..Report::default() };
    let mut records = Vec::new();
    // Names of cgroups that came since the last look.
    ground.cgroups.scan(ground.root);
    let judge = Judge::new(ground.in_force, ground.cgroups, boot_ns());
    match (judge, below(directories)) {
        (Ok(mut judge), Ok(found)) => every(ground, &mut judge, &found, &mut report, &mut records),
        (Err(error), _) => report.unseen(format!("the place index can't be read: {error}")),
        (_, Err(error)) => report.unseen(format!("/proc can't be read: {error}")),
    }
    report.took = begun.elapsed();
    Some((report, records))
}

fn every(
    ground: &Ground<'_>,
    judge: &mut Judge<'_>,
    found: &Found,
    report: &mut Report,
    records: &mut Vec<wire::Event>,
) {
    report.hidden = found.hidden;
    let mut said = Instant::now();
    for namespace in &found.namespaces {
        let result = namespace.run(|| {
            let mut visit =
                Visit { ground, judge: &mut *judge, report: &mut *report, records: &mut *records };
            visit.run()
        });
        match result {
            Ok(Ok(())) => report.namespaces += 1,
            Ok(Err(error)) => report.unseen(format!("net:[{}]: {error}", namespace.inode)),
            Err(error) => report.unseen(format!("enter net:[{}]: {error}", namespace.inode)),
        }
        if report.unsupported {
            return;
        }
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            let of = found.namespaces.len();
            tracing::info!(namespaces = report.namespaces, of, ended = report.ended, "ending blocked flows");
        }
    }
}

/// One namespace, on a thread inside it.
struct Visit<'a, 'b> {
    ground: &'a Ground<'a>,
    judge: &'a mut Judge<'b>,
    report: &'a mut Report,
    records: &'a mut Vec<wire::Event>,
}

impl Visit<'_, '_> {
    fn run(&mut self) -> Result<(), DiagError> {
        let mut diag = Diag::open()?;
        // Sockets that the kernel refuses to end are tried once.
        let mut refused = HashSet::new();
        for round in 0..ROUNDS {
            let before = self.report.ended;
            for kind in ENDABLE {
                for socket in diag.dump(kind, self.ground.storage.map(AsFd::as_fd))? {
                    if let Some(blocked) = self.look(&mut diag, &socket, round == 0)?
                        && !refused.contains(&socket.cookie)
                    {
                        self.end(&mut diag, &socket, &blocked, &mut refused)?;
                    }
                    if self.report.unsupported {
                        return Ok(());
                    }
                }
            }
            if self.report.ended == before {
                break;
            }
        }
        Ok(())
    }

    /// Whether the socket is to be ended. Counts in the first round only.
    fn look(&mut self, diag: &mut Diag, socket: &Socket, count: bool) -> Result<Option<Blocked>, DiagError> {
        let one = u64::from(count);
        let finding = self.judge.judge(socket);
        match finding {
            Finding::Unfenced => {}
            Finding::Unknown => self.report.nameless += one,
            Finding::Allowed | Finding::Blocked(_) | Finding::BlockedIfOutbound(_) => {
                self.report.checked += one;
            }
        }
        Ok(match finding {
            Finding::Unfenced | Finding::Unknown | Finding::Allowed => None,
            Finding::Blocked(blocked) => Some(blocked),
            Finding::BlockedIfOutbound(blocked) if !listens(diag, socket.local.1)? => Some(blocked),
            Finding::BlockedIfOutbound(_) => {
                self.report.left += one;
                None
            }
        })
    }

    fn end(
        &mut self,
        diag: &mut Diag,
        socket: &Socket,
        blocked: &Blocked,
        refused: &mut HashSet<u64>,
    ) -> Result<(), DiagError> {
        match diag.destroy(socket)? {
            Destroyed::Done => {
                self.report.ended += 1;
                let told = socket.state.as_deref().is_some_and(|s| is_told(s, socket.cookie, &blocked.flow));
                if !told {
                    self.records.push(record(socket, blocked, self.report.generation));
                }
            }
            // Closed meanwhile; or another of the same addresses (SO_REUSEPORT), which the next round finds.
            Destroyed::Gone => {}
            Destroyed::Unsupported => self.report.unsupported = true,
            Destroyed::Refused(error) => {
                refused.insert(socket.cookie);
                self.report.refused += 1;
                self.report.refusal.get_or_insert_with(|| error.to_string());
                let (what, (remote, port)) = (name(socket.kind.protocol), socket.remote);
                let remote = std::net::IpAddr::from(remote);
                tracing::warn!(%error, %remote, port, "a blocked {what} flow can't be ended: it is silent");
            }
        }
        Ok(())
    }
}

const fn name(protocol: u8) -> &'static str {
    if protocol == protocol::TCP { "TCP" } else { "UDP" }
}

/// Whether some TCP socket of this namespace listens on the port. Asked rarely: of sockets older than the agent, where
/// a fence lets accepted ones through.
fn listens(diag: &mut Diag, port: u16) -> Result<bool, DiagError> {
    for kind in LISTENING {
        if diag.dump(kind, None)?.iter().any(|s| s.local.1 == port) {
            return Ok(true);
        }
    }
    Ok(false)
}
