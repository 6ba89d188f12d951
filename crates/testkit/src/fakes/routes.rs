//! Which path is which operation at which provider, who may use it, and how refusals look there.
//!
//! It owns the paths, the credentials and the error shapes. What a request may hold and what an answer looks like is each
//! dialect's own.

use serde_json::{Value, json};

use super::{
    Fault, Kind, Script, Usage, anthropic, chat,
    check::{Checked, Node, Refused},
    converse,
    frames::{self, Framing},
    gemini, responses,
    script::{Given, Step},
    serve::{Reply, Request, Sent},
};

/// An answer, and what is to be remembered of it.
pub(super) struct Answered {
    pub reply: Reply,
    pub operation: &'static str,
    pub model: Option<String>,
    pub usage: Option<Usage>,
    pub refusal: Option<String>,
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Messages(anthropic::Host),
    CountTokens(anthropic::Host),
    Chat,
    Responses,
    Embeddings,
    Gemini,
    GeminiCount,
    Converse,
    Models,
}

/// An operation with what stands in its path.
struct Found {
    operation: Operation,
    model: Option<String>,
    /// Whether the path says that the answer is a stream.
    stream: Option<bool>,
}

impl Found {
    fn new(operation: Operation) -> Self {
        Self { operation, model: None, stream: None }
    }

    fn of(operation: Operation, model: &str, stream: bool) -> Self {
        Self { operation, model: Some(model.to_owned()), stream: Some(stream) }
    }
}

/// What goes out for a turn.
struct Outcome {
    body: Sent,
    content_type: &'static str,
    model: Option<String>,
    usage: Option<Usage>,
}

/// Answers.
pub(super) fn answer(
    kind: Kind,
    key: &str,
    request: &Request,
    fault: Fault,
    script: &Script,
    given: &mut Given,
) -> Answered {
    let found = find(kind, request);
    let operation = found.as_ref().map_or("other", |found| match found.operation {
        Operation::Messages(_) => "messages",
        Operation::CountTokens(_) | Operation::GeminiCount => "count_tokens",
        Operation::Chat => "chat",
        Operation::Responses => "responses",
        Operation::Embeddings => "embeddings",
        Operation::Gemini => "gemini",
        Operation::Converse => "converse",
        Operation::Models => "models",
    });
    let told = match fault {
        Fault::Status(status) => Some((status, None)),
        Fault::RateLimited(seconds) => Some((429, Some(seconds))),
        _ => None,
    };
    if let Some((status, after)) = told {
        let mut reply = refusal(kind, &found, status, "Overloaded");
        reply.headers.extend(after.map(|seconds| ("retry-after", seconds.to_string())));
        return Answered { reply, operation, model: None, usage: None, refusal: None };
    }
    let outcome = match &found {
        None if request.method == "GET" && request.header("upgrade").is_some() => {
            Err(Refused::new(426, "WebSockets are not spoken here"))
        }
        None => Err(Refused::new(404, format!("there is no {} {}", request.method, request.path()))),
        Some(found) => allowed(kind, key, request).and_then(|()| serve(kind, found, request, script, given)),
    };
    match outcome {
        Ok(outcome) => {
            let headers = vec![("content-type", outcome.content_type.to_owned()), request_id(kind)];
            let reply = Reply { status: 200, headers, body: outcome.body };
            Answered { reply, operation, model: outcome.model, usage: outcome.usage, refusal: None }
        }
        Err(refused) => {
            // Whoever only looks whether somebody is there is not in the wrong.
            let looks = found.is_none() && request.method != "POST";
            let model = found.as_ref().and_then(|found| found.model.clone());
            let reply = refusal(kind, &found, refused.status, &refused.text);
            Answered { reply, operation, model, usage: None, refusal: (!looks).then_some(refused.text) }
        }
    }
}

fn request_id(kind: Kind) -> (&'static str, String) {
    match kind {
        Kind::Anthropic => ("request-id", "req_011CTestkit".to_owned()),
        Kind::Bedrock => ("x-amzn-requestid", "3f1c0f5e-8c5a-4a6f-9c83-testkit00000".to_owned()),
        Kind::OpenAi | Kind::Azure => ("x-request-id", "req_testkit".to_owned()),
        Kind::Gemini | Kind::Vertex => ("x-gemini-service-tier", "standard".to_owned()),
    }
}

