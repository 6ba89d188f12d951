//! Readers of hostile bytes that are nobody's business outside, for the targets of `fuzz/`: what a client says in path, query
//! and headers, bodies in their envelopes, and what those who give out credentials answer.
//!
//! It is there only in tests and with the feature `fuzzing`. It refuses to judge: the targets know what must hold.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use secrecy::ExposeSecret;
use serde_json::Value;
use stockade_domain::ids::RunId;
use stockade_llm::Dialect;

use crate::{
    Target,
    door::{self, Asked, Door},
    envelope, headers, http_door,
    rehearsal::Cassette,
    session::Origin,
};

pub use crate::credential::fuzzing::{Credential, Given, read, shown, signed};

/// What a client's way in says.
#[derive(Debug)]
pub struct Entered {
    /// The door, as it is shown.
    pub door: String,
    /// The model in the path.
    pub model: Option<String>,
    /// The credential of the run.
    pub token: Option<String>,
    /// What of the query may go on.
    pub query: Option<String>,
    /// What of the headers may go on.
    pub outgoing: HeaderMap,
    /// The client's name and version.
    pub client: String,
    /// A digest of its session's name.
    pub session: Option<String>,
}

/// Reads it as the doors do. `path` stands after `/gateway/`.
#[must_use]
pub fn entered(method: &Method, path: &str, query: Option<&str>, headers: &HeaderMap) -> Entered {
    let door = door::find(method, path, query, headers.contains_key(http::header::UPGRADE));
    let model = match &door {
        Door::Call(asked) => asked.path.model.clone(),
        Door::Model(_, name) => Some(name.clone()),
        _ => None,
    };
    let origin = Origin::of(RunId::from_bytes([7; 16]), headers, None);
    Entered {
        door: format!("{door:?}"),
        model,
        token: http_door::token(headers, query).map(|token| token.expose_secret().to_owned()),
        query: query.and_then(http_door::public_query),
        outgoing: headers::outgoing(headers),
        client: origin.client,
        session: origin.session,
    }
}

/// A body that came by `path`, in the envelope that each of these providers takes: the view of what came, the dialect,
/// and what goes out to each. Nothing if it is no call, or does not read.
#[must_use]
pub fn enveloped(path: &str, body: &Bytes, targets: &[Target]) -> Option<(stockade_llm::View, Dialect, Vec<Sent>)> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let Door::Call(asked) = door::find(&Method::POST, path, query, false) else { return None };
    let view = asked.dialect.view(&envelope::looked_at(body, &asked)).ok()?;
    let stream = asked.path.stream.unwrap_or(view.stream);
    let speaks = |target: &&Target| target.provider.speaks(asked.dialect, &target.upstream);
    let send = |target: &Target| send(body, &view, &asked, stream, target);
    let sent = targets.iter().filter(speaks).map(send).collect();
    Some((view, asked.dialect, sent))
}

/// What goes out to one provider.
#[derive(Debug)]
pub struct Sent {
    /// The body.
    pub body: Bytes,
    /// Whether the body has no model and no `stream`, because they stand in the path.
    pub carried: bool,
    /// The name of the model there.
    pub upstream: String,
    /// Whether a stream was asked for.
    pub stream: bool,
}

fn send(body: &Bytes, view: &stockade_llm::View, asked: &Asked, stream: bool, target: &Target) -> Sent {
    let mut headers = HeaderMap::new();
    let out = envelope::same_dialect(body, view, asked.envelope, stream, target, asked.dialect, &mut headers);
    let carried = asked.dialect == Dialect::Messages
        && matches!(target.provider.kind(), crate::Kind::Bedrock | crate::Kind::Vertex);
    Sent { body: out, carried, upstream: target.upstream.clone(), stream }
}

/// The answer of a cassette to a conversation: its blocks and why it stops.
///
/// # Errors
/// With the message for the client, if the conversation departs from the cassette.
pub fn played(cassette: &Cassette, body: &[u8]) -> Result<(Vec<Value>, String), String> {
    let play = cassette.play(body).map_err(|departure| departure.to_string())?;
    Ok((play.content, play.stop_reason))
}

/// A request for [`signed`].
///
/// # Errors
/// If the address is none.
pub fn request(uri: &str, headers: HeaderMap) -> Result<http::request::Parts, http::Error> {
    let mut parts = Request::builder().method(Method::POST).uri(uri).body(())?.into_parts().0;
    parts.headers = headers;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_in_reads() {
        let headers = HeaderMap::from_iter([(http::header::USER_AGENT, "boto3/1.2".parse().unwrap())]);
        let seen = entered(&Method::POST, "gemini/v1/models/m%2Fx:countTokens", Some("key=a&b=c"), &headers);
        assert_eq!(
            (seen.model.as_deref(), seen.token.as_deref(), seen.query.as_deref()),
            (Some("m/x"), Some("a"), Some("b=c"))
        );
        assert!(seen.door.contains("Count") && seen.client == "boto3/1.2" && seen.session.is_none());
    }
}
