//! Sites, how a runner joins one, and what is known of runners.

use stockade_domain::{
    Digest, EnvironmentClass, Timestamp,
    ids::{RunnerId, SiteId, UserId},
};

use crate::{
    Result, StoreError, Tx,
    sql::{Row, ask, json, statements},
};

// Revisions stand in a table of their own: a heartbeat locks a runner's row and then its runs', and whoever changes a run
// grows the revision last. In one row, the two would wait for each other.
macro_rules! runner_columns {
    () => {
        "SELECT n.id, n.site, n.name, n.public_key, n.listener, v.revision, n.bundle, n.spooled, n.away_since, \
         n.enrolled_at, n.seen_at, n.classes FROM runners n JOIN revisions v ON v.runner = n.id "
    };
}

statements! {
    ADD_SITE = "INSERT INTO sites (id, name, public_key, created_at) VALUES ($1, $2, NULL, $3) ON CONFLICT DO NOTHING";
    WHICH_SITE_IS_THIS = "SELECT id, name, public_key, created_at FROM sites WHERE id = $1";
    WHICH_SITE_HAS_THIS_NAME = "SELECT id, name, public_key, created_at FROM sites WHERE name = $1";
    WHICH_SITES_ARE_THERE = "SELECT id, name, public_key, created_at FROM sites ORDER BY id";
    GIVE_SITE_ITS_KEY = "UPDATE sites SET public_key = COALESCE(public_key, $2) WHERE id = $1";
    ADD_ENROLL_TOKEN = "INSERT INTO enroll_tokens (hash, site, author, created_at, expires_at) \
                        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    USE_UP_ENROLL_TOKEN = "UPDATE enroll_tokens SET used_by = $2 \
                           WHERE hash = $1 AND used_by IS NULL AND expires_at > $3";
    WHERE_DOES_THIS_TOKEN_LEAD = "SELECT site FROM enroll_tokens WHERE hash = $1";
    ADD_RUNNER = "INSERT INTO runners (id, site, name, public_key, listener, bundle, spooled, away_since, \
                  enrolled_at, seen_at) VALUES ($1, $2, $3, $4, $5, 0, 0, NULL, $6, $6) ON CONFLICT DO NOTHING";
    ADD_REVISION = "INSERT INTO revisions (runner, revision) VALUES ($1, 1)";
    WHICH_RUNNER_IS_THIS = concat!(runner_columns!(), "WHERE n.id = $1");
    WHICH_RUNNERS_ARE_THERE = concat!(runner_columns!(), "ORDER BY n.id");
    NOTE_POLL = "UPDATE runners SET listener = $2, bundle = $3, seen_at = $4, classes = $5 WHERE id = $1";
    NOTE_HEARTBEAT = "UPDATE runners SET spooled = $2, away_since = COALESCE($3, away_since), seen_at = $4 WHERE id = $1";
    WHICH_RUNNERS_HAS_THIS_SITE = "SELECT id FROM runners WHERE site = $1 ORDER BY id";
    WHICH_REVISION_IS_IT = "SELECT revision FROM revisions WHERE runner = $1";
    GROW_REVISION = "UPDATE revisions SET revision = revision + 1 WHERE runner = $1";
}

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
    /// The classes of environments that it makes, the one that is used where nobody names one first; none before its first poll.
    pub classes: Vec<EnvironmentClass>,
    /// When it joined.
    pub enrolled_at: Timestamp,
    /// When it was last heard of.
    pub seen_at: Timestamp,
}

/// Adds a site; the name must be free.
pub async fn add(tx: &mut Tx, id: SiteId, name: &str, now: Timestamp) -> Result<()> {
    match tx.run(ask!(ADD_SITE, id, name, now)).await? {
        0 => Err(StoreError::exists("site", name)),
        _ => Ok(()),
    }
}

/// One site.
pub async fn get(tx: &mut Tx, id: SiteId) -> Result<Site> {
    let row = tx.maybe(ask!(WHICH_SITE_IS_THIS, id)).await?;
    read_site(&row.ok_or_else(|| StoreError::not_found("site", id))?)
}

/// One site by its name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Site> {
    let row = tx.maybe(ask!(WHICH_SITE_HAS_THIS_NAME, name)).await?;
    read_site(&row.ok_or_else(|| StoreError::not_found("site", name))?)
}

/// All sites, oldest first.
pub async fn list(tx: &mut Tx) -> Result<Vec<Site>> {
    tx.all(ask!(WHICH_SITES_ARE_THERE)).await?.iter().map(read_site).collect()
}

/// Adds a one-time token.
pub async fn add_enroll_token(tx: &mut Tx, token: &EnrollToken) -> Result<()> {
    let ask = ask!(ADD_ENROLL_TOKEN, token.hash, token.site, token.by, token.created_at, token.expires_at);
    match tx.run(ask).await? {
        0 => Err(StoreError::exists("enrolment token", token.hash)),
        _ => Ok(()),
    }
}

