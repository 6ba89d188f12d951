//! People's tokens for the gateway. Each has a run of its own, of the kind `personal`, which lives exactly as long as
//! the token. Of a token only its SHA-256 is ever seen here.

use stockade_domain::{
    Digest, FailureCause, Level, Nanos, Period, Role, RunState, RunTransition, Timestamp,
    ids::{BudgetId, GatewayTokenId, ProjectId, RunId, SiteId, UserId},
};

use crate::{
    Page, Paged, Result, StoreError, Tx, runs, sites,
    sql::{Row, ask, json, statements},
};

macro_rules! token_columns {
    () => {
        "SELECT t.id, t.name, t.run, t.owner, t.site, t.models, t.created_at, t.expires_at, t.ended_at, r.project, \
         r.state, r.cost, r.erased_at, b.limit_nanos, b.period FROM gateway_tokens t JOIN runs r ON r.id = t.run \
         LEFT JOIN budgets b ON b.id = t.budget "
    };
}

statements! {
    ADD_GATEWAY_TOKEN = "INSERT INTO gateway_tokens (id, name, run, owner, site, hash, models, created_at, expires_at, \
                         budget, ended_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL) ON CONFLICT DO NOTHING";
    HOW_MANY_TOKENS_HAS_THIS_SITE = "SELECT COUNT(*) AS found FROM gateway_tokens WHERE site = $1 AND ended_at IS NULL";
    WHICH_GATEWAY_TOKEN_IS_THIS = concat!(token_columns!(), "WHERE t.id = $1");
    WHICH_GATEWAY_TOKEN_HAS_THIS_RUN = concat!(token_columns!(), "WHERE t.run = $1");
    WHICH_GATEWAY_TOKENS_ARE_THERE = concat!(token_columns!(), "WHERE t.id < $1 ORDER BY t.id DESC LIMIT $2");
    WHICH_GATEWAY_TOKENS_HAS_THIS_OWNER = concat!(
        token_columns!(),
        "WHERE t.owner = $3 AND t.id < $1 ORDER BY t.id DESC LIMIT $2"
    );
    END_GATEWAY_TOKEN = "UPDATE gateway_tokens SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL";
    WHICH_GATEWAY_TOKENS_RAN_OUT = "SELECT id FROM gateway_tokens WHERE ended_at IS NULL AND expires_at <= $1 \
                                    ORDER BY expires_at LIMIT $2";
    WHICH_GATEWAY_TOKENS_HAS_THIS_SITE = "SELECT t.id, t.run, t.owner, t.hash, t.models, t.expires_at, r.project, r.spec, \
        u.roles, k.wrapped FROM gateway_tokens t JOIN runs r ON r.id = t.run JOIN users u ON u.id = t.owner \
        JOIN run_keys k ON k.run = t.run WHERE t.site = $1 AND t.ended_at IS NULL \
        AND (t.expires_at IS NULL OR t.expires_at > $2) ORDER BY t.id LIMIT $3";
    WHICH_PERSONAL_RUNS_WERE_ERASED = "SELECT t.run FROM gateway_tokens t JOIN runs r ON r.id = t.run \
        WHERE t.site = $1 AND t.ended_at IS NOT NULL AND r.erased_at >= $2 ORDER BY t.run LIMIT $3";
}

/// The most tokens of one site that live at a time: all of them travel with every change.
pub const MAX_TOKENS: u32 = 10_000;

/// For how long an erased run is told to runners, in microseconds: far longer than a content ticket lives.
const TELL_ERASED_US: i64 = 7 * 24 * 3_600 * 1_000_000;

/// A token to be added; its run is there already.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its row.
    pub id: GatewayTokenId,
    /// What its owner calls it.
    pub name: String,
    /// Its run.
    pub run: RunId,
    /// Whose.
    pub owner: UserId,
    /// Where it opens the gateway.
    pub site: SiteId,
    /// The SHA-256 of the token.
    pub hash: Digest,
    /// Models it may ask for; all if empty.
    pub models: Vec<String>,
    /// When.
    pub now: Timestamp,
    /// When it stops working by itself.
    pub expires_at: Option<Timestamp>,
}

