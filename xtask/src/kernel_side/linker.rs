//! bpf-linker: found, checked against the compiler's LLVM, or built.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{Step, ask};
use crate::{apt, setup, workspace};

/// The version that is built when none is there; a newer one that is there is taken.
pub(crate) const VERSION: &str = "0.13.0";

/// A bpf-linker that is new enough and reads the bitcode of this LLVM.
pub(crate) fn installed(llvm_major: u32) -> Option<PathBuf> {
    let all =
        workspace::search_folders().map(|folder| folder.join("bpf-linker")).filter(|path| path.is_file());
    let fits = |path: &PathBuf| {
        let mut command = Command::new(path);
        command.arg("--version");
        let version = ask(command).ok().and_then(|text| parse_version(&text));
        // One that is linked statically does not say which LLVM it has; the build will.
        version >= parse_version(VERSION) && llvm_of(path).is_none_or(|its| its >= llvm_major)
    };
    all.into_iter().find(fits)
}

fn llvm_of(linker: &Path) -> Option<u32> {
    let mut command = Command::new("ldd");
    command.arg(linker);
    parse_llvm(&ask(command).ok()?)
}

/// Whether the files to build one with are there or can be installed.
pub(crate) fn can_build(llvm_major: u32) -> bool {
    prefix(llvm_major).join("include").is_dir() || apt::candidate(&format!("llvm-{llvm_major}-dev")).is_some()
}

fn prefix(llvm_major: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{llvm_major}"))
}

/// Builds bpf-linker for this LLVM with the host's cargo (about a minute) and returns where it lies.
pub(crate) fn install(llvm_major: u32) -> Result<PathBuf> {
    let prefix = prefix(llvm_major);
    let (llvm, polly) = (format!("llvm-{llvm_major}-dev"), format!("libpolly-{llvm_major}-dev"));
    // Without the right to install, what is there is tried: LLVM may come from elsewhere than a package.
    if apt::may_install() || !prefix.join("include").is_dir() {
        apt::install(&[&llvm, &polly, "zlib1g-dev", "libzstd-dev", "libxml2-dev"])?;
    }
    setup::packages(&[setup::CXX])?;

    let mut path = vec![prefix.join("bin")];
    path.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    let mut command = workspace::cargo();
    command
        .env("LLVM_PREFIX", &prefix)
        .env("PATH", env::join_paths(path).context("the search path holds a name with a colon")?)
        .args(["install", "bpf-linker", "--version", VERSION, "--force", "--no-default-features"])
        .args(["--features", &format!("llvm-{llvm_major}")]);
    Step::new(format!("building bpf-linker {VERSION} for LLVM {llvm_major}"), "bpf-linker", command).run()?;
    installed(llvm_major).context(
        "bpf-linker was built, but is in none of the folders searched (PATH, $CARGO_HOME/bin, ~/.cargo/bin)",
    )
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let version = text.trim().strip_prefix("bpf-linker ").unwrap_or(text.trim());
    let mut numbers = version.split(['.', ' ', '-']).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?, numbers.next()?))
}

/// `libLLVM.so.22.1 => …` or the older `libLLVM-14.so.1 => …`.
fn parse_llvm(ldd: &str) -> Option<u32> {
    let name = ldd.lines().find_map(|line| line.trim().strip_prefix("libLLVM"))?;
    let digits = name.trim_start_matches(".so.").trim_start_matches('-');
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{VERSION, parse_llvm, parse_version};

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("bpf-linker 0.13.0\n"), Some((0, 13, 0)));
        assert!(parse_version("bpf-linker 0.9.15") < parse_version(VERSION));
        assert!(parse_version("no such option") < parse_version(VERSION));
    }

    #[test]
    fn the_llvm_of_a_linker_is_read_from_its_libraries() {
        assert_eq!(
            parse_llvm("\tlinux-vdso.so.1 (0x0)\n\tlibLLVM.so.22.1 => /usr/lib/l.so (0x0)\n"),
            Some(22)
        );
        assert_eq!(parse_llvm("\tlibLLVM-14.so.1 => /usr/lib/l.so\n"), Some(14));
        assert_eq!(parse_llvm("\tstatically linked\n"), None);
    }
}
