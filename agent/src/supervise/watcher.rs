//! Notices changes: of policy and data files, and of cgroups. What the kernel does not tell is found by the engine's
//! own look once a second.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::engine::Message;
use crate::config::Config;

/// Keeps watching as long as it lives.
pub(super) struct Watching {
    _files: RecommendedWatcher,
    _cgroups: RecommendedWatcher,
}

/// Watches the folders in which files lie (a file replaced by a rename, or a ConfigMap's link, is a change of its
/// folder), and the cgroup tree.
pub(super) fn watch(config: &Config, root: &Path, engine: &Sender<Message>) -> Result<Watching> {
    let to = engine.clone();
    let mut files = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if !event.is_ok_and(|e| matches!(e.kind, EventKind::Access(_))) {
            // The engine has ended: so will this.
            let _: Result<(), _> = to.send(Message::Files);
        }
    })
    .context("watching files (inotify)")?;
    for folder in folders(config) {
        files
            .watch(&folder, RecursiveMode::NonRecursive)
            .with_context(|| format!("watching {}", folder.display()))?;
    }
    let to = engine.clone();
    let mut cgroups = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let tree = |kind: EventKind| matches!(kind, EventKind::Create(_) | EventKind::Remove(_));
        match event {
            Ok(e) if tree(e.kind) => {
                let _: Result<(), _> = to.send(Message::Cgroups(e.paths));
            }
            Ok(_) => {}
            Err(_) => {
                let _: Result<(), _> = to.send(Message::Cgroups(Vec::new()));
            }
        }
    })
    .context("watching cgroups (inotify)")?;
    cgroups.watch(root, RecursiveMode::Recursive).with_context(|| format!("watching {}", root.display()))?;
    Ok(Watching { _files: files, _cgroups: cgroups })
}

fn folders(config: &Config) -> Vec<PathBuf> {
    let data = config.data.country_db.iter().chain(&config.data.provider_ranges);
    let mut folders: Vec<PathBuf> = config
        .policy
        .iter()
        .chain(data)
        .map(|path| {
            if path.is_dir() {
                return path.clone();
            }
            match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            }
        })
        .collect();
    folders.sort();
    folders.dedup();
    folders
}
