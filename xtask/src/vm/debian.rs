//! Debian's kernels for cloud machines: found by the package tool, unpacked without being installed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::run::Step;
use crate::{apt, workspace};

use super::folder;

/// A kernel series: `6.1`, `6.12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Series(u32, u32);

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) = parts.ok_or_else(|| format!("`{text}` is not a kernel series such as 6.1"))?;
        Ok(Self(major, minor))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What `uname -r` says in it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// `lib/modules/<release>/kernel`.
    pub(crate) modules: PathBuf,
}

/// The kernel of `series` that was unpacked before, else the newest that can be downloaded.
pub(crate) fn kernel(series: &Series) -> Result<Kernel> {
    let unpacked = unpacked_folder(series)?;
    if !unpacked.is_dir() {
        fetch(series, &unpacked)?;
    }
    let boot = unpacked.join("boot");
    let release = fs::read_dir(&boot)
        .with_context(|| format!("the kernel package of {series} has no folder boot"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("vmlinuz-").map(str::to_owned))
        .next()
        .with_context(|| {
            format!("no vmlinuz-* in {}; delete {} to fetch it again", boot.display(), unpacked.display())
        })?;
    let modules =
        ["lib/modules", "usr/lib/modules"].map(|below| unpacked.join(below).join(&release).join("kernel"));
    let modules = modules.into_iter().find(|folder| folder.is_dir());
    Ok(Kernel {
        image: boot.join(format!("vmlinuz-{release}")),
        modules: modules
            .with_context(|| format!("the kernel package of {series} has no modules for {release}"))?,
        release,
    })
}

/// Drops what was unpacked, so that the newest is fetched.
pub(crate) fn forget(series: &Series) -> Result<()> {
    let unpacked = unpacked_folder(series)?;
    match fs::remove_dir_all(&unpacked) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", unpacked.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unpacked_folder(series: &Series) -> Result<PathBuf> {
    Ok(folder()?.join(format!("linux-{series}")))
}

fn fetch(series: &Series, unpacked: &Path) -> Result<()> {
    if !apt::is_there() {
        bail!(
            "Debian's kernel {series} is fetched with apt-get, which this system does not have. Unpack a kernel \
             package (boot/vmlinuz-*, lib/modules/*) into {}",
            workspace::shown(unpacked)
        );
    }
    let names = apt::names(&format!("linux-image-{series}."))?;
    let package = newest(&names, series).with_context(|| {
        format!(
            "the package sources have no linux-image-{series}.*-cloud-amd64-unsigned (Debian 12 with its security \
             suite has 6.1 and 6.12). If the lists are old: sudo apt-get update"
        )
    })?;
    let download = folder()?.join(format!("download-{series}"));
    recreate(&download)?;
    apt::download(package, &download)?;
    let deb = fs::read_dir(&download)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download left no package file in {}", download.display()))?;
    // Unpacked beside and renamed: a folder of the final name is a whole one.
    let partial = folder()?.join(format!("partial-{series}"));
    recreate(&partial)?;
    let mut command = workspace::command("dpkg-deb");
    command.arg("-x").arg(&deb).arg(&partial);
    Step::new(format!("unpacking {package}"), "dpkg-deb", command).run()?;
    fs::rename(&partial, unpacked).with_context(|| format!("cannot make {}", unpacked.display()))?;
    fs::remove_dir_all(&download).with_context(|| format!("cannot remove {}", download.display()))
}

fn recreate(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// The newest cloud kernel of `series` among package names, compared number by number.
fn newest<'a>(names: &'a [String], series: &Series) -> Option<&'a str> {
    let wanted = format!("{series}.");
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let version = name.strip_prefix("linux-image-")?.strip_suffix("-cloud-amd64-unsigned")?;
        if !version.starts_with(&wanted) {
            return None;
        }
        Some(version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect())
    };
    let all = names.iter().filter_map(|name| Some((numbers(name)?, name.as_str())));
    all.max().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::{Series, newest};

    fn names() -> Vec<String> {
        [
            "linux-image-6.1.0-9-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-6.1.0-57-cloud-amd64",
            "linux-image-6.1.0-58-cloud-amd64-dbg",
            "linux-image-6.1.0-59-rt-amd64-unsigned",
            "linux-image-6.12.99+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12-cloud-amd64",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    #[test]
    fn the_newest_unsigned_cloud_kernel_is_chosen_by_number() {
        let choose = |series: &str| newest(&names(), &series.parse().unwrap()).map(str::to_owned);
        assert_eq!(choose("6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64-unsigned"));
        assert_eq!(choose("6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64-unsigned"));
        assert_eq!(choose("6.6"), None);
    }

    #[test]
    fn a_series_is_two_numbers() {
        assert_eq!("6.12".parse(), Ok(Series(6, 12)));
        for wrong in ["6", "6.x", "", "6.1.2", "../6.1"] {
            assert!(wrong.parse::<Series>().is_err(), "{wrong}");
        }
    }
}
