//! Why a decision is what it is, for people who write policies. Never shown to the governed process.

use serde::{Deserialize, Serialize};
use stockade_domain::Decision;

/// A decision and the two answers it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What is decided.
    pub decision: Decision,
    /// Why the deed could not be asked about at all: it does not fit the schema, or passes a limit. Then both
    /// answers below are no, without reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfit: Option<String>,
    /// May it be done?
    pub may: Answered,
    /// May it be done unattended?
    pub unattended: Answered,
    /// Policies that could apply to this action, kind of principal and kind of resource, and did not decide.
    pub passed_over: Vec<Reason>,
}

/// The answer to one of the two questions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Yes or no.
    pub yes: bool,
    /// The forbids that matched, or else the permits that matched, sorted by id. None: nothing permitted it.
    pub policies: Vec<Reason>,
    /// The policies that could not be evaluated. A single one makes the decision a Deny.
    pub errors: Vec<PolicyError>,
}

/// A policy, as a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The pack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<String>,
    /// `permit` or `forbid`.
    pub effect: String,
    /// Its Cedar text.
    pub text: String,
}

/// A policy that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyError {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// What went wrong. May quote the deed's circumstances: content.
    pub error: String,
}
