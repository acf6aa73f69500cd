//! The agent's answer, in the form of the answer from files.

use std::path::Path;

use agent_common::flow::Direction;
use agent_proto::v1::ExplainRequest;
use agent_proto::v1::policy_service_client::PolicyServiceClient;
use tokio::time::timeout;

use crate::cli::client::{ANSWER_TIMEOUT, ClientError, connect};
use crate::events::model::flow::Protocol;
use crate::grpc::convert::answers_in::explanation;
use crate::policy::CgroupPath;
use crate::policy::explain::{Explanation, FenceSays, direction_word};
use crate::policy::target::Target;

/// Asks what is in force.
pub(super) fn ask(socket: &Path, cgroup: &CgroupPath, to: Target) -> Result<Explanation, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = PolicyServiceClient::new(connect(socket).await?);
        let request = ExplainRequest {
            cgroup: cgroup.as_str().to_owned(),
            address: to.address.to_string(),
            port: to.port.unwrap_or(0).into(),
            protocol: to.protocol.into(),
        };
        let answer = timeout(ANSWER_TIMEOUT, client.explain(request)).await.map_err(|_elapsed| {
            ClientError::Silent { socket: socket.to_owned(), problem: "no answer in time".to_owned() }
        })??;
        let answer = explanation(answer.into_inner())?;
        let matched = answer.outcomes.iter().map(|o| FenceSays {
            fence: o.fence.to_string(),
            mode: o.mode.as_str(),
            verdict: o.verdict.as_str(),
            reason: o.reason.as_str(),
            rule: o.rule.as_deref().map(str::to_owned),
            basis: None,
            expires_at: None,
            file: None,
            line: None,
        });
        let place = &answer.place;
        let text = |s: &Option<std::sync::Arc<str>>| s.as_deref().map(str::to_owned);
        Ok(Explanation {
            verdict: answer.verdict.as_str(),
            would_be: answer.would_be.as_str(),
            reason: answer.reason.as_str(),
            fence: answer.fence,
            rule: answer.rule,
            matched: matched.collect(),
            country: text(&place.country),
            jurisdictions: place.jurisdictions.iter().map(ToString::to_string).collect(),
            source: text(&place.source),
            data_date: place.data_date.map(|d| d.to_string()),
            layer: None,
            provider: text(&place.provider),
            region: text(&place.region),
            address: to.address.to_canonical(),
            port: to.port,
            protocol: Protocol(to.protocol).to_string(),
            direction: direction_word(Direction::Outbound),
            cgroup: cgroup.as_str().to_owned(),
            workload: None,
        })
    })
}
