//! Cgroups: where cgroup2 is mounted, which id a path has, and which path an id had.
//!
//! A cgroup's id is its directory's inode number, and what `bpf_get_current_cgroup_id` returns.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Dir, FileType, Mode, OFlags, open};
use rustix::io::Errno;
use thiserror::Error;

use crate::policy::CgroupPath;

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// Inode number of the root of the whole hierarchy; in a cgroup namespace the mount's root has another.
const ROOT_INODE: u64 = 1;
/// Names kept before those of cgroups that are gone are let go, oldest first: late events shall still have one.
const NAMES: usize = 16_384;

/// Why cgroups can't be used.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// No cgroup2 file system anywhere.
    #[error(
        "no cgroup2 file system is mounted: mount one (`mount -t cgroup2 none /sys/fs/cgroup`) or boot without `systemd.unified_cgroup_hierarchy=0`"
    )]
    NotMounted,
    /// The directory given is no cgroup.
    #[error("{} is not in a cgroup2 file system: --cgroup-root wants a directory like /sys/fs/cgroup/system.slice", path.display())]
    NotCgroup2 {
        /// What was given.
        path: PathBuf,
    },
    /// The directory's path can't be written in a policy.
    #[error("{} has a name that no policy can say (a control character, or more levels than are followed)", path.display())]
    Name {
        /// What was given.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{call} {}: {source}", path.display())]
    Io {
        /// What was tried.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A child's name, if it is UTF-8, and id.
pub type Child = (Option<String>, u64);

/// A cgroup2 mount.
#[derive(Debug)]
pub struct CgroupFs {
    mount: PathBuf,
    is_root: bool,
    names: Mutex<Names>,
}

/// The names of cgroups by id, and so by age.
#[derive(Debug)]
struct Names {
    by_id: BTreeMap<u64, Arc<str>>,
    /// When to look which are gone.
    limit: usize,
}

pub(super) fn is_cgroup2(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|s| s.f_type as u64 == CGROUP2_MAGIC)
}

fn io_error(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { call, path, source }
}

impl CgroupFs {
    /// The mount that `root` lies in; without one the first of the usual places, then any.
    pub fn find(root: Option<&Path>) -> Result<(Self, PathBuf), CgroupError> {
        let root = match root {
            Some(given) => fs::canonicalize(given).map_err(io_error("open", given))?,
            None => default_mount()?,
        };
        if !is_cgroup2(&root) {
            return Err(CgroupError::NotCgroup2 { path: root });
        }
        let mut mount = root.clone();
        while let Some(parent) = mount.parent()
            && is_cgroup2(parent)
        {
            mount = parent.to_owned();
        }
        let inode = fs::metadata(&mount).map_err(io_error("read", &mount))?.ino();
        Ok((Self { mount, is_root: inode == ROOT_INODE, names: Mutex::new(Names::default()) }, root))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Whether path depth and cgroup level are the same: not so inside a cgroup namespace.
    #[must_use]
    pub fn levels_are_depths(&self) -> bool {
        self.is_root
    }

    /// The directory of a cgroup.
    #[must_use]
    pub fn directory(&self, path: &CgroupPath) -> PathBuf {
        self.mount.join(path.as_str().trim_start_matches('/'))
    }

    /// The id of a cgroup, if it exists.
    pub fn id(&self, path: &CgroupPath) -> Result<Option<u64>, CgroupError> {
        let directory = self.directory(path);
        match fs::metadata(&directory) {
            Ok(m) => {
                self.keep(m.ino(), path.as_str());
                Ok(Some(m.ino()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("read", &directory)(e)),
        }
    }

    /// The same as a path that subjects are held against.
    pub fn path(&self, directory: &Path) -> Result<CgroupPath, CgroupError> {
        let name = self.name_of(directory);
        name.and_then(|name| CgroupPath::parse(&name).ok())
            .ok_or_else(|| CgroupError::Name { path: directory.to_owned() })
    }

    /// A cgroup's id with the names (if they are UTF-8) and ids of its children; `None` if there is no such cgroup.
    pub fn children(&self, path: &CgroupPath) -> Result<Option<(u64, Vec<Child>)>, CgroupError> {
        let directory = self.directory(path);
        let read = |call| move |e: Errno| io_error(call, &directory)(e.into());
        // One descriptor for both questions: they are of one cgroup, whatever takes its place meanwhile.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut dir = match open(self.directory(path), flags, Mode::empty()) {
            Ok(fd) => Dir::new(fd).map_err(read.clone()("read"))?,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(read("open")(e)),
        };
        let id = dir.stat().map_err(read.clone()("read"))?.st_ino;
        let mut children = Vec::new();
        for entry in &mut dir {
            // Removed while it was read: what was found is gone too.
            let Ok(entry) = entry else { return Ok(None) };
            if entry.file_type() == FileType::Directory
                && !matches!(entry.file_name().to_bytes(), b"." | b"..")
            {
                let name = entry.file_name().to_str().ok().map(str::to_owned);
                children.push((name, entry.ino()));
            }
        }
        Ok(Some((id, children)))
    }

    /// A directory's path below the mount, as policies and events write it.
    #[must_use]
    pub fn name_of(&self, directory: &Path) -> Option<String> {
        let below = directory.strip_prefix(&self.mount).ok()?;
        Some(format!("/{}", below.to_string_lossy()))
    }

    /// The path of a cgroup id, also of one that is gone if it was seen before.
    #[must_use]
    pub fn path_of(&self, id: u64) -> Option<Arc<str>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }

    /// Reads the names of a directory and all below it. What vanishes meanwhile is left out.
    pub fn scan(&self, directory: &Path) {
        let mut todo = vec![directory.to_owned()];
        while let Some(directory) = todo.pop() {
            if let (Ok(m), Some(name)) = (fs::metadata(&directory), self.name_of(&directory)) {
                self.keep(m.ino(), &name);
            }
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            todo.extend(
                entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()),
            );
        }
    }

    fn keep(&self, id: u64, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.by_id.get(&id).is_some_and(|known| **known == *name) {
            return;
        }
        names.by_id.insert(id, Arc::from(name));
        if names.by_id.len() > names.limit {
            names.thin(|id, name| {
                let directory = self.mount.join(name.trim_start_matches('/'));
                fs::metadata(directory).is_ok_and(|m| m.ino() == id)
            });
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), limit: NAMES }
    }
}