/// Uses up the token and adds the runner. `None` if the token is unknown, used or too old. The first runner of a site
/// brings the site's key; another key from a later one is `Invalid`.
pub async fn enroll(tx: &mut Tx, enrolment: &Enrolment) -> Result<Option<Runner>> {
    // The row is locked by being used up: of two runners with one token, one gets in.
    if tx.run(ask!(USE_UP_ENROLL_TOKEN, enrolment.token_hash, enrolment.runner, enrolment.now)).await? == 0 {
        return Ok(None);
    }
    let row = tx.maybe(ask!(WHERE_DOES_THIS_TOKEN_LEAD, enrolment.token_hash)).await?;
    let site: SiteId = row.ok_or_else(|| StoreError::bad_row("enrolment token", "it is gone"))?.word("site")?;
    tx.run(ask!(GIVE_SITE_ITS_KEY, site, &enrolment.site_public_key)).await?;
    if get(tx, site).await?.public_key.as_ref() != Some(&enrolment.site_public_key) {
        return Err(StoreError::Invalid {
            what: "site key",
            why: format!("{site} has another key already: all runners of a site share one; copy it to this machine"),
        });
    }
    let ask = ask!(
        ADD_RUNNER,
        enrolment.runner,
        site,
        &enrolment.name,
        &enrolment.public_key,
        &enrolment.listener,
        enrolment.now
    );
    if tx.run(ask).await? == 0 {
        return Err(StoreError::exists("runner", enrolment.runner));
    }
    tx.run(ask!(ADD_REVISION, enrolment.runner)).await?;
    runner(tx, enrolment.runner).await.map(Some)
}

/// One runner.
pub async fn runner(tx: &mut Tx, id: RunnerId) -> Result<Runner> {
    let row = tx.maybe(ask!(WHICH_RUNNER_IS_THIS, id)).await?;
    read_runner(&row.ok_or_else(|| StoreError::not_found("runner", id))?)
}

/// All runners, oldest first.
pub async fn runners(tx: &mut Tx) -> Result<Vec<Runner>> {
    tx.all(ask!(WHICH_RUNNERS_ARE_THERE)).await?.iter().map(read_runner).collect()
}

/// Notes what a poll said: where its listener is, which bundle it has in force, and its classes of environments.
pub async fn polled(
    tx: &mut Tx,
    id: RunnerId,
    listener: &str,
    bundle: u64,
    classes: &[EnvironmentClass],
    now: Timestamp,
) -> Result<()> {
    match tx.run(ask!(NOTE_POLL, id, listener, bundle, now, json(&classes)?)).await? {
        0 => Err(StoreError::not_found("runner", id)),
        _ => Ok(()),
    }
}

/// Notes what a heartbeat said.
pub async fn heartbeat(
    tx: &mut Tx,
    id: RunnerId,
    spooled: u64,
    away_since: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    match tx.run(ask!(NOTE_HEARTBEAT, id, spooled, away_since, now)).await? {
        0 => Err(StoreError::not_found("runner", id)),
        _ => Ok(()),
    }
}

/// The present revision of a runner's desired state.
pub async fn revision(tx: &mut Tx, id: RunnerId) -> Result<u64> {
    let row = tx.maybe(ask!(WHICH_REVISION_IS_IT, id)).await?;
    row.ok_or_else(|| StoreError::not_found("runner", id))?.count("revision")
}

/// Grows a runner's revision. The store's own functions do it wherever they change desired state.
pub async fn touch(tx: &mut Tx, id: RunnerId) -> Result<()> {
    tx.run(ask!(GROW_REVISION, id)).await.map(drop)
}

/// Grows the revisions of all runners of a site.
pub(crate) async fn touch_site(tx: &mut Tx, site: SiteId) -> Result<()> {
    let runners = runners_of(tx, site).await?;
    touch_these(tx, runners).await
}

/// All runners of a site.
pub(crate) async fn runners_of(tx: &mut Tx, site: SiteId) -> Result<Vec<RunnerId>> {
    tx.all(ask!(WHICH_RUNNERS_HAS_THIS_SITE, site)).await?.iter().map(|row| row.word("id")).collect()
}

/// Grows the revisions of all these runners, in one order, so that two who do it never wait for each other.
pub(crate) async fn touch_these(tx: &mut Tx, mut runners: Vec<RunnerId>) -> Result<()> {
    runners.sort_unstable();
    runners.dedup();
    for runner in runners {
        touch(tx, runner).await?;
    }
    Ok(())
}

fn read_site(row: &Row) -> Result<Site> {
    Ok(Site {
        id: row.word("id")?,
        name: row.text("name")?,
        public_key: row.maybe_text("public_key")?,
        created_at: row.at("created_at")?,
    })
}

fn read_runner(row: &Row) -> Result<Runner> {
    Ok(Runner {
        id: row.word("id")?,
        site: row.word("site")?,
        name: row.text("name")?,
        public_key: row.text("public_key")?,
        listener: row.text("listener")?,
        revision: row.count("revision")?,
        bundle: row.count("bundle")?,
        spooled: row.count("spooled")?,
        away_since: row.maybe_at("away_since")?,
        classes: row.maybe_json("classes")?.unwrap_or_default(),
        enrolled_at: row.at("enrolled_at")?,
        seen_at: row.at("seen_at")?,
    })
}
