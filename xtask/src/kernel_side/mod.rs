//! The compiler and the linker of the kernel object.
//!
//! `-Z build-std=core` needs the standard library's sources of the very compiler that is used, and bpf-linker must be
//! built for an LLVM at least as new as that compiler's: it reads the bitcode that the compiler wrote.

mod compiler;
mod linker;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};

pub(crate) use compiler::Compiler;

/// A compiler with sources and a linker that understands it.
pub(crate) struct KernelSide {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

impl fmt::Display for KernelSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compiler { rustc, version, .. } = &self.compiler;
        write!(f, "{} (rustc {}, LLVM {})", rustc.display(), version.release_text(), version.llvm_major)
    }
}

/// The first compiler for which a linker is there or can be had; if there is no compiler, one is installed.
///
/// # Errors
/// Nothing fits and nothing may be installed: the message has the lines to run.
pub(crate) fn find_or_install() -> Result<KernelSide> {
    let mut candidates = compiler::candidates();
    if candidates.is_empty() {
        compiler::install()?;
        candidates = compiler::candidates();
    }
    // What is complete goes before what would have to be completed.
    let complete = candidates.iter().position(|it| linker::installed(it.version.llvm_major).is_some());
    let chosen =
        complete.or_else(|| candidates.iter().position(|it| linker::can_build(it.version.llvm_major)));
    let Some(compiler) = chosen.map(|at| candidates.swap_remove(at)) else {
        let versions: Vec<String> = candidates
            .iter()
            .map(|it| format!("{} (LLVM {})", it.rustc.display(), it.version.llvm_major))
            .collect();
        bail!(
            "found {}, but neither a bpf-linker for that LLVM nor a package llvm-N-dev to build one with. Install \
             the development files of that LLVM below /usr/lib/llvm-N, or bpf-linker {} built for it",
            versions.join(", "),
            linker::VERSION
        );
    };
    let linker = match linker::installed(compiler.version.llvm_major) {
        Some(path) => path,
        None => linker::install(compiler.version.llvm_major)?,
    };
    Ok(KernelSide { compiler, linker })
}
