//! Ring bytes to an [`Event`]: field by field, checked, never a transmute.

use core::fmt;

use super::{Event, Hook, Phase};
use crate::address::Address;
use crate::verdict::Reason;

/// Why ring bytes are no event. The event is dropped and counted; the ring goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// Another length than an event has.
    Length(usize),
    /// An unknown number in a field.
    Field {
        /// Which field.
        name: &'static str,
        /// What it held.
        value: u8,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "an event of {n} bytes, {} expected", size_of::<Event>()),
            Self::Field { name, value } => write!(f, "unknown {name} {value} in an event"),
        }
    }
}

impl core::error::Error for DecodeError {}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Length(self.0.len()))?;
        self.0 = tail;
        Ok(*head)
    }
    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take::<1>().map(|b| b[0])
    }
    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_ne_bytes)
    }
    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_ne_bytes)
    }
    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_ne_bytes)
    }
    fn address(&mut self) -> Result<Address, DecodeError> {
        Ok(Address { hi: self.u64()?, lo: self.u64()? })
    }
}

impl TryFrom<u8> for Phase {
    type Error = DecodeError;
    fn try_from(value: u8) -> Result<Self, DecodeError> {
        [Self::Open, Self::Verdict, Self::Repeat, Self::Close]
            .into_iter()
            .find(|p| *p as u8 == value)
            .ok_or(DecodeError::Field { name: "phase", value })
    }
}

impl TryFrom<u8> for Hook {
    type Error = DecodeError;
    fn try_from(value: u8) -> Result<Self, DecodeError> {
        Self::ALL.into_iter().find(|h| *h as u8 == value).ok_or(DecodeError::Field { name: "hook", value })
    }
}

impl TryFrom<u8> for Reason {
    type Error = DecodeError;
    fn try_from(value: u8) -> Result<Self, DecodeError> {
        Self::ALL.get(usize::from(value)).copied().ok_or(DecodeError::Field { name: "reason", value })
    }
}

impl Event {
    /// Reads an event. Every number that stands for something is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() != size_of::<Self>() {
            return Err(DecodeError::Length(bytes.len()));
        }
        let mut c = Cursor(bytes);
        let event = Self {
            time: c.u64()?,
            opened: c.u64()?,
            cookie: c.u64()?,
            cgroup: c.u64()?,
            remote: c.address()?,
            local: c.address()?,
            tx_bytes: c.u64()?,
            tx_packets: c.u64()?,
            rx_bytes: c.u64()?,
            rx_packets: c.u64()?,
            repeats: c.u64()?,
            folded: c.u64()?,
            generation: c.u32()?,
            workload: c.u32()?,
            pid: c.u32()?,
            uid: c.u32()?,
            outcome: c.u32()?,
            port: c.u16()?,
            local_port: c.u16()?,
            place: c.u16()?,
            phase: c.u8()?,
            hook: c.u8()?,
            protocol: c.u8()?,
            direction: c.u8()?,
            flags: c.u8()?,
            _pad: c.u8()?,
            comm: c.take()?,
            set: c.u16()?,
            blocking: c.u16()?,
            flow_flags: c.u32()?,
        };
        Phase::try_from(event.phase)?;
        Hook::try_from(event.hook)?;
        Reason::try_from((event.outcome >> 16) as u8)?;
        if event.direction > 1 {
            return Err(DecodeError::Field { name: "direction", value: event.direction });
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{DecodeError, Event};

    fn valid() -> [u8; size_of::<Event>()] {
        let mut b = [0; size_of::<Event>()];
        b[offset_of!(Event, phase)] = 1;
        b[offset_of!(Event, hook)] = 5;
        b
    }

    #[test]
    fn every_field_is_read_from_its_own_offset() {
        let mut b = valid();
        b[offset_of!(Event, generation)..][..4].copy_from_slice(&7u32.to_ne_bytes());
        b[offset_of!(Event, port)..][..2].copy_from_slice(&443u16.to_ne_bytes());
        b[offset_of!(Event, folded)..][..8].copy_from_slice(&9u64.to_ne_bytes());
        b[offset_of!(Event, flow_flags)..][..4].copy_from_slice(&5u32.to_ne_bytes());
        b[offset_of!(Event, comm)..][..4].copy_from_slice(b"curl");
        let e = Event::decode(&b).unwrap();
        assert_eq!((e.generation, e.port, e.folded, e.flow_flags), (7, 443, 9, 5));
        assert_eq!(&e.comm[..5], b"curl\0");
    }

    #[test]
    fn unknown_numbers_are_refused_by_name() {
        for (at, name) in [
            (offset_of!(Event, phase), "phase"),
            (offset_of!(Event, hook), "hook"),
            (offset_of!(Event, outcome) + 2, "reason"),
            (offset_of!(Event, direction), "direction"),
        ] {
            let mut b = valid();
            b[at] = 99;
            assert_eq!(Event::decode(&b), Err(DecodeError::Field { name, value: 99 }));
        }
    }

    proptest! {
        #[test]
        fn any_other_length_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if bytes.len() != size_of::<Event>() {
                prop_assert_eq!(Event::decode(&bytes), Err(DecodeError::Length(bytes.len())));
            }
        }
    }
}
