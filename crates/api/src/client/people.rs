//! People, projects, policy, budgets, runners and the installation.

use reqwest::Method;
use stockade_domain::ids::ProjectId;

use super::Client;
use crate::{
    error::ApiError,
    http::{
        Budget, CheckPolicy, CreateEnrollToken, CreateProject, CreateToken, CreatedToken, Doctor, EnrollToken,
        ExplainDeed, Explanation, Health, ListBudgets, ListProjects, Me, Page, Policy, PolicyReport, Project,
        PutPolicy, Runner, SetBudget, UpdateProject,
    },
};

impl Client {
    /// `GET /v1/health`: does the server answer?
    pub async fn health(&self) -> Result<Health, ApiError> {
        self.transport.get(&["v1", "health"]).json().await
    }

    /// `GET /v1/doctor`: what the server finds when it examines itself.
    pub async fn doctor(&self) -> Result<Doctor, ApiError> {
        self.transport.get(&["v1", "doctor"]).json().await
    }

    /// `GET /v1/me`: who the token belongs to.
    pub async fn me(&self) -> Result<Me, ApiError> {
        self.transport.get(&["v1", "me"]).json().await
    }

    /// `POST /v1/tokens`: makes an access token.
    pub async fn create_token(&self, body: &CreateToken) -> Result<CreatedToken, ApiError> {
        self.transport.post(&["v1", "tokens"]).body(body).json().await
    }

    /// `GET /v1/projects`.
    pub async fn projects(&self, query: &ListProjects) -> Result<Page<Project>, ApiError> {
        self.transport.get(&["v1", "projects"]).query(query).json().await
    }

    /// The project of this name, if there is one.
    pub async fn project_by_name(&self, name: &str) -> Result<Option<Project>, ApiError> {
        let query = ListProjects { name: Some(name.to_owned()), ..ListProjects::default() };
        Ok(self.projects(&query).await?.items.into_iter().next())
    }

    /// `GET /v1/projects/{project}`.
    pub async fn project(&self, project: ProjectId) -> Result<Project, ApiError> {
        self.transport.get(&["v1", "projects", &project.to_string()]).json().await
    }

    /// `POST /v1/projects`.
    pub async fn create_project(&self, body: &CreateProject) -> Result<Project, ApiError> {
        self.transport.post(&["v1", "projects"]).body(body).json().await
    }

    /// `PATCH /v1/projects/{project}`.
    pub async fn update_project(&self, project: ProjectId, body: &UpdateProject) -> Result<Project, ApiError> {
        self.transport.call(Method::PATCH, &["v1", "projects", &project.to_string()]).body(body).json().await
    }

    /// `GET /v1/policy`: the bundle in force.
    pub async fn policy(&self) -> Result<Policy, ApiError> {
        self.transport.get(&["v1", "policy"]).json().await
    }

    /// `PUT /v1/policy`: puts a bundle into force.
    pub async fn put_policy(&self, body: &PutPolicy) -> Result<Policy, ApiError> {
        self.transport.call(Method::PUT, &["v1", "policy"]).body(body).json().await
    }

    /// `POST /v1/policy/check`: would it load?
    pub async fn check_policy(&self, body: &CheckPolicy) -> Result<PolicyReport, ApiError> {
        self.transport.post(&["v1", "policy", "check"]).body(body).json().await
    }

    /// `POST /v1/policy/test`: which examples hold?
    pub async fn test_policy(&self, body: &CheckPolicy) -> Result<PolicyReport, ApiError> {
        self.transport.post(&["v1", "policy", "test"]).body(body).json().await
    }

    /// `POST /v1/policy/explain`: what would be decided, and why?
    pub async fn explain(&self, body: &ExplainDeed) -> Result<Explanation, ApiError> {
        self.transport.post(&["v1", "policy", "explain"]).body(body).json().await
    }

    /// `GET /v1/budgets`.
    pub async fn budgets(&self, query: &ListBudgets) -> Result<Page<Budget>, ApiError> {
        self.transport.get(&["v1", "budgets"]).query(query).json().await
    }

    /// `PUT /v1/budgets`: sets a limit.
    pub async fn set_budget(&self, body: &SetBudget) -> Result<Budget, ApiError> {
        self.transport.call(Method::PUT, &["v1", "budgets"]).body(body).json().await
    }

    /// `GET /v1/runners`.
    pub async fn runners(&self) -> Result<Page<Runner>, ApiError> {
        self.transport.get(&["v1", "runners"]).json().await
    }

    /// `POST /v1/runners/enroll-token`: a one-time token for a new runner.
    pub async fn create_enroll_token(&self, body: &CreateEnrollToken) -> Result<EnrollToken, ApiError> {
        self.transport.post(&["v1", "runners", "enroll-token"]).body(body).json().await
    }
}
