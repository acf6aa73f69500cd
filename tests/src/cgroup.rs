//! Cgroups of the test's own: a private root far below the machine's, so that nothing which a test attaches
//! can touch a process that is not the test's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::deadline::wait_for;

/// `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// Of all private roots.
const PREFIX: &str = "ringfence-test-";
/// How long a cgroup may take to empty after its members were killed.
const EMPTY: Duration = Duration::from_secs(10);

/// Where cgroup v2 is mounted: told by the file system's type, because the path differs (unified hosts,
/// hybrid hosts, virtual machines).
///
/// # Errors
/// It is mounted nowhere; the error says how to mount it.
pub fn mount() -> Result<PathBuf> {
    let usual = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let listed = mounts.lines().filter_map(|line| line.split(' ').nth(1).map(PathBuf::from));
    usual.into_iter().chain(listed).find(|path| is_cgroup2(path)).context(
        "cgroup v2 is mounted nowhere; mount it: mkdir -p /sys/fs/cgroup/unified && \
         mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
    )
}

fn is_cgroup2(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|t| t == CGROUP2_MAGIC))
}

/// Removes what suites that were killed have left: empty trees whose process is gone. Nothing is killed, and a tree
/// that is in use cannot be removed.
fn sweep(mount: &Path) {
    for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            for child in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                fs::remove_dir(child.path()).ok();
            }
            fs::remove_dir(entry.path()).ok();
        }
    }
}

/// A cgroup that the test made. Dropping it kills its members (only them) and removes it.
pub struct Cgroup {
    path: PathBuf,
    /// Path below the cgroup2 mount, with a leading slash: what policies call it.
    name: String,
}

impl Cgroup {
    /// A new private root `ringfence-test-<pid>-<n>` below the mount.
    ///
    /// # Errors
    /// Not root, or no cgroup v2.
    pub fn root() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("/{PREFIX}{}-{number}", std::process::id());
        let mount = mount()?;
        if number == 0 {
            sweep(&mount);
        }
        Self::create(mount, name)
    }

    /// A root with a name that documents can mention: `/name` below the mount. One that was left behind without
    /// processes is removed first.
    ///
    /// # Errors
    /// It is in use, not root, or no cgroup v2.
    pub fn named_root(name: &str) -> Result<Self> {
        let mount = mount()?;
        let path = mount.join(name);
        if path.exists() {
            // What holds a process, in it or below, cannot be removed: then somebody is using it.
            for child in fs::read_dir(&path).into_iter().flatten().flatten() {
                fs::remove_dir(child.path()).ok();
            }
            fs::remove_dir(&path).with_context(|| {
                format!("the cgroup {} is in use: is this running already?", path.display())
            })?;
        }
        Self::create(mount, format!("/{name}"))
    }

    /// A child of this cgroup. Drop children before their parent.
    ///
    /// # Errors
    /// It exists, or may not be made.
    pub fn child(&self, name: &str) -> Result<Self> {
        let Some(mount) = self.path.to_str().and_then(|path| path.strip_suffix(self.name.as_str())) else {
            bail!("{} does not end in {}", self.path.display(), self.name);
        };
        Self::create(PathBuf::from(mount), format!("{}/{name}", self.name))
    }

    fn create(mount: PathBuf, name: String) -> Result<Self> {
        let path = mount.join(name.trim_start_matches('/'));
        fs::create_dir(&path)
            .with_context(|| format!("cannot make cgroup {}: run as root", path.display()))?;
        Ok(Self { path, name })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path below the mount, as policies and events write it: `/ringfence-test-1-0/crm`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number by which the kernel knows it (`bpf_get_current_cgroup_id`): the directory's inode.
    ///
    /// # Errors
    /// The directory is gone.
    pub fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path).with_context(|| format!("no cgroup {}", self.path.display()))?.ino())
    }

    /// `cgroup.procs` open for writing: a process that writes `0` to it moves itself in.
    pub(crate) fn door(&self) -> Result<File> {
        let procs = self.path.join("cgroup.procs");
        OpenOptions::new()
            .write(true)
            .open(&procs)
            .with_context(|| format!("cannot open {}", procs.display()))
    }

    /// Moves a process into it; its sockets stay with the cgroup that they were made in.
    ///
    /// # Errors
    /// The process or the directory is gone.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        self.door()?
            .write_all(pid.to_string().as_bytes())
            .with_context(|| format!("cannot move process {pid} into {}", self.path.display()))
    }

    /// Removes the directory, and only that: no member is killed, and sockets of it may live on.
    ///
    /// # Errors
    /// It has members or children.
    pub fn dissolve(self) -> Result<()> {
        fs::remove_dir(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))?;
        // Nothing is left for `drop` to do.
        std::mem::forget(self);
        Ok(())
    }

    /// The processes in it.
    ///
    /// # Errors
    /// The directory is gone.
    pub fn members(&self) -> io::Result<Vec<i32>> {
        let procs = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(procs.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Kills the members and removes the directory, children (of a test that died half-way) first.
    fn remove(path: &Path) -> Result<()> {
        for entry in fs::read_dir(path)?.flatten() {
            if entry.file_type()?.is_dir() {
                Self::remove(&entry.path())?;
            }
        }
        let procs = path.join("cgroup.procs");
        wait_for("a test cgroup to empty and go away", EMPTY, || {
            for line in fs::read_to_string(&procs)?.lines() {
                if let Some(pid) = line.parse().ok().and_then(Pid::from_raw) {
                    // An error means that it has ended by itself.
                    kill_process(pid, Signal::KILL).ok();
                }
            }
            match fs::remove_dir(path) {
                Ok(()) => Ok(Some(())),
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => Ok(None),
                Err(e) => Err(e.into()),
            }
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = Self::remove(&self.path) {
            eprintln!("cannot remove {}: {error:#}", self.path.display());
        }
    }
}
