//! Where and when it was measured.

use std::fs;
use std::process::Command;

use jiff::Timestamp;

/// What a figure means nothing without.
pub(crate) struct Machine {
    lines: Vec<(&'static str, String)>,
}

impl Machine {
    /// Of this machine, now.
    pub(crate) fn here(source: &str) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let virtual_machine =
            cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
        let mebibytes =
            memory.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024;
        let uname = rustix::system::uname();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let name = processor.trim_start_matches([' ', '\t', ':']);
        let kind = if virtual_machine { ", a virtual machine" } else { "" };
        Self {
            lines: vec![
                ("machine", format!("{processors} × {name}{kind}, {mebibytes} MiB")),
                (
                    "kernel",
                    format!("{} {}", uname.release().to_string_lossy(), uname.machine().to_string_lossy()),
                ),
                ("date", Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()),
                ("revision", said(&["git", "describe", "--always", "--dirty", "--abbrev=12"])),
                ("nftables", said(&["nft", "--version"])),
                ("country data", source.to_owned()),
                ("load average before", load),
            ],
        }
    }

    /// One line each.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(what, value)| (*what, value.as_str()))
    }
}

/// What a command prints; "unknown" if it can't.
fn said(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}
