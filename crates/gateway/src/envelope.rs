//! A body of one dialect in another service's envelope: some members move between body, path and headers.
//!
//! Each member that stays keeps its bytes. A body that has to change nothing is passed on as it is.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{
    Deserialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use stockade_llm::{
    Dialect, Splice, View,
    converse::{
        invoke::{self, Carried, NoObject},
        refused::Upstream,
    },
    spliced,
};

use crate::{
    door::{Asked, Envelope},
    models::{Errand, Kind, Target},
};

const VERSION_HEADER: HeaderName = HeaderName::from_static("anthropic-version");
const BETA_HEADER: HeaderName = HeaderName::from_static("anthropic-beta");

/// The members of an object, in their order, each value as it stands.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

impl Members<'_> {
    fn without(&mut self, names: &[&str]) {
        self.0.retain(|(name, _)| !names.contains(&name.as_str()));
    }

    fn write(&self, more: &[(&str, String)]) -> Bytes {
        let size: usize = self.0.iter().map(|(name, raw)| name.len() + raw.get().len() + 8).sum();
        let mut out = BytesMut::with_capacity(size + 128);
        let own = more.iter().map(|(name, raw)| (*name, raw.as_str()));
        let members = own.chain(self.0.iter().map(|(name, raw)| (name.as_str(), raw.get())));
        for (number, (name, raw)) in members.enumerate() {
            out.put_u8(if number == 0 { b'{' } else { b',' });
            out.put_slice(serde_json::Value::from(name).to_string().as_bytes());
            out.put_u8(b':');
            out.put_slice(raw.as_bytes());
        }
        if out.is_empty() {
            out.put_u8(b'{');
        }
        out.put_u8(b'}');
        out.freeze()
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A body that can be looked at as one of its dialect: with the model in it, wherever the client said it, and with a bound of the
/// answer although a request for a count has none. What stands before the end of a plain body stands where it stood.
pub(crate) fn looked_at(body: &Bytes, asked: &Asked) -> Bytes {
    if asked.errand == Errand::Count && asked.dialect == Dialect::Messages {
        let bounded = || {
            let members = serde_json::from_slice::<Members<'_>>(body).ok()?;
            let end = body.iter().rposition(|byte| *byte == b'}')?;
            let absent = !members.0.is_empty() && members.0.iter().all(|(name, _)| name != "max_tokens");
            absent.then(|| spliced(body, vec![Splice { at: end..end, with: Bytes::from_static(b",\"max_tokens\":1") }]))
        };
        return bounded().unwrap_or_else(|| body.clone());
    }
    let (envelope, model) = (asked.envelope, asked.path.model.as_deref());
    let (Envelope::Invoke | Envelope::RawPredict | Envelope::Deployment, Some(model)) = (envelope, model) else {
        return body.clone();
    };
    match serde_json::from_slice::<Members<'_>>(body) {
        Ok(mut members) => {
            members.without(&["model"]);
            members.write(&[("model", json(model))])
        }
        // What does not read is refused where it is looked at.
        Err(_) => body.clone(),
    }
}

/// A client's body in the envelope of the provider, which speaks the same dialect. `body` is as the client sent it and `view` was
/// made of [`looked_at`]; `headers` are those that go out.
pub(crate) fn same_dialect(
    body: &Bytes,
    view: &View,
    envelope: Envelope,
    stream: bool,
    target: &Target,
    dialect: Dialect,
    headers: &mut HeaderMap,
) -> Bytes {
    let wanted = match (dialect, target.provider.kind()) {
        (Dialect::Messages, Kind::Bedrock) => Envelope::Invoke,
        (Dialect::Messages, Kind::Vertex) => Envelope::RawPredict,
        _ => Envelope::Plain,
    };
    let model = target.upstream.as_str();
    match (dialect, envelope, wanted) {
        // Neither says the model in the body.
        (Dialect::Gemini | Dialect::Converse, ..) => body.clone(),
        (Dialect::Messages, from, to) if from == to && from != Envelope::Plain => body.clone(),
        (_, Envelope::Plain, Envelope::Plain) => {
            let mut splices: Vec<_> = view.other_model(model).into_iter().collect();
            if stream {
                splices.extend(view.ask_for_usage.clone());
            }
            spliced(body, splices)
        }
        (Dialect::Messages, from, to) => messages(body, from, to, model, stream, headers),
        // Azure's deployments: the model comes into the body.
        _ => match serde_json::from_slice::<Members<'_>>(body) {
            Ok(mut members) => {
                members.without(&["model"]);
                let body = members.write(&[("model", json(model))]);
                let asked = stream.then(|| dialect.view(&body).ok().and_then(|view| view.ask_for_usage)).flatten();
                spliced(&body, asked.into_iter().collect())
            }
            Err(_) => body.clone(),
        },
    }
}

/// A body of the Messages API for another carrier, by cutting and inserting.
fn messages(body: &Bytes, from: Envelope, to: Envelope, model: &str, stream: bool, headers: &mut HeaderMap) -> Bytes {
    let betas: Vec<String> = headers
        .get_all(BETA_HEADER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|beta| beta.trim().to_owned())
        .filter(|beta| !beta.is_empty())
        .collect();
    let carried = carried(body, &betas, from, to, model, stream);
    // What does not read was refused when it was looked at.
    let Ok(carried) = carried else { return body.clone() };
    for (what, reason) in &carried.refused {
        tracing::debug!(what, reason, "left out for this provider");
    }
    headers.remove(VERSION_HEADER);
    if to == Envelope::Plain {
        headers.insert(VERSION_HEADER, HeaderValue::from_static(invoke::version()));
    }
    headers.remove(BETA_HEADER);
    if let Ok(value) = HeaderValue::try_from(carried.flags.join(","))
        && !carried.flags.is_empty()
    {
        headers.insert(BETA_HEADER, value);
    }
    carried.body
}

fn carried(
    body: &Bytes,
    betas: &[String],
    from: Envelope,
    to: Envelope,
    model: &str,
    stream: bool,
) -> Result<Carried, NoObject> {
    let mut plain = match from {
        Envelope::Plain => Carried { body: body.clone(), flags: Vec::new(), refused: Vec::new() },
        _ => invoke::uncarry(body, model, stream)?,
    };
    let more: Vec<String> = betas.iter().filter(|beta| !plain.flags.contains(beta)).cloned().collect();
    plain.flags.extend(more);
    let flags = || plain.flags.iter().map(String::as_str);
    match to {
        Envelope::Invoke => invoke::carry(&plain.body, flags(), Upstream::Invoke),
        Envelope::RawPredict => invoke::carry(&plain.body, flags(), Upstream::Vertex),
        Envelope::Plain | Envelope::Deployment => Ok(plain),
    }
}
