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

/// A table with two providers for `m`, of these weights, each with a pool of so many keys, and so many calls at once.
fn table(fakes: &[Fake; 2], weights: [u32; 2], keys: usize, calls: usize, folder: &std::path::Path) -> ModelTable {
    let pool: Vec<String> = (0..keys)
        .map(|number| {
            let path = folder.join(format!("key-{number}"));
            std::fs::write(&path, format!("sk-{number}")).unwrap();
            format!("{{ kind = \"key\", header = \"x-api-key\", secret = \"file:{}\" }}", path.display())
        })
        .collect();
    let provider = |name: &str, fake: &Fake| {
        format!(
            "[providers.{name}]\nkind = \"anthropic\"\nbase_url = \"http://{}\"\ncredentials = [{}]\n",
            fake.addr,
            pool.join(", ")
        )
    };
    let target = |name: &str, weight: u32| {
        format!(
            "{{ provider = \"{name}\", upstream = \"claude-sonnet-4-6\", price = \"claude-sonnet-4-6\", weight = {weight} }}"
        )
    };
    ModelTable::from_config(&format!(
        "{}{}[models.m]\ntargets = [{}, {}]\n[limits]\ncalls = {calls}\nwait_ms = 60000\nqueue = 1000\n\
         [limits.principal]\ncalls = {calls}\n[limits.models.m]\ncalls = {calls}\ntokens_per_minute = {}\n",
        provider("a", &fakes[0]),
        provider("b", &fakes[1]),
        target("a", weights[0]),
        target("b", weights[1]),
        100_000_000 + calls,
    ))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_limits_and_key_pools_change_under_load_and_no_stream_is_dropped() {
    let gate = Arc::new(Semaphore::new(0));
    let mut steps = vec![stream_head(), chunk(&events()[0]), Step::Gate(gate.clone())];
    steps.extend(events()[1..].iter().map(chunk));
    steps.push(Step::End);
    let fakes = [Fake::start(steps.clone()).await, Fake::start(steps).await];
    let folder = tempfile::tempdir().unwrap();
    let house = Arc::new(House::new(&fakes[0]).await);
    let sent = || fakes.iter().map(|fake| fake.requests().len()).sum::<usize>();
    let body = request(true).replace("alias", "m");
    let mut streams = 0;
    // Each time, some streams are half way when the table changes, and some wait for their place.
    for (weights, keys, calls) in [([1, 1], 1, 8), ([9, 1], 3, 4), ([1, 9], 2, 16), ([5, 5], 1, 1), ([1, 1], 2, 8)] {
        house.gateway.set_models(table(&fakes, weights, keys, calls, folder.path()));
        let before = sent();
        let clients: Vec<_> = (0..12)
            .map(|_| {
                let (house, body) = (house.clone(), body.clone());
                tokio::spawn(async move { wire::post(house.addr, &body).await })
            })
            .collect();
        while sent() - before < calls.min(12) {
            tokio::task::yield_now().await;
        }
        assert!(sent() - before <= calls, "the new bound holds at once");
        // Far less, and far more, while they run; and what is wrong changes nothing.
        for (weights, keys, calls) in [([1, 100], 2, 2), ([100, 1], 1, 32)] {
            house.gateway.set_models(table(&fakes, weights, keys, calls, folder.path()));
        }
        gate.add_permits(12);
        for client in clients {
            let answer = client.await.unwrap();
            assert_eq!((answer.status, answer.complete), (200, true), "{}", String::from_utf8_lossy(&answer.body));
            assert_eq!(answer.body, events().concat().into_bytes());
            streams += 1;
        }
    }
    let entries = house.entries().await;
    assert_eq!(entries.len(), streams);
    assert!(entries.iter().all(|entry| entry.status == Status::Ok && entry.cost == COST));
    assert!(fakes.iter().all(|fake| !fake.requests().is_empty()), "both were chosen");
    let keys: std::collections::BTreeSet<_> =
        fakes.iter().flat_map(Fake::requests).map(|seen| header(&seen.head, "x-api-key").unwrap()).collect();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["sk-0", "sk-1", "sk-2"]);
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