/// A token, without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayToken {
    /// Its row.
    pub id: GatewayTokenId,
    /// What its owner calls it.
    pub name: String,
    /// Its run.
    pub run: RunId,
    /// Whose.
    pub owner: UserId,
    /// Where it opens the gateway.
    pub site: SiteId,
    /// For work on which project.
    pub project: ProjectId,
    /// Models it may ask for; all if empty.
    pub models: Vec<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// When it stops working by itself.
    pub expires_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Where its run is.
    pub state: RunState,
    /// What was spent with it so far.
    pub cost: Nanos,
    /// The most it may spend in a period.
    pub limit: Option<Nanos>,
    /// That period.
    pub period: Option<Period>,
    /// Whether the key of its content was destroyed.
    pub is_erased: bool,
}

/// A token as the runners of its site know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteToken {
    /// Its row.
    pub id: GatewayTokenId,
    /// The SHA-256 of the token.
    pub hash: Digest,
    /// Its run.
    pub run: RunId,
    /// Whose.
    pub owner: UserId,
    /// What that person may be.
    pub roles: Vec<Role>,
    /// For work on which project.
    pub project: ProjectId,
    /// The project's level when the token was made.
    pub level: Level,
    /// Models it may ask for; all if empty.
    pub models: Vec<String>,
    /// When it stops working by itself.
    pub expires_at: Option<Timestamp>,
    /// The run's key, wrapped.
    pub wrapped_key: String,
}

/// Adds a token. The site's runners hear of it.
pub async fn add(tx: &mut Tx, new: &NewToken) -> Result<GatewayToken> {
    let found = tx.maybe(ask!(HOW_MANY_TOKENS_HAS_THIS_SITE, new.site)).await?;
    if found.map(|row| row.count("found")).transpose()?.unwrap_or(0) >= u64::from(MAX_TOKENS) {
        let why = format!("{} has {MAX_TOKENS} tokens that live, which is the most: end some first", new.site);
        return Err(StoreError::Invalid { what: "token", why });
    }
    let ask = ask!(
        ADD_GATEWAY_TOKEN,
        new.id,
        &new.name,
        new.run,
        new.owner,
        new.site,
        new.hash,
        json(&new.models)?,
        new.now,
        new.expires_at,
        BudgetId::from_bytes(*new.run.as_bytes())
    );
    if tx.run(ask).await? == 0 {
        return Err(StoreError::exists("token", new.id));
    }
    sites::touch_site(tx, new.site).await?;
    get(tx, new.id).await
}

/// One token.
pub async fn get(tx: &mut Tx, id: GatewayTokenId) -> Result<GatewayToken> {
    let row = tx.maybe(ask!(WHICH_GATEWAY_TOKEN_IS_THIS, id)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("token", id))?)
}

/// Tokens, newest first; only one person's, or everybody's.
pub async fn list(tx: &mut Tx, owner: Option<UserId>, page: &Page) -> Result<Paged<GatewayToken>> {
    let ask = match owner {
        Some(owner) => ask!(WHICH_GATEWAY_TOKENS_HAS_THIS_OWNER, page.before()?, page.fetch(), owner),
        None => ask!(WHICH_GATEWAY_TOKENS_ARE_THERE, page.before()?, page.fetch()),
    };
    let rows = tx.all(ask).await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_>>()?, |token| token.id.to_string()))
}

/// Ends a token, and with it its run. Repeatable. The site's runners hear of it.
pub async fn end(tx: &mut Tx, id: GatewayTokenId, now: Timestamp) -> Result<GatewayToken> {
    let token = get(tx, id).await?;
    finish(tx, &token, RunTransition::Succeed, now).await?;
    get(tx, id).await
}

