//! Sites, how a runner joins one, and what is known of runners.

use stockade_domain::{
    Digest, Timestamp,
    ids::{RunnerId, SiteId, UserId},
};

use crate::{Result, Tx};

/// One network with its own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Which.
    pub id: SiteId,
    /// Its name; unique.
    pub name: String,
    /// Its HPKE public key, once a runner has joined.
    pub public_key: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
}

/// The right to enrol one runner, once.
#[derive(Debug, Clone)]
pub struct EnrollToken {
    /// The SHA-256 of the token.
    pub hash: Digest,
    /// Into which site.
    pub site: SiteId,
    /// By whom.
    pub by: UserId,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

/// A runner introduces itself.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The SHA-256 of the one-time token.
    pub token_hash: Digest,
    /// The identifier it gets.
    pub runner: RunnerId,
    /// What people call it.
    pub name: String,
    /// Its Ed25519 public key, base64.
    pub public_key: String,
    /// Its site's HPKE public key.
    pub site_public_key: String,
    /// Where people inside the site reach its listener.
    pub listener: String,
    /// When.
    pub now: Timestamp,
}

/// A runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// Which.
    pub id: RunnerId,
    /// Its site.
    pub site: SiteId,
    /// What people call it.
    pub name: String,
    /// Its Ed25519 public key, base64.
    pub public_key: String,
    /// Where people inside the site reach its listener.
    pub listener: String,
    /// Grows with whatever changes what it should do.
    pub revision: u64,
    /// The number of the bundle it has in force, 0 for none.
    pub bundle: u64,
    /// How many entries wait in its spool, as it last said.
    pub spooled: u64,
    /// Since when it could not reach the server, as it last said after coming back.
    pub away_since: Option<Timestamp>,
    /// When it joined.
    pub enrolled_at: Timestamp,
    /// When it was last heard of.
    pub seen_at: Timestamp,
}

/// Adds a site; the name must be free.
pub async fn add(tx: &mut Tx, id: SiteId, name: &str, now: Timestamp) -> Result<()> {
    todo!()
}

/// One site.
pub async fn get(tx: &mut Tx, id: SiteId) -> Result<Site> {
    todo!()
}

/// One site by its name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Site> {
    todo!()
}

/// All sites, oldest first.
pub async fn list(tx: &mut Tx) -> Result<Vec<Site>> {
    todo!()
}

/// Adds a one-time token.
pub async fn add_enroll_token(tx: &mut Tx, token: &EnrollToken) -> Result<()> {
    todo!()
}

/// Uses up the token and adds the runner. `None` if the token is unknown, used or too old. The first runner of a site
/// brings the site's key; another key from a later one is `Invalid`.
pub async fn enroll(tx: &mut Tx, enrolment: &Enrolment) -> Result<Option<Runner>> {
    todo!()
}

/// One runner.
pub async fn runner(tx: &mut Tx, id: RunnerId) -> Result<Runner> {
    todo!()
}

/// All runners, oldest first.
pub async fn runners(tx: &mut Tx) -> Result<Vec<Runner>> {
    todo!()
}

/// Notes what a poll said: where its listener is and which bundle it has in force.
pub async fn polled(tx: &mut Tx, id: RunnerId, listener: &str, bundle: u64, now: Timestamp) -> Result<()> {
    todo!()
}

/// Notes what a heartbeat said.
pub async fn heartbeat(
    tx: &mut Tx,
    id: RunnerId,
    spooled: u64,
    away_since: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    todo!()
}

/// The present revision of a runner's desired state.
pub async fn revision(tx: &mut Tx, id: RunnerId) -> Result<u64> {
    todo!()
}

/// Grows a runner's revision. The store's own functions do it wherever they change desired state.
pub async fn touch(tx: &mut Tx, id: RunnerId) -> Result<()> {
    todo!()
}
