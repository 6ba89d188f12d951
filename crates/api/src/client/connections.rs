//! Connections of environments.

use stockade_domain::ids::{RecordId, RunId};

use super::Client;
use crate::{
    error::ApiError,
    http::{Connection, ConnectionSums, ListConnections, Page, ShownConnection, SumConnections},
};

impl Client {
    /// `GET /v1/connections`, newest first; with `changed_since` as they changed.
    pub async fn connections(&self, query: &ListConnections) -> Result<Page<Connection>, ApiError> {
        self.transport.get(&["v1", "connections"]).query(query).json().await
    }

    /// `GET /v1/connections/sums`: what a run did on its way out.
    pub async fn sum_connections(&self, run: RunId) -> Result<ConnectionSums, ApiError> {
        self.transport.get(&["v1", "connections", "sums"]).query(&SumConnections { run }).json().await
    }

    /// `GET /v1/connections/{connection}`.
    pub async fn connection(&self, connection: RecordId) -> Result<ShownConnection, ApiError> {
        self.transport.get(&["v1", "connections", &connection.to_string()]).json().await
    }
}
