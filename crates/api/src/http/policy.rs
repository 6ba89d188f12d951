//! The organization's policy.

use serde::{Deserialize, Serialize};
use stockade_domain::{Answer, Deed, Timestamp, ids::UserId};
use utoipa::ToSchema;

/// The bundle in force.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Its number.
    pub number: u64,
    /// Its source.
    pub text: String,
    /// Since when.
    #[schema(value_type = i64)]
    pub created_at: Timestamp,
    /// Who put it into force; nobody for the one that was shipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub created_by: Option<UserId>,
}

/// Puts a new bundle into force. It gets the next number.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutPolicy {
    /// Its source.
    pub text: String,
    /// The number of the bundle that it replaces; refused if another is in force by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
}

/// Would this bundle load?
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckPolicy {
    /// Its source; the bundle in force if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyReport {
    /// Whether it loads.
    pub ok: bool,
    /// All that is wrong with it.
    pub problems: Vec<PolicyProblem>,
    /// What is in order but looks like a mistake.
    pub warnings: Vec<PolicyProblem>,
    /// How many policies it has, if it could be read.
    pub policies: u64,
    /// Its examples, if it loads and they were asked for.
    pub examples: Vec<ExampleResult>,
    /// How many content rules it has, if it could be read.
    #[serde(default)]
    pub content_rules: u64,
    /// The examples of its content rules, if it loads and they were asked for.
    #[serde(default)]
    pub content_examples: Vec<ContentExample>,
}

/// One thing that is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyProblem {
    /// The line of the bundle's text, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The policy's id, or `#3` for the third one if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The example's name, or `#3` for the third one if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// What is wrong, and what to try.
    pub message: String,
}

/// An example and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExampleResult {
    /// Its name.
    pub name: String,
    /// The line of the bundle's text on which it begins, from 1.
    pub line: u64,
    /// What the bundle says should be.
    #[schema(value_type = String)]
    pub expected: Answer,
    /// What is.
    #[schema(value_type = String)]
    pub actual: Answer,
    /// Whether they agree.
    pub ok: bool,
}

/// An example of the content rules and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentExample {
    /// Its name.
    pub name: String,
    /// The line of the bundle's text on which it begins, from 1.
    pub line: u64,
    /// What the bundle says should be done: `block`, `ask`, `redact`, `report` or `nothing`.
    pub expected: String,
    /// What is done.
    pub actual: String,
    /// Whether they agree.
    pub ok: bool,
}

/// What would be decided about this deed, and why?
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainDeed {
    /// The deed: `{principal, action, resource, context}`.
    #[schema(value_type = Object)]
    pub deed: Deed,
}

/// What would be decided, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The number of the bundle.
    pub bundle: u64,
    /// The answer.
    #[schema(value_type = String)]
    pub answer: Answer,
    /// Why the deed could not be asked about at all: it does not fit the schema, or passes a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfit: Option<String>,
    /// May it be done at all?
    pub may: Question,
    /// May it be done without a person being asked?
    pub unattended: Question,
    /// Policies that could apply to such a deed, and did not decide.
    pub passed_over: Vec<ExplainedPolicy>,
}

/// One of the two questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Question {
    /// The answer.
    pub yes: bool,
    /// The policies that made it so.
    pub policies: Vec<ExplainedPolicy>,
    /// What went wrong while deciding. Anything here makes the answer a no.
    pub errors: Vec<String>,
}

/// A policy that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedPolicy {
    /// Its id in the bundle.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The pack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<String>,
    /// `permit` or `forbid`.
    pub effect: String,
    /// Its Cedar source.
    pub text: String,
}