/// Ends the tokens whose time is over, at most `limit`; gives their number.
pub async fn expire(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<u32> {
    let rows = tx.all(ask!(WHICH_GATEWAY_TOKENS_RAN_OUT, now, limit)).await?;
    let mut ended = 0;
    for row in &rows {
        end(tx, row.word("id")?, now).await?;
        ended += 1;
    }
    Ok(ended)
}

/// All tokens of a site that live, with the keys of their runs.
pub async fn of_site(tx: &mut Tx, site: SiteId, now: Timestamp) -> Result<Vec<SiteToken>> {
    let rows = tx.all(ask!(WHICH_GATEWAY_TOKENS_HAS_THIS_SITE, site, now, MAX_TOKENS)).await?;
    rows.iter()
        .map(|row| {
            let spec: runs::RunSpec = row.json("spec")?;
            Ok(SiteToken {
                id: row.word("id")?,
                hash: row.word("hash")?,
                run: row.word("run")?,
                owner: row.word("owner")?,
                roles: row.json("roles")?,
                project: row.word("project")?,
                level: spec.level,
                models: row.json("models")?,
                expires_at: row.maybe_at("expires_at")?,
                wrapped_key: row.text("wrapped")?,
            })
        })
        .collect()
}

/// Personal runs of a site whose key was destroyed in the last week: runners open no ticket for them.
pub async fn erased_of_site(tx: &mut Tx, site: SiteId, now: Timestamp) -> Result<Vec<RunId>> {
    let since = now.0.saturating_sub(TELL_ERASED_US);
    let rows = tx.all(ask!(WHICH_PERSONAL_RUNS_WERE_ERASED, site, since, MAX_TOKENS)).await?;
    rows.iter().map(|row| row.word("run")).collect()
}

/// A person ended a personal run: its token ends.
pub(crate) async fn end_run(tx: &mut Tx, run: RunId, transition: RunTransition, now: Timestamp) -> Result<()> {
    let row = tx.maybe(ask!(WHICH_GATEWAY_TOKEN_HAS_THIS_RUN, run)).await?;
    let token = read(&row.ok_or_else(|| StoreError::not_found("token of the run", run))?)?;
    finish(tx, &token, transition, now).await
}

/// The key of a personal run was destroyed: its token ends, and the site's runners hear of it even if it had ended.
pub(crate) async fn erase_run(tx: &mut Tx, run: RunId, now: Timestamp) -> Result<()> {
    let row = tx.maybe(ask!(WHICH_GATEWAY_TOKEN_HAS_THIS_RUN, run)).await?;
    let token = read(&row.ok_or_else(|| StoreError::not_found("token of the run", run))?)?;
    finish(tx, &token, RunTransition::Fail { cause: FailureCause::Erased }, now).await?;
    sites::touch_site(tx, token.site).await
}

async fn finish(tx: &mut Tx, token: &GatewayToken, transition: RunTransition, now: Timestamp) -> Result<()> {
    // The run first, the runners' revisions last: the order in which everybody locks.
    if !token.state.is_final() {
        runs::transition(tx, token.run, None, transition, now).await?;
    }
    if tx.run(ask!(END_GATEWAY_TOKEN, token.id, now)).await? == 1 {
        sites::touch_site(tx, token.site).await?;
    }
    Ok(())
}

fn read(row: &Row) -> Result<GatewayToken> {
    Ok(GatewayToken {
        id: row.word("id")?,
        name: row.text("name")?,
        run: row.word("run")?,
        owner: row.word("owner")?,
        site: row.word("site")?,
        project: row.word("project")?,
        models: row.json("models")?,
        created_at: row.at("created_at")?,
        expires_at: row.maybe_at("expires_at")?,
        ended_at: row.maybe_at("ended_at")?,
        state: row.word("state")?,
        cost: row.nanos("cost")?,
        limit: row.maybe_int("limit_nanos")?.map(Nanos),
        period: row.maybe_word("period")?,
        is_erased: row.maybe_at("erased_at")?.is_some(),
    })
}
