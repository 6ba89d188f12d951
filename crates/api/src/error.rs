//! The error envelope: every failed answer of the API has this body.

use serde::{Deserialize, Serialize};
pub use stockade_domain::chain;

/// Whose fault an error is. It decides the HTTP status, the exit code and the tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "client", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The caller asked for something that makes no sense. HTTP 400, 404, 409, 422; exit code 2.
    User,
    /// The installation is set up wrongly. HTTP 500 or none; exit code 3.
    Config,
    /// Policy or a person said no, or the caller is not known. HTTP 401, 403; exit code 4.
    Refused,
    /// Something outside did not answer. HTTP 502, 503, 504; exit code 5.
    Outside,
    /// A defect of ours. HTTP 500; exit code 70.
    Bug,
}

/// What went wrong, to which thing, and what to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "client", derive(utoipa::ToSchema))]
#[error("{message}")]
pub struct ApiError {
    /// A stable word for programs, for example `run_not_found`.
    pub code: String,
    /// A sentence for people; names the thing.
    pub message: String,
    /// What to try, a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whose fault it is.
    pub fault: Fault,
}

impl ApiError {
    /// An error without a hint.
    pub fn new(fault: Fault, code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: None, fault }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The body of a failed answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "client", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}
