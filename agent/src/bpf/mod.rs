//! The kernel side, as the agent sees it: the only importer of aya and the only `unsafe` of the agent.
//!
//! [`object`] → [`load`] → [`image`] (fill, swap) → [`attach`]; [`features`] tells what this kernel can do.

pub mod attach;
pub mod image;
pub mod load;
pub mod object;
mod sys;
