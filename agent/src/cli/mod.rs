//! The command line: one module a verb, and what they share.

pub mod client;
pub mod lookup;
pub mod output;
pub mod status;
pub mod watch;
