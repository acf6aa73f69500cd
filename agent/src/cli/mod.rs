//! The command line: one module a verb, and what they share.

pub mod check;
pub mod client;
pub mod doctor;
pub mod explain;
pub mod lookup;
pub mod output;
pub mod run;
pub mod status;
pub mod uninstall;
pub mod watch;
