//! Tokens for the gateway, groups, and model calls.

use bytes::Bytes;
use secrecy::SecretString;
use stockade_domain::ids::{GatewayTokenId, GroupId, ModelCallId};

use super::{Client, transport::Transport};
use crate::{
    error::ApiError,
    http::{
        CallSum, ChangeGroup, CreateGatewayToken, CreateGroup, CreatedGatewayToken, GatewayToken, Group, ListCalls,
        ListGatewayTokens, ListSessions, ModelCall, Page, PrepareToken, PreparedTask, Session, ShownCall, SumCalls,
    },
};

impl Client {
    /// `POST /v1/gateway/tokens/prepare`: what is needed to make a token.
    pub async fn prepare_token(&self, body: &PrepareToken) -> Result<PreparedTask, ApiError> {
        self.transport.post(&["v1", "gateway", "tokens", "prepare"]).body(body).json().await
    }

    /// `POST /v1/gateway/tokens`: makes one.
    pub async fn create_gateway_token(&self, body: &CreateGatewayToken) -> Result<CreatedGatewayToken, ApiError> {
        self.transport.post(&["v1", "gateway", "tokens"]).body(body).json().await
    }

    /// `GET /v1/gateway/tokens`, newest first.
    pub async fn gateway_tokens(&self, query: &ListGatewayTokens) -> Result<Page<GatewayToken>, ApiError> {
        self.transport.get(&["v1", "gateway", "tokens"]).query(query).json().await
    }

    /// `POST /v1/gateway/tokens/{token}/revoke`: ends one.
    pub async fn revoke_gateway_token(&self, token: GatewayTokenId) -> Result<GatewayToken, ApiError> {
        self.transport.post(&["v1", "gateway", "tokens", &token.to_string(), "revoke"]).json().await
    }

    /// `GET /v1/groups`.
    pub async fn groups(&self) -> Result<Page<Group>, ApiError> {
        self.transport.get(&["v1", "groups"]).json().await
    }

    /// `POST /v1/groups`.
    pub async fn create_group(&self, body: &CreateGroup) -> Result<Group, ApiError> {
        self.transport.post(&["v1", "groups"]).body(body).json().await
    }

    /// `POST /v1/groups/{group}/members`: puts a person in, or takes them out.
    pub async fn change_group(&self, group: GroupId, body: &ChangeGroup) -> Result<Group, ApiError> {
        self.transport.post(&["v1", "groups", &group.to_string(), "members"]).body(body).json().await
    }

    /// `GET /v1/calls`, newest first.
    pub async fn calls(&self, query: &ListCalls) -> Result<Page<ModelCall>, ApiError> {
        self.transport.get(&["v1", "calls"]).query(query).json().await
    }

    /// `GET /v1/calls/{call}`.
    pub async fn call(&self, call: ModelCallId) -> Result<ShownCall, ApiError> {
        self.transport.get(&["v1", "calls", &call.to_string()]).json().await
    }

    /// `GET /v1/calls/sums`: calls that are over, summed.
    pub async fn sum_calls(&self, query: &SumCalls) -> Result<Page<CallSum>, ApiError> {
        self.transport.get(&["v1", "calls", "sums"]).query(query).json().await
    }

    /// `GET /v1/sessions`, the one that began last first.
    pub async fn sessions(&self, query: &ListSessions) -> Result<Page<Session>, ApiError> {
        self.transport.get(&["v1", "sessions"]).query(query).json().await
    }
}

/// A client of a site's gateway, with a token for it: for the one small request that proves a connection.
#[derive(Debug, Clone)]
pub struct GatewayClient {
    transport: Transport,
}

impl GatewayClient {
    /// A client of the gateway at `base` (`http://127.0.0.1:7081`).
    pub fn new(base: &str, token: SecretString) -> Result<Self, ApiError> {
        Ok(Self { transport: Transport::new(base, Some(token), "the gateway")? })
    }

    /// `POST` to a path below `/gateway`: the status, and the answer's bytes whatever they are.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<(u16, Bytes), ApiError> {
        let segments: Vec<&str> = std::iter::once("gateway").chain(path.split('/')).collect();
        let mut call = self.transport.post(&segments).body(body);
        if path.starts_with("anthropic/") {
            // Without it, Anthropic refuses what everybody else takes.
            call = call.header("anthropic-version", "2023-06-01");
        }
        call.whatever().await
    }
}
