//! What can be wrong with a request, and the one table that turns it into a gRPC status.

use tonic::{Code, Status};

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A field of the request does not say what it may say.
    #[error("{field}: {problem}")]
    InvalidField {
        /// Path of the field in the request, as `allow_filters[0].cidrs[1]`.
        field: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The agent is going down.
    #[error("the agent is stopping: ask again when it has started")]
    Stopping,
    /// The answer could not be worked out: a defect of the agent.
    #[error("working out the answer to {question} failed: see the agent's log")]
    Failed {
        /// The method that was called.
        question: &'static str,
    },
}

impl RequestError {
    /// A field that does not say what it may say.
    pub(crate) fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), problem: problem.into() }
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        let code = match error {
            RequestError::InvalidField { .. } => Code::InvalidArgument,
            RequestError::Stopping => Code::Unavailable,
            RequestError::Failed { .. } => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}
