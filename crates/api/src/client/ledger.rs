//! The ledger.

use stockade_domain::ids::RecordId;

use super::{ByteStream, Client};
use crate::{
    error::ApiError,
    http::{Export, Ledger, ListRecords, Page, Proof, Record},
};

impl Client {
    /// `GET /v1/records`, newest first.
    pub async fn records(&self, query: &ListRecords) -> Result<Page<Record>, ApiError> {
        self.transport.get(&["v1", "records"]).query(query).json().await
    }

    /// `GET /v1/records/{record}`.
    pub async fn record(&self, record: RecordId) -> Result<Record, ApiError> {
        self.transport.get(&["v1", "records", &record.to_string()]).json().await
    }

    /// `GET /v1/records/{record}/proof`: that it stands in its producer's log.
    pub async fn proof(&self, record: RecordId) -> Result<Proof, ApiError> {
        self.transport.get(&["v1", "records", &record.to_string(), "proof"]).json().await
    }

    /// `GET /v1/ledgers`: the producers with their sizes, roots and checkpoints.
    pub async fn ledgers(&self) -> Result<Page<Ledger>, ApiError> {
        self.transport.get(&["v1", "ledgers"]).json().await
    }

    /// `GET /v1/export`: the whole ledger as JSON lines, for offline verification.
    pub async fn export(&self, query: &Export) -> Result<ByteStream, ApiError> {
        self.transport.get(&["v1", "export"]).query(query).stream().await
    }
}
