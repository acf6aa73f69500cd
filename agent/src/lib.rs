//! ringfence, the agent.
//!
//! The path of a flow, from the kernel to the subscriber:
//! 1. to 4. hook, view, verdict, ring: the `agent-ebpf` and `agent-common` packages, loaded by [`bpf`];
//! 5. decode: [`events::reader`];
//! 6. enrich: [`events::enrich`], with [`identity`];
//! 7. hub: [`events::hub`];
//! 8. stream: [`grpc`].
//!
//! Where policy enters: [`policy`] compiles documents and [`places`] into the image that [`policy::publish`] puts
//! into the kernel. [`hostlayer`] guards what sockets do not
//! show. [`watchdog`] sees to it that what is in the kernel stays there. [`supervise`] holds it all together; [`cli`] is what people type.

pub mod bpf;
pub mod cli;
pub mod config;
pub mod events;
pub mod flows;
pub mod grpc;
pub mod hostlayer;
pub mod identity;
pub mod places;
pub mod policy;
pub mod supervise;
pub mod watchdog;
