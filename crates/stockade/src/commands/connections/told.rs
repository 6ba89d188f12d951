//! What whoever follows a run is told of its way out: each host once, every push, and what is refused; not each of five hundred
//! connections of one installation.
//!
//! It owns no truth: the index of connections says what there is, by time, and the records are the evidence. It refuses to stand in a
//! run's way: who may not see connections follows the run all the same.

use std::collections::HashMap;

use stockade_api::{
    client::Client,
    domain::{Timestamp, ids::RunId},
    error::Fault,
    http::{Connection, ListConnections},
};

use super::{Changes, said};
use crate::failure::{Failure, Outcome};

/// So many different lines are told apart. A run that makes more of them is not followed by reading lines.
const MAX_LINES: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub struct WayOut {
    run: RunId,
    /// Nothing if connections are not for us to see.
    changes: Option<Changes>,
    waiting: Vec<Connection>,
    times: HashMap<String, u64>,
    proposed: bool,
}

impl WayOut {
    /// That of a run, from its beginning.
    pub fn of(run: RunId) -> Self {
        let query = ListConnections { run: Some(run), notable: Some(true), ..ListConnections::default() };
        let changes = Some(Changes::all(query));
        Self { run, changes, waiting: Vec::new(), times: HashMap::new(), proposed: false }
    }

    /// Asks what is new.
    pub async fn look(&mut self, client: &Client) -> Outcome {
        let Some(changes) = &mut self.changes else { return Ok(()) };
        match changes.next(client).await {
            Ok(new) => {
                self.waiting.extend(new);
                self.waiting.sort_by_key(|connection| (connection.opened_at, connection.id));
                Ok(())
            }
            // Whoever asks for events finds out for how long the server is away.
            Err(Failure::Error(error)) if error.fault == Fault::Outside => Ok(()),
            Err(Failure::Error(error)) if matches!(error.fault, Fault::Refused | Fault::User) => {
                self.changes = None;
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// The lines of what was opened until then, or of everything.
    pub fn tell(&mut self, until: Option<Timestamp>) -> Vec<String> {
        let ready = match until {
            Some(until) => self.waiting.partition_point(|connection| connection.opened_at <= until),
            None => self.waiting.len(),
        };
        let mut lines = Vec::new();
        for connection in self.waiting.drain(..ready) {
            let Some(text) = said::happened(&connection) else { continue };
            if !self.times.contains_key(&text) && self.times.len() >= MAX_LINES {
                continue;
            }
            let times = self.times.entry(text.clone()).or_default();
            *times += 1;
            match *times {
                1 => lines.push(text),
                // A program that tries again and again is worth a word now and then.
                10 | 100 | 1_000 | 10_000 if text.starts_with('✗') => lines.push(format!("{text} ({times} times)")),
                _ => {}
            }
            if said::can_be_learnt(&connection) && !self.proposed {
                self.proposed = true;
                lines.push(format!("  {}", said::propose(self.run)));
            }
        }
        lines
    }
}
