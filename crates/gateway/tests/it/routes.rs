//! Several places for one name: fallbacks before the first byte, credentials in turn, a configuration that changes under way.

use std::sync::Arc;

use stockade_gateway::ModelTable;
use stockade_ledger::Status;
use tokio::sync::Semaphore;

use crate::{
    fake::{Fake, Step, chunk, header, stream_head, whole},
    house::{House, KEY, Plan, TOKEN},
    wire::{self, COST, Client, MESSAGE, events, request},
};

const JSON: &str = "content-type: application/json\r\n";

fn error(kind: &str) -> String {
    format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"not now"}}}}"#)
}

/// A house whose model `alias` falls back to a second provider.
async fn two(first: &Fake, second: &Fake) -> House {
    let config = format!(
        "fallbacks = [\"other\"]\n[models.other]\nprovider = \"second\"\nupstream = \"claude-sonnet-4-6\"\n\
         [providers.second]\nkind = \"anthropic\"\nbase_url = \"http://{}\"\nkey = \"none\"\n",
        second.addr
    );
    House::with(first.addr, Plan { config, ..Plan::default() }).await
}

async fn good() -> Fake {
    let mut steps = vec![stream_head()];
    steps.extend(events().iter().map(chunk));
    steps.push(Step::End);
    Fake::start(steps).await
}

