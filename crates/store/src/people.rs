//! The installation, its people and their tokens. Of a token only its SHA-256 is ever seen here.

use stockade_domain::{
    Digest, Role, Timestamp,
    ids::{OrganizationId, ServerId, TokenId, UserId},
};

use crate::{Result, Tx};

/// What the first start makes.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The tenant.
    pub organization: OrganizationId,
    /// Its name.
    pub organization_name: String,
    /// The first person, who becomes admin.
    pub admin: UserId,
    /// That person's name.
    pub admin_name: String,
    /// The token by which that person signs in.
    pub token: TokenId,
    /// The SHA-256 of that token.
    pub token_hash: Digest,
    /// The text of bundle number 1.
    pub bundle: String,
    /// The first site's identifier.
    pub site: stockade_domain::ids::SiteId,
    /// The first site's name.
    pub site_name: String,
    /// When.
    pub now: Timestamp,
}

/// Whose database this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The tenant.
    pub organization: OrganizationId,
    /// Its name.
    pub name: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// The name people see; unique.
    pub name: String,
    /// What the person may be, sorted.
    pub roles: Vec<Role>,
    /// Since when.
    pub created_at: Timestamp,
}

/// A token, without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its row.
    pub id: TokenId,
    /// Whose.
    pub user: UserId,
    /// What people call it.
    pub name: String,
    /// Since when.
    pub created_at: Timestamp,
    /// When it stops working by itself.
    pub expires_at: Option<Timestamp>,
    /// When somebody revoked it.
    pub revoked_at: Option<Timestamp>,
}

/// Makes organization, admin, token, first site and bundle 1, or does nothing if there is an organization already.
/// True if it made them: then, and only then, the token is good.
pub async fn bootstrap(tx: &mut Tx, new: &Bootstrap) -> Result<bool> {
    todo!()
}

/// The installation, once bootstrapped.
pub async fn installation(tx: &mut Tx) -> Result<Option<Installation>> {
    todo!()
}

/// Notes that this server exists, with its Ed25519 public key (base64). Repeatable; another key is a `Conflict`.
pub async fn register_server(tx: &mut Tx, server: ServerId, public_key: &str, now: Timestamp) -> Result<()> {
    todo!()
}

/// The public keys of all servers there ever were, oldest first.
pub async fn servers(tx: &mut Tx) -> Result<Vec<(ServerId, String)>> {
    todo!()
}

/// Adds a person; the name must be free.
pub async fn add_user(tx: &mut Tx, user: &User) -> Result<()> {
    todo!()
}

/// One person.
pub async fn user(tx: &mut Tx, id: UserId) -> Result<User> {
    todo!()
}

/// Everybody, oldest first.
pub async fn users(tx: &mut Tx) -> Result<Vec<User>> {
    todo!()
}

/// Adds a token for a person by the token's SHA-256.
pub async fn add_token(tx: &mut Tx, token: &Token, hash: Digest) -> Result<()> {
    todo!()
}

/// Who holds the token with this SHA-256, if it is still good.
pub async fn user_by_token(tx: &mut Tx, hash: Digest, now: Timestamp) -> Result<Option<(TokenId, User)>> {
    todo!()
}

/// A person's tokens, oldest first.
pub async fn tokens(tx: &mut Tx, user: UserId) -> Result<Vec<Token>> {
    todo!()
}

/// Ends a token. Repeatable.
pub async fn revoke_token(tx: &mut Tx, token: TokenId, now: Timestamp) -> Result<()> {
    todo!()
}
