//! The rows of the ledgers: this server's own and the runners'. The canonical bytes are the record; the other columns
//! only help to find it.

use stockade_domain::{
    Action, Digest, Timestamp,
    ids::{ProjectId, RecordId, RunId, ServerId},
};
use stockade_ledger::{Body, Producer, Record, Tree};

use crate::{
    Page, Paged, Result, StoreError, Tx,
    sql::{Row, ask, json, statements},
};

macro_rules! record_columns {
    () => {
        "SELECT producer, seq, id, at, canonical FROM records WHERE "
    };
}

/// Whatever index leads the way, the other wishes are looked at row by row.
macro_rules! record_wishes {
    () => {
        "id < $1 AND (CAST($3 AS TEXT) IS NULL OR run = $3) AND (CAST($4 AS TEXT) IS NULL OR project = $4) \
         AND (CAST($5 AS TEXT) IS NULL OR person = $5) AND (CAST($6 AS TEXT) IS NULL OR principal = $6) \
         AND (CAST($7 AS TEXT) IS NULL OR action = $7) AND (CAST($8 AS TEXT) IS NULL OR producer = $8) \
         AND at >= $9 AND at < $10 AND (CAST($11 AS TEXT) IS NULL OR LOWER(canonical) LIKE $11 ESCAPE '\\') \
         ORDER BY id DESC LIMIT $2"
    };
}

statements! {
    MAKE_LEDGER = "INSERT INTO ledgers (producer, size, frontier, root, note, note_size, noted_at) \
                   VALUES ($1, 0, $2, $3, '', 0, 0) ON CONFLICT DO NOTHING";
    LOCK_LEDGER = "UPDATE ledgers SET size = size WHERE producer = $1";
    HOW_FAR_IS_THIS_LEDGER = "SELECT producer, size, frontier, root, note, note_size FROM ledgers WHERE producer = $1";
    WHICH_LEDGERS_ARE_THERE = "SELECT producer, size, frontier, root, note, note_size FROM ledgers ORDER BY producer";
    ADVANCE_LEDGER = "UPDATE ledgers SET size = $2, frontier = $3, root = $4 WHERE producer = $1";
    KEEP_CHECKPOINT = "UPDATE ledgers SET note = $3, note_size = $2, noted_at = $4 \
                       WHERE producer = $1 AND note_size <= $2 AND size >= $2";
    ADD_RECORD = "INSERT INTO records (producer, seq, id, at, phase, run, project, principal, person, action, \
                  canonical, leaf) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING";
    WHICH_RECORD_IS_THIS = concat!(record_columns!(), "id = $1");
    WHAT_WAS_RECORDED = concat!(record_columns!(), record_wishes!());
    WHAT_WAS_RECORDED_OF_RUN = concat!(record_columns!(), "run = $3 AND ", record_wishes!());
    WHAT_WAS_RECORDED_OF_PERSON = concat!(record_columns!(), "person = $5 AND ", record_wishes!());
    WHAT_WAS_RECORDED_OF_PRINCIPAL = concat!(record_columns!(), "principal = $6 AND ", record_wishes!());
    WHAT_WAS_RECORDED_OF_PROJECT = concat!(record_columns!(), "project = $4 AND ", record_wishes!());
    WHAT_WAS_RECORDED_OF_ACTION = concat!(record_columns!(), "action = $7 AND ", record_wishes!());
    WHAT_DID_THIS_PRODUCER_RECORD = concat!(
        record_columns!(),
        "producer = $1 AND seq >= $2 ORDER BY seq LIMIT $3"
    );
    WHICH_LEAVES_HAS_THIS_PRODUCER = "SELECT leaf FROM records WHERE producer = $1 AND seq >= $2 ORDER BY seq LIMIT $3";
}

/// The most records of one answer of [`export`] and the most hashes of one answer of [`leaf_hashes`].
pub const MAX_EXPORT: u32 = 10_000;

/// The longest text that is searched for, in characters.
pub const MAX_SEARCH: usize = 200;

/// A record that this server is about to write.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// Its identifier.
    pub id: RecordId,
    /// When.
    pub at: Timestamp,
    /// The run it belongs to.
    pub run: Option<RunId>,
    /// The project it belongs to.
    pub project: Option<ProjectId>,
    /// What it says.
    pub body: Body,
}

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Who made it: a runner's or a server's identifier as text.
    pub producer: String,
    /// Its number in the producer's ledger, from 0.
    pub seq: u64,
    /// Which.
    pub id: RecordId,
    /// When, by the producer's clock.
    pub at: Timestamp,
    /// The canonical bytes, UTF-8 JSON.
    pub canonical: String,
}

