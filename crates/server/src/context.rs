//! The one way in which a person's request becomes a deed: who, may they, record, write, answer.
//!
//! A handler asks for a [`Cx`] and so has an authenticated caller. It opens a transaction, reads what the
//! deed is about, and gives the transaction and the deed to [`Cx::may`] (reading) or [`Cx::open`] (doing).
//! The first gives the transaction back; the second gives [`Work`], in whose transaction the opening record
//! stands already. [`Work::end`] writes the closing record and commits all of it, or undoes it and records
//! that it failed. A refusal is recorded by either.
//!
//! *Invariant:* a deed's action is the one on the operation's line in the table; no handler names one.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
};
use secrecy::SecretString;
use stockade_api::error::{ApiError, Fault};
use stockade_domain::{
    Action, ContentRef, Context, Deed, Principal, Resource, ResourceKind, RunKind,
    ids::{ProjectId, RecordId, UserId},
};
use stockade_policy::{Permit, Refusal, Ruling};
use stockade_store::{Tx, approvals::Approval, environments::Environment, people, people::User, runs::Run};

use crate::{
    answer::Failure,
    app::App,
    ledger,
    operation::{Operation, Rule},
    resource::groups,
    secret,
};

/// A request of a known person.
pub struct Cx {
    pub app: Arc<App>,
    pub user: User,
    operation: &'static Operation,
}

impl FromRequestParts<Arc<App>> for Cx {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let operation = match parts.extensions.get::<&'static Operation>() {
            Some(operation) => *operation,
            None => return Err(Failure::bug("find its own operation", &"a route outside the table")),
        };
        let user = authenticate(parts, app).await?;
        Ok(Self { app: Arc::clone(app), user, operation })
    }
}

async fn authenticate(parts: &Parts, app: &App) -> Result<User, Failure> {
    let missing = || {
        Failure::unauthenticated("no_token", "this needs a token: send `Authorization: Bearer stk_…`")
            .hint("The first admin's token is in the server's data directory, in the file `admin-token`.")
    };
    let header = parts.headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).ok_or_else(missing)?.trim();
    let unknown = || {
        Failure::unauthenticated("bad_token", "this token is not known, has ended or was revoked")
            .hint("Ask an admin for a new one.")
    };
    if token.len() > secret::MAX_TOKEN || !token.starts_with(secret::USER_PREFIX) {
        return Err(unknown());
    }
    let digest = secret::digest(&SecretString::from(token));
    let mut tx = app.store.read().await?;
    let found = people::user_by_token(&mut tx, digest, app.now()).await?;
    found.map(|(_, user)| user).ok_or_else(unknown)
}

impl Cx {
    /// A transaction for reading.
    pub async fn read(&self) -> Result<Tx, Failure> {
        Ok(self.app.store.read().await?)
    }

    /// A transaction for writing.
    pub async fn write(&self) -> Result<Tx, Failure> {
        Ok(self.app.store.write().await?)
    }

    /// The caller wants to do this operation's action to a resource.
    pub fn deed(&self, resource: Resource, context: Context) -> Result<Deed, Failure> {
        let Rule::Action(action) = self.operation.rule else {
            return Err(Failure::bug("decide an operation without an action", &self.operation.path));
        };
        let principal = Principal::User { id: self.user.id, roles: self.user.roles.clone() };
        Ok(Deed { principal, action, resource, context })
    }

    /// … to the organization.
    pub fn on_organization(&self) -> Result<Deed, Failure> {
        self.deed(Resource::new(ResourceKind::Organization, self.app.organization), Context::default())
    }

    /// … to the policy.
    pub fn on_policy(&self) -> Result<Deed, Failure> {
        self.deed(Resource::new(ResourceKind::Policy, self.app.organization), Context::default())
    }

    /// … to a project.
    pub fn on_project(&self, project: ProjectId) -> Result<Deed, Failure> {
        self.deed(Resource::new(ResourceKind::Project, project).in_project(project), Context::default())
    }

    /// … to a run.
    pub fn on_run(&self, run: &Run) -> Result<Deed, Failure> {
        let mut context = owned_by(run.owner).with("level", i64::from(run.spec.level.get()));
        if run.kind == RunKind::Personal {
            context = context.with("personal", true);
        }
        self.deed(Resource::new(ResourceKind::Run, run.id).in_project(run.project).in_run(run.id), context)
    }

    /// … to an approval.
    pub fn on_approval(&self, approval: &Approval) -> Result<Deed, Failure> {
        let resource = Resource::new(ResourceKind::Approval, approval.id);
        let about = owned_by(approval.owner).with("asked", approval.action.as_str());
        self.deed(resource.in_project(approval.project).in_run(approval.run), about)
    }

    /// … to an environment.
    pub fn on_environment(&self, environment: &Environment) -> Result<Deed, Failure> {
        let resource = Resource::new(ResourceKind::Environment, environment.id);
        self.deed(resource.in_project(environment.project).in_run(environment.run), owned_by(environment.owner))
    }

