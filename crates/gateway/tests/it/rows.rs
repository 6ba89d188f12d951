//! What goes wrong in other gateways, one test each, by the number of its row in the design's list. Rows about dialects stand in
//! the crate of the dialects, rows about budgets of people in the server's and the whole product's tests.

use std::sync::{Arc, atomic::Ordering};

use serde_json::{Value, json};
use stockade_domain::Usage;
use stockade_ledger::{Body, Status};
use tokio::sync::Semaphore;

use crate::{
    fake::{Fake, Step, chunk, head, header, stream_head, whole},
    house::{House, Plan, TOKEN},
    wire::{self, Answer, COST, Client, MESSAGE, events, request},
};

const JSON: &str = "content-type: application/json\r\n";
const KEY: &str = "x-api-key: run-token-that-is-worth-nothing-elsewhere\r\n";

/// A dialect's door, a request there, and what its provider answers.
struct Case {
    dialect: &'static str,
    path: &'static str,
    provider: &'static str,
    request: Value,
    /// The pieces of a stream.
    stream: Vec<String>,
    content_type: &'static str,
}

fn sse(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn named(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap())
}

fn words() -> [&'static str; 4] {
    ["Once ", "upon ", "a ", "gate."]
}

fn chat() -> Case {
    let piece = |delta: Value, finish: Value| {
        sse(&json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "claude-sonnet-4-6",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
    };
    let mut stream = vec![piece(json!({"role": "assistant", "content": ""}), Value::Null)];
    stream.extend(words().map(|word| piece(json!({"content": word}), Value::Null)));
    stream.push(piece(json!({}), json!("stop")));
    stream.push(sse(
        &json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "claude-sonnet-4-6",
        "choices": [], "usage": {"prompt_tokens": 17, "completion_tokens": 40, "total_tokens": 57,
                                 "prompt_tokens_details": {"cached_tokens": 5}}}),
    ));
    stream.push("data: [DONE]\n\n".to_owned());
    Case {
        dialect: "chat",
        path: "/gateway/openai/v1/chat/completions",
        provider: "kind = \"openai\"",
        request: json!({"model": "m", "max_completion_tokens": 100, "stream": true, "stream_options": {"include_usage": true},
                        "messages": [{"role": "user", "content": "Tell me a story."}]}),
        stream,
        content_type: "text/event-stream",
    }
}

fn responses() -> Case {
    let response = |status: &str, output: Value, usage: Value| {
        json!({"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "claude-sonnet-4-6",
               "output": output, "usage": usage, "parallel_tool_calls": true, "tool_choice": "auto", "tools": []})
    };
    let text: String = words().concat();
    let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                      "content": [{"type": "output_text", "text": text, "annotations": []}]});
    let mut events = vec![
        json!({"type": "response.created", "response": response("in_progress", json!([]), Value::Null)}),
        json!({"type": "response.output_item.added", "output_index": 0,
               "item": {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}}),
        json!({"type": "response.content_part.added", "item_id": "msg_1", "output_index": 0, "content_index": 0,
               "part": {"type": "output_text", "text": "", "annotations": []}}),
    ];
    events.extend(words().map(|word| {
        json!({"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": word})
    }));
    events.push(json!({"type": "response.output_text.done", "item_id": "msg_1", "output_index": 0, "content_index": 0, "text": text}));
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
    let usage = json!({"input_tokens": 17, "input_tokens_details": {"cached_tokens": 5}, "output_tokens": 40,
                       "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 57});
    events.push(json!({"type": "response.completed", "response": response("completed", json!([item]), usage)}));
    let stream = events
        .into_iter()
        .enumerate()
        .map(|(number, mut event)| {
            event["sequence_number"] = number.into();
            named(&event)
        })
        .collect();
    Case {
        dialect: "responses",
        path: "/gateway/openai/v1/responses",
        provider: "kind = \"openai\"",
        request: json!({"model": "m", "max_output_tokens": 100, "stream": true, "store": false, "input": "Tell me a story."}),
        stream,
        content_type: "text/event-stream",
    }
}

fn gemini() -> Case {
    let piece = |text: &str, rest: Value| {
        let mut value = json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}],
                               "modelVersion": "claude-sonnet-4-6", "responseId": "g1"});
        for (key, member) in rest.as_object().unwrap() {
            value[key] = member.clone();
        }
        sse(&value)
    };
    let mut stream: Vec<String> = words().map(|word| piece(word, json!({}))).to_vec();
    let last = json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}],
                      "usageMetadata": {"promptTokenCount": 17, "candidatesTokenCount": 30, "thoughtsTokenCount": 10,
                                        "cachedContentTokenCount": 5, "totalTokenCount": 57}});
    stream.push(piece("", last));
    Case {
        dialect: "gemini",
        path: "/gateway/gemini/v1beta/models/m:streamGenerateContent?alt=sse",
        provider: "kind = \"gemini\"",
        request: json!({"contents": [{"role": "user", "parts": [{"text": "Tell me a story."}]}],
                        "generationConfig": {"maxOutputTokens": 100}}),
        stream,
        content_type: "text/event-stream",
    }
}

