//! Calls that are not made: nothing is sent, nothing is charged, and the client is told in its own dialect.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use stockade_domain::{ContextValue, Principal, Role};
use stockade_gateway::{CallError, Limits, ModelTable};
use stockade_ledger::{Body, Record};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    fake::{Fake, Step, header, whole},
    house::{House, Plan, TOKEN},
    wire::{self, Answer, Client, MESSAGE, PATH, request},
};

async fn provider() -> Fake {
    Fake::start(vec![whole("200 OK", "content-type: application/json\r\n", MESSAGE)]).await
}

/// The last line of every test here.
fn nothing_happened(fake: &Fake, house: &House) {
    assert!(fake.requests().is_empty(), "something was sent");
    let money = house.purse.state.lock().unwrap();
    assert!(money.reserved.is_empty() && money.spent == 0);
    assert!(house.ledger.unclosed().is_empty());
}

fn told(answer: &Answer, status: u16, kind: &str, part: &str) {
    let (seen_kind, text) = answer.error();
    assert_eq!((answer.status, seen_kind.as_str()), (status, kind), "{text}");
    assert!(text.contains(part), "{text}");
    assert_eq!(header(&answer.head, "content-type").as_deref(), Some("application/json"));
}

const DENIES: &str = r#"
[[policy]]
id = "agents"
title = "Agents call models"
text = 'permit(principal is Agent, action == Action::"model.call", resource);'

[[policy]]
id = "secret-policy-id"
title = "Only small models here"
text = 'forbid(principal, action == Action::"model.call", resource) when { context has model && context.model == "alias" };'
"#;

pub const ASKS: &str = r#"
[[policy]]
id = "agents"
title = "Agents call models"
text = 'permit(principal is Agent, action == Action::"model.call", resource);'

[[policy]]
id = "dear"
title = "Dear calls want a person"
text = 'forbid(principal, action == Action::"model.call", resource) when { context.unattended };'
"#;

