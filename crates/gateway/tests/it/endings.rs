//! Every way in which a call can end: always settled, always recorded.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use stockade_gateway::{CallError, FailureKind, Limits};
use stockade_ledger::{EntryKind, Status};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    fake::{Fake, Step, chunk, head, stream_head, whole},
    house::{Entry, House, Plan},
    wire::{self, COST, Client, MESSAGE, events, request},
};

/// For providers that say nothing.
fn impatient() -> Plan {
    let limits =
        Limits { idle: Duration::from_millis(600), first_byte: Duration::from_millis(600), ..Limits::default() };
    Plan { limits, ..Plan::default() }
}

/// A provider that plays this, a client that takes all of it.
async fn ended(steps: Vec<Step>) -> (wire::Answer, Entry) {
    ended_with(Plan::default(), steps).await
}

async fn ended_with(plan: Plan, steps: Vec<Step>) -> (wire::Answer, Entry) {
    let fake = Fake::start(steps).await;
    let house = House::with(fake.addr, plan).await;
    let answer = wire::post(house.addr, &request(true)).await;
    (answer, house.entry().await)
}

/// The cost of an entry is that of its usage: exact.
fn exact(entry: &Entry) {
    let usage = &entry.usage;
    let tokens = |n: u64| i64::try_from(n).unwrap();
    let cost = tokens(usage.input_tokens) * 3_000
        + tokens(usage.cache_read_tokens) * 300
        + tokens(usage.output_tokens) * 15_000;
    assert_eq!(entry.cost, cost);
}

#[tokio::test]
async fn a_client_hangs_up_at_every_chunk() {
    let events = events();
    let mut last_cost = 0;
    for k in 0..events.len() {
        let never = Arc::new(Semaphore::new(0));
        let mut steps = vec![stream_head()];
        steps.extend(events[..=k].iter().map(chunk));
        steps.push(Step::Gate(never));
        let fake = Fake::start(steps).await;
        let house = House::new(&fake).await;
        let mut client = Client::post(house.addr, &request(true)).await;
        assert!(client.read_until(&events[k]).await, "chunk {k}");
        drop(client);
        let entry = house.entry().await;
        // The provider's connection was cut too: it need not go on writing for nobody.
        fake.left.acquire().await.unwrap().forget();

        exact(&entry);
        assert_eq!(entry.response, events[..=k].concat().into_bytes(), "chunk {k}");
        assert_eq!((entry.usage.input_tokens, entry.usage.cache_read_tokens), (12, 5), "chunk {k}");
        assert!(entry.cost >= last_cost, "chunk {k}: more was seen and less is charged");
        if k == events.len() - 1 {
            assert_eq!((entry.status, entry.cost), (Status::Ok, COST), "the message was whole");
        } else {
            assert_eq!((entry.status, entry.code.as_deref()), (Status::Cancelled, Some("stopped")), "chunk {k}");
            assert!(entry.usage.output_tokens >= 1 && entry.usage.output_tokens <= 40, "chunk {k}");
        }
        last_cost = entry.cost;
    }
}

#[tokio::test]
async fn a_client_hangs_up_before_anything_came() {
    let fake = Fake::start(vec![Step::Silence]).await;
    let house = House::new(&fake).await;
    let client = Client::post(house.addr, &request(true)).await;
    while fake.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(client);
    let entry = house.entry().await;
    // It was sent, so its input is charged: never back to nothing.
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Cancelled, Some("stopped")));
    assert!(entry.usage.input_tokens > 20 && entry.usage.output_tokens == 0, "{:?}", entry.usage);
    exact(&entry);
}

#[tokio::test]
async fn an_answer_in_one_piece_is_waited_for_without_its_client() {
    let gate = Arc::new(Semaphore::new(0));
    let steps = vec![Step::Gate(gate.clone()), whole("200 OK", "content-type: application/json\r\n", MESSAGE)];
    let fake = Fake::start(steps).await;
    let house = House::new(&fake).await;
    let client = Client::post(house.addr, &request(false)).await;
    while fake.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(client);
    // The gateway notices that the client is gone on its own; whether before or after, the answer is kept.
    gate.add_permits(1);
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.cost, entry.response), (Status::Ok, COST, MESSAGE.as_bytes().to_vec()));
}

