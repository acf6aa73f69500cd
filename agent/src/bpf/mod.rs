//! The kernel side, as the agent sees it: the only importer of aya and the only `unsafe` of the agent.
//!
//! [`object`] → [`load`] → [`image`] (fill, stage, swap) → [`attach`].

pub mod attach;
pub mod host;
pub mod image;
pub mod load;
pub mod object;
mod strict;
mod sys;

pub(crate) use strict::strict_netlink;
