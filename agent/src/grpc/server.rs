//! Puts the services, health and reflection on a socket, and takes them down in order.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent_proto::v1::event_service_server::EventServiceServer;
use agent_proto::v1::node_service_server::NodeServiceServer;
use agent_proto::v1::place_service_server::PlaceServiceServer;
use agent_proto::v1::policy_service_server::PolicyServiceServer;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Router;

use super::backend::Backend;
use super::events::Events;
use super::node::Node;
use super::place::Places;
use super::policy::Policies;
use super::socket::AgentSocket;
use crate::events::hub::Hub;

/// Largest message in either direction: room for every policy that makes sense, and a bound on what one
/// request can make the agent hold.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Calls that one connection may have open at once.
const MAX_CALLS_PER_CONNECTION: u32 = 64;

/// A peer that does not answer within two of these is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Time that subscribers have to take the last events when the agent stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Why serving ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket can't be given to the runtime.
    #[error("registering the agent's socket with the runtime: {0}")]
    Register(#[source] io::Error),
    /// The descriptor set built into this binary does not decode.
    #[error("preparing reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server gave up.
    #[error("serving gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `shutdown` is done: then no new calls, streams end with their last event, clients that
/// don't take it within two seconds are not waited for, and the socket is removed.
///
/// # Errors
/// When serving can't begin, or ends by itself.
pub async fn serve(
    socket: AgentSocket,
    hub: Arc<Hub>,
    backend: Arc<dyn Backend>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let (listener, _file) = socket.into_parts();
    let listener = UnixListener::from_std(listener).map_err(ServeError::Register)?;
    let (stop, stopped) = oneshot::channel::<()>();
    // `stopped` also ends, with an error, if `stop` is dropped: either way it is time to stop.
    let signal = async { stopped.await.unwrap_or(()) };
    let served =
        router(&hub, &backend).await?.serve_with_incoming_shutdown(UnixListenerStream::new(listener), signal);
    tokio::pin!(served);

    tokio::select! {
        ended = &mut served => return Ok(ended?),
        () = shutdown => {}
    }
    hub.close();
    drop(stop);
    match tokio::time::timeout(DRAIN, served).await {
        Ok(ended) => Ok(ended?),
        Err(_elapsed) => {
            tracing::warn!("some clients did not end their calls within {DRAIN:?}: not waiting for them");
            Ok(())
        }
    }
}

async fn router(hub: &Arc<Hub>, backend: &Arc<dyn Backend>) -> Result<Router, ServeError> {
    let events = Events { hub: Arc::clone(hub), backend: Arc::clone(backend) };
    let events = EventServiceServer::new(events)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let policies = PolicyServiceServer::new(Policies { backend: Arc::clone(backend) })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let places = PlaceServiceServer::new(Places { backend: Arc::clone(backend) })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let node = Node { hub: Arc::clone(hub), backend: Arc::clone(backend) };
    let node = NodeServiceServer::new(node)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<EventServiceServer<Events>>().await;
    reporter.set_serving::<PolicyServiceServer<Policies>>().await;
    reporter.set_serving::<PlaceServiceServer<Places>>().await;
    reporter.set_serving::<NodeServiceServer<Node>>().await;

    Ok(Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(Some(MAX_CALLS_PER_CONNECTION))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(events)
        .add_service(policies)
        .add_service(places)
        .add_service(node))
}

/// Reflection of our own services and of health.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(agent_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
