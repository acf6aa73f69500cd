//! The network namespaces that fenced workloads live in, and entering one.
//!
//! Found by processes: `cgroup.threads` of the workload's cgroups and all below them, then `/proc/<tid>/ns/net` of each
//! (a thread may have one of its own). **A namespace that only a descriptor or a mount holds, without a thread of a
//! fenced workload in it, is not found**: its flows are stopped at egress like all others, and not ended.
//!
//! `/proc/<tid>/ns/net` is given to who may read the process by ptrace's rules (`PTRACE_MODE_READ_FSCREDS`, ptrace(2)):
//! CAP_SYS_PTRACE, or the same user and no privilege more than the agent's. `setns` takes CAP_SYS_ADMIN.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The agent's own: whose threads' it is does not matter, all of them are in the host's.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace, held open.
pub(super) struct Namespace {
    /// What tells namespaces apart.
    pub(super) inode: u64,
    file: File,
}

/// What was found, and what could not be looked at.
#[derive(Default)]
pub(super) struct Found {
    /// Each once; the agent's own first.
    pub(super) namespaces: Vec<Namespace>,
    /// Threads whose namespace the kernel does not show to this process.
    pub(super) hidden: u64,
}

impl Found {
    fn add(&mut self, file: File, known: &mut HashSet<u64>) {
        // Of the open file: a thread may have moved on meanwhile.
        if let Ok(inode) = file.metadata().map(|m| m.ino())
            && known.insert(inode)
        {
            self.namespaces.push(Namespace { inode, file });
        }
    }
}

/// The agent's own namespace, and those of all threads below these cgroup directories.
///
/// # Errors
/// Without `/proc` nothing can be found at all. What ends or vanishes meanwhile is left out.
pub(super) fn below(directories: impl IntoIterator<Item = PathBuf>) -> io::Result<Found> {
    let (mut found, mut known) = (Found::default(), HashSet::new());
    found.add(File::open(OWN)?, &mut known);
    let mut todo: Vec<PathBuf> = directories.into_iter().collect();
    let mut visited = HashSet::new();
    while let Some(directory) = todo.pop() {
        // Workloads may lie inside each other.
        if !visited.insert(directory.clone()) {
            continue;
        }
        let threads = fs::read_to_string(directory.join("cgroup.threads")).unwrap_or_default();
        for thread in threads.lines() {
            look(thread, &mut found, &mut known);
        }
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        todo.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    Ok(found)
}

fn look(thread: &str, found: &mut Found, known: &mut HashSet<u64>) {
    // Threads outside the agent's own pid namespace are listed as 0.
    if thread == "0" {
        found.hidden += 1;
        return;
    }
    let path = format!("/proc/{thread}/ns/net");
    // One system call where a thread is in a namespace that is known, as nearly all are.
    match fs::metadata(&path) {
        Ok(m) if known.contains(&m.ino()) => {}
        Ok(_) => {
            if let Ok(file) = File::open(&path) {
                found.add(file, known);
            }
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => found.hidden += 1,
        // It has ended.
        Err(_) => {}
    }
}

impl Namespace {
    /// Runs `work` inside, on a thread that is made for it and ends with it: nothing else ever runs on a thread that
    /// has left the host's namespace.
    ///
    /// # Errors
    /// No thread can be made, or the namespace can't be entered.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let inside = thread::Builder::new().name("flows-netns".into()).spawn_scoped(scope, || {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            })?;
            inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn the_agents_own_namespace_is_always_there_and_once() {
        let empty = tempfile::tempdir().unwrap();
        let threads = format!("{0}\n{0}\n", std::process::id());
        std::fs::create_dir(empty.path().join("child")).unwrap();
        std::fs::write(empty.path().join("child/cgroup.threads"), threads).unwrap();
        let found = below([empty.path().to_owned(), empty.path().join("child")]).unwrap();
        assert_eq!((found.namespaces.len(), found.hidden), (1, 0));
    }

    #[test]
    fn threads_of_another_pid_namespace_are_counted_as_hidden() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.threads"), "0\n0\n").unwrap();
        assert_eq!(below([dir.path().to_owned()]).unwrap().hidden, 2);
    }
}
