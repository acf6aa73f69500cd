//! Which Rust compiler builds the kernel object: one that has the standard library's sources beside it.
//!
//! Any release will do, a nightly is not needed: `RUSTC_BOOTSTRAP=1` opens `-Z build-std`. rustup toolchains come
//! first (nightly before others), then the distribution's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{Step, ask};
use crate::{apt, workspace};

/// Debian's newest compiler, packaged for its web browsers, with the sources that `build-std` needs.
const DEBIAN_WEB: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// The distribution's ordinary compiler; on a stable release it is often too old.
const DEBIAN: [&str; 3] = ["rustc", "cargo", "rust-src"];

/// A compiler that can build `core` for the kernel.
#[derive(Debug)]
pub(crate) struct Compiler {
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) version: Version,
}

impl Compiler {
    /// Whether it comes from [`DEBIAN_WEB`], whose clippy is yet another package.
    pub(crate) fn is_debian_web(&self) -> bool {
        let mut command = Command::new("dpkg-query");
        command.arg("-S").arg(&self.rustc);
        ask(command).is_ok_and(|owner| owner.starts_with(DEBIAN_WEB[0]))
    }
}

/// What `rustc -vV` says of a compiler.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// Major, minor; the patch level never matters here.
    pub(crate) release: (u32, u32),
    pub(crate) llvm_major: u32,
}

impl Version {
    fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
                .with_context(|| format!("`rustc -vV` printed no line `{name}`"))
        };
        let release = parse_release(field("release:")?)?;
        let llvm = field("LLVM version:")?;
        let llvm_major = llvm.split('.').next().and_then(|major| major.parse().ok());
        let llvm_major =
            llvm_major.with_context(|| format!("`rustc -vV` printed a strange LLVM version `{llvm}`"))?;
        Ok(Self { release, llvm_major })
    }

    pub(crate) fn release_text(&self) -> String {
        format!("{}.{}", self.release.0, self.release.1)
    }
}

/// `1.96.0`, `1.97.0-nightly`, `1.95` → major and minor.
fn parse_release(text: &str) -> Result<(u32, u32)> {
    let mut numbers = text.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        (_, _) => bail!("`{text}` is not a compiler release"),
    }
}

/// The oldest compiler that the workspace accepts (`rust-version` of the root Cargo.toml).
fn oldest() -> (u32, u32) {
    parse_release(env!("CARGO_PKG_RUST_VERSION")).expect("invariant: cargo checked rust-version")
}

/// Every compiler on this system that could build the kernel object, best first.
pub(crate) fn candidates() -> Vec<Compiler> {
    let rustup = rustup_toolchains().into_iter().map(|folder| folder.join("bin/rustc"));
    // A folder with rustup in it holds stand-ins, not compilers.
    let plain = workspace::search_folders().filter(|folder| !folder.join("rustup").exists());
    let mut seen = Vec::new();
    rustup
        .chain(plain.map(|folder| folder.join("rustc")))
        .filter_map(|rustc| {
            let real = rustc.canonicalize().ok()?;
            if seen.contains(&real) {
                return None;
            }
            seen.push(real);
            usable(rustc)
        })
        .collect()
}

fn usable(rustc: PathBuf) -> Option<Compiler> {
    let cargo = rustc.with_file_name("cargo");
    let question = |argument: &[&str]| {
        let mut command = Command::new(&rustc);
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("LD_LIBRARY_PATH").args(argument);
        ask(command).ok()
    };
    let sysroot = question(&["--print", "sysroot"])?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    let version = Version::parse(&question(&["-vV"])?).ok()?;
    (cargo.is_file() && sources.is_dir() && version.release >= oldest()).then_some(Compiler {
        rustc,
        cargo,
        version,
    })
}

fn rustup_toolchains() -> Vec<PathBuf> {
    let Some(rustup) = workspace::find_program("rustup") else { return Vec::new() };
    let mut command = Command::new(rustup);
    command.args(["toolchain", "list", "-v"]);
    ask(command).map(|list| parse_toolchains(&list)).unwrap_or_default()
}

