//! The doors: which address a client came by, and what that says of dialect, framing, model and errand.
//!
//! It owns the table of paths below `/gateway`. It refuses to look at bodies, and to guess: a path that is none of these is answered
//! with 404 in the error shape of the door it is nearest to.

use http::Method;
use stockade_llm::{Dialect, Framing, PathFacts};

use crate::models::Errand;

/// What a client's path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The dialect of body and answer.
    pub(crate) dialect: Dialect,
    /// How a stream is framed, if the answer is one.
    pub(crate) framing: Framing,
    /// Model and stream, where the path says them.
    pub(crate) path: PathFacts,
    /// What is wanted.
    pub(crate) errand: Errand,
    /// In which envelope a body of the dialect comes.
    pub(crate) envelope: Envelope,
}

/// In which envelope a body comes: some services take a dialect's bodies with some members elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Envelope {
    /// As the dialect has it.
    Plain,
    /// Messages at Bedrock: model and stream in the path, version and betas in the body.
    Invoke,
    /// Messages at Vertex: the model in the path, the version in the body.
    RawPredict,
    /// Chat and Embeddings at an Azure deployment: the model in the path.
    Deployment,
}

/// Where a request came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Door {
    /// Something for a model.
    Call(Asked),
    /// The list of models.
    Models(Listing),
    /// One model of the list.
    Model(Listing, String),
    /// Responses over a WebSocket, which is not served: 426, so that clients try the other way at once.
    WebSocket,
    /// A right path with a wrong method.
    WrongMethod(Dialect),
    /// Nothing is here.
    Nothing(Dialect),
    /// Something that is not served and that clients of this dialect take a 501 for.
    NotServed(Dialect, &'static str),
}

/// In which form models are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Listing {
    /// Anthropic's.
    Anthropic,
    /// OpenAI's, also at Azure.
    Openai,
    /// Google's.
    Gemini,
    /// Bedrock's inference profiles.
    Bedrock,
}

impl Listing {
    /// The dialect in whose shape errors are said there.
    pub(crate) const fn dialect(self) -> Dialect {
        match self {
            Self::Anthropic => Dialect::Messages,
            Self::Openai => Dialect::Chat,
            Self::Gemini => Dialect::Gemini,
            Self::Bedrock => Dialect::Converse,
        }
    }
}

/// Finds the door. `path` is what stands after `/gateway/`, still percent-encoded.
pub(crate) fn find(method: &Method, path: &str, query: Option<&str>, upgrade: bool) -> Door {
    let (house, rest) = path.split_once('/').unwrap_or((path, ""));
    let rest = rest.trim_end_matches('/');
    match house {
        "anthropic" => anthropic(method, rest),
        "openai" => openai(method, rest.strip_prefix("v1/").unwrap_or(""), upgrade),
        "azure" => azure(method, rest, upgrade),
        "gemini" => gemini(method, rest, query),
        "vertex" => vertex(method, rest, query),
        "bedrock" => bedrock(method, rest),
        _ => Door::Nothing(Dialect::Messages),
    }
}

fn call(method: &Method, asked: Asked) -> Door {
    if *method == Method::POST { Door::Call(asked) } else { Door::WrongMethod(asked.dialect) }
}

const fn plain(dialect: Dialect) -> Asked {
    Asked {
        dialect,
        framing: Framing::Events,
        path: PathFacts { model: None, stream: None },
        errand: Errand::Answer,
        envelope: Envelope::Plain,
    }
}

fn listed(method: &Method, listing: Listing, model: Option<&str>) -> Door {
    if *method != Method::GET {
        return Door::WrongMethod(listing.dialect());
    }
    match model {
        None => Door::Models(listing),
        Some(model) => Door::Model(listing, decoded(model)),
    }
}

fn anthropic(method: &Method, rest: &str) -> Door {
    match rest {
        "v1/messages" => call(method, plain(Dialect::Messages)),
        "v1/messages/count_tokens" => call(method, Asked { errand: Errand::Count, ..plain(Dialect::Messages) }),
        "v1/models" => listed(method, Listing::Anthropic, None),
        _ => match rest.strip_prefix("v1/models/") {
            Some(model) if !model.contains('/') => listed(method, Listing::Anthropic, Some(model)),
            _ => Door::Nothing(Dialect::Messages),
        },
    }
}

fn openai(method: &Method, rest: &str, upgrade: bool) -> Door {
    match rest {
        "chat/completions" => call(method, plain(Dialect::Chat)),
        "responses" if upgrade || *method == Method::GET => Door::WebSocket,
        "responses" => call(method, plain(Dialect::Responses)),
        "responses/compact" => call(method, Asked { errand: Errand::Compact, ..plain(Dialect::Responses) }),
        "embeddings" => call(method, plain(Dialect::Embeddings)),
        "models" => listed(method, Listing::Openai, None),
        _ => match rest.strip_prefix("models/") {
            Some(model) => listed(method, Listing::Openai, Some(model)),
            None if rest.starts_with("responses/") => {
                Door::NotServed(Dialect::Responses, "stored responses are not served: send the whole conversation")
            }
            None => Door::Nothing(Dialect::Chat),
        },
    }
}

