//! The kernel's LPM trie with the same world, as any program would fill it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::ground::{Ground, prefixes};
use super::sys;

/// Entries a system call.
const BATCH: usize = 4096;
/// Room for the world.
pub(crate) const ENTRIES: u32 = 1 << 21;
/// Size of a key: prefix length and address.
const KEY_V4: usize = 8;
const KEY_V6: usize = 20;

/// Prefixes ready to be written.
pub(crate) struct Prefixes {
    key_size: usize,
    keys: Vec<u8>,
    values: Vec<u32>,
}

impl Prefixes {
    /// The IPv4 half of the world. A place that nothing is known of needs no entry.
    pub(crate) fn v4(ground: &Ground) -> Self {
        let mut all = Self { key_size: KEY_V4, keys: Vec::new(), values: Vec::new() };
        for (first, last, place) in ground.ranges_v4().filter(|range| range.2 != 0) {
            for (start, length) in prefixes(first.into(), last.into(), 32) {
                all.keys.extend(length.to_ne_bytes());
                all.keys.extend((start as u32).to_be_bytes());
                all.values.push(place.into());
            }
        }
        all
    }

    /// The IPv6 half.
    pub(crate) fn v6(ground: &Ground) -> Self {
        let mut all = Self { key_size: KEY_V6, keys: Vec::new(), values: Vec::new() };
        for (first, last, place) in ground.ranges_v6().filter(|range| range.2 != 0) {
            for (start, length) in prefixes(first, last, 128) {
                all.keys.extend(length.to_ne_bytes());
                all.keys.extend(start.to_be_bytes());
                all.values.push(place.into());
            }
        }
        all
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Writes them to a trie; returns how long that took.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn fill(&self, trie: BorrowedFd<'_>) -> Result<Duration> {
        let start = Instant::now();
        for (keys, values) in self.keys.chunks(BATCH * self.key_size).zip(self.values.chunks(BATCH)) {
            sys::update_batch(trie, keys, values).context("fill an LPM trie")?;
        }
        Ok(start.elapsed())
    }

    /// A filled trie that nobody else has.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn trie(&self) -> Result<OwnedFd> {
        let key_size = u32::try_from(self.key_size)?;
        let trie = sys::create_trie(key_size, ENTRIES).context("make an LPM trie")?;
        self.fill(trie.as_fd())?;
        Ok(trie)
    }
}
