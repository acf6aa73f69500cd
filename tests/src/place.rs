//! Puts a program into a workload before its first instruction.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cgroup::Cgroup;
use crate::netns::Netns;

/// Makes `process` start in `cgroup` and `namespace`: between `fork` and `exec` the child moves itself, so that *no
/// instruction of the program runs outside them*.
///
/// # Errors
/// The cgroup is gone, or no descriptor is left.
pub(crate) fn place(process: &mut Command, namespace: &Netns, cgroup: &Cgroup) -> Result<()> {
    let door = cgroup.door()?;
    let namespace =
        namespace.fd().try_clone_to_owned().context("cannot duplicate a namespace's descriptor")?;
    let enter = move || {
        // SAFETY: a plain system call on a descriptor that this closure owns; "0" means the caller.
        let written = unsafe { libc::write(door.as_raw_fd(), b"0".as_ptr().cast(), 1) };
        if written != 1 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: as above; the child has one thread.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: `enter` only makes async-signal-safe system calls and does not allocate on success.
    unsafe { process.pre_exec(enter) };
    Ok(())
}

/// Makes `process` start in the cgroup whose `cgroup.procs` this is.
pub(crate) fn move_in(process: &mut Command, door: File) {
    let enter = move || {
        // SAFETY: a plain system call on a descriptor that this closure owns; "0" means the caller.
        match unsafe { libc::write(door.as_raw_fd(), b"0".as_ptr().cast(), 1) } {
            1 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: `enter` only makes an async-signal-safe system call and does not allocate on success.
    unsafe { process.pre_exec(enter) };
}

/// Makes `process` start in the namespace of this descriptor, in the caller's cgroup.
pub(crate) fn enter(process: &mut Command, namespace: OwnedFd) {
    let enter = move || {
        // SAFETY: a plain system call on a descriptor that this closure owns; the child has one thread.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: `enter` only makes an async-signal-safe system call and does not allocate on success.
    unsafe { process.pre_exec(enter) };
}
