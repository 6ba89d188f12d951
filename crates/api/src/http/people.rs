//! People and their tokens.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Role, Timestamp,
    ids::{OrganizationId, TokenId, UserId},
};
use utoipa::ToSchema;

/// Who the token belongs to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The person.
    #[schema(value_type = String)]
    pub user: UserId,
    /// The person's name.
    pub name: String,
    /// What the person may be.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<Role>,
    /// The organization.
    #[schema(value_type = String)]
    pub organization: OrganizationId,
}

/// Makes an access token, and the person it is for if there is none of that name.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// For whom: the person's name.
    pub user: String,
    /// What a new person may be. Must be absent or the same for one who is there already.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<Role>,
    /// What the token is for, in a few words.
    pub label: String,
    /// When it ends, in seconds from now; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// A token, shown this once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// Its row.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub user: UserId,
    /// The token itself. The server keeps only its digest.
    pub token: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub expires_at: Option<Timestamp>,
}

/// Shows everything but the token.
impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("id", &self.id).field("user", &self.user).finish_non_exhaustive()
    }
}