fn azure(method: &Method, rest: &str, upgrade: bool) -> Door {
    let Some(rest) = rest.strip_prefix("openai/") else { return Door::Nothing(Dialect::Chat) };
    if let Some(rest) = rest.strip_prefix("v1/") {
        return openai(method, rest, upgrade);
    }
    if matches!(rest, "responses" | "responses/compact" | "models") {
        return openai(method, rest, upgrade);
    }
    let deployment = rest.strip_prefix("deployments/").and_then(|rest| rest.split_once('/'));
    let Some((deployment, errand)) = deployment else { return Door::Nothing(Dialect::Chat) };
    let dialect = match errand {
        "chat/completions" => Dialect::Chat,
        "embeddings" => Dialect::Embeddings,
        _ => return Door::Nothing(Dialect::Chat),
    };
    let path = PathFacts { model: Some(decoded(deployment)), stream: None };
    call(method, Asked { path, envelope: Envelope::Deployment, ..plain(dialect) })
}

/// `models/M:METHOD`, as the Gemini API and Vertex have it.
fn google(method: &Method, rest: &str, query: Option<&str>) -> Option<Door> {
    let (model, verb) = rest.rsplit_once(':')?;
    let model = Some(decoded(model));
    let sse = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
    let asked = |stream: bool, errand| Asked {
        framing: if sse { Framing::Events } else { Framing::Array },
        path: PathFacts { model: model.clone(), stream: Some(stream) },
        errand,
        ..plain(Dialect::Gemini)
    };
    Some(match verb {
        "generateContent" => call(method, asked(false, Errand::Answer)),
        "streamGenerateContent" => call(method, asked(true, Errand::Answer)),
        "countTokens" => call(method, asked(false, Errand::Count)),
        _ => Door::NotServed(
            Dialect::Gemini,
            "the gateway serves generateContent, streamGenerateContent and countTokens",
        ),
    })
}

fn gemini(method: &Method, rest: &str, query: Option<&str>) -> Door {
    let Some((version, rest)) = rest.split_once('/') else { return Door::Nothing(Dialect::Gemini) };
    if !is_version(version) {
        return Door::Nothing(Dialect::Gemini);
    }
    match rest.strip_prefix("models") {
        Some("") => listed(method, Listing::Gemini, None),
        Some(rest) => match rest.strip_prefix('/') {
            Some(model) if !model.contains(':') => listed(method, Listing::Gemini, Some(model)),
            Some(rest) => google(method, rest, query).unwrap_or(Door::Nothing(Dialect::Gemini)),
            None => Door::Nothing(Dialect::Gemini),
        },
        None => Door::Nothing(Dialect::Gemini),
    }
}

fn vertex(method: &Method, rest: &str, query: Option<&str>) -> Door {
    let rest = match rest.split_once('/') {
        Some((version, rest)) if is_version(version) => rest,
        _ => rest,
    };
    // Projects and locations are the client's own idea: where a call goes is the gateway's.
    let Some((_, rest)) = rest.split_once("publishers/") else { return Door::Nothing(Dialect::Gemini) };
    let Some((publisher, rest)) = rest.split_once("/models/") else { return Door::Nothing(Dialect::Gemini) };
    match publisher {
        "google" => google(method, rest, query).unwrap_or(Door::Nothing(Dialect::Gemini)),
        "anthropic" => {
            let Some((model, verb)) = rest.rsplit_once(':') else { return Door::Nothing(Dialect::Messages) };
            if model == "count-tokens" {
                return Door::NotServed(Dialect::Messages, "the gateway does not count tokens in this form");
            }
            let stream = match verb {
                "rawPredict" => false,
                "streamRawPredict" => true,
                _ => return Door::Nothing(Dialect::Messages),
            };
            let path = PathFacts { model: Some(decoded(model)), stream: Some(stream) };
            call(method, Asked { path, envelope: Envelope::RawPredict, ..plain(Dialect::Messages) })
        }
        _ => Door::Nothing(Dialect::Messages),
    }
}

