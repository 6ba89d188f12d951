//! What goes in and out of a handler: bodies with clear errors, the error envelope, and how a failure
//! becomes a status. Every failed answer of the server is made here.

use std::{any::Any, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderValue, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use stockade_api::error::{ApiError, ErrorBody, Fault};
pub use stockade_domain::chain;
use stockade_store::StoreError;

use crate::operation::Operation;

/// How long a body may take to arrive, in seconds, and on top what the operation's longest body takes at
/// [`SLOWEST_BODY`]. After that the request is refused with HTTP 408.
pub const BODY_TIME_S: u64 = 60;

/// The slowest line that can send the longest body in time, in bytes a second.
pub const SLOWEST_BODY: u64 = 128 * 1024;

/// What a handler answers.
pub type Answer<T> = Result<Json<T>, Failure>;

/// A JSON body, in or out.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// The query of an address.
#[derive(Debug)]
pub struct Query<T>(pub T);

/// The parameters of a path.
#[derive(Debug)]
pub struct Path<T>(pub T);

/// An error with its status.
#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub error: ApiError,
}

impl Failure {
    pub fn new(status: StatusCode, error: ApiError) -> Self {
        Self { status, error }
    }

    /// The caller asked for something that makes no sense.
    pub fn invalid(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, ApiError::new(Fault::User, code, message))
    }

    /// The thing is not in a state that allows it.
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, ApiError::new(Fault::User, code, message))
    }

    pub fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ApiError::new(Fault::User, code, message))
    }

    /// Nobody knows who asks.
    pub fn unauthenticated(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ApiError::new(Fault::Refused, code, message))
    }

    /// A defect of ours. The cause goes to the log, not to the caller.
    pub fn bug(what: &str, cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(what, cause = %cause, "a request failed because of a defect");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ApiError::new(Fault::Bug, "internal", format!("the server could not {what}"))
                .hint("This is a defect of Stockade. The server's log says more."),
        )
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error = self.error.hint(hint);
        self
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        let text = error.to_string();
        let code_of = |what: &str, end: &str| format!("{}_{end}", what.replace(' ', "_"));
        match &error {
            E::NotFound { what, .. } => Self::not_found(&code_of(what, "not_found"), text),
            E::Exists { what, .. } => Self::conflict(&code_of(what, "exists"), text),
            E::Invalid { what, .. } => Self::invalid(&code_of(what, "invalid"), text),
            E::Refused(_) => Self::conflict("wrong_state", text),
            E::NoLease { .. } => Self::conflict("no_lease", text),
            E::BadEntry { .. } => Self::invalid("bad_entry", text),
            E::Ledger { .. } => Self::conflict("ledger", text),
            E::Conflict { .. } => Self::conflict("conflict", text).hint("Try again."),
            E::Unavailable { .. } | E::Full { .. } => {
                tracing::error!(error = %chain(&error), "the database does not take it");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, ApiError::new(Fault::Outside, "database", text))
                    .hint("Nothing was changed. Try again.")
            }
            _ => Self::bug("use its database", &chain(&error)),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.error })).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => {
                let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
                (json, body).into_response()
            }
            Err(error) => Failure::bug("write its answer", &error).into_response(),
        }
    }
}

/// Reads a whole body within the operation's limit and time.
pub async fn read_body(request: Request) -> Result<Bytes, Failure> {
    let longest = request.extensions().get::<&'static Operation>().map_or(0, |operation| operation.body as u64);
    let seconds = BODY_TIME_S + longest / SLOWEST_BODY;
    let bytes = tokio::time::timeout(Duration::from_secs(seconds), Bytes::from_request(request, &()));
    match bytes.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(refused)) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::new(Fault::User, "body_too_large", "the body is larger than this operation takes"),
        )),
        Ok(Err(_)) => Err(Failure::new(
            StatusCode::BAD_REQUEST,
            ApiError::new(Fault::User, "body_cut_off", "the body did not arrive whole"),
        )),
        Err(_) => Err(Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            ApiError::new(Fault::User, "body_too_slow", format!("the body did not arrive within {seconds} seconds")),
        )),
    }
}

/// Reads JSON; says where it goes wrong.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        use serde_json::error::Category;
        match error.classify() {
            Category::Data => Failure::invalid("bad_field", format!("the body does not fit: {error}")),
            Category::Io | Category::Syntax | Category::Eof => Failure::new(
                StatusCode::BAD_REQUEST,
                ApiError::new(Fault::User, "bad_json", format!("the body is not JSON: {error}")),
            ),
        }
        .hint("GET /v1/openapi.json describes it.")
    })
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;
    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        parse(&read_body(request).await?).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        axum::extract::Query::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|error| {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::invalid("bad_query", format!("the query does not fit: {why}"))
                .hint("GET /v1/openapi.json describes it.")
        })
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        use axum::extract::path::ErrorKind;
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(path) => Ok(Self(path.0)),
            Err(axum::extract::rejection::PathRejection::FailedToDeserializePathParams(error)) => {
                let why = match error.kind() {
                    ErrorKind::DeserializeError { message, .. } | ErrorKind::Message(message) => message.clone(),
                    other => other.to_string(),
                };
                Err(Failure::not_found("no_such_thing", format!("`{}` names nothing: {why}", parts.uri.path())))
            }
            Err(error) => Err(Failure::bug("read the path", &error)),
        }
    }
}

/// The answer where no operation is.
pub async fn no_such_path(uri: Uri) -> Failure {
    Failure::not_found("no_such_path", format!("there is nothing at `{}`", uri.path()))
        .hint("GET /v1/openapi.json lists what there is.")
}

/// The answer where an operation is, under another method.
pub async fn no_such_method(method: axum::http::Method, uri: Uri) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ApiError::new(Fault::User, "no_such_method", format!("`{}` does not take {method}", uri.path())),
    )
    .hint("GET /v1/openapi.json lists what there is.")
}

/// The answer of a handler that panicked. What it said stays in the log: it may quote a body.
pub fn panicked(_: Box<dyn Any + Send + 'static>) -> Response<Body> {
    Failure::bug("answer", &"a handler panicked").into_response()
}