/// A producer's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerState {
    /// Whose.
    pub producer: String,
    /// How many records.
    pub size: u64,
    /// The root hash over all of them.
    pub root: Digest,
    /// The last checkpoint, a signed note; empty if there is none.
    pub note: String,
    /// The number of records it covers.
    pub note_size: u64,
}

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only of this project.
    pub project: Option<ProjectId>,
    /// Only by this principal (identifier as text; a user's also finds what agents did for that person).
    pub principal: Option<String>,
    /// Only this action.
    pub action: Option<Action>,
    /// Only of this producer.
    pub producer: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Only where this text occurs in the record, whatever the case.
    pub text: Option<String>,
}

/// One record.
pub async fn get(tx: &mut Tx, id: RecordId) -> Result<StoredRecord> {
    let row = tx.maybe(ask!(WHICH_RECORD_IS_THIS, id)).await?;
    read(&row.ok_or_else(|| StoreError::not_found("record", id))?)
}

/// Records, newest first.
pub async fn list(tx: &mut Tx, filter: &RecordFilter, page: &Page) -> Result<Paged<StoredRecord>> {
    let text = filter.text.as_deref().map(pattern).transpose()?;
    let (person, principal) = match filter.principal.as_deref() {
        Some(id) if id.starts_with("usr_") => (Some(id), None),
        other => (None, other),
    };
    let sql = if filter.run.is_some() {
        WHAT_WAS_RECORDED_OF_RUN
    } else if person.is_some() {
        WHAT_WAS_RECORDED_OF_PERSON
    } else if principal.is_some() {
        WHAT_WAS_RECORDED_OF_PRINCIPAL
    } else if filter.project.is_some() {
        WHAT_WAS_RECORDED_OF_PROJECT
    } else if filter.action.is_some() {
        WHAT_WAS_RECORDED_OF_ACTION
    } else {
        WHAT_WAS_RECORDED
    };
    let ask = ask!(
        sql,
        page.before()?,
        page.fetch(),
        filter.run,
        filter.project,
        person,
        principal,
        filter.action.map(Action::as_str),
        filter.producer.as_deref(),
        filter.since.map_or(i64::MIN, |at| at.0),
        filter.until.map_or(i64::MAX, |at| at.0),
        text
    );
    let rows = tx.all(ask).await?;
    Ok(page.cut(rows.iter().map(read).collect::<Result<_>>()?, |record| record.id.to_string()))
}

/// Records of one producer in order, from number `from`, at most `limit`.
pub async fn export(tx: &mut Tx, producer: &str, from: u64, limit: u32) -> Result<Vec<StoredRecord>> {
    let rows = tx.all(ask!(WHAT_DID_THIS_PRODUCER_RECORD, producer, from, limit.min(MAX_EXPORT))).await?;
    rows.iter().map(read).collect()
}

/// The leaf hashes of one producer in order, from number `from`, at most `limit`: for inclusion proofs.
pub async fn leaf_hashes(tx: &mut Tx, producer: &str, from: u64, limit: u32) -> Result<Vec<Digest>> {
    let rows = tx.all(ask!(WHICH_LEAVES_HAS_THIS_PRODUCER, producer, from, limit.min(MAX_EXPORT))).await?;
    rows.iter().map(|row| row.word("leaf")).collect()
}

/// All ledgers.
pub async fn ledgers(tx: &mut Tx) -> Result<Vec<LedgerState>> {
    let rows = tx.all(ask!(WHICH_LEDGERS_ARE_THERE)).await?;
    rows.iter().map(|row| Ok(read_ledger(row)?.0)).collect()
}

/// One ledger; empty if the producer has none yet.
pub async fn ledger(tx: &mut Tx, producer: &str) -> Result<LedgerState> {
    Ok(match tx.maybe(ask!(HOW_FAR_IS_THIS_LEDGER, producer)).await? {
        Some(row) => read_ledger(&row)?.0,
        None => LedgerState {
            producer: producer.to_owned(),
            size: 0,
            root: Tree::new().root(),
            note: String::new(),
            note_size: 0,
        },
    })
}

/// Keeps a checkpoint (a signed note, already verified and counter-signed by the caller) that covers `size` records.
/// An older one than the last is passed over: false.
pub async fn set_checkpoint(tx: &mut Tx, producer: &str, size: u64, note: &str, now: Timestamp) -> Result<bool> {
    Ok(tx.run(ask!(KEEP_CHECKPOINT, producer, size, note, now)).await? == 1)
}

