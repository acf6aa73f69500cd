//! Where things are, and how `cargo` is called for the host side.
//!
//! All output goes below `<workspace>/target`, whatever `CARGO_TARGET_DIR` says: `target/release/ringfence` and
//! `target/bpf/ringfence-ebpf.o` are names that scripts and `agent/build.rs` rely on.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The folder of the root `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("invariant: xtask lies one folder below the workspace")
}

/// A path below `<workspace>/target`.
pub(crate) fn target(below: impl AsRef<Path>) -> PathBuf {
    root().join("target").join(below)
}

/// `path` as a reader in the workspace would type it.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The file that keeps the whole output of one child command; its folder is made.
pub(crate) fn log_file(name: &str) -> Result<PathBuf> {
    let folder = target("xtask");
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the log folder {}", folder.display()))?;
    Ok(folder.join(format!("{name}.log")))
}

/// A command in the workspace root, without what `cargo run` put into our environment about xtask itself: build
/// scripts of dependencies watch some of these variables, so that leaving them in would rebuild the world whenever
/// somebody calls `cargo` and `cargo xtask` in turn.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        if is_about_xtask(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

fn is_about_xtask(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| variable.starts_with(prefix))
        || ["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]
            .contains(&variable)
}

/// The cargo that built xtask.
pub(crate) fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Every package of the workspace that runs on the host, the same words for every call: cargo unites the features of
/// the packages it is given, so that another selection means another build of the dependencies.
pub(crate) const HOST_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "agent-ebpf"];

/// The first `program` on the search path or in the folders for system administration, which not every user has there.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    search_folders().map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The search path, then what `sudo` and short paths leave out.
pub(crate) fn search_folders() -> impl Iterator<Item = PathBuf> {
    let path: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home_cargo = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo_bin = cargo_home.or(home_cargo).map(|folder| folder.join("bin"));
    path.into_iter()
        .chain(cargo_bin)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
}

/// Whether this process may attach programs, make namespaces and install packages: its effective user is root.
pub(crate) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| effective_user(&status) == Some(0))
}

fn effective_user(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// Refuses to go on without root and says how to.
pub(crate) fn require_root(verb: &str) -> Result<()> {
    anyhow::ensure!(
        is_root(),
        "`{verb}` needs root (it makes network namespaces and attaches kernel programs). Run:\n  \
         sudo -E env \"PATH=$PATH\" cargo xtask {verb}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{effective_user, is_about_xtask};

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t0\t1000\t1000\n"), Some(0));
        assert_eq!(effective_user("Uid:\t0\t1000\t0\t0\n"), Some(1000));
        assert_eq!(effective_user("Gid:\t0\t0\n"), None);
    }

    #[test]
    fn variables_about_xtask_are_dropped_and_the_users_own_are_kept() {
        assert!(is_about_xtask("CARGO_PKG_NAME") && is_about_xtask("CARGO_TARGET_DIR"));
        assert!(
            !is_about_xtask("CARGO_HOME") && !is_about_xtask("CARGO") && !is_about_xtask("RUSTUP_TOOLCHAIN")
        );
    }
}
