//! What an operation is: method, path, who may call it, and by which action it is decided.
//!
//! The router is built from [`crate::OPERATIONS`] and from nothing else, and a handler reads its action
//! from its own line, so an operation that declares nothing cannot exist, and none can be decided as
//! something else than it declares.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    routing::{MethodFilter, MethodRouter, on},
};
use stockade_domain::Action;

use crate::{answer, app::App};

/// The methods we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Does something.
    Post,
    /// Replaces.
    Put,
    /// Changes a part.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// As in HTTP.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    pub(crate) const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// Who may call an operation at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Whoever reaches the port.
    Anybody,
    /// A person with a token.
    User,
    /// A runner with its key.
    Runner,
}

/// By what an operation is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// By policy, as this action.
    Action(Action),
    /// By nothing, for this reason.
    Public(&'static str),
    /// By the runner's signature and what was assigned to it, for this reason.
    Runner(&'static str),
}

/// What is written into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Every call: what it does, or that it was refused.
    Always,
    /// Only that it was refused: reading what is no content changes nothing, and a record of every glance
    /// at a list would bury those that matter.
    Refusals,
    /// Nothing: nobody decides anything here.
    Never,
}

/// One operation of the API.
pub struct Operation {
    /// The method.
    pub method: Method,
    /// The path, with `{parameters}`.
    pub path: &'static str,
    /// Who may call it.
    pub caller: Caller,
    /// By what it is decided.
    pub rule: Rule,
    /// What is written into the ledger.
    pub recorded: Recorded,
    /// The longest body it takes, in bytes. A longer one is refused with HTTP 413.
    pub body: usize,
    pub(crate) handler: fn() -> MethodRouter<Arc<App>>,
}

/// Without the handler, which has nothing to show.
impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({:?}, {:?})", self.method.as_str(), self.path, self.caller, self.rule)
    }
}

/// The longest body of an ordinary request, in bytes.
pub const BODY: usize = 1024 * 1024;

/// The longest body that carries a sealed piece of content or a policy, in bytes.
pub const BODY_SEALED: usize = 4 * 1024 * 1024;

/// The longest shipment of a runner, in bytes: the largest sealed piece in base64, and room for its neighbours.
pub const BODY_SHIP: usize = 96 * 1024 * 1024;

pub(crate) fn router(operations: &'static [Operation], app: Arc<App>) -> Router {
    let mut router = Router::new();
    for operation in operations {
        let methods: MethodRouter<Arc<App>> = (operation.handler)()
            .layer::<_, Infallible>(Extension(operation))
            .layer(DefaultBodyLimit::max(operation.body));
        router = router.route(operation.path, methods);
    }
    router
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(answer::panicked))
        .with_state(app)
}

/// Shorthand for the table: a handler under its method.
pub(crate) fn handler<H, T>(method: Method, handler: H) -> MethodRouter<Arc<App>>
where
    H: axum::handler::Handler<T, Arc<App>>,
    T: 'static,
{
    on(method.filter(), handler)
}