#[tokio::test]
async fn a_call_in_process_is_stopped() {
    let steps = vec![stream_head(), chunk(&events()[0]), Step::Silence];
    let fake = Fake::start(steps).await;
    let house = House::new(&fake).await;
    let stop = CancellationToken::new();
    let call = house.gateway.call(house.caller.clone(), Bytes::from(request(true)), stop.clone());
    let stopper = async {
        while fake.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (result, ()) = tokio::join!(call, stopper);
    // Whether the first event had come by then is a race; that it is settled is not.
    match result {
        Ok(finished) => assert_eq!(finished.failure.unwrap().kind, FailureKind::Stopped),
        Err(error) => assert!(matches!(error, CallError::Stopped)),
    }
    let entry = house.entry().await;
    assert_eq!(entry.status, Status::Cancelled);
    assert!(entry.cost > 0);
}

#[tokio::test]
async fn a_slow_provider_is_waited_for() {
    // Byte by byte: each one arrives, and the idle time starts anew.
    let bytes = events().concat().into_bytes();
    let steps = [stream_head()].into_iter().chain(bytes.iter().map(|byte| chunk([*byte]))).chain([Step::End]);
    let (answer, entry) = ended(steps.collect()).await;
    assert!(answer.complete);
    assert_eq!(answer.body, bytes);
    assert_eq!((entry.status, entry.cost), (Status::Ok, COST));
}

#[tokio::test]
async fn a_provider_falls_silent_in_the_middle() {
    let mut steps = vec![stream_head()];
    steps.extend(events()[..5].iter().map(chunk));
    steps.push(Step::Silence);
    let (answer, entry) = ended_with(impatient(), steps).await;
    assert!(!answer.complete, "a part must not look like the whole");
    assert_eq!(answer.body, events()[..5].concat().into_bytes());
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("timed_out")));
    assert_eq!(entry.usage.input_tokens, 12);
    exact(&entry);
}

#[tokio::test]
async fn a_provider_never_begins() {
    let (answer, entry) = ended_with(impatient(), vec![Step::Silence]).await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.error().0, "timeout_error");
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("timed_out")));
    assert!(entry.cost > 0);
}

#[tokio::test]
async fn a_connection_is_reset_in_the_middle() {
    for end in [Step::Reset, Step::Close] {
        let mut steps = vec![stream_head()];
        steps.extend(events()[..6].iter().map(chunk));
        // Not all at once, so that the reset does not overtake what was sent.
        steps.push(Step::Gate(Arc::new(Semaphore::new(1))));
        steps.push(end);
        let (answer, entry) = ended(steps).await;
        assert!(!answer.complete);
        assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("connection_lost")));
        assert!(events().concat().into_bytes().starts_with(&entry.response));
        exact(&entry);
        assert!(entry.cost > 0);
    }
}

#[tokio::test]
async fn a_provider_cannot_be_reached() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let house = House::with(nobody, Plan::default()).await;
    let answer = wire::post(house.addr, &request(true)).await;
    assert_eq!((answer.status, answer.error().0.as_str()), (502, "api_error"));
    assert!(!answer.error().1.contains("127.0.0.1"), "our insides stay inside");
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.code.as_deref(), entry.cost), (Status::Error, Some("connection_lost"), 0));
}

#[tokio::test]
async fn an_error_comes_in_the_middle_of_a_stream() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let mut steps = vec![stream_head()];
    steps.extend(events()[..6].iter().map(chunk));
    steps.extend([chunk(error), Step::End]);
    let (answer, entry) = ended(steps).await;
    assert!(answer.complete);
    assert_eq!(answer.body, (events()[..6].concat() + error).into_bytes());
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("overloaded")));
    assert_eq!(entry.usage.input_tokens, 12);
    exact(&entry);
    // Its first and only word: then nothing was done for us.
    let (_, entry) = ended(vec![stream_head(), chunk(error), Step::End]).await;
    assert_eq!((entry.code.as_deref(), entry.cost), (Some("overloaded"), 0));
}

#[tokio::test]
async fn frames_are_malformed() {
    let garbage =
        "data: {\"type\":\"content_block_delta\",\"index\":\n\nevent\u{0}: x\n\ndata: \u{fffd}\n\ndata: [1,2\n\n";
    let all = events();
    let mut steps = vec![stream_head()];
    steps.extend(all[..5].iter().map(chunk));
    steps.push(chunk(garbage));
    steps.extend(all[5..].iter().map(chunk));
    steps.push(Step::End);
    let (answer, entry) = ended(steps).await;
    assert_eq!(answer.body, (all[..5].concat() + garbage + &all[5..].concat()).into_bytes());
    // The provider still said what it used, and came to its end.
    assert_eq!((entry.status, entry.cost), (Status::Ok, COST));

    let (answer, entry) =
        ended(vec![stream_head(), chunk("\0\0\0 not events at all"), chunk(garbage), Step::End]).await;
    assert!(answer.complete);
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("unreadable")));
    assert_eq!(entry.usage.output_tokens, 100, "unreadable: all that it may have used");
    exact(&entry);
}