fn messages() -> Case {
    Case {
        dialect: "messages",
        path: "/gateway/anthropic/v1/messages",
        provider: "kind = \"anthropic\"",
        request: json!({"model": "m", "max_tokens": 100, "stream": true,
                        "messages": [{"role": "user", "content": "Tell me a story."}]}),
        stream: events(),
        content_type: "text/event-stream",
    }
}

fn cases() -> [Case; 4] {
    [messages(), chat(), responses(), gemini()]
}

impl Case {
    fn steps(&self, until: usize) -> Vec<Step> {
        let mut steps = vec![head("200 OK", &format!("content-type: {}\r\n", self.content_type))];
        steps.extend(self.stream[..until].iter().map(chunk));
        steps
    }

    /// An error in the middle of the stream, of this kind in OpenAI's words.
    fn error(&self, kind: &str, status: u16) -> String {
        let error = json!({"type": kind, "code": kind, "message": "it went wrong"});
        match self.dialect {
            "messages" => named(&json!({"type": "error", "error": {"type": "api_error", "message": "it went wrong"}})),
            "chat" => sse(&json!({ "error": error })),
            "responses" => named(&json!({"type": "response.failed", "sequence_number": 1,
                "response": {"id": "resp_1", "status": "failed", "error": error, "output": [], "usage": null}})),
            _ => sse(&json!({"error": {"code": status, "message": "it went wrong", "status": "INTERNAL"}})),
        }
    }

    async fn failed(&self, after: usize, kind: &str, status: u16) -> crate::house::Entry {
        let mut steps = self.steps(after);
        steps.extend([chunk(self.error(kind, status)), Step::End]);
        let fake = Fake::start(steps).await;
        let house = self.house(&fake).await;
        let _ = self.client(&house).await.answer().await;
        house.entry().await
    }

    async fn house(&self, fake: &Fake) -> House {
        let config = format!(
            "[models.m]\nprovider = \"p\"\nupstream = \"claude-sonnet-4-6\"\n\
             [providers.p]\n{}\nbase_url = \"http://{}\"\nkey = \"none\"\n",
            self.provider, fake.addr
        );
        House::with(fake.addr, Plan { config, ..Plan::default() }).await
    }

    async fn client(&self, house: &House) -> Client {
        Client::send(house.addr, "POST", self.path, KEY, &self.request.to_string()).await
    }
}

async fn settled(house: &House) -> wire::Answer {
    wire::post(house.addr, &request(true)).await
}

#[tokio::test]
async fn an_answer_that_had_begun_has_cost_its_input_in_every_dialect() {
    for case in cases() {
        let begun = case.failed(1, "server_error", 500).await;
        assert_eq!(begun.status, Status::Error, "{}", case.dialect);
        assert!(begun.usage.input_tokens > 0 && begun.cost > 0, "{}: {:?}", case.dialect, begun.usage);
        assert_eq!(begun.code.as_deref(), Some("provider_error"), "{}", case.dialect);
        if case.dialect == "responses" {
            // There an error as the first word is one of an answer that has an identifier: it had begun.
            continue;
        }
        let never = case.failed(0, "server_error", 500).await;
        assert_eq!((never.usage, never.cost), (Usage::default(), 0), "{}: its first word was an error", case.dialect);
    }
    for case in [chat(), responses()] {
        let refused = case.failed(1, "rate_limit_exceeded", 429).await;
        assert_eq!((refused.usage, refused.cost), (Usage::default(), 0), "{}: it was not taken", case.dialect);
    }
}

