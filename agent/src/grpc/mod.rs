//! Stop 8: `ringfence.v1` over a unix socket.
//!
//! The services ask the agent through [`backend::Backend`] and read events from the
//! [`Hub`](crate::events::hub::Hub); they hold no state of their own. Requests are checked here, answers
//! are domain types until [`convert`] turns them into messages.

pub mod backend;
pub mod convert;
pub mod error;
mod events;
pub mod filter;
mod node;
mod place;
mod policy;
pub mod server;
pub mod socket;

#[cfg(test)]
mod bench;
#[cfg(test)]
pub(crate) mod fake_agent;
#[cfg(test)]
mod tests;
