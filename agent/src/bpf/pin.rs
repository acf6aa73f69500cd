//! The pin directory: programs, links and maps as files of a bpf file system, so that they outlive the agent.
//!
//! ```text
//! <--bpffs>/               0700; flock(2) on it is "an agent is at work here"
//!   ledger                 what the readers of all agents so far have told (see `ledger`)
//!   maps-<schema>/<MAP>    the maps of one layout, and policy-<generation>: the policy map that is in force
//!   progs/<program>        the programs that the links run
//!   links/<name>           one a hook, a tracepoint, an interface
//!   filters/<interface>    the program of each clsact filter: the kernel keeps those by themselves, and this names them
//! ```
//!
//! Whoever attaches something keeps it here with [`PinDirectory::link`](super::link): one call that adopts what an
//! earlier agent left under the name, or attaches anew. Files are opened by path, which takes CAP_BPF and the
//! directory's ownership; nothing here needs CAP_SYS_ADMIN.

mod renew;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{FlockOperation, Mode, OFlags};
use thiserror::Error;

use super::sys;

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Directories of maps begin so; the schema follows.
const MAPS: &str = "maps-";
const LINKS: &str = "links";
const PROGRAMS: &str = "progs";
const FILTERS: &str = "filters";
const LEDGER: &str = "ledger";

/// What a layout of maps is called: a digest that `build.rs` takes of the sources which define it.
pub const SCHEMA: &str = env!("RINGFENCE_SCHEMA");

/// Why the pin directory can't be used.
#[derive(Debug, Error)]
pub enum PinError {
    /// Not on a bpf file system.
    #[error(
        "{} is not on a bpf file system: mount one (`mount -t bpf bpf /sys/fs/bpf`), or name a directory on one with --bpffs",
        path.display()
    )]
    NotBpffs {
        /// What was given.
        path: PathBuf,
    },
    /// Others could put their own programs into it.
    #[error(
        "{} can be written by others (mode {mode:o}): anybody's programs could be taken for ringfence's. Make it ours \
         alone (chmod 0700), or name another directory with --bpffs",
        path.display()
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody holds the lock.
    #[error(
        "an agent is at work with {}: stop it first (`systemctl stop ringfence`, or SIGTERM), or name another \
         directory with --bpffs",
        path.display()
    )]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The pins guard another cgroup.
    #[error(
        "the programs pinned in {} guard another cgroup ({guarded}) than {}: start with that one (--cgroup-root), \
         take another pin directory (--bpffs), or end that guard with `ringfence uninstall --bpffs {}`",
        path.display(), wanted.display(), path.display()
    )]
    OtherRoot {
        /// The directory.
        path: PathBuf,
        /// What is guarded.
        guarded: String,
        /// What was asked for.
        wanted: PathBuf,
    },
    /// The system refuses a step.
    #[error("{call} {}: {source}", path.display())]
    Step {
        /// What was tried.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// An error of a step on a path.
pub(super) fn step(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    let path = path.to_owned();
    move |source| PinError::Step { call, path, source }
}

/// The pin directory, locked for as long as this lives.
#[derive(Debug)]
pub struct PinDirectory {
    path: PathBuf,
    /// The lock: the kernel gives it back when the process ends, however it ends.
    lock: Mutex<OwnedFd>,
}

/// What [`PinDirectory::remove`] took away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names of links: what was attached.
    pub links: Vec<String>,
    /// Programs.
    pub programs: usize,
    /// Maps.
    pub maps: usize,
}