impl Case {
    /// The same answer, which says that it was served so.
    fn served(mut self, tier: &str) -> Self {
        let (from, to) = match self.dialect {
            "messages" => ("\"usage\":{", format!("\"usage\":{{\"service_tier\":\"{tier}\",")),
            "gemini" => ("\"usageMetadata\":{", format!("\"usageMetadata\":{{\"serviceTier\":\"{tier}\",")),
            "chat" => ("\"id\":\"c1\"", format!("\"id\":\"c1\",\"service_tier\":\"{tier}\"")),
            _ => ("\"id\":\"resp_1\"", format!("\"id\":\"resp_1\",\"service_tier\":\"{tier}\"")),
        };
        let before = self.stream.concat();
        self.stream.iter_mut().for_each(|piece| *piece = piece.replace(from, &to));
        assert_ne!(before, self.stream.concat(), "{}", self.dialect);
        self
    }

    /// What it costs, at a dollar for a million tokens read and two for those written, ten times that above `above` tokens read, half
    /// as flex and three times as priority. And the most that was reserved.
    async fn cost(&self, asked: Option<&str>, above: u64) -> (i64, i64) {
        let mut steps = self.steps(self.stream.len());
        steps.push(Step::End);
        let fake = Fake::start(steps).await;
        let config = format!(
            "[models.m]\nprovider = \"p\"\nupstream = \"u\"\nprice = \"x\"\n[providers.p]\n{}\nbase_url = \"http://{}\"\nkey = \"none\"\n\
             [prices.x]\ninput = \"1\"\noutput = \"2\"\ncache_read = \"0.1\"\ncontext_window = 100000\n\
             tiers = {{ flex = \"0.5\", priority = \"3\" }}\n\
             above = {{ input_tokens = {above}, input = \"10\", output = \"20\", cache_read = \"1\", cache_write_5m = \"10\", cache_write_1h = \"10\" }}\n",
            self.provider, fake.addr
        );
        let house = House::with(fake.addr, Plan { config, ..Plan::default() }).await;
        // So much is reserved that the dearest of these prices is no more: what is charged is what it costs.
        let text = self.request.to_string();
        assert!(text.contains(":100"), "{text}");
        let mut request: Value = serde_json::from_str(&text.replacen(":100", ":5000", 1)).unwrap();
        if let Some(asked) = asked {
            request["service_tier"] = asked.into();
        }
        let answer = Client::send(house.addr, "POST", self.path, KEY, &request.to_string()).await.answer().await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let peak = house.purse.state.lock().unwrap().peak;
        (house.entry().await.cost, peak)
    }
}

#[tokio::test]
async fn row_06_how_a_call_was_served_and_how_much_it_read_decide_its_price() {
    for case in [messages, chat, responses, gemini] {
        let dialect = case().dialect;
        let (plain, _) = case().cost(None, 50_000).await;
        assert!(plain > 0, "{dialect}");
        let served = |tier| async move { case().served(tier).cost(None, 50_000).await.0 };
        assert_eq!(served("standard").await, plain, "{dialect}");
        assert_eq!(served("priority").await, plain * 3, "{dialect}");
        assert_eq!(served("flex").await, plain / 2, "{dialect}");
        assert_eq!(served("something_new").await, plain, "{dialect}: a word without a price");
        assert_eq!(case().cost(None, 5).await.0, plain * 10, "{dialect}: a long request");
        assert_eq!(case().served("priority").cost(None, 5).await.0, plain * 30, "{dialect}: both");
    }
    for case in [chat, responses] {
        let (plain, reserved) = case().cost(None, 50_000).await;
        // It asked to be served cheaper, and was served as everybody is: that was reserved.
        let (cost, peak) = case().served("default").cost(Some("flex"), 50_000).await;
        assert_eq!(cost, plain);
        assert!(peak + 100 >= reserved, "{peak} of {reserved}");
        assert_eq!(case().served("default").cost(Some("priority"), 50_000).await.0, plain, "it was put back");
        assert_eq!(case().cost(Some("priority"), 50_000).await.0, plain * 3, "nothing was said: as it was asked for");
    }
}

