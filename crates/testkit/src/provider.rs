//! A model provider on loopback that speaks Anthropic Messages, streaming and not, plays what a test says and fails as it says.
//!
//! It owns the wire as the real one shows it: the key is checked, errors have the provider's shape. It refuses to know
//! anything of Stockade: which turn comes next follows from the conversation in the request alone.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// What the request of every turn counts as.
pub const INPUT_TOKENS: i64 = 1_000;
/// What the answer of every turn counts as.
pub const OUTPUT_TOKENS: i64 = 100;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing.
    None,
    /// HTTP 529: the provider is overloaded.
    Overloaded,
    /// HTTP 429: come back after so many seconds.
    RateLimited(u64),
    /// The stream begins, and then the connection is reset.
    Reset,
    /// The stream begins, and then an event says that the provider is overloaded.
    ErrorEvent,
    /// Every piece of the stream takes this long.
    Slow(Duration),
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// The model that was asked for.
    pub model: String,
    /// Request line and headers.
    pub head: String,
    /// What was done with it.
    pub mishap: Mishap,
}

/// The provider. It ends when it is dropped.
#[derive(Debug)]
pub struct Provider {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Debug)]
struct Shared {
    key: String,
    turns: Vec<Vec<Value>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mishaps: VecDeque<Mishap>,
    down: BTreeSet<String>,
    seen: Vec<Seen>,
}

/// A piece of text in a turn.
pub fn says(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// A tool call in a turn.
pub fn calls(name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "name": name, "input": input})
}

impl Provider {
    /// Starts one that wants this key and answers the first request of a conversation with the first turn, and so on.
    pub fn start(key: &str, turns: Vec<Vec<Value>>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { key: key.to_owned(), turns, state: Mutex::default() });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { addr, shared, _runtime: runtime })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What goes wrong with the next requests, one each; nothing does with those after them.
    pub fn mishaps(&self, mishaps: &[Mishap]) {
        self.shared.state().mishaps.extend(mishaps);
    }

    /// Every request for this model is answered with HTTP 529 from now on.
    pub fn down(&self, model: &str) {
        self.shared.state().down.insert(model.to_owned());
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done with a request. It is written down.
    fn note(&self, head: &str, model: &str) -> Mishap {
        let mut state = self.state();
        let mishap = if state.down.contains(model) {
            Mishap::Overloaded
        } else {
            state.mishaps.pop_front().unwrap_or(Mishap::None)
        };
        let seen = Seen { at: Instant::now(), model: model.to_owned(), head: head.to_owned(), mishap };
        state.seen.push(seen);
        mishap
    }

    /// The message that follows this conversation.
    fn message(&self, request: &Value) -> Option<Value> {
        let said = request["messages"].as_array()?.iter().filter(|message| message["role"] == "assistant").count();
        let mut content = self.turns.get(said)?.clone();
        let mut stop_reason = "end_turn";
        for (number, block) in content.iter_mut().enumerate() {
            if block["type"] == "tool_use" {
                stop_reason = "tool_use";
                block["id"] = format!("toolu_{said}_{number}").into();
            }
        }
        Some(json!({
            "id": format!("msg_{said}"), "type": "message", "role": "assistant", "model": request["model"],
            "content": content, "stop_reason": stop_reason, "stop_sequence": null,
            "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS,
                      "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
        }))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut stream = stream;
            // An error is a client that went: nobody is left to tell.
            while serve(&mut stream, &shared).await.is_ok_and(|goes_on| goes_on) {}
        });
    }
}

