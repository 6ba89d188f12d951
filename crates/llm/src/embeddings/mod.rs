//! OpenAI's Embeddings API. It is relayed, never converted: vectors of different models have nothing to do with each other.

use std::fmt;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{
    CacheUse, Estimate, Framing, RequestError, View,
    estimate::most_tokens,
    neutral::{Decode, Event, StopReason},
    openai::{
        Body, error,
        scan::{Form, Scan},
        usage,
    },
};

const FORM: Form = Form {
    title: "Embeddings",
    // There is none: `input` is looked at by itself.
    conversation: "",
    kept: &["model", "input", "user", "encoding_format", "dimensions", "service_tier"],
    silent: &["model", "input", "user", "encoding_format", "dimensions", "service_tier"],
};

/// Looks at a request. A list of tokens is counted exactly; a text as the most that it can be.
///
/// # Errors
/// [`RequestError`], with a text for the client.
pub fn view(body: &[u8]) -> Result<View, RequestError> {
    let scan = Scan::of(body, &FORM)?;
    let (model, at) = scan.model(body)?;
    let raw = scan.fields.get("input").ok_or(RequestError::Missing("input"))?.get();
    let mut sum = Sum::default();
    let mut reader = serde_json::Deserializer::from_str(raw);
    Count { sum: &mut sum, depth: 0 }
        .deserialize(&mut reader)
        .map_err(|error| RequestError::Syntax(FORM.title, format!("input: {error}")))?;
    let tier = scan.tier()?;
    Ok(View {
        model: Some(model),
        model_at: Some(at),
        messages: sum.inputs,
        max_output: Some(0),
        answers: 1,
        // Models add a token or two to every input.
        estimate: Estimate {
            input_tokens: Some(sum.tokens.saturating_add((sum.inputs as u64).saturating_mul(4))),
            output_tokens: 0,
            cache: CacheUse::None,
        },
        session: scan.session(&["user"]),
        tier,
        ..View::default()
    })
}

#[derive(Debug, Default)]
struct Sum {
    tokens: u64,
    inputs: usize,
}

/// Counts an input: a text, a list of texts, a list of tokens, or a list of those.
struct Count<'s> {
    sum: &'s mut Sum,
    depth: usize,
}

impl<'a> DeserializeSeed<'a> for Count<'_> {
    /// Whether it was a token.
    type Value = bool;

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Count<'_> {
    type Value = bool;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a text, a list of texts, or lists of tokens")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        self.sum.tokens = self.sum.tokens.saturating_add(most_tokens(text));
        self.sum.inputs += 1;
        Ok(false)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<bool, E> {
        if self.depth == 0 {
            return Err(E::custom("a text or a list is wanted"));
        }
        self.sum.tokens = self.sum.tokens.saturating_add(1);
        Ok(true)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<bool, S::Error> {
        if self.depth >= 2 {
            return Err(serde::de::Error::custom("lists of lists of lists are no input"));
        }
        let mut tokens = false;
        while let Some(token) = seq.next_element_seed(Count { sum: &mut *self.sum, depth: self.depth + 1 })? {
            tokens |= token;
        }
        // A list of tokens is one input.
        self.sum.inputs += usize::from(tokens);
        Ok(false)
    }
}

/// What reads a provider's answer: what it used. The vectors are nobody's business here.
#[must_use]
pub fn decoder(_framing: Framing) -> Box<dyn Decode> {
    Box::new(Decoder::default())
}

#[derive(Debug, Default)]
struct Decoder {
    body: Body,
}

#[derive(Deserialize)]
struct Answer {
    model: Option<String>,
    data: Option<IgnoredAny>,
    usage: Option<Value>,
    error: Option<Value>,
}

impl Decode for Decoder {
    fn push(&mut self, bytes: &[u8], _out: &mut Vec<Event>) {
        self.body.push(bytes);
    }

    fn finish(&mut self, ended: bool, out: &mut Vec<Event>) {
        let Some(answer) = self.body.read::<Answer>().filter(|_| ended) else { return out.push(Event::Unreadable) };
        if let Some(fault) = answer.error.as_ref().and_then(error::in_band) {
            return out.push(Event::Error(fault));
        }
        if answer.data.is_none() {
            return out.push(Event::Unreadable);
        }
        out.push(Event::Start { id: None, model: answer.model });
        out.extend(answer.usage.as_ref().and_then(usage::read).map(Event::Usage));
        out.push(Event::Stop { reason: StopReason::End, said: String::new(), sequence: None });
        out.push(Event::End);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn look(input: &Value) -> Result<View, RequestError> {
        view(
            json!({"model": "text-embedding-3-small", "input": input, "encoding_format": "base64"})
                .to_string()
                .as_bytes(),
        )
    }

    #[test]
    fn inputs_of_every_form_are_bounded() {
        let of = |input: Value| {
            let view = look(&input).unwrap();
            (view.messages, view.estimate.input_tokens.unwrap())
        };
        assert_eq!(of(json!([1, 2, 3])), (1, 3 + 4));
        assert_eq!(of(json!([[1, 2, 3], [4]])), (2, 4 + 8));
        let text = "The quick brown fox jumps over the lazy dog";
        assert_eq!(of(json!(text)), (1, most_tokens(text) + 4));
        assert_eq!(of(json!([text, "x"])), (2, most_tokens(text) + 1 + 8));
        for wrong in [json!(7), json!(null), json!({"a": 1}), json!([[[1]]]), json!([1.5])] {
            assert!(look(&wrong).is_err(), "{wrong}");
        }
        let view = look(&json!("x")).unwrap();
        assert_eq!((view.max_output, view.answers, view.estimate.output_tokens, view.stream), (Some(0), 1, 0, false));
        assert_eq!(super::view(b"{}").unwrap_err().to_string(), "model: Field required");
        assert_eq!(super::view(br#"{"model":"m"}"#).unwrap_err().to_string(), "input: Field required");
    }

    #[test]
    fn usage_is_read_and_vectors_are_not() {
        let read = |value: Value, ended: bool| {
            let (mut decoder, mut out) = (decoder(Framing::Whole), Vec::new());
            decoder.push(value.to_string().as_bytes(), &mut out);
            decoder.finish(ended, &mut out);
            out
        };
        let answer = json!({"object": "list", "model": "text-embedding-3-small", "data": [{"index": 0, "embedding": "AAAA"}],
            "usage": {"prompt_tokens": 8, "total_tokens": 8}});
        let events = read(answer.clone(), true);
        let [Event::Start { .. }, Event::Usage(usage), Event::Stop { .. }, Event::End] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((usage.input_tokens, usage.output_tokens), (8, 0));
        assert_eq!(read(answer, false), [Event::Unreadable]);
        assert_eq!(read(json!({}), true), [Event::Unreadable]);
        assert!(matches!(&read(json!({"error": {"message": "m"}}), true)[..], [Event::Error(_)]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = view(&bytes);
        }
    }
}
