//! `NodeService`: what this agent is doing.

use std::sync::Arc;

use agent_proto::v1;
use agent_proto::v1::node_service_server::NodeService;
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::convert::answers;
use crate::events::hub::Hub;

pub(super) struct Node {
    pub(super) hub: Arc<Hub>,
    pub(super) backend: Arc<dyn Backend>,
}

#[tonic::async_trait]
impl NodeService for Node {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(answers::status(self.backend.status(), &self.hub)))
    }
}
