//! The judge: a packet socket in the far namespace that counts what arrives.
//!
//! *Nothing arrived* must be a statement about the wire, not about patience. So the sniffer is **flushed**:
//! one sentinel datagram is sent from every CPU, outside every fence, after the traffic in question. The kernel hands
//! frames of a veth (and of `lo`) to the receiver in order per sending CPU, so once all sentinels have been seen, so
//! has every frame that was sent before them. No sleep, no guess.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::frame::{Frame, UDP, parse};
use crate::netns::Netns;
use crate::world::World;

/// Where sentinels go: an address for benchmarks (RFC 2544) that no test uses.
const SENTINEL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 255, 254)), 9);
/// `ETH_P_ALL`: every protocol.
const ETH_P_ALL: u16 = 3;
/// Bytes of a frame that are kept; headers and the first payload bytes are enough.
const SNAP: usize = 256;
/// Room for bursts while the reader is off the CPU.
const BUFFER: usize = 64 << 20;
/// How long a flush may take.
const FLUSH: Duration = Duration::from_secs(10);
/// How long one round of sentinels may take before another is sent.
const ROUND: Duration = Duration::from_millis(500);
/// How often the reader looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Frames of one kind, from the sniffer's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All frames.
    pub frames: u64,
    /// Frames that carry payload: for TCP this leaves out handshake, acknowledgements and resets.
    pub with_payload: u64,
}

/// What frames are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    protocol: u8,
    destination: IpAddr,
    port: u16,
}

#[derive(Default)]
struct Seen {
    counts: HashMap<Key, Count>,
    /// Frames that this reader cannot read, by Ethernet type.
    unread: HashMap<u16, u64>,
    /// When the last frame to each address and port arrived.
    last: HashMap<SocketAddr, Instant>,
    /// Numbers of the sentinels that arrived.
    sentinels: HashSet<u64>,
    failure: Option<String>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running sniffer. Stops when dropped.
pub struct Sniffer {
    shared: Arc<Shared>,
    socket: Arc<OwnedFd>,
    sentinel: UdpSocket,
    sent: AtomicU64,
    reader: Option<JoinHandle<()>>,
}

impl Sniffer {
    /// Starts to count in `world`'s far namespace.
    ///
    /// # Errors
    /// Packet sockets need CAP_NET_RAW and a kernel that has them.
    pub fn start(world: &World) -> Result<Self> {
        Self::between(world.near(), world.far())
    }

