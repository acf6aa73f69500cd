//! The machine's whole root, as one archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::build_ebpf::Object;
use crate::run::ask;
use crate::workspace;

use super::cpio::Archive;
use super::debian::Kernel;
use super::{Payload, Plan, folder, modules};

/// Where things lie in the machine.
const SUITE: &str = "/ringfence/kernel";
const AGENT: &str = "/ringfence/ringfence";
const PRODUCTION: &str = "/ringfence/ringfence-ebpf.o";
const PROBE: &str = "/ringfence/ringfence-ebpf-probe.o";

/// Writes `target/vm/initramfs-<release>.cpio`.
pub(crate) fn write(kernel: &Kernel, payload: &Payload, plan: &Plan<'_>) -> Result<PathBuf> {
    let mut archive = Archive::default();
    for path in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/etc", "/var"] {
        archive.folder(path);
    }
    archive.device("/dev/console", 5, 1);
    // busybox's own `ip` lacks much; the real one goes before it on the search path.
    add_program(&mut archive, "busybox", "/bin/busybox")?;
    add_program(&mut archive, "ip", "/usr/local/bin/ip")?;
    for (from, to) in [
        (&payload.suite, SUITE),
        (&payload.agent, AGENT),
        (&Object::Production.path(), PRODUCTION),
        (&Object::Probe.path(), PROBE),
    ] {
        archive.file(to, &read(from)?);
    }
    let modules = modules::load_order(&kernel.modules)?;
    for module in &modules {
        archive.file(&format!("/modules/{}.ko", module.name), &module.content);
    }
    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    archive.file("/init", init_script(&names, plan).as_bytes());

    let path = folder()?.join(format!("initramfs-{}.cpio", kernel.release));
    fs::write(&path, archive.finish()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Adds the host's `program` under `to`, and the libraries that it names at the paths where it looks for them.
fn add_program(archive: &mut Archive, program: &str, to: &str) -> Result<()> {
    let path =
        workspace::find_program(program).with_context(|| format!("{program} is not on the search path"))?;
    archive.file(to, &read(&path)?);
    let mut command = Command::new("ldd");
    command.arg(&path);
    // A static program has none, which `ldd` says as a failure.
    for library in libraries(&ask(command).unwrap_or_default()) {
        archive.file(&library, &read(Path::new(&library))?);
    }
    Ok(())
}

/// Absolute paths in the output of `ldd`: `libx.so => /lib/libx.so (0x…)` and `/lib64/ld-linux.so (0x…)`.
fn libraries(ldd: &str) -> Vec<String> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    ldd.lines().filter_map(path).collect()
}

/// The first process: mounts, modules, the suite, its exit code on the console, the end (see `-no-reboot`).
fn init_script(modules: &[&str], plan: &Plan<'_>) -> String {
    let filter =
        plan.filter.map(|filter| format!(" '{}'", filter.replace('\'', "'\\''"))).unwrap_or_default();
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/usr/local/bin:/bin HOME=/root TMPDIR=/tmp NO_COLOR=1 RUST_BACKTRACE=1\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t tmpfs tmpfs /tmp\n\
         mount -t tmpfs tmpfs /run\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         mount -t tracefs tracefs /sys/kernel/tracing\n\
         mkdir -p /run/netns\n\
         for module in {modules}; do\n\
         \x20 insmod /modules/$module.ko || echo \"{module_failed} $module\"\n\
         done\n\
         ip link set lo up\n\
         export RINGFENCE_VM=1 RINGFENCE_TIER={tier} RINGFENCE_BIN={AGENT}\n\
         export RINGFENCE_EBPF_OBJECT={PRODUCTION} RINGFENCE_PROBE_OBJECT={PROBE}\n\
         {SUITE}{filter}\n\
         echo \"{exit} $?\"\n\
         sync\n\
         reboot -f\n",
        modules = modules.join(" "),
        tier = plan.tier,
        module_failed = super::qemu::MODULE_FAILED,
        exit = super::qemu::EXIT,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{init_script, libraries};
    use crate::vm::Plan;

    #[test]
    fn libraries_are_found_where_the_program_looks_for_them() {
        let ldd = "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/libm.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        assert_eq!(libraries(ldd), ["/lib/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(libraries("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn a_filter_cannot_end_the_command_line() {
        let plan = Plan { filter: Some("x'; reboot '"), tier: "default", deadline: Duration::ZERO };
        assert!(init_script(&["veth"], &plan).contains("/ringfence/kernel 'x'\\''; reboot '\\'''\n"));
    }
}
