//! The test world of ringfence, and the means to judge what happens in it.
//!
//! Read in this order:
//!
//! 1. [`netns`], [`netlink`], [`world`]: two network namespaces that can reach each other and nothing
//!    else. The far one answers on every address, so `13.110.54.10` there *is* an address in the
//!    United States, and no frame can leave the machine.
//! 2. [`node`]: pods on a bridge, for what only shows where a workload has a network namespace of its own.
//! 3. [`cgroup`]: a private cgroup tree; the agent under test attaches there and nowhere higher.
//! 4. [`actor`]: a workload. A process in a chosen cgroup and namespace that does what it is told, socket
//!    call by socket call, and answers with errno and time; with [`craft`], packets by hand.
//! 5. [`servers`]: echo over TCP and UDP in the far namespace; [`peers`]: many connections, and how each ended.
//! 6. [`sniffer`] with [`frame`]: **the judge**. What arrived at the far end is read from the wire by a
//!    packet socket, never from a counter of the agent's.
//! 7. [`agent`] with [`events`]: the `ringfence` binary under test, its status and its event stream; [`bpf`]: what root
//!    can do to it.
//! 8. [`mmdb`]: small country databases of every shape that publishers use.
//! 9. [`verifier`]: what the kernel's verifier says of each program.
//! 10. [`demo`]: all of it, put together for people to watch: `cargo xtask demo`.
//!
//! Nothing in here shares parsing code with the product: a judge must be able to disagree.

pub mod actor;
pub mod agent;
pub mod bpf;
pub mod bpffs;
pub mod cgroup;
pub mod craft;
pub mod deadline;
pub mod demo;
pub mod errno;
pub mod events;
pub mod frame;
pub mod mmdb;
pub mod netlink;
pub mod netns;
pub mod node;
pub mod peers;
mod place;
pub mod servers;
pub mod sniffer;
pub mod sockaddr;
pub mod tamper;
pub mod verifier;
pub mod world;
