//! Kernel modules for the machine, with what they depend on, in loading order.
//!
//! An unpacked package has no `modules.dep` (that is made when it is installed), so the dependencies are read where
//! depmod reads them: in each module's `.modinfo`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What the test world is made of: pairs of interfaces, a node's bridge, looking up or closing sockets from outside, the
/// host layer's older way to attach, and the devices that a workload may get past its sockets with.
const WANTED: [&str; 14] = [
    "veth",
    "dummy",
    "bridge",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "sch_ingress",
    "cls_bpf",
    "tun",
    "vxlan",
    "geneve",
    "ip_gre",
    "ipip",
];

/// A module, uncompressed.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// The wanted modules that this kernel has as modules; what is built in needs no loading.
pub(crate) fn load_order(folder: &Path) -> Result<Vec<Module>> {
    let files = index(folder)?;
    let mut order = Vec::new();
    for name in WANTED {
        if files.contains_key(name) {
            add(name, &files, &mut order)?;
        }
    }
    Ok(order)
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, order: &mut Vec<Module>) -> Result<()> {
    if order.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let Some(path) = files.get(name) else { return Ok(()) }; // built in
    let content = read(path)?;
    for dependency in depends(&content) {
        add(&dependency, files, order)?;
    }
    order.push(Module { name: name.to_owned(), content });
    Ok(())
}

/// Every module below `folder` by its name in the kernel (`-` and `_` are one letter there).
fn index(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = path.file_name().and_then(|name| module_name(name.to_str()?)) {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}

fn module_name(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".ko").or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(stem.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let output = Command::new("xz").arg("-dc").arg(path).output().context("cannot start xz")?;
    ensure!(output.status.success(), "xz cannot unpack {}", path.display());
    Ok(output.stdout)
}

/// The `depends=a,b` string of `.modinfo`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::{depends, module_name};

    #[test]
    fn dependencies_are_read_from_modinfo() {
        assert_eq!(
            depends(b"\x7fELF..license=GPL\0depends=inet_diag,nf-x\0retpoline=Y\0"),
            ["inet_diag", "nf_x"]
        );
        assert!(depends(b"license=GPL\0depends=\0name=veth\0").is_empty());
        assert!(depends(b"").is_empty());
    }

    #[test]
    fn files_are_named_as_the_kernel_names_modules() {
        assert_eq!(module_name("tcp_diag.ko").as_deref(), Some("tcp_diag"));
        assert_eq!(module_name("aes-x86_64.ko.xz").as_deref(), Some("aes_x86_64"));
        assert_eq!(module_name("modules.order"), None);
    }
}
