//! The kernel side, as the agent sees it: the only importer of aya and the only `unsafe` of the agent.
//!
//! [`object`] → [`adopt`] (what is there?) → [`load`] → [`birth`] → [`image`] and [`identity`] (fill, stage, swap) →
//! [`attach`] → [`link`]; all of it kept in the [`pin`] directory.

pub(crate) mod adopt;
pub mod attach;
pub mod birth;
mod btf;
pub mod features;
pub mod host;
pub mod identity;
pub mod image;
pub(crate) mod image_watch;
pub(crate) mod keepsake;
pub mod ledger;
pub(crate) mod link;
pub mod load;
pub mod object;
pub mod pin;
pub(crate) mod post;
pub mod rings;
pub mod storage;
mod strict;
mod sys;
pub mod verified;
mod xlated;

pub(crate) use strict::strict_netlink;
