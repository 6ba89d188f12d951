//! Runners: the hands of a site.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Timestamp,
    ids::{RunnerId, SiteId},
};
use utoipa::ToSchema;

/// A runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Runner {
    /// Which.
    #[schema(value_type = String)]
    pub id: RunnerId,
    /// What people call it.
    pub name: String,
    /// Its site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Where people inside the site reach it.
    pub listener: String,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub seen_at: Option<Timestamp>,
    /// Whether that is recent enough to be given work.
    pub live: bool,
    /// The number of the policy bundle it has in force, 0 for none.
    pub bundle: u64,
    /// How many entries wait in its spool, as it last said.
    pub spooled: u64,
    /// Since when it could not reach the server the last time that it could not, as it said when it was back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub away_since: Option<Timestamp>,
}

/// Makes a token by which one runner may enrol, once.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEnrollToken {
    /// The name of its site; `default` if absent. A new name makes a new site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// When it ends, in seconds from now; an hour if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// A one-time token, shown this once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct EnrollToken {
    /// The token.
    pub token: String,
    /// When it ends.
    #[schema(value_type = i64)]
    pub expires_at: Timestamp,
}

/// Shows everything but the token.
impl std::fmt::Debug for EnrollToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
