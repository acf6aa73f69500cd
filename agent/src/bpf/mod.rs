//! The kernel side, as the agent sees it: the only importer of aya and the only `unsafe` of the agent.
//!
//! [`object`] → [`load`] → [`birth`] → [`image`] and [`identity`] (fill, stage, swap) → [`attach`].

pub mod attach;
pub mod birth;
mod btf;
pub mod features;
pub mod host;
pub mod identity;
pub mod image;
pub mod load;
pub mod object;
pub mod storage;
mod strict;
mod sys;
pub mod verified;
mod xlated;

pub(crate) use strict::strict_netlink;
