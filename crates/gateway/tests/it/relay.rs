//! What crosses the gateway, and what does not.

use std::sync::Arc;

use serde_json::json;
use stockade_domain::Usage;
use stockade_gateway::FailureKind;
use stockade_ledger::{Body, Status};
use tokio::sync::Semaphore;

use crate::{
    fake::{Fake, Step, chunk, header, stream_head, whole},
    house::{House, KEY, TOKEN},
    wire::{self, COST, Client, MESSAGE, PATH, events, request, sent},
};

fn story() -> Vec<Step> {
    [stream_head()].into_iter().chain(events().into_iter().map(chunk)).chain([Step::End]).collect()
}

const USAGE: Usage = Usage {
    input_tokens: 12,
    output_tokens: 40,
    cache_read_tokens: 5,
    cache_write_5m_tokens: 0,
    cache_write_1h_tokens: 0,
};

#[tokio::test]
async fn a_stream_crosses_byte_for_byte() {
    let fake = Fake::start(story()).await;
    let house = House::new(&fake).await;
    let headers = format!(
        "authorization: Bearer {TOKEN}\r\nanthropic-beta: one,two\r\nanthropic-version: 2023-06-01\r\n\
         accept-encoding: gzip\r\ncookie: c=d\r\nx-unknown: kept\r\n"
    );
    let path = format!("{PATH}?beta=true&x=%20y");
    let answer = Client::send(house.addr, "POST", &path, &headers, &request(true)).await.answer().await;

    assert_eq!((answer.status, answer.complete), (200, true));
    assert_eq!(answer.body, events().concat().into_bytes());
    assert_eq!(header(&answer.head, "content-type").as_deref(), Some("text/event-stream; charset=utf-8"));
    assert_eq!(header(&answer.head, "request-id").as_deref(), Some("req_1"));
    assert_eq!(header(&answer.head, "set-cookie"), None);

    let seen = &fake.requests()[0];
    assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), sent(true));
    assert!(seen.head.starts_with("POST /prefix/v1/messages?beta=true&x=%20y HTTP/1.1\r\n"), "{}", seen.head);
    let at_provider = |name| header(&seen.head, name);
    assert_eq!(at_provider("x-api-key").as_deref(), Some(KEY));
    assert_eq!(at_provider("anthropic-beta").as_deref(), Some("one,two"));
    assert_eq!(at_provider("x-unknown").as_deref(), Some("kept"));
    assert_eq!(at_provider("accept-encoding").as_deref(), Some("identity"));
    assert_eq!(at_provider("host"), Some(fake.addr.to_string()));
    assert_eq!((at_provider("authorization"), at_provider("cookie"), at_provider("connection")), (None, None, None));

    let entry = house.entry().await;
    assert_eq!((entry.status, entry.code.clone(), entry.usage, entry.cost), (Status::Ok, None, USAGE, COST));
    assert_eq!(entry.request, sent(true).into_bytes());
    assert_eq!(entry.response, events().concat().into_bytes());
}

#[tokio::test]
async fn an_answer_in_one_piece_crosses_byte_for_byte() {
    let fake = Fake::start(vec![whole("200 OK", "content-type: application/json\r\n", MESSAGE)]).await;
    let house = House::new(&fake).await;
    let answer = wire::post(house.addr, &request(false)).await;
    assert_eq!((answer.status, answer.complete, answer.body), (200, true, MESSAGE.as_bytes().to_vec()));
    assert_eq!(header(&answer.head, "content-length"), Some(MESSAGE.len().to_string()));
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.usage, entry.cost), (Status::Ok, USAGE, COST));
    assert_eq!(entry.response, MESSAGE.as_bytes());
}

#[tokio::test]
async fn in_process_it_is_the_same_way() {
    let fake = Fake::start(story()).await;
    let house = House::new(&fake).await;
    let finished = house.call(&request(true)).await;
    assert!(finished.ok());
    assert_eq!((finished.usage, finished.cost.0, finished.status), (USAGE, COST, Some(200)));
    assert_eq!(finished.stop_reason.as_deref(), Some("end_turn"));
    assert_eq!(finished.message["content"], json!([{"type": "text", "text": "Once upon a time there was a gate."}]));
    assert_eq!(finished.contents.len(), 2);
    let seen = &fake.requests()[0];
    assert_eq!(seen.body, sent(true).into_bytes());
    assert_eq!(header(&seen.head, "anthropic-version").as_deref(), Some("2023-06-01"));
    assert_eq!(header(&seen.head, "x-api-key").as_deref(), Some(KEY));
    let records = house.records();
    assert_eq!(records[0].id, finished.record);
    let Body::Open { deed, decision, .. } = &records[0].body else { panic!() };
    assert_eq!((deed.resource.id.as_str(), deed.resource.run), ("alias", Some(house.caller.run)));
    assert_eq!(deed.context["provider"], "anthropic".into());
    assert!(deed.context.contains_key("estimate_nanos") && decision.policies[0].id == "agent-models");
    assert_eq!(house.entry().await.cost, COST);
}

#[tokio::test]
async fn nothing_is_held_back_on_the_way() {
    // The provider sends the next event only once the client has the last one: a gateway that buffers would hang here.
    let gate = Arc::new(Semaphore::new(0));
    let mut steps = vec![stream_head()];
    for event in events() {
        steps.extend([chunk(event), Step::Gate(gate.clone())]);
    }
    steps.push(Step::End);
    let fake = Fake::start(steps).await;
    let house = House::new(&fake).await;
    let mut client = Client::post(house.addr, &request(true)).await;
    for event in events() {
        assert!(client.read_until(&event).await);
        client.bytes.clear();
        gate.add_permits(1);
    }
    client.read_until("0\r\n\r\n").await;
    assert_eq!(house.entry().await.status, Status::Ok);
}