#[tokio::test]
async fn a_line_is_gigantic() {
    let piece = "x".repeat(1024 * 1024);
    let all = events();
    let mut steps = vec![stream_head()];
    steps.extend(all[..5].iter().map(chunk));
    steps.push(chunk("data: "));
    steps.extend((0..6).map(|_| chunk(&piece)));
    steps.push(chunk("\n\n"));
    steps.extend(all[5..].iter().map(chunk));
    steps.push(Step::End);
    let (answer, entry) = ended(steps).await;
    assert!(answer.complete);
    assert_eq!(answer.body.len(), all.concat().len() + 6 * piece.len() + 8);
    assert_eq!((entry.status, entry.cost), (Status::Ok, COST));
    assert_eq!(entry.response, answer.body);
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_what_is_relayed_is_not() {
    let mut steps = vec![stream_head()];
    steps.extend(events().iter().map(chunk));
    steps.push(Step::End);
    let fake = Fake::start(steps).await;
    let mut plan = Plan::default();
    plan.limits.capture_bytes = 100;
    let house = House::with(fake.addr, plan).await;
    let answer = wire::post(house.addr, &request(true)).await;
    assert_eq!(answer.body, events().concat().into_bytes());
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.code.as_deref(), entry.cost), (Status::Ok, Some("capture_cut"), COST));
    assert_eq!(entry.response, &answer.body[..100]);
}

#[tokio::test]
async fn a_length_promises_more_than_comes() {
    let cut = Step::Raw(
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{MESSAGE}")
            .into_bytes(),
    );
    let (answer, entry) = ended(vec![cut, Step::Close]).await;
    assert!(!answer.complete);
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("connection_lost")));
    assert!(entry.cost > 0);
    exact(&entry);
}

#[tokio::test]
async fn a_stream_ends_without_its_end() {
    let mut steps = vec![head("200 OK", "content-type: text/event-stream\r\n")];
    steps.extend(events()[..7].iter().map(chunk));
    steps.push(Step::End);
    let (answer, entry) = ended(steps).await;
    assert!(answer.complete, "the provider's framing is relayed as it is");
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("connection_lost")));
    exact(&entry);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let piece = chunk("x".repeat(256 * 1024));
    let mut steps = vec![stream_head(), chunk(&events()[0])];
    steps.extend((0..400).map(|_| piece.clone()));
    steps.push(Step::End);
    let fake = Fake::start(steps).await;
    let mut plan = Plan::default();
    plan.limits.client_stall = Duration::from_millis(50);
    let house = House::with(fake.addr, plan).await;
    let client = Client::post(house.addr, &request(true)).await;
    fake.left.acquire().await.unwrap().forget();
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Cancelled, Some("stopped")));
    assert!(entry.response.len() < 100 * 1024 * 1024, "the provider was not read any further");
    drop(client);
}

#[tokio::test]
async fn money_and_record_are_one_write() {
    let fake = Fake::start(vec![whole("200 OK", "content-type: application/json\r\n", MESSAGE)]).await;
    let house = House::new(&fake).await;
    assert_eq!(house.call(&request(false)).await.cost.0, COST);
    assert_eq!(house.entry().await.cost, COST);
    let log = house.ledger.log();
    let entries: Vec<_> = log.read(0, usize::MAX, usize::MAX).unwrap().into_iter().map(|(_, entry)| entry).collect();
    let half = [EntryKind::Content, EntryKind::Record, EntryKind::Budget];
    assert_eq!(entries.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [half, half].concat());
    // A segment's head and two frames' heads: no crash comes between money and record.
    let payload: usize = entries.iter().map(|entry| 5 + entry.payload.len()).sum();
    assert_eq!(log.bytes(), (28 + 2 * 28 + payload) as u64);
}

#[tokio::test]
async fn a_providers_headers_are_gigantic() {
    let headers = format!("content-type: application/json\r\nx-long: {}\r\n", "h".repeat(600_000));
    let (answer, entry) = ended(vec![whole("200 OK", &headers, MESSAGE)]).await;
    assert_eq!((answer.status, answer.error().0.as_str()), (502, "api_error"));
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("connection_lost")));
    exact(&entry);
}
