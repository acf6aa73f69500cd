//! Pins of a bpf file system, and what the kernel says of maps and programs.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{bpf, bpf_fd};

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// The part that `BPF_OBJ_PIN` and `BPF_OBJ_GET` read.
#[repr(C)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part that `BPF_OBJ_GET_INFO_BY_FD` reads.
#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MapInfo {
    pub(crate) map_type: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
}

fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Pins an object. The file must not exist.
pub(crate) fn pin(object: BorrowedFd<'_>, at: &Path) -> io::Result<()> {
    let at = path(at)?;
    let mut attr =
        ObjectAttr { pathname: at.as_ptr() as u64, bpf_fd: object.as_raw_fd() as u32, file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attr).map(|_| ())
}

/// Opens a pinned object, whatever it is.
pub(crate) fn open_pin(at: &Path) -> io::Result<OwnedFd> {
    let at = path(at)?;
    let mut attr = ObjectAttr { pathname: at.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    bpf_fd(BPF_OBJ_GET, &mut attr)
}

/// Fills `info` with as much as it has room for. `T` must be `repr(C)` integers: any bytes are a value of it.
pub(super) fn info<T: Default>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let mut attr = InfoAttr {
        bpf_fd: object.as_raw_fd() as u32,
        info_len: u32::try_from(size_of::<T>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// What tells a map or a program from every other: type and id, and key and value size, or the tag.
pub(crate) type Identity = [u32; 4];

/// Which map or program this is.
pub(crate) fn identity(object: BorrowedFd<'_>) -> io::Result<Identity> {
    info(object)
}

/// What a map is.
pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}