/// One request; whether another may follow on the same connection.
async fn serve(stream: &mut TcpStream, shared: &Shared) -> Result<bool> {
    let Some((head, body)) = request(stream).await? else { return Ok(false) };
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let model = asked["model"].as_str().unwrap_or_default();
    let mishap = shared.note(&head, model);
    let error = |kind: &str, text: &str| json!({"type": "error", "error": {"type": kind, "message": text}}).to_string();
    let key = header(&head, "x-api-key");
    if key.as_deref() != Some(shared.key.as_str()) {
        whole(stream, "401 Unauthorized", "", &error("authentication_error", "invalid x-api-key")).await?;
        return Ok(true);
    }
    if header(&head, "anthropic-version").is_none() {
        let text = "anthropic-version: header is required";
        whole(stream, "400 Bad Request", "", &error("invalid_request_error", text)).await?;
        return Ok(true);
    }
    match mishap {
        Mishap::Overloaded => {
            whole(stream, "529 Overloaded", "", &error("overloaded_error", "Overloaded")).await?;
            return Ok(true);
        }
        Mishap::RateLimited(seconds) => {
            let after = format!("retry-after: {seconds}\r\n");
            whole(stream, "429 Too Many Requests", &after, &error("rate_limit_error", "Slow down")).await?;
            return Ok(true);
        }
        Mishap::None | Mishap::Reset | Mishap::ErrorEvent | Mishap::Slow(_) => {}
    }
    let Some(message) = shared.message(&asked) else {
        whole(stream, "400 Bad Request", "", &error("invalid_request_error", "no turn is left")).await?;
        return Ok(true);
    };
    if asked["stream"] != true {
        whole(stream, "200 OK", "request-id: req_fake\r\n", &message.to_string()).await?;
        return Ok(true);
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nrequest-id: req_fake\r\n\
                transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for (number, (name, data)) in events(&message).into_iter().enumerate() {
        match mishap {
            Mishap::Slow(pause) => tokio::time::sleep(pause).await,
            Mishap::Reset if number == 3 => {
                stream.set_zero_linger()?;
                return Ok(false);
            }
            Mishap::ErrorEvent if number == 3 => {
                chunk(stream, "error", &error("overloaded_error", "Overloaded")).await?;
                stream.write_all(b"0\r\n\r\n").await?;
                return Ok(true);
            }
            _ => {}
        }
        chunk(stream, name, &data.to_string()).await?;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    Ok(true)
}

/// A message as the events of a stream.
fn events(message: &Value) -> Vec<(&'static str, Value)> {
    let mut begun = message.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    begun["usage"]["output_tokens"] = 1.into();
    let mut events = vec![("message_start", json!({"type": "message_start", "message": begun}))];
    events.push(("ping", json!({"type": "ping"})));
    for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
        let (empty, deltas) = match block["type"].as_str() {
            Some("tool_use") => {
                let input = block["input"].to_string();
                let cut = (0..=input.len() / 2).rev().find(|at| input.is_char_boundary(*at)).unwrap_or(0);
                let (first, rest) = input.split_at(cut);
                let piece = |text: &str| json!({"type": "input_json_delta", "partial_json": text});
                let mut empty = block.clone();
                empty["input"] = json!({});
                (empty, vec![piece(first), piece(rest)])
            }
            _ => (json!({"type": "text", "text": ""}), vec![json!({"type": "text_delta", "text": block["text"]})]),
        };
        let start = json!({"type": "content_block_start", "index": index, "content_block": empty});
        events.push(("content_block_start", start));
        for delta in deltas {
            let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
            events.push(("content_block_delta", delta));
        }
        events.push(("content_block_stop", json!({"type": "content_block_stop", "index": index})));
    }
    let ended = json!({"type": "message_delta", "usage": {"output_tokens": message["usage"]["output_tokens"]},
                       "delta": {"stop_reason": message["stop_reason"], "stop_sequence": null}});
    events.push(("message_delta", ended));
    events.push(("message_stop", json!({"type": "message_stop"})));
    events
}

async fn chunk(stream: &mut TcpStream, name: &str, data: &str) -> Result<()> {
    let event = format!("event: {name}\ndata: {data}\n\n");
    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    Ok(stream.flush().await?)
}

async fn whole(stream: &mut TcpStream, status: &str, headers: &str, body: &str) -> Result<()> {
    let len = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {len}\r\n\r\n");
    Ok(stream.write_all((head + body).as_bytes()).await?)
}

/// Head and body of the next request; nothing at the end of the connection.
async fn request(stream: &mut TcpStream) -> Result<Option<(String, Vec<u8>)>> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    let (mut head, mut wanted) = (None, 0);
    loop {
        if head.is_none()
            && let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let body = bytes.split_off(at + 4);
            let text = String::from_utf8(std::mem::replace(&mut bytes, body))?;
            wanted = header(&text, "content-length").map_or(Ok(0), |text| text.parse())?;
            head = Some(text);
        }
        if let Some(head) = &head
            && bytes.len() >= wanted
        {
            return Ok(Some((head.clone(), bytes)));
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(None),
            n => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// A header's value in a request's head.
pub fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
