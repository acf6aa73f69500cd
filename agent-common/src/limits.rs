//! Every capacity, with the reason for the number. What does not fit is refused when the image is compiled, with
//! the number in the message: nothing is ever left out silently.

use crate::address::Address;

/// Distinct places of one image. The world has 250 countries, the clouds some 300 regions; the rest is room for
/// the combinations that CIDR rules cut out. 4,096 keeps a fence's row at 32 KiB.
pub const MAX_PLACES: usize = 4096;

/// Fences of one image (one node). A node rarely sees more than a dozen.
pub const MAX_FENCES: usize = 256;

/// Rules and exceptions of one fence: one bit each of a `u64`, so that a place's matching rules are one load.
pub const MAX_RULES: usize = 64;

/// Distinct sets of fences that some workload has.
pub const MAX_SETS: usize = 1024;

/// Fences that may match one workload. Each costs a turn of the verdict's loop.
pub const FENCES_PER_SET: usize = 16;

/// Workload ids of one node: ten times the pods that a kubelet runs, plus as many again for restarts.
pub const MAX_WORKLOADS: usize = 16384;

/// Cgroups in the identity table: each subject's, and those that are gone while a socket of theirs lives on (or, where
/// the kernel gives no identity at birth, the known siblings of subjects).
pub const MAX_IDENTITIES: usize = 2 * MAX_WORKLOADS;

/// Bytes of a subject's path that the kernel looks up at a cgroup's birth, its final zero included: the longest key
/// that a BPF map takes (`htab_map_alloc_check`). A container's scope in Kubernetes has about 220.
pub const MAX_SUBJECT_PATH: usize = 512;

/// Interfaces of fenced workloads that the host layer guards: one a pod, and room for pods with several.
pub const MAX_VETHS: usize = 4096;

/// Exchanges that egress vouches for at a time; the oldest makes room. What is missing is stopped, so the number is
/// twice the connections of a busy proxy.
pub const MAX_TUPLES: usize = 1 << 16;

/// Refused flows that the host layer remembers to fold their repeats; the oldest makes room, and its next packet is
/// told as a new flow, within the workload's budget of events.
pub const MAX_TRACES: usize = 4096;

/// Cells of all fences' rows together (a row is one cell a place): 2 MiB.
pub const RULE_CELLS: usize = 1 << 18;

/// Port classes: ranges of ports that no rule of any fence tells apart.
pub const PORT_CLASSES: usize = 256;

/// Levels of the cgroup tree in which a subject may lie. The kernel's own limit is far above; Kubernetes uses 4 to 6.
pub const MAX_CGROUP_LEVEL: u32 = 16;

/// IPv6 extension headers that are walked before a packet is called unreadable. RFC 8200 section 4.1 orders seven.
pub const MAX_EXTENSION_HEADERS: u32 = 8;

/// Ranges of the IPv4 index. The world has 356,000 (DB-IP, 2026-06) before policy cuts it.
pub const V4_CELLS: usize = 1 << 19;

/// Ranges of the IPv6 index, at /64 granularity. The world has 346,000 (DB-IP, 2026-06).
pub const V6_CELLS: usize = 1 << 19;

/// /16 blocks of the IPv6 index that are cut finer. The world has 66 to 124, by database.
pub const V6_BLOCKS: usize = 256;

/// /64 networks that are cut finer still. The world has 284 to 828, by database.
pub const DEEP_BLOCKS: usize = 4096;

/// Ranges inside those /64 networks. The world has 18,000 to 41,000, by database.
pub const DEEP_CELLS: usize = 1 << 16;

/// The canary: an address that every socket on the node is refused, fenced or not, without a record. The watchdog
/// connects and sends to it to see that the hooks are alive; nothing else uses it.
///
/// 127.114.102.1 (`r`, `f`): loopback, so that no byte of it can leave the machine if the hooks are not.
pub const CANARY: Address = Address::v4(0x7f72_6601);
