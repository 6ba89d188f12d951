//! Content rules on the way: what is blocked, taken out, asked about and noted, in requests and in answers.

use serde_json::{Value, json};
use stockade_domain::ContentKind;
use stockade_ledger::{Body, Record, Status};

use crate::{
    fake::{Fake, Step, chunk, stream_head, whole},
    house::{House, Plan, TOKEN},
    wire::{self, Client, MESSAGE, events, request},
};

const JSON: &str = "content-type: application/json\r\n";
/// Not a token that anybody has: made for this test, and put together here so that no scanner takes it for one.
pub fn secret() -> String {
    format!("{}{}", "PROJECT-", "ORION-4711")
}

/// The default bundle with one more rule, about a pattern of the company's own.
pub fn bundle(action: &str, direction: &str) -> String {
    format!(
        "{}\n[[content_pattern]]\nname = \"project\"\nregex = 'PROJECT-[A-Z]+-[0-9]+'\n\
         [[content]]\nid = \"projects-stay-here\"\ntitle = \"Names of secret projects stay here\"\n\
         classes = [\"pattern.project\"]\ndirection = [\"{direction}\"]\naction = \"{action}\"\n",
        stockade_policy::default_bundle()
    )
}

async fn house(fake: &Fake, action: &str, direction: &str) -> House {
    House::with(fake.addr, Plan { bundle: bundle(action, direction), ..Plan::default() }).await
}

pub fn telling() -> String {
    request(true).replace("a story.", &format!("of {}.", secret()))
}

fn deeds(house: &House) -> Vec<Value> {
    let of = |record: &Record| match &record.body {
        Body::Open { deed, .. } | Body::Refused { deed, .. } => Some(serde_json::to_value(deed).unwrap()),
        _ => None,
    };
    house.records().iter().filter_map(of).collect()
}

async fn provider() -> Fake {
    let mut steps = vec![stream_head()];
    steps.extend(events().iter().map(chunk));
    steps.push(Step::End);
    Fake::start(steps).await
}

#[tokio::test]
async fn row_22_a_request_that_is_forbidden_goes_nowhere_and_is_refused_in_the_clients_shape() {
    let fake = provider().await;
    let house = house(&fake, "block", "request").await;
    let answer = wire::post(house.addr, &telling()).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.error().0, "invalid_request_error");
    assert!(answer.error().1.contains("Names of secret projects stay here"), "{}", answer.error().1);
    assert!(!answer.error().1.contains(&secret()));
    let chat = json!({"model": "alias", "messages": [{"role": "user", "content": secret()}]}).to_string();
    let headers = format!("authorization: Bearer {TOKEN}\r\n");
    let answer = Client::send(house.addr, "POST", "/gateway/openai/v1/chat/completions", &headers, &chat).await;
    let answer = answer.answer().await;
    let shape: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, shape["error"]["message"].is_string()), (400, true), "{shape}");
    assert_eq!(fake.requests().len(), 0);
    let deeds = deeds(&house);
    assert_eq!(deeds.len(), 2);
    assert!(deeds.iter().all(|deed| deed["context"]["findings"] == json!(["pattern.project"])), "{deeds:?}");
    let refused = house.records().into_iter().find_map(|record| match record.body {
        Body::Refused { decision, .. } => Some(decision),
        _ => None,
    });
    assert_eq!(refused.unwrap().policies[0].id, "projects-stay-here");
}

#[tokio::test]
async fn what_is_taken_out_of_a_request_is_sealed_with_it_and_everything_else_stays() {
    let fake = provider().await;
    let house = house(&fake, "redact", "request").await;
    assert_eq!(wire::post(house.addr, &telling()).await.status, 200);
    assert_eq!(wire::post(house.addr, &telling()).await.status, 200);
    let sent: Vec<String> = fake.requests().iter().map(|seen| String::from_utf8(seen.body.clone()).unwrap()).collect();
    assert_eq!(sent[0], sent[1], "the same value has the same reference");
    let (before, rest) = sent[0].split_once("[stockade:redacted:pattern.project:").unwrap();
    let (_, after) = rest.split_once(']').unwrap();
    let whole = wire::sent(true).replace("a story.", "of @.");
    assert_eq!(whole.split_once('@').unwrap(), (before, after));
    house.gateway.drain().await;
    let kinds: Vec<ContentKind> = house
        .records()
        .iter()
        .filter_map(|record| match &record.body {
            Body::Open { contents, .. } => Some(contents.iter().map(|content| content.kind).collect::<Vec<_>>()),
            _ => None,
        })
        .next()
        .unwrap();
    assert_eq!(kinds, [ContentKind::ModelRequest, ContentKind::Redacted]);
}

