//! The smallest form of the `bpf()` calls that probes make. What they give back ends with its descriptor.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::super::sys::bpf;

/// Commands of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BTF_LOAD: libc::c_long = 18;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

/// Program types that probes load (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum ProgType {
    SchedCls = 3,
    CgroupSkb = 8,
    RawTracepoint = 17,
    CgroupSockAddr = 18,
}

/// Attach types that probes use (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum AttachType {
    /// Of programs that name none.
    Unspecified = 0,
    InetEgress = 1,
    Inet4Connect = 10,
    TcxIngress = 46,
}

/// One instruction (`struct bpf_insn`): operation, registers, offset, immediate.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `r<register> = value`.
pub(super) const fn set(register: u8, value: i32) -> Instruction {
    Instruction { code: 0xb7, registers: register, offset: 0, immediate: value }
}

/// Calls a helper.
pub(super) const fn call(helper: i32) -> Instruction {
    Instruction { code: 0x85, registers: 0, offset: 0, immediate: helper }
}

/// Ends, with `r0` as the answer.
pub(super) const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// Loads a program.
pub(super) fn load(kind: ProgType, attach: AttachType, program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attr = ProgLoad {
        prog_type: kind as u32,
        insn_cnt: u32::try_from(program.len()).map_err(io::Error::other)?,
        insns: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"ringfence_probe\0",
        prog_ifindex: 0,
        expected_attach_type: attach as u32,
    };
    owned(bpf(PROG_LOAD, &mut attr)?)
}

/// What `BPF_MAP_CREATE` reads here.
#[repr(C)]
#[derive(Default)]
pub(super) struct MapCreate {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) map_flags: u32,
    pub(super) inner_map_fd: u32,
    pub(super) numa_node: u32,
    pub(super) map_name: [u8; 16],
    pub(super) map_ifindex: u32,
    pub(super) btf_fd: u32,
    pub(super) btf_key_type_id: u32,
    pub(super) btf_value_type_id: u32,
}

/// Creates a map.
pub(super) fn create_map(mut attr: MapCreate) -> io::Result<OwnedFd> {
    owned(bpf(MAP_CREATE, &mut attr)?)
}

#[repr(C)]
struct BtfLoad {
    btf: u64,
    btf_log_buf: u64,
    btf_size: u32,
    btf_log_size: u32,
    btf_log_level: u32,
    _pad: u32,
}

/// Loads type information whose type 1 is a 4-byte integer (Documentation/bpf/btf.rst).
pub(super) fn load_integer_type() -> io::Result<OwnedFd> {
    const INT: u32 = 1 << 24;
    const SIGNED_32_BITS: u32 = 1 << 24 | 32;
    // Header: magic, version, flags; its own length; offset and length of types, then of strings.
    let head: [u32; 6] = [u32::from_ne_bytes([0x9f, 0xeb, 1, 0]), 24, 0, 16, 16, 5];
    // One type: its name's place among the strings, kind, bytes, encoding.
    let types: [u32; 4] = [1, INT, 4, SIGNED_32_BITS];
    let words = head.iter().chain(&types).flat_map(|word| word.to_ne_bytes());
    let blob: Vec<u8> = words.chain(*b"\0int\0").collect();
    let mut attr = BtfLoad {
        btf: blob.as_ptr() as u64,
        btf_log_buf: 0,
        btf_size: u32::try_from(blob.len()).map_err(io::Error::other)?,
        btf_log_size: 0,
        btf_log_level: 0,
        _pad: 0,
    };
    owned(bpf(BTF_LOAD, &mut attr)?)
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// `tcx` reads a position here; cgroup links read nothing. Zero is "at the end".
    rest: [u64; 2],
}

/// Attaches a program. `target` is a descriptor (cgroup) or an interface's index (tcx).
pub(super) fn link(program: BorrowedFd<'_>, target: u32, attach: AttachType) -> io::Result<OwnedFd> {
    let prog_fd = number(program);
    let mut attr = LinkCreate { prog_fd, target, attach_type: attach as u32, flags: 0, rest: [0; 2] };
    owned(bpf(LINK_CREATE, &mut attr)?)
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Replaces the program of a link.
pub(super) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr =
        LinkUpdate { link_fd: number(link), new_prog_fd: number(program), flags: 0, old_prog_fd: 0 };
    bpf(LINK_UPDATE, &mut attr).map(|_| ())
}

#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    _pad: u32,
}

/// Attaches a program to a raw tracepoint.
pub(super) fn open_raw_tracepoint(name: &CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = RawTracepointOpen { name: name.as_ptr() as u64, prog_fd: number(program), _pad: 0 };
    owned(bpf(RAW_TRACEPOINT_OPEN, &mut attr)?)
}

/// Descriptors are not negative.
pub(super) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave us this descriptor; every command that is followed by this call returns one.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