#[tokio::test]
async fn row_02_parallel_requests_never_pass_the_limit() {
    let mut steps = vec![stream_head()];
    steps.extend(events().iter().map(chunk));
    steps.push(Step::End);
    let fake = Fake::start(steps).await;
    let house = Arc::new(House::with(fake.addr, Plan { budget: 3_000_000, ..Plan::default() }).await);
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let house = house.clone();
            tokio::spawn(async move { settled(&house).await.status })
        })
        .collect();
    let mut admitted = 0;
    for call in calls {
        admitted += i64::from(call.await.unwrap() == 200);
    }
    house.entries().await;
    let money = house.purse.state.lock().unwrap();
    assert!(money.peak <= 3_000_000 && money.spent == admitted * COST && admitted > 0, "{money:?}");
}

#[tokio::test]
async fn row_04_when_the_budget_cannot_be_reached_nothing_is_sent_and_that_is_recorded() {
    let fake = Fake::start(vec![whole("200 OK", JSON, MESSAGE)]).await;
    let house = House::new(&fake).await;
    house.purse.away.store(true, Ordering::SeqCst);
    let answer = wire::post(house.addr, &request(false)).await;
    assert_eq!((answer.status, fake.requests().len()), (503, 0));
    let notes = house
        .records()
        .iter()
        .filter(|record| matches!(&record.body, Body::Note { code, .. } if code == "budget_unreachable"))
        .count();
    assert_eq!(notes, 1);
}

#[tokio::test]
async fn row_05_a_stream_holds_a_plausible_part_takes_more_as_it_runs_and_is_cut_off_at_the_limit() {
    let long = |pieces: usize| {
        let mut all = events();
        let delta = json!({"type": "content_block_delta", "index": 0,
                           "delta": {"type": "text_delta", "text": "qzxj ".repeat(1_000)}});
        for _ in 0..pieces {
            all.insert(4, named(&delta));
        }
        let mut steps = vec![stream_head()];
        steps.extend(all.iter().map(chunk));
        steps.push(Step::End);
        steps
    };
    let asked = request(true).replace(": 100,", ": 128000,");
    // 128,000 tokens may cost $1.92. A quarter of that is enough for an answer that stays small.
    let fake = Fake::start(long(0)).await;
    let house = House::with(fake.addr, Plan { budget: 500_000_000, ..Plan::default() }).await;
    assert_eq!(wire::post(house.addr, &asked).await.status, 400, "without top-ups the whole bound has to be there");
    house.purse.grows.store(true, Ordering::SeqCst);
    assert_eq!(wire::post(house.addr, &asked).await.status, 200);
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.cost), (Status::Ok, COST));
    // A long one takes more, and where there is no more it ends, with an error that the client knows.
    let fake = Fake::start(long(40)).await;
    let house = House::with(fake.addr, Plan { budget: 500_000_000, ..Plan::default() }).await;
    house.purse.grows.store(true, Ordering::SeqCst);
    let answer = wire::post(house.addr, &asked).await;
    let text = String::from_utf8(answer.body).unwrap();
    assert!(
        text.contains("event: error") && text.contains("the budget of this run has no more"),
        "{}",
        &text[text.len() - 300..]
    );
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("budget")));
    let money = house.purse.state.lock().unwrap();
    assert!(money.peak <= 500_000_000 && money.spent > 122_880_000, "{money:?}");
}

