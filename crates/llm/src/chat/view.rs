//! A look at a request: what the gateway acts on, what bounds its cost, and what is spliced in.

use bytes::Bytes;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    RequestError, Splice, View,
    openai::scan::{Form, Scan, place},
};

const FORM: Form = Form {
    title: "Chat Completions",
    conversation: "messages",
    kept: &[
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "service_tier",
        "user",
        "prompt_cache_key",
        "prompt_cache_options",
        "web_search_options",
        "audio",
        "modalities",
        "prediction",
        "temperature",
        "top_p",
        "metadata",
        "store",
        "response_format",
        "plugins",
        "models",
    ],
    silent: &[
        "model",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "service_tier",
        "user",
        "prompt_cache_key",
        "prompt_cache_options",
        "temperature",
        "top_p",
        "metadata",
        "store",
    ],
};

/// Looks at a request.
pub(super) fn view(body: &[u8]) -> Result<View, RequestError> {
    let mut scan = Scan::of(body, &FORM)?;
    let (model, at) = scan.model(body)?;
    if scan.sums.messages == 0 {
        return Err(RequestError::Missing("messages"));
    }
    unpriced(&scan)?;
    let stream = scan.read::<Option<bool>>(&FORM, "stream")?.flatten().unwrap_or(false);
    let old: Option<u64> = scan.read::<Option<u64>>(&FORM, "max_tokens")?.flatten();
    let new: Option<u64> = scan.read::<Option<u64>>(&FORM, "max_completion_tokens")?.flatten();
    // Where both are said, no matter which one counts.
    let max_output = old.max(new);
    let answers = scan.read::<Option<u64>>(&FORM, "n")?.flatten().unwrap_or(1).max(1);
    if answers > 128 {
        return Err(RequestError::Unsupported("`n` above 128".to_owned(), "ask for fewer answers"));
    }
    let options = scan.read::<Map<String, Value>>(&FORM, "prompt_cache_options")?.unwrap_or_default();
    scan.sums.kept_long |= options.get("ttl").is_some_and(|ttl| !ttl.is_null() && ttl != "30m");
    let (include_usage, ask_for_usage) = usage(body, scan.fields.get("stream_options").copied(), stream)?;
    Ok(View {
        estimate: scan.estimate(&model, max_output.unwrap_or(0).saturating_mul(answers)),
        model: Some(model),
        model_at: Some(at),
        stream,
        messages: scan.sums.messages,
        max_output,
        answers,
        session: scan.session(&["prompt_cache_key", "user"]),
        tier: scan.tier()?,
        include_usage,
        ask_for_usage,
    })
}

/// Refuses what costs more than its tokens at the listed prices.
fn unpriced(scan: &Scan<'_>) -> Result<(), RequestError> {
    for key in ["web_search_options", "audio", "prediction", "plugins", "models"] {
        if scan.says(key) || key == "web_search_options" && scan.fields.get(key).is_some_and(|raw| raw.get() != "null")
        {
            return Err(RequestError::Unpriced(format!("`{key}`")));
        }
    }
    let modalities = scan.read::<Option<Vec<String>>>(&FORM, "modalities")?.flatten().unwrap_or_default();
    if modalities.iter().any(|word| word != "text") {
        return Err(RequestError::Unpriced("an answer other than text (`modalities`)".to_owned()));
    }
    if let Some(what) = scan.sums.unpriced {
        return Err(RequestError::Unpriced(what.to_owned()));
    }
    match scan.sums.tools.iter().find(|word| !matches!(word.as_str(), "function" | "custom")) {
        Some(word) => Err(RequestError::Unpriced(format!("the tool `{word}`, which the provider runs,"))),
        None => Ok(()),
    }
}

