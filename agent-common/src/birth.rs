//! A cgroup's birth: what the kernel program at `cgroup_mkdir` is told by the agent, and asks its map.
//!
//! The kernel hands the tracepoint `struct cgroup *` and the new cgroup's path. Where in those structs the numbers lie
//! differs by kernel; the agent reads it from the kernel's own BTF at start and writes it into a map ([`Layout`]), for
//! Rust has no CO-RE relocations. The path is looked up *whole* ([`PathKey`]): a hash of our own could be made to
//! collide by who may name cgroups, and a collision would give a workload the fences of another.

use crate::limits::MAX_SUBJECT_PATH;

/// Where the numbers lie in the running kernel's structs, in bytes from their beginning.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// `cgroup.kn`: pointer to its `kernfs_node`.
    pub cgroup_kn: u32,
    /// `cgroup.root`: pointer to the `cgroup_root` of its hierarchy.
    pub cgroup_root: u32,
    /// `kernfs_node.id`: u64, the cgroup's id.
    pub kn_id: u32,
    /// `cgroup_root.hierarchy_id`: int; 0 is the v2 hierarchy (`cgroup_init` makes it first). The tracepoints fire for
    /// all hierarchies, and each counts its ids from 1.
    pub root_hierarchy: u32,
}

const _: () = assert!(size_of::<Layout>() == 16);

/// A path below the cgroup2 mount as a map key: its bytes, then zeros, of which there is one at least.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathKey {
    /// The bytes.
    pub bytes: [u8; MAX_SUBJECT_PATH],
}

impl PathKey {
    /// The key of a path; `None` if it has a NUL or is too long for the kernel to look up.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        if path.len() >= MAX_SUBJECT_PATH || path.as_bytes().contains(&0) {
            return None;
        }
        let mut bytes = [0; MAX_SUBJECT_PATH];
        bytes.get_mut(..path.len())?.copy_from_slice(path.as_bytes());
        Some(Self { bytes })
    }

    /// All zeros: the kernel side's buffer before the next path.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.bytes.fill(0);
    }

    /// The path, up to its first zero; `None` if it is not UTF-8.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        let end = self.bytes.iter().position(|b| *b == 0)?;
        core::str::from_utf8(self.bytes.get(..end)?).ok()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;

    use super::PathKey;
    use crate::limits::MAX_SUBJECT_PATH;

    #[test]
    fn a_key_is_the_path_and_zeros() {
        let key = PathKey::of("/a/b").unwrap();
        assert_eq!(&key.bytes[..5], b"/a/b\0");
        assert!(key.bytes[5..].iter().all(|b| *b == 0));
        assert_eq!(key.path(), Some("/a/b"));
        assert!(PathKey::of("/a/b").unwrap() != PathKey::of("/a/b/").unwrap());
    }

    #[test]
    fn a_path_needs_room_for_the_zero_that_ends_it() {
        let path = |n: usize| String::from("/") + &"x".repeat(n - 1);
        assert!(PathKey::of(&path(MAX_SUBJECT_PATH - 1)).is_some());
        assert!(PathKey::of(&path(MAX_SUBJECT_PATH)).is_none());
        assert!(PathKey::of("/a\0b").is_none());
    }
}
