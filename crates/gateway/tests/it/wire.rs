//! A client on a bare socket: it sends what it wants, reads as far as it wants, and hangs up when it wants.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{fake::header, house::TOKEN};

pub const PATH: &str = "/gateway/anthropic/v1/messages";

pub struct Client {
    stream: TcpStream,
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether it came to the end that its framing promises.
    pub complete: bool,
}

impl Client {
    pub async fn send(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n"
        );
        // A server that refuses early may close while we still write.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(body.as_bytes()).await;
        Self { stream, bytes: Vec::new() }
    }

    pub async fn post(addr: SocketAddr, body: &str) -> Self {
        Self::send(addr, "POST", PATH, &format!("x-api-key: {TOKEN}\r\n"), body).await
    }

    /// Reads until `part` has come. False if the end came first.
    pub async fn read_until(&mut self, part: &str) -> bool {
        let mut buffer = [0; 4096];
        while !self.bytes.windows(part.len()).any(|window| window == part.as_bytes()) {
            match self.stream.read(&mut buffer).await {
                Ok(n) if n > 0 => self.bytes.extend_from_slice(&buffer[..n]),
                _ => return false,
            }
        }
        true
    }

    pub async fn answer(mut self) -> Answer {
        let _ = self.stream.read_to_end(&mut self.bytes).await;
        let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("no head came") + 4;
        let head = String::from_utf8(self.bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let rest = &self.bytes[end..];
        let (body, complete) = if header(&head, "transfer-encoding").is_some() {
            dechunked(rest)
        } else {
            let len = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
            (rest.to_vec(), rest.len() == len)
        };
        Answer { status, head, body, complete }
    }
}

pub async fn post(addr: SocketAddr, body: &str) -> Answer {
    Client::post(addr, body).await.answer().await
}

fn dechunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(at) = rest.windows(2).position(|two| two == b"\r\n") else { return (body, false) };
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        if len == 0 {
            return (body, true);
        }
        let Some(data) = rest.get(at + 2..at + 2 + len) else { return (body, false) };
        body.extend_from_slice(data);
        rest = rest.get(at + 4 + len..).unwrap_or_default();
    }
}

impl Answer {
    /// The type and text of an error.
    pub fn error(&self) -> (String, String) {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(value["type"], "error");
        (value["error"]["type"].as_str().unwrap().to_owned(), value["error"]["message"].as_str().unwrap().to_owned())
    }
}

/// The events of an ordinary answer, one piece each.
pub fn events() -> Vec<String> {
    let event = |data: serde_json::Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    let json = |text: &str| serde_json::from_str(text).unwrap();
    let mut events = vec![
        event(json(
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-6","content":[],"stop_reason":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":5,"output_tokens":1}}}"#,
        )),
        "event: ping\ndata: {\"type\": \"ping\"}\n\n".to_owned(),
        event(json(r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#)),
    ];
    for word in ["Once ", "upon ", "a ", "time ", "there ", "was ", "a ", "gate."] {
        events.push(event(serde_json::json!({
            "type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}
        })));
    }
    events.push(event(json(r#"{"type":"content_block_stop","index":0}"#)));
    events.push("event: unknown_news\r\ndata: {\"type\":\"unknown_news\",\"odd\" : [1, 2]}\r\n\r\n".to_owned());
    events.push(event(json(
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":40}}"#,
    )));
    events.push(event(json(r#"{"type":"message_stop"}"#)));
    events
}

/// What the ordinary answer costs with claude-sonnet-4-6.
pub const COST: i64 = 12 * 3_000 + 5 * 300 + 40 * 15_000;

/// A request whose exact bytes matter: odd spaces, escapes, unknown fields.
pub fn request(stream: bool) -> String {
    format!(
        "{{ \"model\":\"alias\",\n\t\"max_tokens\" : 100, \"stream\":{stream}, \"x_unknown\": {{\"deep\": [1.50, \"\\u00e9\"]}},\
         \"messages\":[{{\"role\":\"user\",\"content\":\"Tell me \\\"model\\\" a story.\"}}] }}"
    )
}

/// The same as it goes to the provider.
pub fn sent(stream: bool) -> String {
    request(stream).replacen("\"alias\"", "\"claude-sonnet-4-6\"", 1)
}

pub const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-6","content":[{"type":"text","text":"Hi."}],"stop_reason":"end_turn","usage":{"input_tokens":12,"cache_read_input_tokens":5,"output_tokens":40}}"#;

impl Client {
    /// A request whose body begins and never ends.
    pub async fn unfinished(addr: SocketAddr, headers: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head =
            format!("POST {PATH} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n{headers}\r\n5\r\n{{\"mod\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream, bytes: Vec::new() }
    }
}
