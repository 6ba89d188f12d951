//! A connection that is not looked into: dialled, joined, and its record closed with what went over.
//!
//! It owns the one place from which an environment's connections are dialled. It refuses to dial without a recorded permit.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use stockade_domain::{ContextValue, chain, ids::RecordId};
use stockade_ledger::{Closing, Opened, Outcome, Status};
use stockade_policy::Permit;
use tokio::io::AsyncWriteExt;

use super::{Exit, Stream};
use crate::{
    dial::{DialError, Dialled},
    name::Host,
    relay::{self, Carried, End},
};

impl Exit {
    /// Dials, joins, and closes the record. `first` is what the environment has said already.
    pub(super) async fn tunnel<S: Stream>(
        self: &Arc<Self>,
        mut stream: S,
        opened: Opened<Permit>,
        host: &Host,
        port: u16,
        first: &[u8],
    ) {
        let record = opened.record();
        let permit = opened.into_permit();
        let held = self.hold(record, &permit);
        let dialled = tokio::select! {
            biased;
            () = held.stop().cancelled() => return self.close(record, held.why(), Carried::default(), None).await,
            dialled = self.dial(permit, host, port) => dialled,
        };
        let Dialled { stream: mut far, address, .. } = match dialled {
            Ok(dialled) => dialled,
            Err(error) => {
                self.undialled(host, &error);
                return self.close(record, code_of(&error), Carried::default(), None).await;
            }
        };
        if far.write_all(first).await.is_err() {
            return self.close(record, "lost", Carried::default(), Some(address)).await;
        }
        let (mut carried, end) = relay::join(&mut stream, &mut far, self.limits.relay, held.stop()).await;
        carried.out = carried.out.saturating_add(first.len() as u64);
        self.tally.add(carried);
        let code = match end {
            End::Whole => "",
            End::Silent => "silent",
            End::Stopped => held.why(),
            End::First(_) => "client_lost",
            End::Second(_) => "lost",
        };
        self.close(record, code, carried, Some(address)).await;
    }

    /// The one place from which an environment's connections are dialled. The permit is used up.
    pub(crate) async fn dial(&self, permit: Permit, host: &Host, port: u16) -> Result<Dialled, DialError> {
        let dialled = self.parts.dialer.open(host, port).await;
        drop(permit);
        dialled
    }

    pub(crate) fn undialled(&self, host: &Host, error: &DialError) {
        let why = chain(error);
        tracing::info!(run = %self.who.run, host = %host, error = why, "a connection to {host} was allowed and not made: {why}");
    }

    /// Closes the record of a connection. No code: it went as it should.
    pub(crate) async fn close(&self, record: RecordId, code: &str, carried: Carried, address: Option<SocketAddr>) {
        let mut facts = BTreeMap::new();
        if let Some(address) = address {
            facts.insert("address".to_owned(), address.to_string().as_str().into());
        }
        self.close_with(record, code, carried, facts).await;
    }

    /// Closes a record with what else is to be said.
    pub(crate) async fn close_with(
        &self,
        record: RecordId,
        code: &str,
        carried: Carried,
        mut facts: BTreeMap<String, ContextValue>,
    ) {
        let status = match code {
            "" => Status::Ok,
            "stopped" | "policy" => Status::Cancelled,
            _ => Status::Error,
        };
        let bytes = |count: u64| ContextValue::Long(i64::try_from(count).unwrap_or(i64::MAX));
        facts.insert("bytes_out".to_owned(), bytes(carried.out));
        facts.insert("bytes_in".to_owned(), bytes(carried.back));
        let outcome = Outcome { status, code: (!code.is_empty()).then(|| code.to_owned()) };
        let closing = Closing { facts, ..Closing::new(outcome) };
        if let Err(error) = self.parts.ledger.close_in_passing(record, closing, Vec::new()).await {
            // The reaper closes it at the next start.
            self.unrecorded(&error);
        }
    }
}

pub(crate) const fn code_of(error: &DialError) -> &'static str {
    match error {
        DialError::Lookup { .. } | DialError::NoAddress { .. } => "unknown_host",
        DialError::NotPublic { .. } => "not_public",
        DialError::Unreachable { .. } => "unreachable",
        DialError::Proxy { .. } => "proxy",
    }
}
