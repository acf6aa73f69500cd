//! The kernel side, as the agent sees it: the only importer of aya and the only `unsafe` of the agent.
//!
//! [`object`] → [`load`] → [`image`] (fill, stage, swap) → [`attach`].

pub mod attach;
pub mod image;
pub mod load;
pub mod object;
pub mod storage;
mod sys;
