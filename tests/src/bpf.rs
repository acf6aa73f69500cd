//! As much of bpf(2) as an adversary needs who has the right to it: a small program of his own on a cgroup, and other
//! people's links found by number and taken off.
//!
//! Numbers are of `linux/bpf.h`; they are kernel ABI.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};

use crate::cgroup::Cgroup;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
const BPF_LINK_GET_NEXT_ID: libc::c_int = 31;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const BPF_CGROUP_INET4_CONNECT: u32 = 10;
const BPF_LINK_TYPE_CGROUP: u32 = 3;
/// `BPF_F_ALLOW_OVERRIDE`: programs of cgroups further down take this one's place.
pub const ALLOW_OVERRIDE: u32 = 1;
/// `BPF_F_ALLOW_MULTI`: programs of cgroups further up run as well.
pub const ALLOW_MULTI: u32 = 2;

/// `union bpf_attr`, as words: larger than every member that is used here.
type Attributes = [u64; 18];

/// A `connect4` program that sends everybody to one address, attached to a cgroup the way before links. Detached
/// when dropped.
pub struct Rewriter {
    program: OwnedFd,
    cgroup: File,
}

impl Rewriter {
    /// Attaches to `cgroup`, with [`ALLOW_OVERRIDE`], [`ALLOW_MULTI`] or 0.
    ///
    /// # Errors
    /// The kernel refuses the program, or the flags.
    pub fn attach(cgroup: &Cgroup, to: Ipv4Addr, flags: u32) -> Result<Self> {
        let program = load(to).context("cannot load a program of a test's own")?;
        let cgroup = File::open(cgroup.path())?;
        call(BPF_PROG_ATTACH, &mut Self::attributes(&program, &cgroup, flags))
            .context("cannot attach a program of a test's own")?;
        Ok(Self { program, cgroup })
    }

    /// `target_fd`, `attach_bpf_fd`, `attach_type`, `attach_flags`
    fn attributes(program: &OwnedFd, cgroup: &File, flags: u32) -> Attributes {
        let mut attributes = Attributes::default();
        attributes[0] = pair(cgroup.as_raw_fd().cast_unsigned(), program.as_raw_fd().cast_unsigned());
        attributes[1] = pair(BPF_CGROUP_INET4_CONNECT, flags);
        attributes
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        // An error means that the cgroup has gone and the program with it.
        call(BPF_PROG_DETACH, &mut Self::attributes(&self.program, &self.cgroup, 0)).ok();
    }
}

/// `ctx->user_ip4 = to; return 1;`
fn load(to: Ipv4Addr) -> Result<OwnedFd> {
    let address = i32::from_ne_bytes(to.octets());
    let instructions = [
        instruction(0xb4, 2, 0, 0, address), // w2 = to
        instruction(0x63, 1, 2, 4, 0),       // *(u32 *)(r1 + offsetof(user_ip4)) = w2
        instruction(0xb7, 0, 0, 0, 1),       // r0 = 1
        instruction(0x95, 0, 0, 0, 0),       // exit
    ];
    let mut attributes = Attributes::default();
    attributes[0] = pair(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, u32::try_from(instructions.len())?);
    attributes[1] = instructions.as_ptr().addr() as u64;
    attributes[2] = c"GPL".as_ptr().addr() as u64;
    attributes[8] = pair(0, BPF_CGROUP_INET4_CONNECT); // prog_ifindex, expected_attach_type
    descriptor(call(BPF_PROG_LOAD, &mut attributes)?)
}

/// `struct bpf_insn` in one word.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = immediate.to_ne_bytes();
    u64::from_ne_bytes([code, source << 4 | destination, low, high, a, b, c, d])
}

/// Detaches every link of every program on `cgroup`, as root on the node can. Returns how many there were.
///
/// # Errors
/// Not root (CAP_SYS_ADMIN).
pub fn detach_links(cgroup: &Cgroup) -> Result<usize> {
    let (mut id, mut count, wanted) = (0, 0, cgroup.id()?);
    while let Some(next) = next_link(id) {
        id = next;
        let mut attributes = Attributes::default();
        attributes[0] = u64::from(id);
        // The link may have gone since it was listed.
        let Ok(link) = call(BPF_LINK_GET_FD_BY_ID, &mut attributes) else { continue };
        let link = descriptor(link)?;
        let info = link_info(&link)?;
        if info[0] & 0xffff_ffff == u64::from(BPF_LINK_TYPE_CGROUP) && info[2] == wanted {
            let mut attributes = Attributes::default();
            attributes[0] = u64::from(link.as_raw_fd().cast_unsigned());
            call(BPF_LINK_DETACH, &mut attributes).context("BPF_LINK_DETACH")?;
            count += 1;
        }
    }
    ensure!(count > 0, "no link of {} was found", cgroup.name());
    Ok(count)
}

fn next_link(after: u32) -> Option<u32> {
    let mut attributes = Attributes::default();
    attributes[0] = u64::from(after);
    call(BPF_LINK_GET_NEXT_ID, &mut attributes).ok()?;
    u32::try_from(attributes[0] >> 32).ok()
}

/// `struct bpf_link_info`: type and id, program, and for a cgroup link the cgroup's id in the third word.
fn link_info(link: &OwnedFd) -> Result<[u64; 8]> {
    let mut info = [0u64; 8];
    let mut attributes = Attributes::default();
    attributes[0] = pair(link.as_raw_fd().cast_unsigned(), u32::try_from(size_of_val(&info))?);
    attributes[1] = info.as_mut_ptr().addr() as u64;
    call(BPF_OBJ_GET_INFO_BY_FD, &mut attributes).context("BPF_OBJ_GET_INFO_BY_FD")?;
    Ok(info)
}

/// Two 32-bit fields that lie one after the other.
fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn call(command: libc::c_int, attributes: &mut Attributes) -> Result<libc::c_long> {
    // SAFETY: the attributes are larger than any member of the union, and every pointer in them is to memory that the
    // caller holds over the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<Attributes>()) };
    if result < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(result) }
}

fn descriptor(number: libc::c_long) -> Result<OwnedFd> {
    let number = i32::try_from(number)?;
    // SAFETY: the kernel has just given this descriptor to us and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