#[tokio::test]
async fn row_24_before_the_first_byte_another_place_is_tried_and_each_attempt_is_a_call() {
    for (status, kind) in [("529 Busy", "overloaded_error"), ("500 Oh", "api_error"), ("429 Wait", "rate_limit_error")]
    {
        let (first, second) = (Fake::start(vec![whole(status, JSON, &error(kind))]).await, good().await);
        let house = two(&first, &second).await;
        let answer = wire::post(house.addr, &request(true)).await;
        assert_eq!((answer.status, answer.body), (200, events().concat().into_bytes()), "{status}");
        let entries = house.entries().await;
        assert_eq!(
            entries.iter().map(|e| (e.status, e.cost)).collect::<Vec<_>>(),
            [(Status::Error, 0), (Status::Ok, COST)]
        );
        assert_eq!(entries[0].response, error(kind).into_bytes());
        assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_reached_is_passed_over_and_then_left_alone() {
    let second = good().await;
    let gone = Fake::start(vec![Step::Reset]).await;
    let house = two(&gone, &second).await;
    // A reset after the request was sent may have been billed: it is not silently sent again.
    let answer = wire::post(house.addr, &request(true)).await;
    assert_eq!(answer.status, 502);
    let nobody = Fake { addr: "127.0.0.1:1".parse().unwrap(), ..gone };
    let house = two(&nobody, &second).await;
    for _ in 0..7 {
        assert_eq!(wire::post(house.addr, &request(true)).await.status, 200);
    }
    let failed = house.entries().await.iter().filter(|entry| entry.status == Status::Error).count();
    assert_eq!(failed, 5, "after five failures in a row it is not asked any more");
}

#[tokio::test]
async fn what_cannot_succeed_elsewhere_is_not_tried_elsewhere() {
    let first = Fake::start(vec![whole("400 Bad", JSON, &error("invalid_request_error"))]).await;
    let second = good().await;
    let house = two(&first, &second).await;
    let answer = wire::post(house.addr, &request(true)).await;
    assert_eq!((answer.status, answer.error().0.as_str()), (400, "invalid_request_error"));
    assert_eq!(second.requests().len(), 0);
}

#[tokio::test]
async fn the_last_refusal_is_the_clients_answer() {
    let refusal = |kind| Fake::start(vec![whole("529 Busy", JSON, &error(kind))]);
    let (first, second) = (refusal("overloaded_error").await, refusal("the_second").await);
    let house = two(&first, &second).await;
    let answer = wire::post(house.addr, &request(true)).await;
    assert_eq!((answer.status, answer.error().0.as_str()), (529, "the_second"));
}

#[tokio::test]
async fn credentials_of_a_pool_take_turns() {
    let fake = Fake::start(vec![whole("200 OK", JSON, MESSAGE)]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, name).unwrap();
        path.display().to_string()
    };
    let config = format!(
        "[models.pooled]\nprovider = \"pool\"\nupstream = \"claude-sonnet-4-6\"\n\
         [providers.pool]\nkind = \"anthropic\"\nbase_url = \"http://{}\"\ncredentials = [\n\
         {{ kind = \"key\", header = \"x-api-key\", secret = \"file:{}\" }},\n\
         {{ kind = \"key\", header = \"x-api-key\", secret = \"file:{}\" }}]\n",
        fake.addr,
        file("key-one"),
        file("key-two")
    );
    let house = House::with(fake.addr, Plan { config, ..Plan::default() }).await;
    for _ in 0..4 {
        assert_eq!(wire::post(house.addr, &request(false).replace("alias", "pooled")).await.status, 200);
    }
    let keys: Vec<_> = fake.requests().iter().map(|seen| header(&seen.head, "x-api-key").unwrap()).collect();
    assert_eq!(keys, ["key-one", "key-two", "key-one", "key-two"]);
    assert!(!keys.contains(&KEY.to_owned()));
}

#[tokio::test]
async fn a_new_configuration_counts_for_new_calls_and_drops_no_stream() {
    let gate = Arc::new(Semaphore::new(0));
    let mut steps = vec![stream_head(), chunk(&events()[0]), Step::Gate(gate.clone())];
    steps.extend(events()[1..].iter().map(chunk));
    steps.push(Step::End);
    let (old, new) = (Fake::start(steps).await, good().await);
    let house = House::new(&old).await;
    let mut client = Client::post(house.addr, &request(true)).await;
    assert!(client.read_until(&events()[0]).await);
    let table = ModelTable::from_config(&format!(
        "[providers.anthropic]\nbase_url = \"http://{}\"\nkey = \"none\"\n[models.alias]\nupstream = \"claude-sonnet-4-6\"\n",
        new.addr
    ));
    house.gateway.set_models(table.unwrap());
    assert_eq!(wire::post(house.addr, &request(true)).await.status, 200);
    assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
    gate.add_permits(1);
    let answer = client.answer().await;
    assert!(answer.complete);
    assert_eq!(answer.body, events().concat().into_bytes());
}

#[tokio::test]
async fn models_are_listed_in_every_form_and_only_those_that_may_be_asked_for() {
    let fake = good().await;
    let house = House::with(
        fake.addr,
        Plan { config: "[models.fast]\nupstream = \"claude-haiku-5-5\"\n".to_owned(), ..Plan::default() },
    )
    .await;
    let headers = format!("x-api-key: {TOKEN}\r\n");
    for (path, pointer) in [
        ("/gateway/anthropic/v1/models?limit=1000", "/data"),
        ("/gateway/openai/v1/models", "/data"),
        ("/gateway/azure/openai/v1/models", "/data"),
        ("/gateway/gemini/v1beta/models", "/models"),
        ("/gateway/bedrock/inference-profiles?type=SYSTEM_DEFINED", "/inferenceProfileSummaries"),
    ] {
        let answer = Client::send(house.addr, "GET", path, &headers, "").await.answer().await;
        assert_eq!(answer.status, 200, "{path}");
        let list: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let names = list.pointer(pointer).unwrap().to_string();
        assert!(names.contains("fast") && names.contains("alias"), "{path}: {names}");
        let nobody = Client::send(house.addr, "GET", path, "", "").await.answer().await;
        assert_eq!(nobody.status, 401, "{path}");
    }
    let one = Client::send(house.addr, "GET", "/gateway/openai/v1/models/fast", &headers, "").await.answer().await;
    assert_eq!(one.status, 200);
    assert_eq!(fake.requests().len(), 0, "a list is ours");
}