impl Names {
    /// Lets a quarter go: the oldest that are not `live`. Those that are stay, however many.
    fn thin(&mut self, live: impl Fn(u64, &str) -> bool) {
        let mut spare = self.by_id.len() / 4;
        self.by_id.retain(|id, name| {
            let gone = spare > 0 && !live(*id, name);
            spare -= usize::from(gone);
            !gone
        });
        self.limit = NAMES.max(self.by_id.len() / 4 * 5);
    }
}

fn default_mount() -> Result<PathBuf, CgroupError> {
    let usual = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    if let Some(found) = usual.into_iter().find(|p| is_cgroup2(p)) {
        return Ok(found);
    }
    let path = Path::new("/proc/self/mounts");
    let mounts = fs::read_to_string(path).map_err(io_error("read", path))?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let found = fields.find_map(|mut f| {
        let (_, at, kind) = (f.next()?, f.next()?, f.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    });
    found.ok_or(CgroupError::NotMounted)
}

#[cfg(test)]
mod tests {
    use super::{CgroupError, CgroupFs, NAMES, Names};

    #[test]
    fn a_directory_of_another_file_system_is_refused_with_the_mend() {
        let dir = tempfile::tempdir().unwrap();
        let error = CgroupFs::find(Some(dir.path())).unwrap_err();
        assert!(matches!(error, CgroupError::NotCgroup2 { .. }), "{error}");
        assert!(error.to_string().contains("--cgroup-root"));
    }

    #[test]
    fn a_directory_that_does_not_exist_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = CgroupFs::find(Some(&dir.path().join("gone"))).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }

    #[test]
    fn old_names_of_gone_cgroups_are_let_go_and_no_live_one_is() {
        let mut names = Names::default();
        let total = NAMES as u64 + 4;
        for id in 0..total {
            names.by_id.insert(id, format!("/{id}").into());
        }
        // Every other one of the older half lives, and all of the younger.
        let live = |id: u64| id.is_multiple_of(2) || id > total / 2;
        names.thin(|id, _| live(id));
        assert!((0..total).filter(|id| live(*id)).all(|id| names.by_id.contains_key(&id)));
        assert_eq!(names.by_id.len() as u64, total - total / 4);
        names.thin(|_, _| true);
        assert_eq!(names.by_id.len() as u64, total - total / 4);
        assert!(names.limit >= NAMES);
    }
}