/// Whether the client wants usage in its stream, and what to put in if it does not.
fn usage(body: &[u8], options: Option<&RawValue>, stream: bool) -> Result<(bool, Option<Splice>), RequestError> {
    const KEY: &str = "include_usage";
    if !stream {
        return Ok((false, None));
    }
    let Some(raw) = options else {
        // There is a field after the brace: the model's name.
        let brace = memchr::memchr(b'{', body).unwrap_or(0) + 1;
        let with = Bytes::from_static(b"\"stream_options\":{\"include_usage\":true},");
        return Ok((false, Some(Splice { at: brace..brace, with })));
    };
    let read = serde_json::from_str::<Option<Map<String, Value>>>(raw.get());
    let mut options =
        read.map_err(|error| RequestError::Syntax(FORM.title, format!("stream_options: {error}")))?.unwrap_or_default();
    if options.get(KEY) == Some(&Value::Bool(true)) {
        return Ok((true, None));
    }
    options.insert(KEY.to_owned(), Value::Bool(true));
    let with = Bytes::from(Value::Object(options).to_string());
    Ok((false, Some(Splice { at: place(body, raw.get()), with })))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{CacheUse, Tier, spliced};

    fn look(value: &Value) -> Result<View, RequestError> {
        view(value.to_string().as_bytes())
    }

    fn with(key: &str, value: Value) -> Result<View, RequestError> {
        let mut body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]});
        body[key] = value;
        look(&body)
    }

    #[test]
    fn what_the_gateway_acts_on_is_seen() {
        let view =
            look(&json!({"model": "gpt-5", "stream": true, "max_tokens": 5, "max_completion_tokens": 70, "n": 2,
            "user": "u", "prompt_cache_key": "session-1", "stream_options": {"include_usage": true},
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}))
            .unwrap();
        assert_eq!((view.model.as_deref(), view.stream, view.messages), (Some("gpt-5"), true, 2));
        assert_eq!((view.max_output, view.answers, view.estimate.output_tokens), (Some(70), 2, 140));
        assert_eq!((view.session.as_deref(), view.include_usage), (Some("session-1"), true));
        assert_eq!(view.ask_for_usage, None);
        let plain = with("user", json!("u")).unwrap();
        assert_eq!((plain.max_output, plain.answers, plain.stream), (None, 1, false));
        assert_eq!((plain.session.as_deref(), plain.tier), (Some("u"), Tier::Standard));
        assert_eq!(with("service_tier", json!("flex")).unwrap().tier, Tier::Flex);
    }

    #[test]
    fn what_is_missing_or_twice_is_said() {
        let text = |body: &str| view(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(text("{}"), "model: Field required");
        assert_eq!(text(r#"{"model":"m"}"#), "messages: Field required");
        assert_eq!(text(r#"{"model":"m","messages":[]}"#), "messages: Field required");
        assert!(text(r#"{"model":"a","messages":[1],"mod\u0065l":"b"}"#).contains("duplicate"));
        assert!(text(r#"{"model":"a","messages":[1],"x":1,"x":1}"#).contains("duplicate"));
        assert!(text(r#"{"model":"a","messages":[1],"max_tokens":-1}"#).contains("max_tokens"));
        assert!(text(r#"{"model":"","messages":[1]}"#).starts_with("model: expected"));
        assert!(text(r#"{"model":"a","messages":[1]} {}"#).contains("does not read"));
        assert!(
            text(&format!(r#"{{"model":"m","messages":{}{}}}"#, "[".repeat(500), "]".repeat(500)))
                .contains("does not read")
        );
        let many: Vec<String> = (0..300).map(|number| format!("\"f{number}\":1")).collect();
        assert!(text(&format!("{{{}}}", many.join(","))).contains("more fields"));
    }

    #[test]
    fn row_03_what_has_no_price_is_refused() {
        for (key, value) in [
            ("web_search_options", json!({})),
            ("audio", json!({"voice": "a", "format": "wav"})),
            ("modalities", json!(["text", "audio"])),
            ("prediction", json!({"type": "content", "content": "x"})),
            ("service_tier", json!("scale")),
            ("service_tier", json!(7)),
            ("tools", json!([{"type": "web_search"}])),
            ("plugins", json!([{"id": "web"}])),
            ("messages", json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A"}}]}])),
        ] {
            assert!(with(key, value).unwrap_err().to_string().contains("has no price here"), "{key}");
        }
        for (key, value) in [
            ("web_search_options", json!(null)),
            ("modalities", json!(["text"])),
            ("service_tier", json!("auto")),
            ("tools", json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])),
            ("something_new", json!({"anything": [1]})),
        ] {
            assert!(with(key, value).is_ok(), "{key}");
        }
        assert!(matches!(with("n", json!(1_000)), Err(RequestError::Unsupported(..))));
    }

    #[test]
    fn the_estimate_knows_pictures_and_files() {
        let of = |content: Value| with("messages", json!([{"role": "user", "content": content}])).unwrap().estimate;
        let plain = of(json!("hello")).input_tokens.unwrap();
        assert!(plain < 200);
        let picture = json!([{"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", "A".repeat(1_000_000))}}]);
        assert!((15_000..16_000).contains(&of(picture).input_tokens.unwrap()));
        // What only claims to be a picture is counted as the text that it is.
        let text = json!([{"type": "text", "text": format!("data:image/png;base64,{}", "A1".repeat(50_000))}]);
        assert!(of(text).input_tokens.unwrap() >= 100_000);
        let schema = json!([{"type": "function", "function": {"name": "f", "parameters": {"image_url": {"url": format!("data:{}", "A1".repeat(50_000))}}}}]);
        assert!(with("tools", schema).unwrap().estimate.input_tokens.unwrap() >= 100_000);
        assert_eq!(of(json!([{"type": "file", "file": {"file_data": "x"}}])).input_tokens, None);
        assert_eq!(of(json!("x")).cache, CacheUse::FiveMinutes);
        let kept =
            json!([{"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}]);
        assert_eq!(of(kept).cache, CacheUse::Hour);
    }

    #[test]
    fn usage_is_asked_for_where_the_client_did_not() {
        let asked = |text: &str| {
            let body = Bytes::copy_from_slice(text.as_bytes());
            let splice = view(&body).unwrap().ask_for_usage;
            String::from_utf8(spliced(&body, splice.into_iter().collect()).to_vec()).unwrap()
        };
        assert_eq!(
            asked(r#" {"model":"m","stream":true,"messages":[1]}"#),
            r#" {"stream_options":{"include_usage":true},"model":"m","stream":true,"messages":[1]}"#
        );
        assert_eq!(
            asked(r#"{"model":"m","stream":true,"stream_options": null ,"messages":[1]}"#),
            r#"{"model":"m","stream":true,"stream_options": {"include_usage":true} ,"messages":[1]}"#
        );
        assert_eq!(
            asked(r#"{"model":"m","stream":true,"messages":[1],"stream_options":{"include_usage":false,"x":1}}"#),
            r#"{"model":"m","stream":true,"messages":[1],"stream_options":{"include_usage":true,"x":1}}"#
        );
        let untouched = r#"{"model":"m","messages":[1],"stream_options":{"include_usage":false}}"#;
        assert_eq!(asked(untouched), untouched);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = view(&bytes);
        }

        #[test]
        fn splices_change_what_they_say_and_nothing_else(name in "\\PC{1,20}", user in "\\PC{0,9}", exact in "[a-z0-9-]{1,20}") {
            let body = Bytes::from(json!({"messages": [{"role": "user", "content": user}], "model": name, "stream": true}).to_string());
            let seen = view(&body).unwrap();
            let splices = seen.other_model(&exact).into_iter().chain(seen.ask_for_usage.clone()).collect();
            let again = view(&spliced(&body, splices)).unwrap();
            prop_assert_eq!(again.model.as_deref(), Some(exact.as_str()));
            prop_assert!(again.include_usage);
            prop_assert_eq!((again.messages, again.estimate), (seen.messages, seen.estimate));
        }
    }
}
