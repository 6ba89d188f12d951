//! Tasks, runs, approvals and environments.

use bytes::Bytes;
use reqwest::Method;
use stockade_domain::{
    Digest,
    ids::{ApprovalId, EnvironmentId, ProjectId, RunId, RunnerId},
};

use super::Client;
use crate::{
    error::ApiError,
    http::{
        Approval, Class, Done, Environment, IssueTicket, IssuedTicket, ListApprovals, ListClasses, ListEnvironments,
        ListEvents, ListRuns, Page, PrepareTask, PreparedTask, Run, RunEvents, SealedContent, StartTask,
    },
};

impl Client {
    /// `POST /v1/tasks/prepare`: what is needed to seal a task.
    pub async fn prepare_task(&self, project: ProjectId) -> Result<PreparedTask, ApiError> {
        self.transport.post(&["v1", "tasks", "prepare"]).body(&PrepareTask { project }).json().await
    }

    /// `POST /v1/tasks`: starts it.
    pub async fn start_task(&self, body: &StartTask) -> Result<Run, ApiError> {
        self.transport.post(&["v1", "tasks"]).body(body).json().await
    }

    /// `GET /v1/runs`, newest first.
    pub async fn runs(&self, query: &ListRuns) -> Result<Page<Run>, ApiError> {
        self.transport.get(&["v1", "runs"]).query(query).json().await
    }

    /// `GET /v1/runs/{run}`.
    pub async fn run(&self, run: RunId) -> Result<Run, ApiError> {
        self.transport.get(&["v1", "runs", &run.to_string()]).json().await
    }

    /// `GET /v1/runs/{run}/events`: what happened after a number; waits for it if asked to.
    pub async fn events(&self, run: RunId, query: &ListEvents) -> Result<RunEvents, ApiError> {
        self.transport.get(&["v1", "runs", &run.to_string(), "events"]).query(query).waits(query.wait_ms).json().await
    }

    /// `POST /v1/runs/{run}/cancel`: ends it.
    pub async fn cancel(&self, run: RunId) -> Result<Run, ApiError> {
        self.transport.post(&["v1", "runs", &run.to_string(), "cancel"]).json().await
    }

    /// `POST /v1/runs/{run}/resume`: tries a failed or expired run again from where it stopped.
    pub async fn resume(&self, run: RunId) -> Result<Run, ApiError> {
        self.transport.post(&["v1", "runs", &run.to_string(), "resume"]).json().await
    }

    /// `POST /v1/runs/{run}/erase`: destroys the key of its content.
    pub async fn erase(&self, run: RunId) -> Result<Run, ApiError> {
        self.transport.post(&["v1", "runs", &run.to_string(), "erase"]).json().await
    }

    /// `GET /v1/runs/{run}/contents/{digest}`: a piece of content, sealed.
    pub async fn sealed_content(&self, run: RunId, digest: Digest) -> Result<Bytes, ApiError> {
        self.transport.get(&["v1", "runs", &run.to_string(), "contents", &digest.to_string()]).bytes().await
    }

    /// `POST /v1/runs/{run}/ticket`: a content ticket for the site's listener (see [`super::SiteClient`]).
    pub async fn ticket(&self, run: RunId) -> Result<IssuedTicket, ApiError> {
        self.ticket_at(run, None).await
    }

    /// The same for one runner of the site: what was said with a token is where its gateway was called.
    pub async fn ticket_at(&self, run: RunId, runner: Option<RunnerId>) -> Result<IssuedTicket, ApiError> {
        self.transport.post(&["v1", "runs", &run.to_string(), "ticket"]).body(&IssueTicket { runner }).json().await
    }

    /// `POST /v1/runs/{run}/replies`: answers a question of the agent.
    pub async fn reply(&self, run: RunId, body: &SealedContent) -> Result<Done, ApiError> {
        self.transport.post(&["v1", "runs", &run.to_string(), "replies"]).body(body).json().await
    }

    /// `GET /v1/approvals`, newest first.
    pub async fn approvals(&self, query: &ListApprovals) -> Result<Page<Approval>, ApiError> {
        self.transport.get(&["v1", "approvals"]).query(query).json().await
    }

    /// `GET /v1/approvals/{approval}`.
    pub async fn approval(&self, approval: ApprovalId) -> Result<Approval, ApiError> {
        self.transport.get(&["v1", "approvals", &approval.to_string()]).json().await
    }

    /// `POST /v1/approvals/{approval}/grant`: yes.
    pub async fn grant(&self, approval: ApprovalId) -> Result<Approval, ApiError> {
        self.transport.post(&["v1", "approvals", &approval.to_string(), "grant"]).json().await
    }

    /// `POST /v1/approvals/{approval}/deny`: no.
    pub async fn deny(&self, approval: ApprovalId) -> Result<Approval, ApiError> {
        self.transport.post(&["v1", "approvals", &approval.to_string(), "deny"]).json().await
    }

    /// `GET /v1/classes`: classes of environments, site by site, the one that is used where nobody names one first.
    pub async fn classes(&self, query: &ListClasses) -> Result<Page<Class>, ApiError> {
        self.transport.get(&["v1", "classes"]).query(query).json().await
    }

    /// `GET /v1/environments`, newest first.
    pub async fn environments(&self, query: &ListEnvironments) -> Result<Page<Environment>, ApiError> {
        self.transport.get(&["v1", "environments"]).query(query).json().await
    }

    /// `GET /v1/environments/{environment}`.
    pub async fn environment(&self, environment: EnvironmentId) -> Result<Environment, ApiError> {
        self.transport.get(&["v1", "environments", &environment.to_string()]).json().await
    }

    /// `DELETE /v1/environments/{environment}`: it and everything in it.
    pub async fn delete_environment(&self, environment: EnvironmentId) -> Result<Environment, ApiError> {
        self.transport.call(Method::DELETE, &["v1", "environments", &environment.to_string()]).json().await
    }
}