#[tokio::test]
async fn a_providers_refusal_crosses_and_costs_nothing() {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"wait a little"}}"#;
    let refusal = whole("429 Too Many Requests", "content-type: application/json\r\nretry-after: 7\r\n", body);
    let fake = Fake::start(vec![refusal]).await;
    let house = House::new(&fake).await;
    let answer = wire::post(house.addr, &request(true)).await;
    assert_eq!((answer.status, answer.body.as_slice()), (429, body.as_bytes()));
    assert_eq!(header(&answer.head, "retry-after").as_deref(), Some("7"));
    // From now on the provider is left alone for as long as it said.
    let again = wire::post(house.addr, &request(true)).await;
    assert_eq!((again.status, again.error().0.as_str()), (529, "overloaded_error"));
    assert_eq!(fake.requests().len(), 1);
    let house = House::new(&fake).await;
    let failure = house.call(&request(true)).await.failure.unwrap();
    assert_eq!(
        (failure.kind, failure.text.as_str(), failure.retry_after_ms),
        (FailureKind::RateLimited, "wait a little", Some(7_000))
    );
    for entry in house.entries().await {
        assert_eq!((entry.status, entry.code.as_deref(), entry.cost), (Status::Error, Some("rate_limited"), 0));
        assert_eq!(entry.response, body.as_bytes());
    }
}

#[tokio::test]
async fn providers_refusals_have_kinds() {
    let error = |text: &str| format!(r#"{{"type":"error","error":{{"type":"x","message":"{text}"}}}}"#);
    for (status, text, kind) in [
        ("400 Bad", "prompt is too long: 210000 tokens > 200000 maximum", FailureKind::TooLong),
        ("400 Bad", "messages: roles must alternate", FailureKind::Rejected),
        ("401 No", "invalid x-api-key", FailureKind::Credentials),
        ("500 Oh", "internal", FailureKind::Provider),
        ("529 Busy", "overloaded", FailureKind::Overloaded),
    ] {
        let fake = Fake::start(vec![whole(status, "content-type: application/json\r\n", &error(text))]).await;
        let house = House::new(&fake).await;
        let finished = house.call(&request(false)).await;
        let failure = finished.failure.unwrap();
        assert_eq!((failure.kind, failure.text.as_str()), (kind, text));
        assert_eq!(house.entry().await.cost, 0);
    }
}

#[tokio::test]
async fn what_comes_compressed_crosses_and_is_charged_in_full() {
    let headers = "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
    let fake = Fake::start(vec![whole("200 OK", headers, "\u{1f}not really gzip")]).await;
    let house = House::new(&fake).await;
    let answer = wire::post(house.addr, &request(true)).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, "\u{1f}not really gzip".as_bytes()));
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("unreadable")));
    assert_eq!(entry.usage.output_tokens, 100);
    assert!(entry.usage.input_tokens >= 20);
}

#[tokio::test]
async fn a_bill_beyond_the_reservation_is_recorded_and_not_charged() {
    let message = MESSAGE.replace("\"output_tokens\":40", "\"output_tokens\":40000000");
    let fake = Fake::start(vec![whole("200 OK", "content-type: application/json\r\n", &message)]).await;
    let house = House::new(&fake).await;
    let finished = house.call(&request(false)).await;
    assert!(finished.ok() && finished.cost.0 > 40_000_000 * 15_000);
    house.gateway.drain().await;
    let spent = house.purse.state.lock().unwrap().spent;
    assert!(spent < 5_000_000, "{spent}");
    let Body::Close { outcome, .. } = &house.records()[1].body else { panic!() };
    assert_eq!(outcome.code.as_deref(), Some("over_reservation"));
}

thread_local! {
    /// What this thread's events are written to, while a test wants them.
    static LOGS: std::cell::RefCell<Option<Vec<u8>>> = const { std::cell::RefCell::new(None) };
}

/// Writes to the thread's own logs; other threads' events go nowhere.
struct Logs;

impl std::io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGS.with_borrow_mut(|logs| {
            if let Some(logs) = logs {
                logs.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logs_say_nothing_of_what_was_said_nor_of_keys() {
    // One subscriber for the whole process: with one for this thread only, a place in the code that another thread's test
    // reached first may stay silent.
    let subscriber = tracing_subscriber::fmt().with_env_filter("trace").with_ansi(false).with_writer(|| Logs).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    // The test's runtime has one thread, so all that the gateway and its libraries say comes here.
    LOGS.set(Some(Vec::new()));
    let fake = Fake::start(story()).await;
    let house = House::new(&fake).await;
    assert_eq!(wire::post(house.addr, &request(true)).await.status, 200);
    house.call(&request(true)).await;
    wire::post(house.addr, &request(true).replace("alias", "nobody")).await;
    Client::send(house.addr, "POST", PATH, "x-api-key: canary-token\r\n", "{}").await.answer().await;
    house.entries().await;
    let logs = String::from_utf8(LOGS.take().unwrap()).unwrap();
    assert!(logs.contains("ended") && logs.contains("input_tokens=12"), "{logs}");
    for secret in [KEY, TOKEN, "canary-token", "Tell me", "Once upon", "upon "] {
        assert!(!logs.contains(secret), "{secret} is in the logs");
    }
}
