//! What was decided, as plain facts. The right to act on it (a permit) is made by the policy crate alone.

use serde::{Deserialize, Serialize};

use crate::deed::words;
use std::str::FromStr;

use crate::UnknownWord;

words! {
    /// The three answers.
    Answer "answer" {
        Allow "allow" "It may be done.",
        Ask "ask" "It may be done once a person has said yes.",
        Deny "deny" "It may not be done.",
    }
}

/// What was decided about one deed, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The answer.
    pub answer: Answer,
    /// The number of the bundle that decided.
    pub bundle: u64,
    /// The policies that made the answer what it is, sorted by id. Empty when nothing permitted it.
    #[serde(default)]
    pub policies: Vec<DecidingPolicy>,
    /// The approval that turned an ask into a yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<crate::ids::ApprovalId>,
}

/// A policy that decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidingPolicy {
    /// Its id in the bundle.
    pub id: String,
    /// Its title, which people are shown.
    pub title: String,
}

impl Decision {
    /// What a governed process may be told: the title of the deciding policy and nothing of our insides.
    pub fn title(&self) -> &str {
        self.policies.first().map_or("nothing permits this", |policy| policy.title.as_str())
    }
}
