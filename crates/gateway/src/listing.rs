//! The list of models, as each service shows it: the names that this caller may ask for.
//!
//! Each name is decided as a call of it would be. That is no call and leaves no record: it tells a tool what to offer, nothing else.

use axum::{body::Body, response::Response};
use http::{HeaderValue, header};
use serde_json::{Value, json};
use stockade_domain::{Action, Context, Deed, Resource, ResourceKind};
use stockade_policy::Ruling;

use crate::{Caller, door::Listing, exchange::Inner};

/// All of them.
pub(crate) fn all(inner: &Inner, caller: &Caller, form: Listing) -> Response {
    let names: Vec<String> = inner.models.load().names().into_iter().filter(|name| may(inner, caller, name)).collect();
    answer(match form {
        Listing::Anthropic => {
            let (first, last) = (names.first().cloned(), names.last().cloned());
            let data: Vec<Value> = names.iter().map(|name| entry(form, name)).collect();
            json!({ "data": data, "has_more": false, "first_id": first, "last_id": last })
        }
        Listing::Openai => {
            json!({ "object": "list", "data": names.iter().map(|name| entry(form, name)).collect::<Vec<_>>() })
        }
        Listing::Gemini => json!({ "models": names.iter().map(|name| entry(form, name)).collect::<Vec<_>>() }),
        Listing::Bedrock => {
            let summaries: Vec<Value> = names.iter().map(|name| entry(form, name)).collect();
            json!({ "inferenceProfileSummaries": summaries })
        }
    })
}

/// One of them. Nothing if this caller may not ask for it, or nobody.
pub(crate) fn one(inner: &Inner, caller: &Caller, form: Listing, name: &str) -> Option<Response> {
    let there = inner.models.load().resolve(name).is_ok() && may(inner, caller, name);
    there.then(|| answer(entry(form, name)))
}

fn entry(form: Listing, name: &str) -> Value {
    match form {
        Listing::Anthropic => {
            json!({ "type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z" })
        }
        Listing::Openai => json!({ "id": name, "object": "model", "created": 0, "owned_by": "stockade" }),
        Listing::Gemini => json!({
            "name": format!("models/{name}"),
            "displayName": name,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
        }),
        Listing::Bedrock => json!({
            "inferenceProfileId": name,
            "inferenceProfileName": name,
            "status": "ACTIVE",
            "type": "SYSTEM_DEFINED",
            "models": [],
        }),
    }
}

fn may(inner: &Inner, caller: &Caller, name: &str) -> bool {
    let Ok(route) = inner.models.load().resolve(name) else { return false };
    let Some(target) = route.targets.first() else { return false };
    let deed = Deed {
        principal: caller.principal.clone(),
        action: Action::ModelCall,
        resource: Resource::new(ResourceKind::Model, name).in_project(caller.project).in_run(caller.run),
        context: Context::default()
            .with("level", i64::from(caller.level.get()))
            .with("model", name)
            .with("upstream", target.upstream.as_str())
            .with("provider", target.provider.name()),
    };
    matches!(inner.parts.policy.load().decide(deed), Ruling::Allow(_))
}

fn answer(value: Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