/// Folders of `rustup toolchain list -v`, nightlies first.
fn parse_toolchains(list: &str) -> Vec<PathBuf> {
    let folder = |line: &str| line.find(" /").map(|at| PathBuf::from(line[at..].trim()));
    let (nightly, other): (Vec<&str>, Vec<&str>) = list.lines().partition(|line| line.starts_with("nightly"));
    nightly.into_iter().chain(other).filter_map(folder).collect()
}

/// Installs a compiler with sources: the distribution's as root, else a nightly for this user alone.
pub(crate) fn install() -> Result<()> {
    println!("no Rust compiler with the standard library's sources was found (the kernel side needs them)");
    if apt::may_install() {
        for packages in [DEBIAN_WEB, DEBIAN] {
            if packages
                .iter()
                .all(|package| apt::candidate(package).is_some_and(|version| new_enough(package, &version)))
            {
                return apt::install(&packages);
            }
        }
    }
    if let Some(rustup) = workspace::find_program("rustup") {
        let mut command = workspace::command(rustup);
        command.args(["toolchain", "install", "nightly", "--profile", "minimal", "-c", "rust-src"]);
        let step = Step::new("installing a nightly compiler with rust-src", "rustup-nightly", command);
        return step.run().map(drop).with_context(lines_to_run);
    }
    bail!(lines_to_run())
}

fn lines_to_run() -> String {
    let (major, minor) = oldest();
    format!(
        "install a Rust compiler ({major}.{minor} or newer) with the standard library's sources. One of:\n  \
         sudo apt-get install {}      (Debian)\n  \
         rustup toolchain install nightly --profile minimal -c rust-src",
        DEBIAN_WEB.join(" ")
    )
}

/// `1.96.0+dfsg1-1~deb12u2` or, for cargo before they were numbered alike, `0.66.0+ds1-1`: only rustc's counts.
fn new_enough(package: &str, version: &str) -> bool {
    !package.starts_with("rustc") || parse_release(version).is_ok_and(|release| release >= oldest())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Version, new_enough, oldest, parse_release, parse_toolchains};

    const DISTRIBUTION: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        commit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96\ncommit-date: 2026-05-25\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn release_and_llvm_are_read_from_rustc() {
        assert_eq!(Version::parse(DISTRIBUTION).unwrap(), Version { release: (1, 96), llvm_major: 22 });
    }

    #[test]
    fn a_compiler_without_llvm_is_refused_by_name() {
        let text = DISTRIBUTION.replace("LLVM version: 22.1.8\n", "");
        assert!(Version::parse(&text).unwrap_err().to_string().contains("LLVM version:"));
        assert!(Version::parse(&DISTRIBUTION.replace("22.1.8", "unknown")).is_err());
    }

    #[test]
    fn nightly_releases_parse_and_rubbish_does_not() {
        assert_eq!(parse_release("1.98.0-nightly").unwrap(), (1, 98));
        assert_eq!(parse_release("1.95").unwrap(), (1, 95));
        assert!(
            parse_release("stable").is_err() && parse_release("1").is_err() && parse_release("").is_err()
        );
    }

    #[test]
    fn nightlies_come_first_and_markers_are_not_paths() {
        let list =
            "1.95.0-x86_64-unknown-linux-gnu (active, default) /r/1.95.0\nnightly-x86_64 /r/nightly\nnone\n";
        assert_eq!(parse_toolchains(list), ["/r/nightly", "/r/1.95.0"].map(PathBuf::from));
    }

    #[test]
    fn an_old_distribution_compiler_is_not_installed() {
        assert!(!new_enough("rustc", "1.63.0+dfsg1-2"));
        assert!(new_enough("rustc-web", "1.96.0+dfsg1-1~deb12u2") && new_enough("rust-src", "0"));
        assert!(oldest() >= (1, 87), "aya-ebpf 0.2 needs 1.87");
    }
}
