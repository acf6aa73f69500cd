//! Which fences need what: of files, or of a running agent.

use std::path::{Path, PathBuf};

use agent_proto::v1;
use agent_proto::v1::policy_service_client::PolicyServiceClient;
use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use tokio::time::timeout;

use crate::bpf::features::Feature;
use crate::cli::client::{ANSWER_TIMEOUT, ClientError, connect};
use crate::places::Groups;
use crate::policy::schema::Requirement;
use crate::policy::{Context, check, load};

/// Where the fences come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// These files.
    Files(PathBuf),
    /// The agent on this socket.
    Agent(PathBuf),
    /// Nobody was asked: no agent answers there.
    Nobody(PathBuf),
}

/// What fences need beyond what all of them need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) source: Source,
    /// A fence, and the word of its `require`. A newer agent may know words that this doctor does not.
    pub(super) required: Vec<(String, String)>,
}

impl Needs {
    pub(super) fn of_files(path: &Path) -> Result<Self> {
        let files = load(path)?;
        let groups = Groups::builtin()?;
        let checked = check(&files, Context { now: Timestamp::now(), groups: &groups, cgroups: None });
        let Some(set) = checked.set else {
            bail!("the policy {} has errors: run `ringfence check` on it", path.display())
        };
        let of = |fence: &crate::policy::set::Fence| -> Vec<(String, String)> {
            fence.require.iter().map(|r| (fence.name.to_string(), r.word().to_owned())).collect()
        };
        let required = set.fences.iter().flat_map(of).collect();
        Ok(Self { source: Source::Files(path.to_owned()), required })
    }

    /// Those of the agent on `socket`; that none answers there is no error.
    pub(super) fn of_agent(socket: &Path) -> Self {
        match ask(socket) {
            Ok(required) => Self { source: Source::Agent(socket.to_owned()), required },
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "no agent was asked for its fences");
                Self { source: Source::Nobody(socket.to_owned()), required: Vec::new() }
            }
        }
    }

    /// The fences that need a feature.
    pub(super) fn fences(&self, feature: Feature) -> Vec<&str> {
        let word = Requirement::ALL.into_iter().find(|r| feature_of(*r) == feature).map(Requirement::word);
        let of = self.required.iter().filter(|(_, required)| word == Some(required.as_str()));
        of.map(|(fence, _)| fence.as_str()).collect()
    }
}

/// What a requirement asks of the kernel.
const fn feature_of(requirement: Requirement) -> Feature {
    match requirement {
        Requirement::HostLayer => Feature::HostLayer,
    }
}

fn ask(socket: &Path) -> Result<Vec<(String, String)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = async {
        let mut client = PolicyServiceClient::new(connect(socket).await?);
        Ok::<_, ClientError>(client.list(v1::ListFencesRequest {}).await?.into_inner())
    };
    let answer =
        runtime.block_on(async { timeout(ANSWER_TIMEOUT, ask).await }).context("no answer in time")??;
    let of = |fence: v1::FenceSummary| {
        let name = fence.name;
        fence.require.into_iter().map(move |word| (name.clone(), word))
    };
    Ok(answer.fences.into_iter().flat_map(of).collect())
}
