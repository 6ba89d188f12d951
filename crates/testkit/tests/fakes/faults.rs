//! That they fail as they are told to, and only then.

use std::time::{Duration, Instant};

use serde_json::Value;
use stockade_testkit::fakes::{Fake, Fault, Kind};

use super::{Answer, BEARER, CHAT, GEMINI, GOOGLE, MESSAGES, ask, chat, converse, fake, gemini, messages};

fn streamed(fake: &Fake) -> Answer {
    let mut request = messages();
    request["stream"] = true.into();
    ask(fake, MESSAGES.0, MESSAGES.1, &request)
}

#[test]
fn before_the_answer() {
    let fake = fake(Kind::Anthropic);
    fake.faults(&[Fault::RateLimited(7), Fault::Status(529), Fault::Status(500)]);
    let limited = streamed(&fake);
    assert_eq!(limited.status, 429);
    assert!(limited.head.contains("retry-after: 7"));
    assert_eq!(streamed(&fake).json()["error"]["type"], "overloaded_error");
    assert_eq!(streamed(&fake).status, 500);
    assert_eq!(streamed(&fake).status, 200, "then all is well");
    assert_eq!(fake.refusals(), Vec::<String>::new(), "what was told is no refusal");
}

#[test]
fn within_a_stream() {
    let fake = fake(Kind::Anthropic);
    let well = streamed(&fake);
    let three: Vec<u8> = well
        .events()
        .iter()
        .take(3)
        .flat_map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()).into_bytes())
        .collect();
    for fault in [Fault::Reset { after: 3 }, Fault::Cut { after: 3 }] {
        fake.faults(&[fault]);
        let answer = streamed(&fake);
        assert!(!answer.whole, "{fault:?}");
        // What was on its way when the connection is reset may be lost.
        assert!(three.starts_with(&answer.body), "{fault:?}");
        assert!(!fake.exchanges().last().unwrap().whole);
        assert_eq!(fake.exchanges().last().unwrap().answer, three);
    }
    fake.faults(&[Fault::ErrorEvent { after: 3 }]);
    let answer = streamed(&fake);
    assert!(answer.whole);
    assert_eq!(answer.events()[3]["error"]["type"], "overloaded_error");
    fake.faults(&[Fault::Malformed { after: 3 }]);
    let answer = streamed(&fake);
    assert_eq!(answer.body.len(), well.body.len() + "data: {\"type\": \"content_block_delta\", \"cut\n\n".len());
    fake.faults(&[Fault::Gigantic { after: 0, bytes: 3_000_000 }]);
    let answer = streamed(&fake);
    assert!(answer.body.len() > 3_000_000);
    assert_eq!(answer.events(), well.events());
}

#[test]
fn slow_and_silent() {
    let fake = fake(Kind::Anthropic);
    let pieces = u32::try_from(streamed(&fake).events().len()).unwrap();
    fake.always(Fault::Slow(Duration::from_millis(2)));
    let began = Instant::now();
    assert!(streamed(&fake).whole);
    assert!(began.elapsed() >= Duration::from_millis(2) * pieces);
    fake.always(Fault::Silence { after: 1 });
    let mut stream = std::net::TcpStream::connect(fake.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut request = messages();
    request["stream"] = true.into();
    let body = request.to_string();
    let head: String = MESSAGES.1.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let whole = format!(
        "POST /v1/messages HTTP/1.1\r\ncontent-type: application/json\r\n{head}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::io::Write::write_all(&mut stream, whole.as_bytes()).unwrap();
    let mut seen = Vec::new();
    let ended = std::io::Read::read_to_end(&mut stream, &mut seen);
    assert!(ended.is_err(), "the connection stays open");
    assert_eq!(String::from_utf8(seen).unwrap().matches("data: ").count(), 1);
}

#[test]
fn in_the_shapes_of_the_others() {
    let fake = fake(Kind::OpenAi);
    fake.faults(&[Fault::Status(503), Fault::ErrorEvent { after: 1 }]);
    let mut request = chat();
    assert_eq!(ask(&fake, CHAT, BEARER, &request).json()["error"]["type"], "server_error");
    request["stream"] = true.into();
    assert!(ask(&fake, CHAT, BEARER, &request).events()[1]["error"].is_object());

    let fake = self::fake(Kind::Gemini);
    fake.faults(&[Fault::RateLimited(1), Fault::ErrorEvent { after: 1 }, Fault::Cut { after: 0 }]);
    assert_eq!(ask(&fake, GEMINI, GOOGLE, &gemini()).json()["error"]["status"], "RESOURCE_EXHAUSTED");
    let stream = GEMINI.replace("generateContent", "streamGenerateContent?alt=sse");
    let events: Vec<Value> = ask(&fake, &stream, GOOGLE, &gemini()).events();
    assert_eq!(events[1]["error"]["status"], "UNAVAILABLE");
    let cut = ask(&fake, GEMINI, GOOGLE, &gemini());
    assert!(!cut.whole && !cut.body.is_empty(), "an answer in one piece is cut in the middle");

    let fake = self::fake(Kind::Bedrock);
    fake.faults(&[Fault::RateLimited(1), Fault::ErrorEvent { after: 1 }]);
    let path = "/model/m/converse-stream";
    let limited = ask(&fake, path, BEARER, &converse());
    assert!(limited.head.contains("x-amzn-errortype: ThrottlingException"));
    let failed = ask(&fake, path, BEARER, &converse());
    assert!(failed.whole && failed.body.windows(9).any(|nine| nine == b"exception"));
}
