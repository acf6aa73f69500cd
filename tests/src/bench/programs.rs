//! The kernel's own statistics of a process's programs: runs and time, by program.
//!
//! The kernel cuts names at 15 characters, which leaves `ringfence_sock_create` and `ringfence_sock_release` the same: a
//! program is told by that and by the instructions that the verifier walked in it, which this process has seen of the same
//! programs.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use agent::bpf::load::Loaded;
use anyhow::{Context, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

/// Statistics are on as long as this lives; the kernel turns them off with the descriptor, also if we are killed.
pub(crate) struct ProgramTimes {
    pid: u32,
    names: BTreeMap<u32, String>,
    _on: OwnedFd,
}

/// Runs and nanoseconds, by program id.
pub(crate) struct Reading<'a> {
    names: &'a BTreeMap<u32, String>,
    programs: BTreeMap<u32, (u64, u64)>,
}

impl ProgramTimes {
    /// Of the programs that a process holds; `known` are the same programs.
    ///
    /// # Errors
    /// Not root.
    pub(crate) fn of(pid: u32, known: &[Loaded]) -> Result<Self> {
        let on = enable_stats(Stats::RunTime).context("turn on the kernel's program statistics")?;
        let mut names = BTreeMap::new();
        for info in loaded_programs().filter_map(Result::ok) {
            let (cut, walked) = (info.name_as_str().unwrap_or("?"), info.verified_instruction_count());
            let whole = known.iter().find(|it| it.name.starts_with(cut) && it.instructions == walked);
            names.insert(info.id(), whole.map_or(cut, |it| &it.name).to_owned());
        }
        Ok(Self { pid, names, _on: on })
    }

    /// The numbers now: `/proc/<pid>/fdinfo` has them for each program descriptor.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn read(&self) -> Result<Reading<'_>> {
        let mut programs = BTreeMap::new();
        let folder = format!("/proc/{}/fdinfo", self.pid);
        for entry in fs::read_dir(&folder).with_context(|| format!("read {folder}"))?.flatten() {
            // A descriptor that was closed meanwhile is none of ours.
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            let field = |name: &str| -> Option<u64> {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim_start_matches(':').trim().parse().ok()
            };
            let (Some(id), Some(runs), Some(time)) =
                (field("prog_id"), field("run_cnt"), field("run_time_ns"))
            else {
                continue;
            };
            programs.insert(u32::try_from(id)?, (runs, time));
        }
        Ok(Reading { names: &self.names, programs })
    }
}

impl Reading<'_> {
    /// What has run since: name, runs, time in all.
    pub(crate) fn since(&self, before: &Self) -> Vec<(String, u64, Duration)> {
        let mut all = Vec::new();
        for (id, (runs, time)) in &self.programs {
            let (runs_before, time_before) = before.programs.get(id).copied().unwrap_or_default();
            let (runs, time) = (runs - runs_before, time - time_before);
            if runs > 0 {
                let name = self.names.get(id).cloned().unwrap_or_else(|| id.to_string());
                all.push((name, runs, Duration::from_nanos(time)));
            }
        }
        all
    }
}
