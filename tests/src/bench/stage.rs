//! A stage for one mode of traffic: a closed world, a cgroup, servers at the far end and a worker.
//!
//! Each mode has a stage of its own for the whole run, so that what is compared differs in the mode only, and nothing is
//! attached or torn down between two slices.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};

use agent_tests::cgroup::Cgroup;
use agent_tests::world::World;
use anyhow::{Context, Result};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_reuseaddr};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, bind, listen, shutdown, socket_with};
use rustix::process::setpriority_process;

use super::sys;
use super::worker::{Order, Worker};

/// Connects and datagrams go here, at every address.
pub(crate) const PORT: u16 = 7007;
/// Streams go here.
pub(crate) const STREAM_PORT: u16 = 7008;
/// Where servers and agents run.
pub(crate) const SERVER_PROCESSOR: usize = 0;
const BACKLOG: i32 = 4096;
/// Servers must not be what is waited for on a shared machine.
const PRIORITY: i32 = -15;

/// One stage. Dropped in this order: the worker, its servers, its cgroups, the world.
pub(crate) struct Stage {
    worker: Worker,
    _servers: Servers,
    /// The workload that the fence is about.
    pub(crate) workload: Cgroup,
    /// Where programs are attached.
    pub(crate) root: Cgroup,
    /// Near, where the worker is, and far.
    pub(crate) world: World,
}

impl Stage {
    /// Sets a stage; the worker goes through `targets`.
    ///
    /// # Errors
    /// Not root, or a kernel without veth.
    pub(crate) fn new(targets: &[SocketAddrV4]) -> Result<Self> {
        let world = World::new()?;
        let root = Cgroup::root()?;
        let workload = root.child("workload")?;
        let servers = Servers::start(&world)?;
        let worker = Worker::start(world.near(), &workload)?;
        let mut stage = Self { worker, _servers: servers, workload, root, world };
        stage.worker.tell(&Order::Targets(targets.to_vec()))?;
        Ok(stage)
    }

    /// The worker.
    pub(crate) fn worker(&mut self) -> &mut Worker {
        &mut self.worker
    }

    /// A policy of one enforcing fence around the workload, which allows the EEA.
    pub(crate) fn fence(&self) -> String {
        fence(self.workload.name(), "EEA")
    }
}

/// One enforcing fence around a cgroup, which allows one jurisdiction.
pub(crate) fn fence(cgroup: &str, jurisdiction: &str) -> String {
    format!(
        "apiVersion: ringfence.dev/v1alpha1\n\
         kind: GeoFence\n\
         metadata: {{name: bench}}\n\
         spec:\n\
         \x20 mode: Enforce\n\
         \x20 subjects: [{{cgroups: [\"{cgroup}\"]}}]\n\
         \x20 allow: [{{name: allowed, jurisdictions: [{jurisdiction}]}}]\n\
         \x20 default: Block\n"
    )
}

/// Servers in far: connections are accepted and dropped, streams are read, datagrams are not.
struct Servers {
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
    /// Nobody reads from it: what does not fit is dropped, which costs the same in every mode.
    _sink: OwnedFd,
}

impl Servers {
    fn start(world: &World) -> Result<Self> {
        let (sink, accepting, reading) = world.far().run(|| {
            Ok((
                bound(SocketType::DGRAM, PORT)?,
                bound(SocketType::STREAM, PORT)?,
                bound(SocketType::STREAM, STREAM_PORT)?,
            ))
        })?;
        set_socket_recv_buffer_size(&sink, 1)?;
        let listeners = vec![TcpListener::from(accepting), TcpListener::from(reading)];
        let mut servers = Self { listeners, threads: Vec::new(), _sink: sink };
        for (at, listener) in servers.listeners.iter().enumerate() {
            let listener = listener.try_clone()?;
            let serve = move || {
                // Worse figures, not wrong ones, where these are refused.
                sys::pin(SERVER_PROCESSOR).ok();
                setpriority_process(None, PRIORITY).ok();
                let mut buffer = vec![0; 256 * 1024];
                // Ends with the first error, which is the listener's shutdown.
                while let Ok((mut stream, _)) = listener.accept() {
                    while at == 1 && stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
                }
            };
            servers.threads.push(thread::Builder::new().name("server".into()).spawn(serve)?);
        }
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // Wakes the thread that accepts.
            shutdown(listener.as_fd(), Shutdown::Both).ok();
        }
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn bound(kind: SocketType, port: u16) -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
        .with_context(|| format!("serve port {port} in the far namespace"))?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}
