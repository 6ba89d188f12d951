//! The installation, its people and their tokens. Of a token only its SHA-256 is ever seen here.

use stockade_domain::{
    Digest, Role, Timestamp,
    ids::{OrganizationId, ServerId, SiteId, TokenId, UserId},
};

use crate::{
    Result, StoreError, Tx, bundles, sites,
    sql::{Row, ask, json, statements},
};

statements! {
    LOCK_THE_BOOTSTRAP = "UPDATE locks SET version = version + 1 WHERE name = 'bootstrap'";
    WHOSE_INSTALLATION_IS_THIS = "SELECT id, name, created_at FROM organizations ORDER BY id LIMIT 1";
    ADD_ORGANIZATION = "INSERT INTO organizations (id, name, created_at) VALUES ($1, $2, $3)";
    ADD_SERVER = "INSERT INTO servers (id, public_key, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    WHICH_SERVERS_ARE_THERE = "SELECT id, public_key FROM servers ORDER BY created_at, id";
    ADD_USER = "INSERT INTO users (id, name, roles, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    WHO_IS_THIS = "SELECT id, name, roles, created_at FROM users WHERE id = $1";
    WHO_IS_THERE = "SELECT id, name, roles, created_at FROM users ORDER BY id";
    ADD_TOKEN = "INSERT INTO tokens (id, owner, name, hash, created_at, expires_at, revoked_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    WHO_HOLDS_THIS_TOKEN = "SELECT t.id AS token, u.id, u.name, u.roles, u.created_at FROM tokens t \
                            JOIN users u ON u.id = t.owner WHERE t.hash = $1 AND t.revoked_at IS NULL \
                            AND (t.expires_at IS NULL OR t.expires_at > $2)";
    WHICH_TOKENS_HAS_THIS_USER = "SELECT id, owner, name, created_at, expires_at, revoked_at FROM tokens \
                                  WHERE owner = $1 ORDER BY id";
    REVOKE_TOKEN = "UPDATE tokens SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1";
}

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
    pub site: SiteId,
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
    // Two servers that start at once on an empty database: the second waits here and then sees what the first did.
    tx.run(ask!(LOCK_THE_BOOTSTRAP)).await?;
    if installation(tx).await?.is_some() {
        return Ok(false);
    }
    tx.run(ask!(ADD_ORGANIZATION, new.organization, &new.organization_name, new.now)).await?;
    let admin = User { id: new.admin, name: new.admin_name.clone(), roles: vec![Role::Admin], created_at: new.now };
    add_user(tx, &admin).await?;
    let token = Token {
        id: new.token,
        user: new.admin,
        name: "first sign-in".to_owned(),
        created_at: new.now,
        expires_at: None,
        revoked_at: None,
    };
    add_token(tx, &token, new.token_hash).await?;
    sites::add(tx, new.site, &new.site_name, new.now).await?;
    bundles::put(tx, Some(0), &new.bundle, None, new.now).await?;
    Ok(true)
}

/// The installation, once bootstrapped.
pub async fn installation(tx: &mut Tx) -> Result<Option<Installation>> {
    let Some(row) = tx.maybe(ask!(WHOSE_INSTALLATION_IS_THIS)).await? else { return Ok(None) };
    Ok(Some(Installation { organization: row.word("id")?, name: row.text("name")?, created_at: row.at("created_at")? }))
}

/// Notes that this server exists, with its Ed25519 public key (base64). Repeatable; another key is a `Conflict`.
pub async fn register_server(tx: &mut Tx, server: ServerId, public_key: &str, now: Timestamp) -> Result<()> {
    tx.run(ask!(ADD_SERVER, server, public_key, now)).await?;
    match servers(tx).await?.into_iter().find(|(id, _)| *id == server) {
        Some((_, key)) if key == public_key => Ok(()),
        _ => Err(StoreError::conflict("the key of the server", server)),
    }
}

/// The public keys of all servers there ever were, oldest first.
pub async fn servers(tx: &mut Tx) -> Result<Vec<(ServerId, String)>> {
    let rows = tx.all(ask!(WHICH_SERVERS_ARE_THERE)).await?;
    rows.iter().map(|row| Ok((row.word("id")?, row.text("public_key")?))).collect()
}

/// Adds a person; the name must be free.
pub async fn add_user(tx: &mut Tx, user: &User) -> Result<()> {
    let mut roles = user.roles.clone();
    roles.sort_unstable();
    roles.dedup();
    match tx.run(ask!(ADD_USER, user.id, &user.name, json(&roles)?, user.created_at)).await? {
        0 => Err(StoreError::exists("user", &user.name)),
        _ => Ok(()),
    }
}

/// One person.
pub async fn user(tx: &mut Tx, id: UserId) -> Result<User> {
    let row = tx.maybe(ask!(WHO_IS_THIS, id)).await?;
    read_user(&row.ok_or_else(|| StoreError::not_found("user", id))?)
}

/// Everybody, oldest first.
pub async fn users(tx: &mut Tx) -> Result<Vec<User>> {
    tx.all(ask!(WHO_IS_THERE)).await?.iter().map(read_user).collect()
}

/// Adds a token for a person by the token's SHA-256.
pub async fn add_token(tx: &mut Tx, token: &Token, hash: Digest) -> Result<()> {
    let ask =
        ask!(ADD_TOKEN, token.id, token.user, &token.name, hash, token.created_at, token.expires_at, token.revoked_at);
    match tx.run(ask).await? {
        0 => Err(StoreError::exists("token", token.id)),
        _ => Ok(()),
    }
}

/// Who holds the token with this SHA-256, if it is still good.
pub async fn user_by_token(tx: &mut Tx, hash: Digest, now: Timestamp) -> Result<Option<(TokenId, User)>> {
    let row = tx.maybe(ask!(WHO_HOLDS_THIS_TOKEN, hash, now)).await?;
    row.map(|row| Ok((row.word("token")?, read_user(&row)?))).transpose()
}

/// A person's tokens, oldest first.
pub async fn tokens(tx: &mut Tx, user: UserId) -> Result<Vec<Token>> {
    let rows = tx.all(ask!(WHICH_TOKENS_HAS_THIS_USER, user)).await?;
    rows.iter()
        .map(|row| {
            Ok(Token {
                id: row.word("id")?,
                user: row.word("owner")?,
                name: row.text("name")?,
                created_at: row.at("created_at")?,
                expires_at: row.maybe_at("expires_at")?,
                revoked_at: row.maybe_at("revoked_at")?,
            })
        })
        .collect()
}

/// Ends a token. Repeatable.
pub async fn revoke_token(tx: &mut Tx, token: TokenId, now: Timestamp) -> Result<()> {
    match tx.run(ask!(REVOKE_TOKEN, token, now)).await? {
        0 => Err(StoreError::not_found("token", token)),
        _ => Ok(()),
    }
}

fn read_user(row: &Row) -> Result<User> {
    Ok(User {
        id: row.word("id")?,
        name: row.text("name")?,
        roles: row.json("roles")?,
        created_at: row.at("created_at")?,
    })
}
