//! What the readers of all agents so far have told, in a pinned page: the next agent goes on where the last one ended,
//! also if that one was killed between two instructions.
//!
//! The page is written after the fact: a loss is entered when it has been announced, a record when it has been handed
//! on. An agent that dies in between makes its successor announce a loss twice, or call records lost that somebody may
//! have seen; never the other way round.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};

use agent_common::wire::Counter;
use jiff::Timestamp;

use super::adopt::open_or_make;
use super::pin::{PinDirectory, PinError, SCHEMA};
use super::rings::RECORD_BYTES;
use super::sys::{MapValue, Mapped};
use crate::events::model::notice::StreamEnd;
use crate::policy::Clock;

/// What the page looks like; it belongs to no schema, because it tells of the maps of all.
const VERSION: u64 = 2;
/// Room for counters to come.
const COUNTERS: usize = 32;
const _: () = assert!(Counter::ALL.len() <= COUNTERS);
/// Room for a stream's id, which has 36 bytes; the rest is zeros.
const STREAM: usize = 40;
/// Digest of what a ring's record looks like (`build.rs`).
const RECORD: &str = env!("RINGFENCE_RECORD");

/// The page: integers, native byte order, times in nanoseconds of `CLOCK_BOOTTIME`.
#[repr(C)]
struct Page {
    version: u64,
    /// Layout of the maps whose counts these are.
    schema: u64,
    /// Layout of a ring's record.
    record: u64,
    /// Bytes of a record in the ring.
    record_bytes: u64,
    /// When a reader last looked into the rings.
    looked: u64,
    /// Records that were handed on, since the maps were made.
    published: u64,
    /// Records that did not decode.
    undecodable: u64,
    /// Records that died with an agent.
    died: u64,
    /// By counter: what has been announced of it.
    announced: [u64; COUNTERS],
    /// The last number that was given out in the stream.
    head: u64,
    /// The stream's id.
    stream: [u8; STREAM],
}

impl MapValue for Page {
    const NAME: &'static [u8] = b"rf_ledger\0";
}

/// What has been told of one set of maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Records handed on.
    pub published: u64,
    /// Records that did not decode.
    pub undecodable: u64,
    /// Records that died with an agent.
    pub died: u64,
    /// By counter: what has been announced of it.
    pub announced: [u64; Counter::ALL.len()],
    /// The last number that was given out in the stream.
    pub head: u64,
}

/// What an earlier agent left.
#[derive(Clone, Debug)]
pub struct Left {
    /// When it last looked.
    pub looked: Timestamp,
    /// Its records have the layout of ours.
    pub readable: bool,
    /// Bytes of one of its records in the ring.
    pub record_bytes: u64,
    /// Its stream, as far as it was numbered; `None` if that is not known.
    pub stream: Option<StreamEnd>,
    /// The layout of its maps.
    schema: u64,
    told: Told,
}

impl Left {
    /// What was told of the maps of a schema; nothing, if the earlier agent used others.
    #[must_use]
    pub fn told_of(&self, schema: u64) -> Told {
        if self.schema == schema { self.told } else { Told::default() }
    }
}

/// The page, open for this agent's reader.
pub struct Ledger {
    page: Mapped<Page>,
    /// Set by whoever was here before.
    left: Option<Left>,
}

/// This build's layout of maps, as a number.
#[must_use]
pub fn own_schema() -> u64 {
    schema_number(SCHEMA)
}

/// A schema as it stands in a directory's name, as a number; 0 for what is none.
#[must_use]
pub(crate) fn schema_number(name: &str) -> u64 {
    u64::from_str_radix(name, 16).unwrap_or(0)
}

fn own_record() -> u64 {
    RECORD.parse().unwrap_or(0)
}

impl Ledger {
    /// Opens the pinned page, or makes it. `before`: pinned maps of an earlier agent, whose page may be missing; then all
    /// their losses count as never announced, and the gap begins when the maps were last changed.
    pub(crate) fn open(pins: &PinDirectory, before: Option<&Path>) -> Result<Self, PinError> {
        let (page, found) = open_or_make::<Page>(&pins.ledger())?;
        let left =
            if found && page.version == VERSION { Some(read(&page)) } else { before.and_then(unknown) };
        Ok(Self { page, left })
    }

    /// What an earlier agent left; `None` if this is the first.
    #[must_use]
    pub fn left(&self) -> Option<&Left> {
        self.left.as_ref()
    }

    /// From now on the page tells of this agent's maps.
    pub fn begin(&mut self, told: &Told, stream: &str) {
        // Void while it is half written: an agent that dies here leaves no page, rather than a wrong one. The fences are
        // for the compiler, which else may leave out the first of two stores; a process dies between instructions, so that
        // the machine's order does not matter.
        self.page.version = 0;
        compiler_fence(Ordering::SeqCst);
        self.page.stream = [0; STREAM];
        let bytes = stream.len().min(STREAM);
        self.page.stream[..bytes].copy_from_slice(&stream.as_bytes()[..bytes]);
        self.page.schema = own_schema();
        self.page.record = own_record();
        self.page.record_bytes = RECORD_BYTES;
        self.page.announced[..told.announced.len()].copy_from_slice(&told.announced);
        self.tell(told);
        compiler_fence(Ordering::SeqCst);
        self.page.version = VERSION;
    }

    /// A reader has looked into the rings, and this is what became of the records.
    pub fn tell(&mut self, told: &Told) {
        // First: an agent that dies here has numbered records that count as died with it, and not the other way round.
        self.page.head = told.head;
        compiler_fence(Ordering::SeqCst);
        self.page.published = told.published;
        self.page.undecodable = told.undecodable;
        self.page.died = told.died;
        self.page.looked = Clock::boot_now();
    }

    /// A counter was announced up to here, and with that the stream has come to `head`.
    pub fn announced(&mut self, what: Counter, count: u64, head: u64) {
        self.page.head = head;
        self.page.announced[what as usize] = count;
    }
}

fn read(page: &Page) -> Left {
    let stream = page.stream.split(|byte| *byte == 0).next().unwrap_or_default();
    let stream = str::from_utf8(stream).ok().filter(|id| !id.is_empty());
    let stream = stream.map(|id| StreamEnd { stream_id: Arc::from(id), sequence: page.head });
    let mut announced = [0; Counter::ALL.len()];
    announced.copy_from_slice(&page.announced[..Counter::ALL.len()]);
    Left {
        looked: Clock::read().wall(page.looked),
        readable: page.record == own_record(),
        record_bytes: page.record_bytes.max(1),
        schema: page.schema,
        stream,
        told: Told {
            published: page.published,
            undecodable: page.undecodable,
            died: page.died,
            announced,
            head: page.head,
        },
    }
}

/// Somebody removed the page.
fn unknown(maps: &Path) -> Option<Left> {
    let changed = fs::metadata(maps).and_then(|m| m.modified()).ok()?;
    let looked = Timestamp::try_from(changed).ok()?;
    let (record_bytes, told) = (RECORD_BYTES, Told::default());
    Some(Left { looked, readable: false, record_bytes, stream: None, schema: 0, told })
}