#[tokio::test]
async fn row_07_no_door_leads_past_policy_budget_and_record() {
    for case in cases() {
        let mut steps = case.steps(case.stream.len());
        steps.push(Step::End);
        let fake = Fake::start(steps).await;
        // A caller without money, at every door.
        let mut house = case.house(&fake).await;
        house.purse.away.store(true, Ordering::SeqCst);
        let answer = case.client(&house).await.answer().await;
        assert_eq!((answer.status, fake.requests().len()), (503, 0), "{}", case.dialect);
        // With money: one record that says what it cost.
        house = case.house(&fake).await;
        let answer = case.client(&house).await.answer().await;
        assert_eq!(answer.status, 200, "{}: {}", case.dialect, String::from_utf8_lossy(&answer.body));
        let entry = house.entry().await;
        assert_eq!((entry.status, entry.cost), (Status::Ok, COST), "{}", case.dialect);
        assert_eq!(house.purse.state.lock().unwrap().spent, COST);
    }
}

#[tokio::test]
async fn row_09_a_client_that_hangs_up_at_any_chunk_is_charged_for_what_was_seen_in_every_dialect() {
    for case in cases() {
        let mut last = 0;
        for k in 1..=case.stream.len() {
            let mut steps = case.steps(k);
            steps.push(Step::Gate(Arc::new(Semaphore::new(0))));
            let fake = Fake::start(steps).await;
            let house = case.house(&fake).await;
            let mut client = case.client(&house).await;
            assert!(client.read_until(&case.stream[k - 1]).await, "{} {k}", case.dialect);
            drop(client);
            let entry = house.entry().await;
            fake.left.acquire().await.unwrap().forget();
            assert_eq!(entry.response, case.stream[..k].concat().into_bytes(), "{} {k}", case.dialect);
            assert!(entry.cost > 0, "{} {k}: never nothing", case.dialect);
            if entry.status == Status::Ok {
                assert_eq!(entry.cost, COST, "{} {k}", case.dialect);
            } else {
                assert_eq!(entry.code.as_deref(), Some("stopped"), "{} {k}", case.dialect);
                assert!(entry.usage.output_tokens >= last, "{} {k}: more was seen and less is charged", case.dialect);
                last = entry.usage.output_tokens;
            }
        }
    }
}

#[tokio::test]
async fn row_10_an_answer_in_one_piece_is_kept_and_charged_although_its_client_went() {
    let gate = Arc::new(Semaphore::new(0));
    let fake = Fake::start(vec![Step::Gate(gate.clone()), whole("200 OK", JSON, MESSAGE)]).await;
    let house = House::new(&fake).await;
    let client = Client::post(house.addr, &request(false)).await;
    while fake.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(client);
    gate.add_permits(1);
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.cost, entry.response), (Status::Ok, COST, MESSAGE.as_bytes().to_vec()));
}

#[tokio::test]
async fn row_11_every_call_of_a_provider_has_one_record_by_every_door_and_none_has_two() {
    for case in cases() {
        let mut steps = case.steps(case.stream.len());
        steps.push(Step::End);
        let fake = Fake::start(steps).await;
        let house = case.house(&fake).await;
        for _ in 0..3 {
            assert_eq!(case.client(&house).await.answer().await.status, 200);
        }
        let entries = house.entries().await;
        assert_eq!((entries.len(), fake.requests().len()), (3, 3), "{}", case.dialect);
        for record in house.records() {
            let Body::Open { deed, .. } = &record.body else { continue };
            let public = serde_json::to_value(&deed.context).unwrap();
            assert_eq!(public["dialect"], case.dialect);
            assert_eq!((&public["model"], &public["upstream"]), (&json!("m"), &json!("claude-sonnet-4-6")));
        }
    }
}