    /// Whose things are asked for, decided: the policy sees whether they are the caller's own, and whether they are of people's
    /// own tools.
    pub async fn for_whom(&self, user: Option<&str>, personal: bool) -> Result<(Tx, Option<UserId>), Failure> {
        let mut tx = self.read().await?;
        let person = match user {
            None => None,
            Some("me") => Some(self.user.id),
            // Nobody has the identifier that is all zeros.
            Some(name) => Some(groups::user(&mut tx, name).await.unwrap_or_else(|_| UserId::from_bytes([0; 16]))),
        };
        let mut context = person.map_or_else(Context::default, owned_by);
        if personal {
            context = context.with("personal", true);
        }
        let deed = self.deed(Resource::new(ResourceKind::Organization, self.app.organization), context)?;
        let mut tx = self.may(tx, deed).await?;
        // Only whoever may ask hears that there is nobody of that name.
        if let Some(name) = user.filter(|name| *name != "me") {
            groups::user(&mut tx, name).await?;
        }
        Ok((tx, person))
    }

    /// May the caller see it? Gives the transaction back. Only a refusal is recorded.
    pub async fn may(&self, mut tx: Tx, deed: Deed) -> Result<Tx, Failure> {
        let engine = self.app.engines.current(&mut tx).await?;
        match engine.decide(deed) {
            Ruling::Allow(_) => Ok(tx),
            Ruling::Ask(question) => Err(self.refuse(tx, question.refused()).await),
            Ruling::Deny(refusal) => Err(self.refuse(tx, refusal).await),
        }
    }

    /// May the caller do it? If so it has begun: its opening record stands in the transaction.
    pub async fn open(&self, tx: Tx, deed: Deed) -> Result<Work, Failure> {
        self.open_with(tx, deed, Vec::new()).await
    }

    /// The same, where sealed content comes along: the opening record covers it.
    pub async fn open_with(&self, mut tx: Tx, deed: Deed, contents: Vec<ContentRef>) -> Result<Work, Failure> {
        let engine = self.app.engines.current(&mut tx).await?;
        match engine.decide(deed) {
            Ruling::Allow(permit) => {
                let record = ledger::open(&self.app, &mut tx, permit.deed(), permit.decision(), contents).await?;
                Ok(Work { app: Arc::clone(&self.app), tx, permit, record })
            }
            Ruling::Ask(question) => Err(self.refuse(tx, question.refused()).await),
            Ruling::Deny(refusal) => Err(self.refuse(tx, refusal).await),
        }
    }

    /// Records the refusal by itself, then says so. Without the record there is no answer but an error.
    async fn refuse(&self, tx: Tx, refusal: Refusal) -> Failure {
        drop(tx);
        let recorded = async {
            let mut tx = self.app.store.write().await?;
            ledger::refused(&self.app, &mut tx, refusal.deed(), refusal.decision()).await?;
            tx.commit().await
        };
        if let Err(error) = recorded.await {
            return error.into();
        }
        let action: Action = refusal.deed().action;
        tracing::info!(user = %self.user.id, %action, "refused {action} to {}", self.user.id);
        Failure::new(
            StatusCode::FORBIDDEN,
            ApiError::new(Fault::Refused, "refused", format!("{action} is refused: {}", refusal.title())),
        )
        .hint("An admin can change roles and policy; `stockade policy explain` says which policy decides.")
    }
}

fn owned_by(owner: UserId) -> Context {
    Context::default().with("owner", owner.to_string())
}

/// A deed that is permitted and recorded, and the transaction in which it is done.
pub struct Work {
    pub app: Arc<App>,
    pub tx: Tx,
    permit: Permit,
    record: RecordId,
}

impl Work {
    /// Ends it. What went well is recorded and committed with its record; what went wrong is undone, and
    /// that it was tried is recorded.
    pub async fn end<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        let Self { app, mut tx, permit, record } = self;
        match result {
            Ok(done) => {
                ledger::close(&app, &mut tx, permit.deed(), record, None).await?;
                tx.commit().await?;
                app.changed();
                Ok(done)
            }
            Err(failure) => {
                tx.rollback().await.unwrap_or_else(|error| tracing::debug!(%error, "the transaction was gone"));
                let recorded = async {
                    let mut tx = app.store.write().await?;
                    let record = ledger::open(&app, &mut tx, permit.deed(), permit.decision(), Vec::new()).await?;
                    ledger::close(&app, &mut tx, permit.deed(), record, Some(&failure.error.code)).await?;
                    tx.commit().await
                };
                // The caller is told the first failure; that of the record follows from it or is in the log.
                if let Err(error) = recorded.await {
                    tracing::error!(%error, "a failed attempt could not be recorded");
                }
                Err(failure)
            }
        }
    }
}