#[tokio::test]
async fn policy_says_no() {
    let fake = provider().await;
    let house = House::with(fake.addr, Plan { bundle: DENIES.to_owned(), ..Plan::default() }).await;
    let answer = wire::post(house.addr, &request(true)).await;
    told(&answer, 400, "invalid_request_error", "refused by policy: Only small models here");
    assert!(!answer.error().1.contains("secret-policy-id"), "the title and nothing else");
    let records = house.records();
    let Body::Refused { decision, contents, .. } = &records[0].body else { panic!("{records:?}") };
    assert_eq!((decision.policies[0].id.as_str(), contents.len(), records.len()), ("secret-policy-id", 1, 1));
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn policy_says_ask_and_there_is_nobody_to_be_asked() {
    let fake = provider().await;
    let house = House::with(fake.addr, Plan { bundle: ASKS.to_owned(), ..Plan::default() }).await;
    let answer = wire::post(house.addr, &request(true)).await;
    told(
        &answer,
        400,
        "invalid_request_error",
        "Dear calls want a person (a person would have to agree to this: nobody can",
    );
    assert!(matches!(house.records()[0].body, Body::Refused { .. }));
    let body = Bytes::from(request(true));
    let error = house.gateway.call(house.caller.clone(), body, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, CallError::NeedsPerson { .. }));
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn the_budget_is_used_up() {
    let fake = provider().await;
    let house = House::with(fake.addr, Plan { budget: 1_000, ..Plan::default() }).await;
    told(
        &wire::post(house.addr, &request(true)).await,
        400,
        "invalid_request_error",
        "the budget of this run has not enough left for this call, which may cost $",
    );
    let Body::Note { code, facts, .. } = &house.records()[0].body else { panic!() };
    assert_eq!((code.as_str(), &facts["scope"]), ("budget_exhausted", &"run".into()));
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn the_purse_cannot_be_reached() {
    let fake = provider().await;
    let house = House::new(&fake).await;
    house.purse.away.store(true, Ordering::SeqCst);
    told(&wire::post(house.addr, &request(true)).await, 503, "api_error", "cannot be reached at the moment");
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn models_without_a_name_or_a_price_are_refused() {
    let fake = provider().await;
    let house = House::new(&fake).await;
    for (model, part) in [("gpt-6", "has no price here"), ("rehearsal/x", "no rehearsal provider runs here")] {
        let body = request(true).replace("alias", model);
        told(&wire::post(house.addr, &body).await, 400, "invalid_request_error", part);
    }
    nothing_happened(&fake, &house);
}

/// The one thing in the record of a refusal that says why.
fn refused(record: &stockade_ledger::Record) -> (String, String) {
    let Body::Refused { deed, decision, contents } = &record.body else { panic!("{record:?}") };
    assert!(contents.is_empty(), "what is not served is not kept");
    assert_eq!(deed.context.get("model"), Some(&deed.resource.id.as_str().into()));
    (decision.policies[0].id.clone(), deed.resource.id.clone())
}

#[tokio::test]
async fn every_refusal_of_a_known_caller_has_its_record() {
    let fake = provider().await;
    let config = "[models.bare]\nupstream = \"x\"\nprovider = \"away\"\nprice = \"claude-opus-5\"\n\
                  [providers.away]\nbase_url = \"http://127.0.0.1:9\"\nkey_file = \"/nowhere/at/all\"\n";
    let house = House::with(fake.addr, Plan { config: config.to_owned(), ..Plan::default() }).await;
    house.not_for_token("secret-model");
    let tool = "\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}],";
    let of = |model: &str| request(true).replace("alias", model);
    let huge = "x".repeat(2_000);
    for (body, word, model) in [
        (of("gpt-6"), "gateway:no_price", "gpt-6"),
        (of("rehearsal/x"), "gateway:unknown_model", "rehearsal/x"),
        (of("secret-model"), "gateway:not_for_token", "secret-model"),
        (of("bare"), "gateway:not_set_up", "bare"),
        (request(true).replacen('{', &format!("{{{tool}"), 1), "gateway:no_price", "alias"),
        ("{\"model\":\"alias\",\"messages\":[]}".to_owned(), "gateway:request", "alias"),
        ("{\"model\":".to_owned(), "gateway:request", ""),
        (of(&huge), "gateway:request", ""),
    ] {
        let before = house.records().len();
        assert_eq!(wire::post(house.addr, &body).await.status, 400, "{body}");
        let records = house.records();
        assert_eq!(records.len(), before + 1, "{body}");
        assert_eq!(refused(&records[before]), (word.to_owned(), model.to_owned()));
    }
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn a_body_that_is_not_read_leaves_a_record_too() {
    let fake = provider().await;
    let limits = Limits { request_bytes: 1_000, ..Limits::default() };
    let house = House::with(fake.addr, Plan { limits, ..Plan::default() }).await;
    assert_eq!(wire::post(house.addr, &"x".repeat(1_001)).await.status, 413);
    assert_eq!(refused(&house.records()[0]).0, "gateway:request");
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn a_client_in_a_loop_does_not_fill_the_ledger() {
    let fake = provider().await;
    let house = House::new(&fake).await;
    for _ in 0..90 {
        told(&wire::post(house.addr, &request(true).replace("alias", "gpt-6")).await, 400, "invalid_request_error", "");
    }
    let records = house.records();
    // A slow machine may begin a second minute; then its first record says how many were left out.
    let said: usize = records
        .iter()
        .map(|record| match &record.body {
            Body::Refused { deed, .. } => match deed.context.get("left_out") {
                Some(ContextValue::Long(count)) => usize::try_from(*count).unwrap(),
                _ => 0,
            },
            other => panic!("{other:?}"),
        })
        .sum();
    assert!(records.len() == 60 || records.len() + said == 90, "{} records, {said} left out", records.len());
    assert_eq!(wire::post(house.addr, &request(false)).await.status, 200, "what is served is served as before");
}

#[tokio::test]
async fn a_client_that_policy_refuses_keeps_its_records_but_not_all_its_requests() {
    let fake = provider().await;
    let house = House::with(fake.addr, Plan { bundle: DENIES.to_owned(), ..Plan::default() }).await;
    for _ in 0..90 {
        assert_eq!(wire::post(house.addr, &request(true)).await.status, 400);
    }
    let records = house.records();
    let kept = |record: &Record| match &record.body {
        Body::Refused { contents, .. } => contents.len(),
        other => panic!("{other:?}"),
    };
    let kept: usize = records.iter().map(kept).sum();
    // A slow machine may begin a second minute.
    assert!(records.len() == 90 && (60..90).contains(&kept), "{} records, {kept} requests", records.len());
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn without_room_nothing_is_called_be_it_free_or_forbidden() {
    let fake = provider().await;
    for bundle in [Plan::default().bundle, DENIES.to_owned()] {
        let house = House::with(fake.addr, Plan { bundle, ..Plan::default() }).await;
        house.purse.full.store(true, Ordering::SeqCst);
        told(&wire::post(house.addr, &request(true)).await, 503, "api_error", "cannot be reached at the moment");
        assert!(matches!(&house.records()[0].body, Body::Note { .. }));
        nothing_happened(&fake, &house);
    }
}

#[tokio::test]
async fn a_client_without_money_does_not_fill_the_ledger_either() {
    let fake = provider().await;
    let house = House::with(fake.addr, Plan { budget: 1_000, ..Plan::default() }).await;
    for _ in 0..90 {
        assert_eq!(wire::post(house.addr, &request(true)).await.status, 400);
    }
    // A slow machine may begin a second minute.
    let records = house.records().len();
    assert!((60..90).contains(&records), "{records} records");
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let fake = provider().await;
    let house = House::new(&fake).await;
    for (body, part) in [
        ("", "does not read"),
        ("{\"model\":", "does not read"),
        ("{\"model\":\"alias\",\"messages\":[]}", "max_tokens: Field required"),
        (
            "{\"model\":\"alias\",\"max_tokens\":1,\"messages\":[],\"tools\":[{\"type\":\"web_search_1\"}]}",
            "has no price here",
        ),
        ("{\"model\":\"alias\",\"model\":\"b\",\"max_tokens\":1,\"messages\":[]}", "duplicate"),
    ] {
        told(&wire::post(house.addr, body).await, 400, "invalid_request_error", part);
    }
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn tokens_that_are_not_known_open_nothing() {
    let fake = provider().await;
    let house = House::new(&fake).await;
    for headers in [
        "",
        "x-api-key: strange-one\r\n",
        "authorization: Bearer strange-one\r\n",
        "authorization: Basic run-token\r\n",
        "authorization: Bearer\r\n",
        "x-api-key: \r\n",
    ] {
        let answer = Client::send(house.addr, "POST", PATH, headers, &request(true)).await.answer().await;
        told(&answer, 401, "authentication_error", "token");
        assert!(!answer.error().1.contains("strange"));
    }
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn an_erased_run_calls_nothing() {
    let fake = provider().await;
    let house = House::new(&fake).await;
    house.erase();
    told(&wire::post(house.addr, &request(true)).await, 400, "invalid_request_error", "erased");
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn other_paths_answer_in_the_dialect() {
    let fake = provider().await;
    let house = House::new(&fake).await;
    let headers = format!("x-api-key: {TOKEN}\r\n");
    let count = format!("{PATH}/count_tokens");
    for (method, path, status, kind) in [
        ("POST", count.as_str(), 400, "invalid_request_error"),
        ("GET", PATH, 405, "invalid_request_error"),
        ("GET", "/gateway/anthropic/v1/models/nobody", 404, "not_found_error"),
        ("POST", "/gateway/anthropic/v1/complete", 404, "not_found_error"),
        ("GET", "/gateway/anthropic", 404, "not_found_error"),
        ("GET", "/gateway/anthropic/", 404, "not_found_error"),
    ] {
        let answer = Client::send(house.addr, method, path, &headers, "").await.answer().await;
        told(&answer, status, kind, "");
    }
    let head = Client::send(house.addr, "HEAD", "/gateway/anthropic/", &headers, "").await.answer().await;
    assert_eq!(head.status, 404);
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn bodies_and_headers_have_limits() {
    let fake = provider().await;
    let limits = Limits {
        request_bytes: 1_000,
        header_bytes: 2_000,
        request_read: Duration::from_millis(400),
        ..Limits::default()
    };
    let house = House::with(fake.addr, Plan { limits, ..Plan::default() }).await;
    let large = request(true).replace("story", &"y".repeat(2_000));
    told(&wire::post(house.addr, &large).await, 413, "request_too_large", "larger than 1000 bytes");
    let headers = format!("x-api-key: {TOKEN}\r\nx-long: {}\r\n", "y".repeat(3_000));
    let answer = Client::send(house.addr, "POST", PATH, &headers, "").await.answer().await;
    told(&answer, 431, "invalid_request_error", "headers are too large");
    // A body that never comes.
    let headers = format!("x-api-key: {TOKEN}\r\ntransfer-encoding: chunked\r\n");
    let answer = Client::unfinished(house.addr, &headers).await.answer().await;
    told(&answer, 408, "timeout_error", "did not come in time");
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn too_many_at_once_are_told_to_wait() {
    for (own, calls, status, kind) in [(2, 10, 429, "rate_limit_error"), (10, 2, 529, "overloaded_error")] {
        let gate = Arc::new(Semaphore::new(0));
        let steps = vec![Step::Gate(gate.clone()), whole("200 OK", "content-type: application/json\r\n", MESSAGE)];
        let fake = Fake::start(steps).await;
        let config = format!("[limits]\ncalls = {calls}\nwait_ms = 0\n[limits.principal]\ncalls = {own}\n");
        let house = House::with(fake.addr, Plan { config, ..Plan::default() }).await;
        let (first, second) =
            (Client::post(house.addr, &request(false)).await, Client::post(house.addr, &request(false)).await);
        while fake.requests().len() < 2 {
            tokio::task::yield_now().await;
        }
        let third = wire::post(house.addr, &request(false)).await;
        told(&third, status, kind, "too many model calls at once");
        assert!(header(&third.head, "retry-after").is_some());
        gate.add_permits(100);
        assert_eq!((first.answer().await.status, second.answer().await.status), (200, 200));
        // The places are given back once the calls are settled, a moment after the clients have their answers.
        let mut again = wire::post(house.addr, &request(false)).await;
        while again.status == status {
            again = wire::post(house.addr, &request(false)).await;
        }
        assert_eq!(again.status, 200);
        assert_eq!(house.entries().await.len(), 3);
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let fake = provider().await;
    let house = House::new(&fake).await;
    // A record that is too long for the ledger is the failure that a test can have without breaking the disk.
    let mut caller = house.caller.clone();
    caller.principal = Principal::User { id: caller.owner, roles: vec![Role::Admin; 20_000] };
    let body = Bytes::from(request(true));
    let error = house.gateway.call(caller, body, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, CallError::RecordUnavailable { .. }), "{error:?}");
    assert_eq!((error.status().0, error.retryable()), (503, true));
    assert!(house.purse.state.lock().unwrap().peak > 0, "it was reserved, and given back");
    nothing_happened(&fake, &house);
}

#[tokio::test]
async fn a_provider_without_a_key_is_not_called_and_a_new_key_is_used_at_once() {
    let fake = provider().await;
    let house = House::new(&fake).await;
    std::fs::remove_file(house.key_file()).unwrap();
    let answer = wire::post(house.addr, &request(false)).await;
    told(&answer, 400, "invalid_request_error", "`alias` is not set up here");
    assert!(!answer.error().1.contains("key\""), "where the key should be is not the agent's business");
    nothing_happened(&fake, &house);
    for key in ["sk-the-first", "sk-another-one"] {
        std::fs::write(house.key_file(), key).unwrap();
        assert_eq!(wire::post(house.addr, &request(false)).await.status, 200);
        assert_eq!(header(&fake.requests().last().unwrap().head, "x-api-key").as_deref(), Some(key));
    }
}

#[tokio::test]
async fn a_key_that_is_to_be_at_hand_and_is_not_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let config = format!(
        "[providers.here]\nkind = \"openai-compatible\"\nbase_url = \"http://127.0.0.1:9/v1\"\nkey_file = \"{}\"\n\
         [providers.bare]\nkind = \"openai-compatible\"\nbase_url = \"http://127.0.0.1:9/v1\"\nkey = \"none\"\n",
        path.display()
    );
    let table = ModelTable::from_config(&config).unwrap();
    let wrong = || {
        let of = |provider: &std::sync::Arc<stockade_gateway::Provider>| {
            let why = |error: &dyn std::error::Error| error.source().map(ToString::to_string).unwrap_or_default();
            provider.wrong_keys().map(|error| why(&error)).collect::<Vec<_>>()
        };
        table.providers().flat_map(of).collect::<Vec<_>>()
    };
    assert_eq!(wrong(), [format!("the key file {} cannot be read", path.display())]);
    std::fs::write(&path, "sk-a-key\n").unwrap();
    assert!(wrong().is_empty());
}