/// Writes this server's next record: its number, its canonical bytes and the tree's growth in this transaction. One
/// writer at a time: the second waits for the first to commit, so append the record before anything else.
pub async fn append(tx: &mut Tx, server: ServerId, new: NewRecord) -> Result<StoredRecord> {
    let mut ledger = open(tx, &server.to_string()).await?;
    let record = Record {
        producer: Producer::Server(server),
        seq: ledger.tree.size(),
        at: new.at,
        id: new.id,
        run: new.run,
        project: new.project,
        body: new.body,
    };
    let canonical = record.checked_canonical().map_err(|error| ledger.wrong(error))?;
    let canonical = String::from_utf8(canonical).map_err(|error| ledger.wrong(error))?;
    let stored = ledger.add(tx, &record, canonical).await?.ok_or_else(|| StoreError::exists("record", record.id))?;
    ledger.keep(tx).await?;
    Ok(stored)
}

/// A ledger whose row is locked until the transaction ends.
pub(crate) struct OpenLedger {
    pub(crate) producer: String,
    pub(crate) tree: Tree,
}

/// Locks a producer's ledger, making it if there is none.
pub(crate) async fn open(tx: &mut Tx, producer: &str) -> Result<OpenLedger> {
    let empty = Tree::new();
    tx.run(ask!(MAKE_LEDGER, producer, json(&empty)?, empty.root())).await?;
    tx.run(ask!(LOCK_LEDGER, producer)).await?;
    let row = tx.maybe(ask!(HOW_FAR_IS_THIS_LEDGER, producer)).await?;
    let (_, tree) = read_ledger(&row.ok_or_else(|| StoreError::bad_row("ledger", "it is gone"))?)?;
    Ok(OpenLedger { producer: producer.to_owned(), tree })
}

impl OpenLedger {
    /// Adds the next record, whose number must be the tree's size. Nothing if there is a record with this identifier.
    pub(crate) async fn add(
        &mut self,
        tx: &mut Tx,
        record: &Record,
        canonical: String,
    ) -> Result<Option<StoredRecord>> {
        let deed = record.deed();
        let phase = match &record.body {
            Body::Open { .. } => "open",
            Body::Refused { .. } => "refused",
            Body::Asked { .. } => "asked",
            Body::Close { .. } => "close",
            Body::Note { .. } => "note",
        };
        let leaf = stockade_ledger::leaf_hash(canonical.as_bytes());
        let ask = ask!(
            ADD_RECORD,
            &self.producer,
            record.seq,
            record.id,
            record.at,
            phase,
            record.run,
            record.project,
            deed.map(|deed| deed.principal.id()),
            deed.and_then(|deed| deed.principal.person()),
            deed.map(|deed| deed.action.as_str()),
            &canonical,
            leaf
        );
        if tx.run(ask).await? == 0 {
            return Ok(None);
        }
        self.tree.append(leaf);
        let producer = self.producer.clone();
        Ok(Some(StoredRecord { producer, seq: record.seq, id: record.id, at: record.at, canonical }))
    }

    /// Writes how far it has come.
    pub(crate) async fn keep(&self, tx: &mut Tx) -> Result<()> {
        let ask = ask!(ADVANCE_LEDGER, &self.producer, self.tree.size(), json(&self.tree)?, self.tree.root());
        tx.run(ask).await.map(drop)
    }

    fn wrong(&self, why: impl ToString) -> StoreError {
        StoreError::Ledger { producer: self.producer.clone(), why: why.to_string() }
    }
}

/// A text to search for, as a pattern that means nothing but this text.
fn pattern(text: &str) -> Result<String> {
    if text.chars().count() > MAX_SEARCH {
        return Err(StoreError::Invalid {
            what: "search",
            why: format!("the text is too long: at most {MAX_SEARCH} characters are searched for"),
        });
    }
    let escaped = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    Ok(format!("%{escaped}%"))
}

fn read(row: &Row) -> Result<StoredRecord> {
    Ok(StoredRecord {
        producer: row.text("producer")?,
        seq: row.count("seq")?,
        id: row.word("id")?,
        at: row.at("at")?,
        canonical: row.text("canonical")?,
    })
}

fn read_ledger(row: &Row) -> Result<(LedgerState, Tree)> {
    let tree: Tree = row.json("frontier")?;
    let state = LedgerState {
        producer: row.text("producer")?,
        size: row.count("size")?,
        root: row.word("root")?,
        note: row.text("note")?,
        note_size: row.count("note_size")?,
    };
    if state.size != tree.size() || state.root != tree.root() {
        return Err(StoreError::Ledger {
            producer: state.producer,
            why: "its row was changed by hand: size, root and frontier do not belong together".to_owned(),
        });
    }
    Ok((state, tree))
}