fn bedrock(method: &Method, rest: &str) -> Door {
    if rest == "inference-profiles" {
        return listed(method, Listing::Bedrock, None);
    }
    let Some((model, verb)) = rest.strip_prefix("model/").and_then(|rest| rest.rsplit_once('/')) else {
        return Door::Nothing(Dialect::Converse);
    };
    let (dialect, envelope, stream) = match verb {
        "converse" => (Dialect::Converse, Envelope::Plain, false),
        "converse-stream" => (Dialect::Converse, Envelope::Plain, true),
        "invoke" => (Dialect::Messages, Envelope::Invoke, false),
        "invoke-with-response-stream" => (Dialect::Messages, Envelope::Invoke, true),
        "count-tokens" => return Door::NotServed(Dialect::Converse, "the gateway does not count tokens in this form"),
        _ => return Door::Nothing(Dialect::Converse),
    };
    let path = PathFacts { model: Some(decoded(model)), stream: Some(stream) };
    call(method, Asked { dialect, framing: Framing::Frames, path, errand: Errand::Answer, envelope })
}

fn is_version(text: &str) -> bool {
    text.starts_with('v') && text.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
}

/// Percent-decoded; what is no UTF-8 is marked as such, and is no model's name.
fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(path: &str) -> Door {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        find(&Method::POST, path, query, false)
    }

    fn asked(path: &str) -> (Dialect, Option<String>, Option<bool>, Framing, Envelope) {
        match post(path) {
            Door::Call(asked) => (asked.dialect, asked.path.model, asked.path.stream, asked.framing, asked.envelope),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn every_client_finds_its_door() {
        let model = |name: &str| Some(name.to_owned());
        use Envelope::{Deployment, Invoke, Plain, RawPredict};
        use Framing::{Array, Events, Frames};
        for (path, wanted) in [
            ("anthropic/v1/messages?beta=true", (Dialect::Messages, None, None, Events, Plain)),
            ("openai/v1/chat/completions", (Dialect::Chat, None, None, Events, Plain)),
            ("openai/v1/responses", (Dialect::Responses, None, None, Events, Plain)),
            ("openai/v1/embeddings", (Dialect::Embeddings, None, None, Events, Plain)),
            (
                "gemini/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
                (Dialect::Gemini, model("gemini-2.5-pro"), Some(true), Events, Plain),
            ),
            (
                "gemini/v1/models/gemini-x:generateContent",
                (Dialect::Gemini, model("gemini-x"), Some(false), Array, Plain),
            ),
            (
                "vertex/v1/projects/p/locations/r/publishers/anthropic/models/claude-x@20250101:streamRawPredict",
                (Dialect::Messages, model("claude-x@20250101"), Some(true), Events, RawPredict),
            ),
            (
                "vertex/v1beta1/publishers/google/models/gemini-x:streamGenerateContent?alt=sse",
                (Dialect::Gemini, model("gemini-x"), Some(true), Events, Plain),
            ),
            (
                "bedrock/model/us.anthropic.claude-v1:0/invoke-with-response-stream",
                (Dialect::Messages, model("us.anthropic.claude-v1:0"), Some(true), Frames, Invoke),
            ),
            (
                "bedrock/model/us.anthropic.claude-v1%3A0/converse",
                (Dialect::Converse, model("us.anthropic.claude-v1:0"), Some(false), Frames, Plain),
            ),
            (
                "azure/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21",
                (Dialect::Chat, model("my-gpt"), None, Events, Deployment),
            ),
            ("azure/openai/v1/responses", (Dialect::Responses, None, None, Events, Plain)),
        ] {
            assert_eq!(asked(path), wanted, "{path}");
        }
    }

    #[test]
    fn what_is_not_there_is_said_in_the_nearest_shape() {
        assert_eq!(post("anthropic"), Door::Nothing(Dialect::Messages));
        assert_eq!(post("openai/v1/images"), Door::Nothing(Dialect::Chat));
        assert_eq!(post("openai/chat/completions"), Door::Nothing(Dialect::Chat));
        assert_eq!(find(&Method::GET, "openai/v1/responses", None, true), Door::WebSocket);
        assert_eq!(find(&Method::GET, "anthropic/v1/messages", None, false), Door::WrongMethod(Dialect::Messages));
        assert_eq!(find(&Method::GET, "anthropic/v1/models", None, false), Door::Models(Listing::Anthropic));
        assert_eq!(find(&Method::GET, "bedrock/inference-profiles", None, false), Door::Models(Listing::Bedrock));
        assert!(matches!(find(&Method::GET, "gemini/v1beta/models/x", None, false), Door::Model(Listing::Gemini, _)));
        assert!(matches!(post("openai/v1/responses/r_1/cancel"), Door::NotServed(..)));
        for path in ["openai/v1/responses/compact", "azure/openai/responses/compact?api-version=x"] {
            assert!(matches!(post(path), Door::Call(Asked { errand: Errand::Compact, .. })), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "[a-z0-9/:%._@-]{0,120}") {
            let _ = post(&path);
        }
    }
}
