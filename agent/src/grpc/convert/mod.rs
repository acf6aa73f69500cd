//! Domain types ↔ `ringfence.v1` messages. Out is total; in names the field that it can't take.

pub mod answers;
pub mod answers_in;
pub mod event_in;
pub mod event_out;
pub mod words;