impl PinDirectory {
    /// Takes the directory, making it if need be.
    ///
    /// # Errors
    /// It is not on a bpf file system, is open to others, or another agent has it.
    pub fn open(path: &Path) -> Result<Self, PinError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if !path.exists() {
            if !parent.is_some_and(is_bpffs) {
                return Err(PinError::NotBpffs { path: path.to_owned() });
            }
            make(path)?;
        }
        let directory = Self::take(path)?;
        for name in [LINKS, PROGRAMS, FILTERS] {
            make(&directory.path.join(name))?;
        }
        Ok(directory)
    }

    /// Takes the directory if there is one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn existing(path: &Path) -> Result<Option<Self>, PinError> {
        if path.exists() { Self::take(path).map(Some) } else { Ok(None) }
    }

    fn take(path: &Path) -> Result<Self, PinError> {
        if !is_bpffs(path) {
            return Err(PinError::NotBpffs { path: path.to_owned() });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|e| step("opening", path)(e.into()))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(PinError::Busy { path: path.to_owned() }),
            Err(errno) => return Err(step("locking", path)(errno.into())),
        }
        let held = rustix::fs::fstat(&lock).map_err(|e| step("looking at", path)(e.into()))?;
        // Who held the lock before may have removed the directory: then ours is of no use.
        match fs::metadata(path) {
            Ok(now) if now.ino() == held.st_ino => {}
            Ok(_) | Err(_) => return Err(PinError::Busy { path: path.to_owned() }),
        }
        let mode = held.st_mode & 0o777;
        if mode & 0o022 != 0 {
            return Err(PinError::Open { path: path.to_owned(), mode });
        }
        Ok(Self { path: path.to_owned(), lock: Mutex::new(lock) })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the maps of this build's layout lie.
    pub(crate) fn maps(&self) -> PathBuf {
        self.path.join(format!("{MAPS}{SCHEMA}"))
    }

    /// Where maps of other layouts lie.
    pub(crate) fn other_maps(&self) -> Result<Vec<PathBuf>, PinError> {
        let ours = self.maps();
        let mut all = entries(&self.path)?;
        all.retain(|path| name(path).starts_with(MAPS) && *path != ours);
        Ok(all)
    }

    /// Where the ledger lies.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.path.join(LEDGER)
    }

    /// Where programs lie.
    pub(super) fn programs(&self) -> PathBuf {
        self.path.join(PROGRAMS)
    }

    /// Where a link of this name lies.
    pub(super) fn link_path(&self, name: &str) -> PathBuf {
        self.path.join(LINKS).join(name)
    }

    /// Names of the links that are pinned.
    pub(crate) fn link_names(&self) -> Result<Vec<String>, PinError> {
        Ok(entries(&self.path.join(LINKS))?.iter().map(|path| name(path)).collect())
    }

    /// Pins a program, in the place of the one that had its name.
    pub(crate) fn keep_program(&self, name: &str, program: BorrowedFd<'_>) -> Result<(), PinError> {
        let path = self.path.join(PROGRAMS).join(name);
        // Names of a bpf file system have no dots.
        let beside = self.path.join(PROGRAMS).join(format!("{name}-new"));
        forget(&beside)?;
        sys::pin(program, &beside).map_err(step("pinning", &beside))?;
        fs::rename(&beside, &path).map_err(step("renaming to", &path))
    }

    /// Notes that a filter holds a program at an interface: a filter is no link, and goes only when it is taken away.
    pub(crate) fn note_filter(&self, interface: u32, program: BorrowedFd<'_>) -> Result<(), PinError> {
        let path = self.path.join(FILTERS).join(interface.to_string());
        forget(&path)?;
        sys::pin(program, &path).map_err(step("pinning", &path))
    }

    /// The filter was taken away.
    pub(crate) fn forget_filter(&self, interface: u32) -> Result<bool, PinError> {
        forget(&self.path.join(FILTERS).join(interface.to_string()))
    }

    /// Interfaces that hold a filter.
    pub(crate) fn filters(&self) -> Result<Vec<u32>, PinError> {
        Ok(entries(&self.path.join(FILTERS))?.iter().filter_map(|path| name(path).parse().ok()).collect())
    }

    /// Detaches every link and removes all that is pinned, then the directory itself. When this returns nothing judges
    /// any more.
    ///
    /// # Errors
    /// At the first step that the system refuses; what was removed before is gone. Filters must have been taken away
    /// before ([`filters`](Self::filters)).
    pub fn remove(&self) -> Result<Removed, PinError> {
        let mut removed = Removed::default();
        for path in entries(&self.path.join(LINKS))? {
            detach(&path)?;
            removed.links.push(name(&path));
        }
        removed.programs = remove_all(&self.path.join(PROGRAMS))?;
        remove_all(&self.path.join(FILTERS))?;
        for path in entries(&self.path)? {
            if path.is_dir() {
                removed.maps += remove_all(&path)?;
            } else {
                forget(&path)?;
                removed.maps += 1;
            }
        }
        remove_directory(&self.path)?;
        Ok(removed)
    }
}

fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|s| s.f_type as u64 == BPF_FS_MAGIC)
}

/// Makes a directory, if it is not there.
pub(super) fn make(path: &Path) -> Result<(), PinError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(step("making", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a file, if it is there; true if it was.
pub(super) fn forget(path: &Path) -> Result<bool, PinError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(step("removing", path)(error)),
    }
}

/// Detaches a pinned link, at once where the kernel can, and removes the pin; true if it was there.
pub(super) fn detach(path: &Path) -> Result<bool, PinError> {
    let detached = sys::open_pin(path).and_then(|link| sys::detach_link(link.as_fd()));
    match detached.map_err(|error| (error.raw_os_error(), error)) {
        // Not there; no kind of link that can be detached; or no link at all.
        Ok(()) | Err((Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL), _)) => forget(path),
        Err((_, error)) => Err(step("detaching", path)(error)),
    }
}

/// Removes a directory of files, if it is there; how many files there were.
pub(super) fn remove_all(directory: &Path) -> Result<usize, PinError> {
    let files = entries(directory)?;
    for file in &files {
        forget(file)?;
    }
    remove_directory(directory)?;
    Ok(files.len())
}

fn remove_directory(path: &Path) -> Result<(), PinError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(step("removing", path)(error)),
        _ => Ok(()),
    }
}

/// What lies in a directory, sorted; nothing if it is not there.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, PinError> {
    let read = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(step("reading", directory))?,
    };
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry.map_err(step("reading", directory))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{PinDirectory, PinError};

    #[test]
    fn a_directory_elsewhere_is_refused_with_the_mend_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ringfence");
        let error = PinDirectory::open(&path).unwrap_err();
        assert!(matches!(error, PinError::NotBpffs { .. }), "{error}");
        assert!(error.to_string().contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
        assert!(!path.exists());
        assert!(matches!(PinDirectory::open(dir.path()), Err(PinError::NotBpffs { .. })));
    }

    #[test]
    fn nothing_to_remove_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(PinDirectory::existing(&dir.path().join("gone")).unwrap().is_none());
    }
}
