//! The emulator's command line, and what its console says.

use std::path::Path;
use std::process::Command;

use crate::run::tied;

/// Before the suite's exit code on the console.
pub(super) const EXIT: &str = "RINGFENCE-VM: exit";
/// Before the name of a module that was refused.
pub(super) const MODULE_FAILED: &str = "RINGFENCE-VM: cannot load module";

/// A machine of two processors without network card or disk; it dies with xtask.
pub(super) fn command(image: &Path, initramfs: &Path) -> Command {
    let mut command = tied("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none"])
        .args(["-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        // panic=-1: a panic is a reboot at once, and `-no-reboot` makes that the end of the emulator.
        .args(["-append", "console=ttyS0 quiet panic=-1"]);
    command
}

/// What came over the serial line.
#[derive(Debug, Default)]
pub(super) struct Console {
    pub(super) lines: Vec<String>,
}

impl Console {
    pub(super) fn line(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    /// Whether the suite ended well, else how it went wrong.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if let Some(line) = self.lines.iter().find(|line| line.contains(MODULE_FAILED)) {
            return Err(format!("could not prepare the machine: {line}"));
        }
        let code =
            self.lines.iter().rev().find_map(|line| line.split_once(EXIT)).map(|(_, code)| code.trim());
        match code {
            Some("0") => Ok(()),
            Some(code) => Err(format!("ran the suite, which failed (exit status {code})")),
            None => Err(match self.lines.iter().find(|line| line.contains("Kernel panic")) {
                Some(line) => format!("stopped: {}", line.trim()),
                None => "stopped before the suite had ended".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Console;

    fn verdict(lines: &[&str]) -> Result<(), String> {
        Console { lines: lines.iter().map(|line| (*line).to_owned()).collect() }.verdict()
    }

    #[test]
    fn only_an_exit_code_of_zero_is_success() {
        assert_eq!(verdict(&["booting", "[    4.2] x RINGFENCE-VM: exit 0"]), Ok(()));
        assert!(verdict(&["RINGFENCE-VM: exit 101"]).unwrap_err().contains("101"));
        assert!(verdict(&["booting"]).unwrap_err().contains("before the suite had ended"));
        assert!(verdict(&[]).is_err());
    }

    #[test]
    fn a_panic_and_a_missing_module_are_named() {
        let panic = verdict(&["[1.0] Kernel panic - not syncing: No working init found."]);
        assert!(panic.unwrap_err().contains("No working init"));
        let module = verdict(&["RINGFENCE-VM: cannot load module veth", "RINGFENCE-VM: exit 0"]);
        assert!(module.unwrap_err().contains("veth"));
    }
}
