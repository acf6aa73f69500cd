//! Packet bytes to what a verdict needs. Parsers are total: what they can't read is `None`, never a guess.

pub mod ip;
pub mod stack;