fn find(kind: Kind, request: &Request) -> Option<Found> {
    use Operation::{Chat, Converse, CountTokens, Embeddings, Gemini, GeminiCount, Messages, Models, Responses};
    use anthropic::Host;
    let path = request.path();
    let post = request.method == "POST";
    let parts: Vec<String> = path.trim_start_matches('/').split('/').map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let version = request.query("api-version").is_some_and(|version| !version.is_empty());
    let of_google = |model: &str, action: &str| match action {
        "generateContent" => Some(Found::of(Gemini, model, false)),
        "streamGenerateContent" => Some(Found::of(Gemini, model, true)),
        "countTokens" => Some(Found::of(GeminiCount, model, false)),
        _ => None,
    };
    match (kind, parts.as_slice(), post) {
        (Kind::Anthropic, ["v1", "messages"], true) => Some(Found::new(Messages(Host::Anthropic))),
        (Kind::Anthropic, ["v1", "messages", "count_tokens"], true) => Some(Found::new(CountTokens(Host::Anthropic))),
        (Kind::OpenAi, ["v1", "chat", "completions"], true)
        | (Kind::Azure, ["openai", "v1", "chat", "completions"], true) => Some(Found::new(Chat)),
        (Kind::OpenAi, ["v1", "responses"], true) | (Kind::Azure, ["openai", "v1", "responses"], true) => {
            Some(Found::new(Responses))
        }
        (Kind::OpenAi, ["v1", "embeddings"], true) | (Kind::Azure, ["openai", "v1", "embeddings"], true) => {
            Some(Found::new(Embeddings))
        }
        (Kind::Anthropic | Kind::OpenAi, ["v1", "models", ..], false)
        | (Kind::Azure, ["openai", "v1", "models", ..], false)
        | (Kind::Gemini, ["v1beta" | "v1", "models", ..], false)
        | (Kind::Bedrock, ["inference-profiles" | "foundation-models"], false) => Some(Found::new(Models)),
        (Kind::Azure, ["openai", "deployments", model, "chat", "completions"], true) if version => {
            Some(Found { operation: Chat, model: Some((*model).to_owned()), stream: None })
        }
        (Kind::Azure, ["openai", "deployments", model, "embeddings"], true) if version => {
            Some(Found { operation: Embeddings, model: Some((*model).to_owned()), stream: None })
        }
        (Kind::Azure, ["openai", "responses"], true) if version => Some(Found::new(Responses)),
        (Kind::Gemini, ["v1beta" | "v1" | "v1alpha", "models", named], true) => {
            let (model, action) = named.split_once(':')?;
            of_google(model, action)
        }
        (Kind::Bedrock, ["model", model, action], true) => match *action {
            "converse" => Some(Found::of(Converse, model, false)),
            "converse-stream" => Some(Found::of(Converse, model, true)),
            "invoke" => Some(Found::of(Messages(Host::Bedrock), model, false)),
            "invoke-with-response-stream" => Some(Found::of(Messages(Host::Bedrock), model, true)),
            _ => None,
        },
        (
            Kind::Vertex,
            ["v1" | "v1beta1", "projects", _, "locations", _, "publishers", publisher, "models", named]
            | ["v1" | "v1beta1", "publishers", publisher, "models", named],
            true,
        ) => {
            let (model, action) = named.split_once(':')?;
            match (*publisher, action) {
                ("anthropic", "rawPredict") if model == "count-tokens" => Some(Found::new(CountTokens(Host::Vertex))),
                ("anthropic", "rawPredict") => Some(Found::of(Messages(Host::Vertex), model, false)),
                ("anthropic", "streamRawPredict") => Some(Found::of(Messages(Host::Vertex), model, true)),
                ("google", action) => of_google(model, action),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `%3A` and its like in a path.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match (byte, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(letter)) => {
                plain.push(letter);
                at += 3;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn allowed(kind: Kind, key: &str, request: &Request) -> Checked<()> {
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let shown = match kind {
        Kind::Anthropic => request.header("x-api-key").or(bearer),
        Kind::OpenAi | Kind::Vertex => bearer,
        Kind::Azure => request.header("api-key").or(bearer),
        Kind::Gemini => request.header("x-goog-api-key").or_else(|| request.query("key")).or(bearer),
        Kind::Bedrock => match request.header("authorization") {
            Some(header) if header.starts_with("AWS4-HMAC-SHA256 ") => return signed(key, request, header),
            _ => bearer,
        },
    };
    match shown {
        Some(shown) if shown == key => Ok(()),
        Some(_) => Err(Refused::new(401, "the key is not the right one")),
        None => Err(Refused::new(401, "no key was shown, or not in the right header")),
    }
}

/// Whether a signature of AWS's fourth version is there and well-formed, for this access key.
fn signed(key: &str, request: &Request, header: &str) -> Checked<()> {
    let wrong = |what: &str| Refused::new(403, format!("IncompleteSignatureException: {what}"));
    let part = |name: &str| {
        let parts = header.trim_start_matches("AWS4-HMAC-SHA256 ").split(',');
        parts.map(str::trim).find_map(|part| part.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let credential = part("Credential").ok_or_else(|| wrong("no Credential"))?;
    let fields: Vec<&str> = credential.split('/').collect();
    match fields.as_slice() {
        [id, date, _region, "bedrock", "aws4_request"] => {
            if *id != key {
                return Err(Refused::new(403, "The security token included in the request is invalid."));
            }
            let time = request.header("x-amz-date").ok_or_else(|| wrong("no x-amz-date"))?;
            if time.len() != 16 || !time.starts_with(date) || !time.ends_with('Z') {
                return Err(wrong("x-amz-date is not of the credential's date"));
            }
        }
        _ => return Err(wrong("the Credential's scope is not DATE/REGION/bedrock/aws4_request")),
    }
    let headers = part("SignedHeaders").ok_or_else(|| wrong("no SignedHeaders"))?;
    for name in headers.split(';') {
        if request.header(name).is_none() {
            return Err(wrong(&format!("the signed header {name} is not there")));
        }
    }
    if !headers.split(';').any(|name| name == "host") {
        return Err(wrong("the host is not signed"));
    }
    let signature = part("Signature").ok_or_else(|| wrong("no Signature"))?;
    let hex =
        signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    if hex { Ok(()) } else { Err(wrong("the Signature is not 64 hexadecimal digits")) }
}

fn serve(kind: Kind, found: &Found, request: &Request, script: &Script, given: &mut Given) -> Checked<Outcome> {
    if found.operation == Operation::Models {
        return Ok(whole(models(kind, script), None));
    }
    if request.header("content-encoding").is_some_and(|encoding| encoding != "identity") {
        return Err(Refused::new(415, "the body is compressed"));
    }
    let json = request.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    if !json {
        return Err(Refused::new(415, "the body's type is not application/json"));
    }
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Refused::bad(format!("the body is not JSON: {error}")))?;
    let in_path = found.model.as_deref();
    match found.operation {
        Operation::Messages(host) => {
            if host == anthropic::Host::Anthropic
                && !request.header("anthropic-version").is_some_and(|version| VERSIONS.contains(&version))
            {
                return Err(Refused::bad("anthropic-version: header is required"));
            }
            let asked = anthropic::check(&body, host, in_path, &betas(request), given)?;
            known(script, &asked.model)?;
            let step = noted(given, anthropic::step(script, &asked, host)?);
            let message = anthropic::message(&step, &asked.model);
            let stream = match (host, found.stream) {
                (anthropic::Host::Vertex, Some(stream)) if stream != asked.stream => {
                    return Err(Refused::bad("stream: the body says otherwise than the path"));
                }
                (_, stream) => stream.unwrap_or(asked.stream),
            };
            if !stream {
                return Ok(turn(
                    Sent::Whole(message.to_string().into_bytes()),
                    "application/json",
                    &asked.model,
                    &step,
                ));
            }
            let events = anthropic::events(&message);
            let overloaded = anthropic::error(529, "Overloaded");
            if host == anthropic::Host::Bedrock {
                let count = events.len();
                let invoked = json!({
                    "inputTokenCount": step.usage.input, "outputTokenCount": step.usage.output, "invocationLatency": 7,
                    "firstByteLatency": 3, "cacheReadInputTokenCount": step.usage.cache_read,
                    "cacheWriteInputTokenCount": step.usage.cache_write,
                });
                let frame = |(at, (_, mut event)): (usize, (&str, Value))| {
                    if at + 1 == count {
                        event["amazon-bedrock-invocationMetrics"] = invoked.clone();
                    }
                    frames::chunk(&event)
                };
                let pieces = events.into_iter().enumerate().map(frame).collect();
                return Ok(turn(amazon(pieces), AMAZON, &asked.model, &step));
            }
            let pieces = events.iter().map(|(name, event)| frames::event(Some(name), event)).collect();
            let error = frames::event(Some("error"), &overloaded);
            Ok(turn(Sent::Pieces { pieces, framing: Framing::Events, error }, EVENTS, &asked.model, &step))
        }
        Operation::CountTokens(_) => {
            Node::root(&body, false).field("messages")?.list()?;
            Ok(whole(json!({"input_tokens": request.body.len() / 4}), body["model"].as_str()))
        }
        Operation::Chat => {
            let asked = chat::check(&body, in_path)?;
            known(script, &asked.model)?;
            let step = noted(given, chat::step(script, &asked)?);
            let azure = kind == Kind::Azure;
            if !asked.stream {
                let whole = chat::completion(&step, &asked, azure).to_string().into_bytes();
                return Ok(turn(Sent::Whole(whole), "application/json", &asked.model, &step));
            }
            let mut pieces: Vec<Vec<u8>> =
                chat::chunks(&step, &asked, azure).iter().map(|chunk| frames::event(None, chunk)).collect();
            pieces.push(b"data: [DONE]\n\n".to_vec());
            let error = frames::event(None, &chat::error(503, "The server is overloaded"));
            Ok(turn(Sent::Pieces { pieces, framing: Framing::Events, error }, EVENTS, &asked.model, &step))
        }
        Operation::Responses => {
            let asked = responses::check(&body, given)?;
            known(script, &asked.model)?;
            let step = noted(given, responses::step(script, &asked)?);
            if responses::encrypted(&asked) {
                given.encrypted.extend(step.reasoning().map(|(_, signature)| signature.to_owned()));
            }
            if !asked.stream {
                let whole = responses::response(&step, &asked).to_string().into_bytes();
                return Ok(turn(Sent::Whole(whole), "application/json", &asked.model, &step));
            }
            let events = responses::events(&step, &asked);
            let pieces = events.iter().map(|event| frames::event(event["type"].as_str(), event)).collect();
            let error = json!({"type": "error", "code": "server_error", "message": "The server is overloaded", "param": null,
                               "sequence_number": 3});
            let error = frames::event(Some("error"), &error);
            Ok(turn(Sent::Pieces { pieces, framing: Framing::Events, error }, EVENTS, &asked.model, &step))
        }
        Operation::Embeddings => embeddings(&body, in_path, script),
        Operation::Gemini => {
            let model = in_path.unwrap_or_default();
            let asked = gemini::check(&body, model, kind == Kind::Vertex, given)?;
            known(script, model)?;
            let step = noted(given, gemini::step(script, &asked)?);
            if found.stream != Some(true) {
                let whole = gemini::response(&step, &asked).to_string().into_bytes();
                return Ok(turn(Sent::Whole(whole), "application/json; charset=UTF-8", model, &step));
            }
            let chunks = gemini::chunks(&step, &asked);
            let error = gemini::error(503, "The model is overloaded. Please try again later.");
            if request.query("alt") == Some("sse") {
                let pieces = chunks.iter().map(|chunk| frames::event(None, chunk)).collect();
                let error = frames::event(None, &error);
                return Ok(turn(
                    Sent::Pieces { pieces, framing: Framing::Events, error },
                    "text/event-stream",
                    model,
                    &step,
                ));
            }
            let error = format!(",\r\n{error}]").into_bytes();
            let sent = Sent::Pieces { pieces: frames::array(&chunks), framing: Framing::Array, error };
            Ok(turn(sent, "application/json; charset=UTF-8", model, &step))
        }
        Operation::GeminiCount => {
            let root = Node::root(&body, false);
            root.only(&[
                "contents",
                "generateContentRequest",
                "systemInstruction",
                "tools",
                "generationConfig",
                "instances",
                "model",
            ])?;
            Ok(whole(json!({"totalTokens": request.body.len() / 4}), in_path))
        }
        Operation::Converse => {
            let model = in_path.unwrap_or_default();
            let asked = converse::check(&body, given)?;
            known(script, model)?;
            let step = noted(given, converse::step(script, &asked)?);
            if found.stream != Some(true) {
                let whole = converse::answer(&step).to_string().into_bytes();
                return Ok(turn(Sent::Whole(whole), "application/json", model, &step));
            }
            let pieces = converse::events(&step).iter().map(|(kind, event)| frames::frame(kind, event)).collect();
            Ok(turn(amazon(pieces), AMAZON, model, &step))
        }
        Operation::Models => Err(Refused::new(404, "no such model")),
    }
}

/// What `anthropic-version` may say.
const VERSIONS: &[&str] = &["2023-06-01", "2026-10-21"];
const EVENTS: &str = "text/event-stream; charset=utf-8";
const AMAZON: &str = "application/vnd.amazon.eventstream";

fn amazon(pieces: Vec<Vec<u8>>) -> Sent {
    let error =
        frames::exception("modelStreamErrorException", "The system encountered an unexpected error. Try again.");
    Sent::Pieces { pieces, framing: Framing::Frames, error }
}

fn noted(given: &mut Given, step: Step) -> Step {
    given.note(&step);
    step
}

fn known(script: &Script, model: &str) -> Checked<()> {
    if script.models.is_empty() || script.models.iter().any(|name| name == model) {
        return Ok(());
    }
    Err(Refused::new(404, format!("model: {model} is not there")))
}

fn turn(body: Sent, content_type: &'static str, model: &str, step: &Step) -> Outcome {
    Outcome { body, content_type, model: Some(model.to_owned()), usage: Some(step.usage) }
}

fn whole(body: Value, model: Option<&str>) -> Outcome {
    Outcome {
        body: Sent::Whole(body.to_string().into_bytes()),
        content_type: "application/json",
        model: model.map(str::to_owned),
        usage: None,
    }
}

fn betas(request: &Request) -> Vec<String> {
    let all = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("anthropic-beta"));
    all.flat_map(|(_, value)| value.split(','))
        .map(|beta| beta.trim().to_owned())
        .filter(|beta| !beta.is_empty())
        .collect()
}

fn embeddings(body: &Value, in_path: Option<&str>, script: &Script) -> Checked<Outcome> {
    let root = Node::root(body, true);
    root.only(&["input", "model", "encoding_format", "dimensions", "user"])?;
    let model = match in_path {
        Some(model) => model.to_owned(),
        None => root.field("model")?.text()?.to_owned(),
    };
    known(script, &model)?;
    let form = root.maybe("encoding_format").map_or(Ok("float"), |node| node.one_of(&["float", "base64"]))?;
    let input = root.field("input")?;
    let count = match input.value {
        Value::String(text) if !text.is_empty() => 1,
        Value::Array(list) if list.first().is_some_and(|first| !first.is_number()) => list.len(),
        Value::Array(list) if !list.is_empty() => 1,
        _ => return Err(input.wrong("expected a text, a list of texts, or tokens")),
    };
    // 0.5 and -0.25 as two little-endian floats.
    let vector = if form == "base64" { json!("AAAAPwAAgL4=") } else { json!([0.5, -0.25]) };
    let data: Vec<Value> =
        (0..count).map(|index| json!({"object": "embedding", "index": index, "embedding": vector})).collect();
    let usage = Usage { input: 8, cache_read: 0, cache_write: 0, output: 0, reasoning: 0 };
    let answer =
        json!({"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 8, "total_tokens": 8}});
    Ok(Outcome { usage: Some(usage), ..whole(answer, Some(&model)) })
}

fn models(kind: Kind, script: &Script) -> Value {
    let names: Vec<&str> = script.models.iter().map(String::as_str).collect();
    match kind {
        Kind::Anthropic => {
            let one =
                |name| json!({"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"});
            let data: Vec<Value> = names.iter().map(one).collect();
            json!({"data": data, "has_more": false, "first_id": names.first(), "last_id": names.last()})
        }
        Kind::OpenAi | Kind::Azure => {
            let one = |name| json!({"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "testkit"});
            json!({"object": "list", "data": names.iter().map(one).collect::<Vec<Value>>()})
        }
        Kind::Gemini | Kind::Vertex => {
            let one = |name: &&str| {
                json!({"name": format!("models/{name}"), "displayName": name, "inputTokenLimit": 1_000_000,
                       "outputTokenLimit": 65_536, "supportedGenerationMethods": ["generateContent", "countTokens"]})
            };
            json!({"models": names.iter().map(one).collect::<Vec<Value>>()})
        }
        Kind::Bedrock => json!({"inferenceProfileSummaries": []}),
    }
}

fn refusal(kind: Kind, found: &Option<Found>, status: u16, text: &str) -> Reply {
    let of_anthropic = found.as_ref().is_some_and(|found| matches!(found.operation, Operation::Messages(_)));
    let mut headers = vec![("content-type", "application/json".to_owned()), request_id(kind)];
    let body = match kind {
        Kind::Anthropic => anthropic::error(status, text),
        Kind::OpenAi | Kind::Azure => chat::error(status, text),
        Kind::Vertex if of_anthropic => anthropic::error(status, text),
        Kind::Gemini | Kind::Vertex => gemini::error(status, text),
        Kind::Bedrock => {
            let name = match status {
                401 | 403 => "AccessDeniedException",
                404 => "ResourceNotFoundException",
                429 => "ThrottlingException",
                503 => "ServiceUnavailableException",
                500.. => "InternalServerException",
                _ => "ValidationException",
            };
            headers.push(("x-amzn-errortype", name.to_owned()));
            json!({"message": text})
        }
    };
    Reply { status, headers, body: Sent::Whole(body.to_string().into_bytes()) }
}