    /// Starts to count in `far`, with sentinels from `near`: which must be where the frames in question come from, or
    /// another place from where frames travel the same way.
    ///
    /// # Errors
    /// See [`Sniffer::start`].
    pub fn between(near: &Netns, far: &Netns) -> Result<Self> {
        let socket = Arc::new(far.run(packet_socket)?);
        // Made here, outside every test cgroup: no fence is ever asked about a sentinel.
        let sentinel = near.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?)).context("sentinel socket")?;
        let shared = Arc::new(Shared::default());
        let reader = {
            let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
            thread::Builder::new().name("sniffer".into()).spawn(move || read(&shared, &socket))?
        };
        let sniffer = Self { shared, socket, sentinel, sent: AtomicU64::new(0), reader: Some(reader) };
        sniffer.flush().context("the test world does not carry frames from near to far")?;
        Ok(sniffer)
    }

    /// Returns when every frame that was sent before this call has been counted.
    ///
    /// # Errors
    /// The sentinels did not arrive, or the sniffer itself lost frames: then it can judge nothing.
    pub fn flush(&self) -> Result<()> {
        let mask = sched_getaffinity(None).context("sched_getaffinity")?;
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect();
        let end = Instant::now() + FLUSH;
        // The first flush of a world also waits for its link to come up, so sentinels are sent again until all
        // of one round were seen.
        loop {
            let sent = self.send_sentinels(&cpus)?;
            let round_end = (Instant::now() + ROUND).min(end);
            let mut seen = self.shared.seen();
            loop {
                if let Some(failure) = &seen.failure {
                    bail!("the sniffer failed: {failure}");
                }
                if sent.iter().all(|number| seen.sentinels.contains(number)) {
                    drop(seen);
                    return self.check_for_drops();
                }
                let left = round_end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                seen = self.shared.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            drop(seen);
            ensure!(Instant::now() < end, "sentinels did not reach the sniffer within {FLUSH:?}");
        }
    }

    /// Sends one sentinel from each CPU; returns their numbers.
    fn send_sentinels(&self, cpus: &[usize]) -> Result<Vec<u64>> {
        thread::scope(|scope| {
            // On a thread of its own, because it changes its CPU affinity.
            let sender = scope.spawn(|| {
                let mut numbers = Vec::with_capacity(cpus.len());
                for cpu in cpus {
                    let mut one = CpuSet::new();
                    one.set(*cpu);
                    sched_setaffinity(None, &one).with_context(|| format!("cannot run on CPU {cpu}"))?;
                    let number = self.sent.fetch_add(1, Ordering::Relaxed);
                    numbers.push(number);
                    // An error (link down) shows as a sentinel that does not arrive.
                    self.sentinel.send_to(&number.to_be_bytes(), SENTINEL).ok();
                }
                Ok(numbers)
            });
            sender.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// `PACKET_STATISTICS` counts frames that found the socket's buffer full.
    fn check_for_drops(&self) -> Result<()> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = libc::socklen_t::try_from(size_of::<libc::tpacket_stats>())?;
        // SAFETY: both pointers are to locals of the type and length that the option has.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        ensure!(result == 0, "PACKET_STATISTICS: {}", std::io::Error::last_os_error());
        ensure!(stats.tp_drops == 0, "the sniffer lost {} frames and cannot judge", stats.tp_drops);
        Ok(())
    }

    /// Flushes, then counts all frames of any protocol and port to `destination`.
    ///
    /// # Errors
    /// See [`Sniffer::flush`].
    pub fn frames_to(&self, destination: IpAddr) -> Result<Count> {
        self.count(|key| key.destination == destination)
    }

    /// Flushes, then counts the frames of `protocol` to `destination`.
    ///
    /// # Errors
    /// See [`Sniffer::flush`].
    pub fn frames_of(&self, protocol: u8, destination: SocketAddr) -> Result<Count> {
        self.count(|key| {
            key.protocol == protocol && key.destination == destination.ip() && key.port == destination.port()
        })
    }

    /// Flushes, then says when the last frame to `destination` arrived.
    ///
    /// # Errors
    /// See [`Sniffer::flush`].
    pub fn last_frame_to(&self, destination: SocketAddr) -> Result<Option<Instant>> {
        self.flush()?;
        Ok(self.shared.seen().last.get(&destination).copied())
    }

    /// Flushes, then counts the frames of this Ethernet type that are no packets as the judge reads them: cut short, or
    /// of another kind than IP.
    ///
    /// # Errors
    /// See [`Sniffer::flush`].
    pub fn unread_frames(&self, kind: u16) -> Result<u64> {
        self.flush()?;
        Ok(self.shared.seen().unread.get(&kind).copied().unwrap_or(0))
    }

    fn count(&self, wanted: impl Fn(&Key) -> bool) -> Result<Count> {
        self.flush()?;
        let seen = self.shared.seen();
        Ok(seen.counts.iter().filter(|(key, _)| wanted(key)).fold(Count::default(), |sum, (_, count)| {
            Count { frames: sum.frames + count.frames, with_payload: sum.with_payload + count.with_payload }
        }))
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}

fn packet_socket() -> Result<OwnedFd> {
    let protocol = NonZeroU32::new(u32::from(ETH_P_ALL.to_be())).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
        .context("cannot open a packet socket (AF_PACKET): run as root, with CAP_NET_RAW")?;
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>())?;
    // What far sends itself is not evidence, and on `lo` each frame would be seen twice.
    // SAFETY: the pointer is to a local of the type and length that the option has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            length,
        )
    };
    ensure!(result == 0, "PACKET_IGNORE_OUTGOING: {}", std::io::Error::last_os_error());
    set_socket_recv_buffer_size_force(&socket, BUFFER).context("SO_RCVBUFFORCE")?;
    set_socket_timeout(&socket, Timeout::Recv, Some(STOP_CHECK)).context("SO_RCVTIMEO")?;
    Ok(socket)
}

fn read(shared: &Shared, socket: &OwnedFd) {
    let mut buffer = [0; SNAP];
    while !shared.stop.load(Ordering::Relaxed) {
        match recv(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((length, _)) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                match parse(bytes) {
                    Some(frame) => note(shared, &frame),
                    None => note_unread(shared, bytes),
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The link went down: frames cannot arrive, and the flush will say so.
            Err(Errno::NETDOWN) => {}
            Err(errno) => {
                shared.seen().failure = Some(errno.to_string());
                shared.changed.notify_all();
                return;
            }
        }
    }
}

fn note_unread(shared: &Shared, bytes: &[u8]) {
    if let Some([high, low]) = bytes.get(12..14) {
        *shared.seen().unread.entry(u16::from_be_bytes([*high, *low])).or_default() += 1;
    }
}

fn note(shared: &Shared, frame: &Frame<'_>) {
    let target = SocketAddr::new(frame.destination, frame.port);
    let mut seen = shared.seen();
    if frame.protocol == UDP && target == SENTINEL {
        if let Some(number) = frame.payload.first_chunk() {
            seen.sentinels.insert(u64::from_be_bytes(*number));
        }
        drop(seen);
        shared.changed.notify_all();
        return;
    }
    let key = Key { protocol: frame.protocol, destination: frame.destination, port: frame.port };
    let count = seen.counts.entry(key).or_default();
    count.frames += 1;
    count.with_payload += u64::from(frame.payload_length > 0);
    seen.last.insert(target, Instant::now());
}