#[tokio::test]
async fn row_21_tokens_are_counted_by_the_provider_itself_or_not_at_all() {
    let fake = Fake::start(vec![whole("200 OK", JSON, "{\"input_tokens\": 2095}")]).await;
    let house = House::new(&fake).await;
    let body = request(false).replace("\"max_tokens\" : 100,", "").replace(" \"stream\":false,", "");
    let count = |addr| Client::send(addr, "POST", "/gateway/anthropic/v1/messages/count_tokens?beta=true", KEY, &body);
    let answer = count(house.addr).await.answer().await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"{\"input_tokens\": 2095}"[..]));
    let seen = &fake.requests()[0];
    assert!(seen.head.starts_with("POST /prefix/v1/messages/count_tokens?beta=true "), "{}", seen.head);
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.cost), (Status::Ok, 0), "recorded, and free");
    // A provider that cannot count is not guessed for.
    let chat = chat();
    let house = chat.house(&fake).await;
    let body = body.replace("\"alias\"", "\"m\"");
    let answer = Client::send(house.addr, "POST", "/gateway/anthropic/v1/messages/count_tokens", KEY, &body).await;
    let answer = answer.answer().await;
    assert_eq!((answer.status, answer.error().0.as_str()), (501, "not_supported"));
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn row_28_nobody_is_let_in_without_a_token_and_no_token_crosses_to_a_provider() {
    for case in cases() {
        let mut steps = case.steps(case.stream.len());
        steps.push(Step::End);
        let fake = Fake::start(steps).await;
        let house = case.house(&fake).await;
        let body = case.request.to_string();
        for headers in ["", "x-api-key: nobody\r\n", "authorization: Bearer nobody\r\n", "cookie: run-token\r\n"] {
            let answer: Answer = Client::send(house.addr, "POST", case.path, headers, &body).await.answer().await;
            assert_eq!(answer.status, 401, "{} {headers}", case.dialect);
        }
        assert_eq!(fake.requests().len(), 0);
        for name in ["x-api-key: ", "api-key: ", "x-goog-api-key: ", "authorization: Bearer "] {
            let headers = format!("{name}{TOKEN}\r\n");
            let answer = Client::send(house.addr, "POST", case.path, &headers, &body).await.answer().await;
            assert_eq!(answer.status, 200, "{} {name}", case.dialect);
        }
        for seen in fake.requests() {
            assert!(!seen.head.contains(TOKEN) && header(&seen.head, "authorization").is_none(), "{}", seen.head);
        }
    }
}

#[tokio::test]
async fn row_23_signs_of_life_come_only_while_the_provider_lives() {
    let (ping, silence) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let mut steps = vec![stream_head(), chunk(&events()[0]), Step::Gate(ping.clone())];
    steps.extend((0..2).map(|_| chunk(&events()[1])));
    steps.push(Step::Gate(silence.clone()));
    let fake = Fake::start(steps).await;
    let mut plan = Plan { config: "[models.m]\nupstream = \"claude-sonnet-4-6\"\n".to_owned(), ..Plan::default() };
    plan.limits.keep_alive = std::time::Duration::ZERO;
    plan.limits.idle = std::time::Duration::from_millis(700);
    let house = House::with(fake.addr, plan).await;
    let mut client = chat().client(&house).await;
    assert!(client.read_until("assistant").await);
    ping.add_permits(1);
    assert!(client.read_until(": keep-alive").await, "the provider pinged, and the client hears of it in its own form");
    // From here the provider is silent: no sign of life, and then the end, said in the client's form.
    let answer = client.answer().await;
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.matches(": keep-alive").count() <= 2, "{text}");
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    silence.add_permits(1);
    assert_eq!(house.entry().await.code.as_deref(), Some("timed_out"));
}

#[tokio::test]
async fn row_26_nothing_is_fetched_from_anywhere() {
    let fake = Fake::start(vec![whole("200 OK", JSON, MESSAGE)]).await;
    let house = House::new(&fake).await;
    assert_eq!(wire::post(house.addr, &request(false)).await.status, 200);
    // Prices, models and rules are in the executable: this process has no connection but to itself.
    let own: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    assert!(!own.is_empty());
    let loopback = |address: &str| {
        let host = address.split(':').next().unwrap();
        host == "0100007F"
            || host.chars().all(|c| c == '0')
            || host.ends_with("0100007F")
            || host == "00000000000000000000000001000000"
    };
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6", "/proc/self/net/udp", "/proc/self/net/udp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if own.iter().any(|inode| inode == fields[9]) {
                assert!(loopback(fields[2]), "{table}: {line}");
            }
        }
    }
}
