//! Following the index of connections: what is new, and each of them again when it has another status.
//!
//! The server's clock says what changed, so that a runner whose clock is wrong or whose records come late is missed no less. *Invariant:*
//! what is remembered is what the next question can bring again, no more.

use std::collections::HashMap;

use stockade_api::{
    client::Client,
    domain::{Timestamp, ids::RecordId},
    http::{Connection, ListConnections, MAX_PAGE},
};

use crate::failure::Outcome;

/// What a server hears in one transaction may be seen after what it heard later in another one: so far back is asked, in microseconds.
const BACK_US: i64 = 10_000_000;
/// So many pages at most are read at once. What is left comes with the next question.
const MAX_PAGES: usize = 50;

/// See the module.
#[derive(Debug)]
pub struct Changes {
    query: ListConnections,
    since: Timestamp,
    seen: HashMap<RecordId, (Timestamp, String)>,
}

impl Changes {
    /// Everything, from the beginning.
    pub fn all(query: ListConnections) -> Self {
        Self { query, since: Timestamp(0), seen: HashMap::new() }
    }

    /// What comes after these.
    pub fn after(query: ListConnections, known: &[Connection]) -> Self {
        let mut changes = Self::all(query);
        for connection in known {
            changes.is_new(connection);
        }
        changes.forget();
        changes
    }

    /// What changed since the last time, as it did.
    pub async fn next(&mut self, client: &Client) -> Outcome<Vec<Connection>> {
        let mut new = Vec::new();
        let mut query = ListConnections {
            changed_since: Some(self.since),
            limit: Some(MAX_PAGE),
            cursor: None,
            ..self.query.clone()
        };
        for _ in 0..MAX_PAGES {
            let page = client.connections(&query).await?;
            new.extend(page.items.into_iter().filter(|connection| self.is_new(connection)));
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        self.forget();
        Ok(new)
    }

    /// Whether it, or its status, was not seen before.
    fn is_new(&mut self, connection: &Connection) -> bool {
        let seen = (connection.noted_at, connection.status.clone());
        let before = self.seen.insert(connection.id, seen);
        before.is_none_or(|(_, status)| status != connection.status)
    }

    fn forget(&mut self) {
        let last = self.seen.values().map(|(at, _)| at.0).max().unwrap_or_default();
        self.since = Timestamp(self.since.0.max(last.saturating_sub(BACK_US)));
        self.seen.retain(|_, (at, _)| *at >= self.since);
    }
}
