//! `cargo xtask build-ebpf`: the kernel object, for `bpfel-unknown-none`.
//!
//! Two objects may be left: `target/bpf/ringfence-ebpf.o`, which `agent/build.rs` embeds, and, with the test-only
//! programs, `target/bpf/ringfence-ebpf-probe.o`. A file is only touched when its content changed, so that an unchanged
//! kernel side rebuilds nothing else.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernel_side::KernelSide;
use crate::run::Step;
use crate::{setup, workspace};

/// Watched by `agent/build.rs`, because cargo can't watch for a file that is not there yet.
const STAMP: &str = "object.stamp";
const TARGET: &str = "bpfel-unknown-none";

/// Build the kernel object.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask build-ebpf            target/bpf/ringfence-ebpf.o\n  \
                        cargo xtask build-ebpf --probe    and target/bpf/ringfence-ebpf-probe.o")]
pub(crate) struct Args {
    /// Also the object with the test-only programs
    #[arg(long)]
    probe: bool,
}

/// One of the two objects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Object {
    /// What the agent embeds.
    Production,
    /// The same with programs that run the parsers, the index and the verdict on made-up input.
    Probe,
}

impl Object {
    /// Where it is left.
    pub(crate) fn path(self) -> PathBuf {
        workspace::target("bpf").join(match self {
            Self::Production => "ringfence-ebpf.o",
            Self::Probe => "ringfence-ebpf-probe.o",
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    build(if args.probe { &[Object::Production, Object::Probe] } else { &[Object::Production] })
}

/// Builds `objects`, setting up the kernel side first if need be.
pub(crate) fn build(objects: &[Object]) -> Result<()> {
    let kernel_side = setup::kernel_side()?;
    for object in objects {
        let mut command = cargo(&kernel_side, "build");
        command.args(["--bin", "ringfence-ebpf"]);
        let log = match object {
            Object::Production => "build-ebpf",
            Object::Probe => {
                command.args(["--features", "probe"]);
                "build-ebpf-probe"
            }
        };
        let path = object.path();
        Step::new(format!("kernel object {}", workspace::shown(&path)), log, command).run()?;
        let built = workspace::target("bpf").join(TARGET).join("bpf/ringfence-ebpf");
        if copy_if_changed(&built, &path)? {
            let stamp = path.with_file_name(STAMP);
            fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))?;
        }
    }
    Ok(())
}

/// `cargo <verb>` for the kernel side; the compiler's own cargo, since `build-std` ties the two together.
fn cargo(kernel_side: &KernelSide, verb: &str) -> Command {
    cargo_with(kernel_side, &kernel_side.compiler.cargo, verb, &[])
}

/// The same with `program` in cargo's place (`cargo-clippy` is called by itself: found by name, it would be another
/// compiler's) and with more compiler flags.
pub(crate) fn cargo_with(kernel_side: &KernelSide, program: &Path, verb: &str, more: &[&str]) -> Command {
    let compiler = &kernel_side.compiler;
    let mut command = workspace::command(program);
    // rustup's choice and its libraries are for the host's compiler.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("LD_LIBRARY_PATH").env_remove("RUSTFLAGS");
    // Other flags mean another build of everything: kept apart, or each would undo the other.
    let folder = workspace::target(if more.is_empty() { "bpf" } else { "bpf-check" });
    command
        .env("CARGO", &compiler.cargo)
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(more))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &kernel_side.linker)
        .args([verb, "--profile", "bpf", "-Z", "build-std=core", "--target", TARGET, "-p", "agent-ebpf"])
        .arg("--target-dir")
        .arg(folder);
    command
}

/// Compiler flags in the form of `CARGO_ENCODED_RUSTFLAGS`: debug information is what bpf-linker makes BTF from, and
/// BTF is what the loader relocates by.
fn flags(more: &[&str]) -> String {
    let architecture = format!("--cfg=bpf_target_arch=\"{ARCH}\"");
    let mut flags = vec![architecture.as_str(), "-Cdebuginfo=2", "-Clink-arg=--btf"];
    flags.extend(more);
    flags.join("\x1f")
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let new = fs::read(from).with_context(|| format!("the build left no object at {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    // Written beside and renamed: a build of the agent at the same time sees the old object or the new one.
    let beside = to.with_extension("o.new");
    fs::write(&beside, new).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, to).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::copy_if_changed;

    #[test]
    fn an_unchanged_object_keeps_its_time() {
        let folder = std::env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("a"), folder.join("b.o"));
        fs::write(&from, "one").unwrap();
        assert!(copy_if_changed(&from, &to).unwrap());
        let before = fs::metadata(&to).unwrap().modified().unwrap();
        assert!(!copy_if_changed(&from, &to).unwrap());
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), before);
        fs::write(&from, "two").unwrap();
        assert!(copy_if_changed(&from, &to).unwrap());
        assert_eq!(fs::read(&to).unwrap(), b"two");
        fs::remove_dir_all(&folder).unwrap();
    }
}