#[tokio::test]
async fn what_nobody_can_be_asked_about_is_refused_and_what_is_noted_passes() {
    let fake = provider().await;
    let asked = house(&fake, "ask", "request").await;
    let answer = wire::post(asked.addr, &telling()).await;
    assert_eq!((answer.status, fake.requests().len()), (400, 0));
    assert!(answer.error().1.contains("a person would have to agree"));
    let noted = house(&fake, "report", "request").await;
    assert_eq!(wire::post(noted.addr, &telling()).await.status, 200);
    assert_eq!(deeds(&noted)[0]["context"]["findings"], json!(["pattern.project"]));
}

/// A stream in which the name comes in pieces.
fn talkative() -> Vec<String> {
    let mut all = events();
    let piece = |text: &str| {
        let data = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
        format!("event: content_block_delta\ndata: {data}\n\n")
    };
    let secret = format!("{} ", secret());
    for (at, part) in [&secret[..3], &secret[3..11], &secret[11..16], &secret[16..]].iter().enumerate() {
        all.insert(5 + at, piece(part));
    }
    all
}

#[tokio::test]
async fn row_22_a_stream_is_stopped_before_what_is_forbidden_is_out() {
    let mut steps = vec![stream_head()];
    steps.extend(talkative().iter().map(chunk));
    steps.push(Step::End);
    let fake = Fake::start(steps).await;
    let house = house(&fake, "block", "response").await;
    let answer = wire::post(house.addr, &request(true)).await;
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.contains("event: error") && text.contains("Names of secret projects stay here"), "{text}");
    assert!(!text.contains("4711") && !text.contains("message_stop"), "{text}");
    let entry = house.entry().await;
    assert_eq!((entry.status, entry.code.as_deref()), (Status::Error, Some("content_blocked")));
    assert!(
        entry.cost > 0 && String::from_utf8(entry.response).unwrap().contains("PRO"),
        "it is charged, and kept sealed"
    );
    let note = house.records().into_iter().find_map(|record| match record.body {
        Body::Note { code, facts, .. } => Some((code, serde_json::to_value(facts).unwrap())),
        _ => None,
    });
    let (code, facts) = note.unwrap();
    assert_eq!(
        (code.as_str(), &facts["action"], &facts["findings"]),
        ("content_findings", &json!("block"), &json!(["pattern.project"]))
    );
}

#[tokio::test]
async fn a_name_is_taken_out_of_a_stream_and_of_an_answer_in_one_piece() {
    let mut steps = vec![stream_head()];
    steps.extend(talkative().iter().map(chunk));
    steps.push(Step::End);
    let fake = Fake::start(steps).await;
    let guarded = house(&fake, "redact", "response").await;
    let answer = wire::post(guarded.addr, &request(true)).await;
    let text = String::from_utf8(answer.body).unwrap();
    assert!(
        text.contains("message_stop") && !text.contains("4711") && text.contains("[stockade:redacted:pattern.project:"),
        "{text}"
    );
    let message = MESSAGE.replace("Hi.", &format!("It is {}!", secret()));
    let fake = Fake::start(vec![whole("200 OK", JSON, &message)]).await;
    let guarded = house(&fake, "redact", "response").await;
    let answer = wire::post(guarded.addr, &request(false)).await;
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(
        answer.complete && said["content"][0]["text"].as_str().unwrap().starts_with("It is [stockade:redacted:"),
        "{said}"
    );
    let blocked = house(&fake, "block", "response").await;
    let answer = wire::post(blocked.addr, &request(false)).await;
    assert_eq!((answer.status, answer.error().0.as_str()), (400, "invalid_request_error"));
    // Our own loop gets what a client would get.
    let guarded = house(&fake, "redact", "response").await;
    let finished = guarded.call(&request(false)).await;
    assert!(finished.message["content"][0]["text"].as_str().unwrap().starts_with("It is [stockade:redacted:"));
}
