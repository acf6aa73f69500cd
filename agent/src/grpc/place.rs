//! `PlaceService`: what the data in force knows of an address.

use std::net::IpAddr;
use std::sync::Arc;

use agent_proto::v1;
use agent_proto::v1::place_service_server::PlaceService;
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::convert::answers;
use super::error::RequestError;

pub(super) struct Places {
    pub(super) backend: Arc<dyn Backend>,
}

#[tonic::async_trait]
impl PlaceService for Places {
    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        let address = address("address", &request.into_inner().address)?;
        Ok(Response::new(answers::lookup(&self.backend.lookup(address))))
    }
}

/// An address in a request's field.
pub(super) fn address(field: &str, text: &str) -> Result<IpAddr, RequestError> {
    text.parse().map_err(|_error| RequestError::field(field, format!("{text:?} is no IPv4 or IPv6 address")))
}
