//! `PolicyService`: checks the request, asks the backend where blocking is allowed.

use std::sync::Arc;

use agent_proto::v1;
use agent_proto::v1::policy_service_server::PolicyService;
use tonic::{Request, Response, Status};

use super::backend::{Backend, Document, Question};
use super::convert::answers;
use super::error::RequestError;
use super::place::address;
use crate::events::model::flow::{Endpoint, Protocol};

pub(super) struct Policies {
    pub(super) backend: Arc<dyn Backend>,
}

#[tonic::async_trait]
impl PolicyService for Policies {
    async fn validate(
        &self,
        request: Request<v1::ValidateRequest>,
    ) -> Result<Response<v1::ValidateResponse>, Status> {
        let documents = documents(request.into_inner())?;
        let validation = ask(&self.backend, "Validate", move |backend| backend.validate(&documents)).await?;
        Ok(Response::new(answers::validation(validation)))
    }

    async fn list(
        &self,
        _: Request<v1::ListFencesRequest>,
    ) -> Result<Response<v1::ListFencesResponse>, Status> {
        Ok(Response::new(answers::fence_list(self.backend.fences())))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let question = question(&request.into_inner())?;
        let explanation = ask(&self.backend, "Explain", move |backend| backend.explain(&question)).await?;
        Ok(Response::new(answers::explanation(explanation)))
    }
}

/// Asks where blocking is allowed; a panic there is the caller's error and no end of the agent.
async fn ask<T: Send + 'static>(
    backend: &Arc<dyn Backend>,
    question: &'static str,
    ask: impl FnOnce(&dyn Backend) -> T + Send + 'static,
) -> Result<T, RequestError> {
    let backend = Arc::clone(backend);
    let answer = tokio::task::spawn_blocking(move || ask(&*backend)).await;
    answer.map_err(|error| {
        tracing::error!(question, %error, "a question to the agent failed");
        RequestError::Failed { question }
    })
}

fn documents(request: v1::ValidateRequest) -> Result<Vec<Document>, RequestError> {
    if request.documents.is_empty() {
        return Err(RequestError::field("documents", "nothing to check: give at least one document"));
    }
    let documents = request.documents.into_iter();
    Ok(documents.map(|document| Document { file: document.file, text: document.text }).collect())
}

fn question(request: &v1::ExplainRequest) -> Result<Question, RequestError> {
    if !request.cgroup.starts_with('/') {
        let problem = format!("{:?} is no path below the cgroup2 mount: begin with `/`", request.cgroup);
        return Err(RequestError::field("cgroup", problem));
    }
    let protocol = match u8::try_from(request.protocol) {
        Ok(number) if number != 0 => Protocol(number),
        Ok(_) | Err(_) => {
            let problem = format!("{} is no IANA protocol number: 6 is TCP, 17 is UDP", request.protocol);
            return Err(RequestError::field("protocol", problem));
        }
    };
    let port = u16::try_from(request.port)
        .map_err(|_error| RequestError::field("port", format!("{} is no port: 0 to 65535", request.port)))?;
    let remote = Endpoint::new(address("address", &request.address)?, port);
    Ok(Question { cgroup: request.cgroup.clone(), remote, protocol })
}
