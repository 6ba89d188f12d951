//! A token that is not taken any more although it is not over: a new one is fetched once, and the call is tried again with it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use stockade_ledger::{Body, Status};

use crate::{
    fake::Fake,
    house::{House, Plan, TOKEN},
    wire::{self, Client, MESSAGE, request},
};

/// A server on loopback that answers like this.
async fn server(answer: impl Fn(Request) -> Response + Clone + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(any(move |request: Request| std::future::ready(answer(request))));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

/// Gives tokens or keys by number, and counts them.
async fn authority(given: Arc<AtomicUsize>, form: fn(usize) -> String) -> String {
    server(move |_| {
        let number = given.fetch_add(1, Ordering::SeqCst);
        ([("metadata-flavor", "Google")], form(number)).into_response()
    })
    .await
}

fn token(number: usize) -> String {
    format!("{{\"access_token\":\"t{number}\",\"expires_in\":3600}}")
}

fn keys(number: usize) -> String {
    format!(
        "{{\"AccessKeyId\":\"AKIA{number}\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"2099-01-01T00:00:00Z\"}}"
    )
}

/// A provider that takes what contains this word, and whose refusals look like that.
async fn provider(wanted: &'static str, refusal: fn() -> Response) -> String {
    server(move |request| {
        let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if shown.is_some_and(|text| text.contains(wanted)) {
            let bedrock = request.uri().path().contains("/converse");
            ([(header::CONTENT_TYPE, "application/json")], if bedrock { CONVERSE } else { MESSAGE }).into_response()
        } else {
            refusal()
        }
    })
    .await
}

const CONVERSE: &str = r#"{"output":{"message":{"role":"assistant","content":[{"text":"hello"}]}},"stopReason":"end_turn",
    "usage":{"inputTokens":3,"outputTokens":2,"totalTokens":5},"metrics":{"latencyMs":1}}"#;

fn unauthorized() -> Response {
    let body = r#"{"type":"error","error":{"type":"authentication_error","message":"the token was withdrawn"}}"#;
    (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn expired() -> Response {
    let headers = [("content-type", "application/json"), ("x-amzn-errortype", "ExpiredTokenException:http://x/")];
    (StatusCode::FORBIDDEN, headers, r#"{"message":"The security token included in the request is expired"}"#)
        .into_response()
}

async fn house(kind: &str, provider: &str, credential: &str) -> House {
    let config = format!(
        "[models.m]\nprovider = \"p\"\nupstream = \"claude-sonnet-4-6\"\n[providers.p]\nkind = \"{kind}\"\n\
         base_url = \"{provider}\"\n{}[providers.p.credential]\n{credential}\n",
        if kind == "bedrock" { "region = \"eu-central-1\"\n" } else { "" }
    );
    let unused = Fake::start(vec![]).await;
    House::with(unused.addr, Plan { config, ..Plan::default() }).await
}

fn attempts(house: &House) -> Vec<i64> {
    let opened = house.records().into_iter().filter_map(|record| match record.body {
        Body::Open { deed, .. } => Some(deed),
        _ => None,
    });
    opened
        .map(|deed| match deed.context.get("attempt") {
            Some(stockade_domain::ContextValue::Long(number)) => *number,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_withdrawn_is_replaced_once_for_everybody() {
    let given = Arc::new(AtomicUsize::new(0));
    let metadata = authority(given.clone(), token).await;
    let provider = provider("t1", unauthorized).await;
    let credential = format!("kind = \"google-metadata\"\nendpoint = \"{metadata}/\"");
    let house = Arc::new(house("anthropic", &provider, &credential).await);
    let body = request(false).replace("alias", "m");
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (house, body) = (house.clone(), body.clone());
            tokio::spawn(async move { wire::post(house.addr, &body).await.status })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(given.load(Ordering::SeqCst), 2, "one token that was not taken, and one that was");
    let entries = house.entries().await;
    let whole = entries.iter().filter(|entry| entry.status == Status::Ok).count();
    let refused: Vec<_> = entries.iter().filter(|entry| entry.status != Status::Ok).collect();
    assert_eq!(whole, 20);
    assert!(!refused.is_empty() && refused.len() <= 20, "{}", refused.len());
    for entry in refused {
        assert_eq!((entry.code.as_deref(), entry.cost), (Some("provider_credentials"), 0));
    }
    assert!(attempts(&house).contains(&2));
}

#[tokio::test]
async fn a_provider_that_takes_no_token_is_asked_twice_and_then_believed() {
    let given = Arc::new(AtomicUsize::new(0));
    let metadata = authority(given.clone(), token).await;
    let provider = provider("nothing", unauthorized).await;
    let credential = format!("kind = \"google-metadata\"\nendpoint = \"{metadata}/\"");
    let house = house("anthropic", &provider, &credential).await;
    let body = request(false).replace("alias", "m");
    for (attempts_so_far, tokens) in [(2, 2), (3, 2)] {
        let answer = wire::post(house.addr, &body).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.error().1, "the token was withdrawn", "the provider's own word");
        assert_eq!((attempts(&house).len(), given.load(Ordering::SeqCst)), (attempts_so_far, tokens));
    }
}

#[tokio::test]
async fn keys_of_amazon_that_are_over_early_are_replaced() {
    let given = Arc::new(AtomicUsize::new(0));
    let container = authority(given.clone(), keys).await;
    let provider = provider("AKIA1/", expired).await;
    let credential = format!("kind = \"aws-container\"\nendpoint = \"{container}/keys\"");
    let house = house("bedrock", &provider, &credential).await;
    let body = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}],"inferenceConfig":{"maxTokens":9}}"#;
    let headers = format!("x-api-key: {TOKEN}\r\n");
    let answer =
        Client::send(house.addr, "POST", "/gateway/bedrock/model/m/converse", &headers, body).await.answer().await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!((attempts(&house), given.load(Ordering::SeqCst)), (vec![1, 2], 2));
}
