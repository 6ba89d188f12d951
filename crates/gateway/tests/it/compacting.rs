//! A conversation made shorter, as Codex asks for it: a call like any other where the provider has it, and a clear word where not.

use serde_json::{Value, json};
use stockade_ledger::{Body, Status};

use crate::{
    fake::{Fake, whole},
    house::{House, Plan, TOKEN},
    wire::{Answer, Client},
};

const PATH: &str = "/gateway/openai/v1/responses/compact";

async fn house(fake: &Fake, provider: &str) -> House {
    let config = format!(
        "[models.m]\nprovider = \"p\"\nupstream = \"gpt-5.1\"\nprice = \"gpt-5.1\"\n\
         [providers.p]\n{provider}\nbase_url = \"http://{}\"\nkey = \"none\"\n",
        fake.addr
    );
    House::with(fake.addr, Plan { config, ..Plan::default() }).await
}

async fn ask(house: &House, body: &Value) -> Answer {
    let headers = format!("authorization: Bearer {TOKEN}\r\n");
    Client::send(house.addr, "POST", PATH, &headers, &body.to_string()).await.answer().await
}

fn conversation() -> Value {
    json!({"model": "m", "instructions": "Be brief.", "tools": [], "parallel_tool_calls": false, "prompt_cache_key": "s",
           "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello ".repeat(300)}]}]})
}

#[tokio::test]
async fn it_is_relayed_reserved_and_charged_like_any_call() {
    let compacted = json!({"id": "resp_1", "object": "response.compaction", "created_at": 1,
        "output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}],
        "usage": {"input_tokens": 400, "input_tokens_details": {"cached_tokens": 100}, "output_tokens": 60,
                  "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 460}})
    .to_string();
    let fake = Fake::start(vec![whole("200 OK", "content-type: application/json\r\n", &compacted)]).await;
    for (provider, path) in [
        ("kind = \"openai\"", "/responses/compact"),
        ("kind = \"azure\"", "/openai/v1/responses/compact"),
        (
            "kind = \"azure\"\napi_version = \"2025-04-01-preview\"",
            "/openai/responses/compact?api-version=2025-04-01-preview",
        ),
    ] {
        let house = house(&fake, provider).await;
        let answer = ask(&house, &conversation()).await;
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body)), (200, compacted.as_str().into()));
        let seen = fake.requests().pop().unwrap();
        assert!(seen.head.starts_with(&format!("POST {path} ")), "{}", seen.head);
        let sent: Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!((&sent["model"], sent.get("stream")), (&json!("gpt-5.1"), None));
        let peak = house.purse.state.lock().unwrap().peak;
        let entry = house.entry().await;
        assert_eq!((entry.status, entry.usage.input_tokens, entry.usage.output_tokens), (Status::Ok, 300, 60));
        assert_eq!(entry.usage.cache_read_tokens, 100);
        assert!(entry.cost > 0 && peak > entry.cost, "{} was reserved for {}", peak, entry.cost);
        let Body::Open { deed, .. } = &house.records()[0].body else { panic!() };
        assert_eq!(deed.context.get("errand"), Some(&"compact".into()));
    }
}

#[tokio::test]
async fn where_the_provider_cannot_the_client_is_told_once_and_what_to_do() {
    let fake = Fake::start(vec![]).await;
    let house = house(&fake, "kind = \"anthropic\"").await;
    let answer = ask(&house, &conversation()).await;
    // 400: Codex shows it. A 5xx it would try again.
    assert_eq!(answer.status, 400);
    let text = String::from_utf8_lossy(&answer.body);
    assert!(text.contains("`m` cannot compact a conversation"), "{text}");
    let Body::Refused { decision, .. } = &house.records()[0].body else { panic!() };
    assert_eq!(decision.policies[0].id, "gateway:no_compact");
    assert!(fake.requests().is_empty());
}
