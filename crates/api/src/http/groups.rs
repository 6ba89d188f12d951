//! Groups: several people under one name, so that a budget can be theirs.

use serde::{Deserialize, Serialize};
use stockade_domain::{
    Timestamp,
    ids::{GroupId, UserId},
};
use utoipa::ToSchema;

/// Several people under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Which.
    #[schema(value_type = String)]
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Who is in it.
    pub members: Vec<Member>,
    /// Since when.
    #[schema(value_type = i64)]
    pub created_at: Timestamp,
}

/// A person in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// The person.
    #[schema(value_type = String)]
    pub user: UserId,
    /// The person's name.
    pub name: String,
}

/// Makes a group with nobody in it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    /// Its name; must be free.
    pub name: String,
}

/// Puts a person into a group, or takes them out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeGroup {
    /// The person's name or identifier.
    pub user: String,
    /// In, or out.
    pub member: bool,
}
