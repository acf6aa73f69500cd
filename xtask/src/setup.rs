//! `cargo xtask setup`: the kernel-side compiler, bpf-linker, and the programs that tests, demo and bench call.
//!
//! The other verbs call this themselves; the second time it only looks.

use anyhow::{Context, Result};

use crate::kernel_side::{self, KernelSide};
use crate::{apt, workspace};

/// Install what the other verbs need (they call this themselves).
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask setup            the kernel-side compiler and bpf-linker\n  \
                        cargo xtask setup --all      and every program that tests, demo, bench and vm call"
)]
pub(crate) struct Args {
    /// Also the programs that tests, demo, bench and vm call
    #[arg(long)]
    all: bool,
}

/// Something outside the workspace: a program, and the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
}

pub(crate) const IP: Tool = Tool { program: "ip", package: "iproute2" };
pub(crate) const NFT: Tool = Tool { program: "nft", package: "nftables" };
pub(crate) const CURL: Tool = Tool { program: "curl", package: "curl" };
pub(crate) const PYTHON: Tool = Tool { program: "python3", package: "python3" };
pub(crate) const IPERF: Tool = Tool { program: "iperf3", package: "iperf3" };
pub(crate) const QEMU: Tool = Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" };
pub(crate) const BUSYBOX: Tool = Tool { program: "busybox", package: "busybox-static" };
pub(crate) const XZ: Tool = Tool { program: "xz", package: "xz-utils" };
/// `setpriv`, see [`crate::run::tied`].
pub(crate) const SETPRIV: Tool = Tool { program: "setpriv", package: "util-linux" };
/// bpf-linker links LLVM, which is C++.
pub(crate) const CXX: Tool = Tool { program: "c++", package: "g++" };

const ALL: [Tool; 9] = [IP, NFT, CURL, PYTHON, IPERF, QEMU, BUSYBOX, XZ, SETPRIV];

pub(crate) fn run(args: &Args) -> Result<()> {
    let kernel_side = kernel_side()?;
    println!("kernel-side compiler: {kernel_side}");
    println!("bpf-linker:           {}", kernel_side.linker.display());
    if args.all {
        packages(&ALL)?;
        println!("programs:             {}", ALL.map(|tool| tool.program).join(" "));
    }
    Ok(())
}

/// The compiler and linker for the kernel object, installed if they are missing.
pub(crate) fn kernel_side() -> Result<KernelSide> {
    kernel_side::find_or_install().context("the kernel side can't be built on this system yet")
}

/// Makes sure that the programs of `tools` are there.
///
/// # Errors
/// One is missing and can't be installed: with the line that somebody must run.
pub(crate) fn packages(tools: &[Tool]) -> Result<()> {
    let missing = |tool: &&Tool| workspace::find_program(tool.program).is_none();
    let packages: Vec<&str> = tools.iter().filter(missing).map(|tool| tool.package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    apt::install(&packages)?;
    match tools.iter().find(missing) {
        None => Ok(()),
        Some(tool) => anyhow::bail!(
            "package {} is installed, but the program {} is not on the search path",
            tool.package,
            tool.program
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Tool, packages};

    #[test]
    fn what_is_there_needs_no_package_tool() {
        packages(&[Tool { program: "sh", package: "no-such-package" }]).unwrap();
    }
}
