//! Calls about which a person is asked: how they wait, what an answer does, and what an answer is bound to.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use stockade_domain::{ContentKind, Timestamp, World, ids::ApprovalId};
use stockade_gateway::{Approvals, CallError, Inquiry, Unasked, Word};
use stockade_ledger::{Body, SystemWorld};
use stockade_policy::Bundle;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    fake::{Fake, header, whole},
    guarded::{bundle, secret, telling},
    house::{House, Plan},
    refusals::ASKS,
    wire::{self, Client, MESSAGE, request},
};

const WAITS: &str = "[limits]\ncalls = 1\n[limits.ask]\nwait_ms = 600000\nvalid_ms = 600000\n";
const HASTY: &str = "[limits.ask]\nwait_ms = 0\n";

struct Asked {
    approval: ApprovalId,
    inquiry: Inquiry,
    answer: Option<bool>,
    spent: bool,
    /// Whether it was its time that answered.
    over: bool,
}

/// People in memory.
#[derive(Clone)]
struct People {
    asked: Arc<Mutex<Vec<Asked>>>,
    news: watch::Sender<usize>,
    away: bool,
}

impl People {
    fn new() -> Self {
        Self { asked: Arc::default(), news: watch::Sender::new(0), away: false }
    }

    fn word(&self, approval: ApprovalId) -> Word {
        let asked = self.asked.lock().unwrap();
        let one = asked.iter().find(|one| one.approval == approval).unwrap();
        match one.answer {
            Some(true) => Word::Yes { approval },
            Some(false) => Word::No { approval, by: (!one.over).then_some(one.inquiry.owner) },
            None => Word::Silence { approval, until: Timestamp(0), shown: one.inquiry.shown.content },
        }
    }

    /// Waits until so many questions were asked.
    async fn questions(&self, count: usize) {
        let mut news = self.news.subscribe();
        let there = news.wait_for(|_| self.asked.lock().unwrap().len() >= count);
        timeout(Duration::from_secs(20), there).await.unwrap().unwrap();
    }

    fn answer(&self, number: usize, yes: bool) {
        self.asked.lock().unwrap()[number].answer = Some(yes);
        self.news.send_modify(|n| *n += 1);
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl Approvals for People {
    async fn ask(&self, inquiry: Inquiry) -> Result<Word, Unasked> {
        if self.away {
            return Err(Unasked::Away);
        }
        let patience = inquiry.patience;
        let mut news = self.news.subscribe();
        let approval = {
            let mut asked = self.asked.lock().unwrap();
            let known = asked.iter().find(|one| one.inquiry.subject == inquiry.subject && !one.spent);
            let known = known.map(|one| one.approval);
            known.unwrap_or_else(|| {
                let approval = (&SystemWorld as &dyn World).id();
                asked.push(Asked { approval, inquiry, answer: None, spent: false, over: false });
                approval
            })
        };
        self.news.send_modify(|n| *n += 1);
        let answered = news.wait_for(|_| !matches!(self.word(approval), Word::Silence { .. }));
        let _ = timeout(patience, answered).await;
        Ok(self.word(approval))
    }

    async fn spend(&self, approval: ApprovalId) -> Result<bool, Unasked> {
        let mut asked = self.asked.lock().unwrap();
        let one = asked.iter_mut().find(|one| one.approval == approval).unwrap();
        Ok(!std::mem::replace(&mut one.spent, true))
    }
}

async fn provider() -> Fake {
    Fake::start(vec![whole("200 OK", "content-type: application/json\r\n", MESSAGE)]).await
}

async fn house(fake: &Fake, people: &People, config: &str) -> House {
    let approvals = Arc::new(people.clone());
    let (bundle, config) = (bundle("ask", "request"), config.to_owned());
    House::with(fake.addr, Plan { bundle, config, approvals, ..Plan::default() }).await
}

#[tokio::test]
async fn a_call_waits_for_a_person_holds_nothing_and_goes_on_with_a_yes() {
    let (fake, people) = (provider().await, People::new());
    let house = house(&fake, &people, WAITS).await;
    let waiting = Client::post(house.addr, &telling()).await;
    people.questions(1).await;
    assert!(house.purse.state.lock().unwrap().reserved.is_empty(), "money is set aside while it waits");
    // There is one place, and it is free.
    assert_eq!(wire::post(house.addr, &request(false)).await.status, 200);
    assert_eq!(fake.requests().len(), 1);
    assert!(house.gateway.gauges().iter().any(|gauge| gauge.name.ends_with("calls_asking") && gauge.value == 1));

    let (approval, text) = {
        let asked = people.asked.lock().unwrap();
        let inquiry = &asked[0].inquiry;
        assert_eq!(inquiry.shown.content.kind, ContentKind::Question);
        assert_eq!(inquiry.request.content.kind, ContentKind::ModelRequest);
        assert_eq!(inquiry.decision.policies[0].id, "projects-stay-here");
        (asked[0].approval, house.open(ContentKind::Question, &inquiry.shown.bytes))
    };
    assert!(text.contains("Names of secret projects stay here") && text.contains("pattern.project in text"), "{text}");
    assert!(text.contains(&secret()), "{text}");
    people.answer(0, true);
    assert_eq!(waiting.answer().await.status, 200);
    let sent = String::from_utf8(fake.requests()[1].body.clone()).unwrap();
    assert_eq!(sent, telling().replacen("\"alias\"", "\"claude-sonnet-4-6\"", 1));
    let granted = house.records().into_iter().find_map(|record| match record.body {
        Body::Open { decision, .. } => decision.approval.map(|approval| (approval, decision.policies[0].id.clone())),
        _ => None,
    });
    assert_eq!(granted, Some((approval, "projects-stay-here".to_owned())));
    assert_eq!(house.entries().await.len(), 2);
}

#[tokio::test]
async fn a_no_is_told_with_whose_it_is_and_holds_for_the_same_request() {
    let (fake, people) = (provider().await, People::new());
    let house = house(&fake, &people, WAITS).await;
    let waiting = Client::post(house.addr, &telling()).await;
    people.questions(1).await;
    people.answer(0, false);
    let answer = waiting.answer().await;
    let (kind, text) = answer.error();
    assert_eq!((answer.status, kind.as_str()), (400, "invalid_request_error"));
    let approval = people.asked.lock().unwrap()[0].approval;
    for part in ["Names of secret projects stay here", &house.caller.owner.to_string(), &approval.to_string()] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains(&secret()));
    assert_eq!(wire::post(house.addr, &telling()).await.status, 400);
    assert_eq!((people.count(), fake.requests().len()), (1, 0), "a person is not asked twice");
    let refused: Vec<_> = house
        .records()
        .into_iter()
        .filter_map(|record| match record.body {
            Body::Refused { decision, .. } => Some((decision.answer.as_str(), decision.policies[0].id.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(refused, vec![("ask", "projects-stay-here".to_owned()); 2]);
}

#[tokio::test]
async fn a_late_yes_is_for_the_same_request_once() {
    let (fake, people) = (provider().await, People::new());
    let house = house(&fake, &people, HASTY).await;
    let answer = wire::post(house.addr, &telling()).await;
    let approval = people.asked.lock().unwrap()[0].approval;
    let (_, text) = answer.error();
    assert_eq!(answer.status, 400);
    assert!(text.contains("nobody answered in time") && text.contains(&approval.to_string()), "{text}");
    assert!(text.contains("send the same request again"), "{text}");
    people.answer(0, true);
    // Another request is another question.
    let other = telling().replace("of PROJECT", "OF PROJECT");
    assert_ne!(other, telling());
    assert_eq!((wire::post(house.addr, &other).await.status, people.count()), (400, 2));
    assert_eq!((wire::post(house.addr, &telling()).await.status, people.count()), (200, 2));
    assert_eq!((wire::post(house.addr, &telling()).await.status, people.count()), (400, 3), "a yes is for once");
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn silence_until_the_questions_end_is_a_no_of_nobody() {
    let (fake, people) = (provider().await, People::new());
    let house = house(&fake, &people, WAITS).await;
    let waiting = Client::post(house.addr, &telling()).await;
    people.questions(1).await;
    people.asked.lock().unwrap()[0].over = true;
    people.answer(0, false);
    let answer = waiting.answer().await;
    assert_eq!((answer.status, fake.requests().len()), (400, 0));
    assert!(answer.error().1.contains("nobody answered while the question was open"), "{}", answer.error().1);
}

#[tokio::test]
async fn of_two_equal_calls_that_wait_one_yes_lets_one_go() {
    let (fake, people) = (provider().await, People::new());
    let house = house(&fake, &people, WAITS).await;
    let (one, two) = (Client::post(house.addr, &telling()).await, Client::post(house.addr, &telling()).await);
    people.questions(1).await;
    let both = async {
        while house.gateway.gauges().iter().all(|gauge| !gauge.name.ends_with("calls_asking") || gauge.value < 2) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), both).await.unwrap();
    people.answer(0, true);
    people.questions(2).await;
    people.answer(1, false);
    let mut statuses = [one.answer().await.status, two.answer().await.status];
    statuses.sort_unstable();
    assert_eq!((statuses, fake.requests().len(), people.count()), ([200, 400], 1, 2));
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_its_question_and_nothing_else() {
    let (fake, people) = (provider().await, People::new());
    let house = house(&fake, &people, WAITS).await;
    let waiting = Client::post(house.addr, &telling()).await;
    people.questions(1).await;
    drop(waiting);
    let gone = async {
        while house.gateway.gauges().iter().any(|gauge| gauge.name.ends_with("calls_asking") && gauge.value > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.unwrap();
    people.answer(0, true);
    assert_eq!(fake.requests().len(), 0);
    assert_eq!((wire::post(house.addr, &telling()).await.status, people.count()), (200, 1));
}

#[tokio::test]
async fn only_so_many_calls_of_one_person_wait() {
    let (fake, people) = (provider().await, People::new());
    let config = format!("{WAITS}waiting = 1\n");
    let house = house(&fake, &people, &config).await;
    let waiting = Client::post(house.addr, &telling()).await;
    people.questions(1).await;
    let other = wire::post(house.addr, &telling().replace("of PROJECT", "OF PROJECT")).await;
    assert_eq!((other.status, other.error().0.as_str()), (429, "rate_limit_error"));
    assert!(header(&other.head, "retry-after").is_some() && other.error().1.contains("wait for a person"));
    // A gateway that stops lets nobody wait on.
    house.gateway.drain().await;
    assert_eq!(waiting.answer().await.status, 503);
    assert_eq!(fake.requests().len(), 0);
}

#[tokio::test]
async fn a_yes_does_not_outweigh_the_policy_of_the_day() {
    let (fake, people) = (provider().await, People::new());
    let house = house(&fake, &people, WAITS).await;
    let waiting = Client::post(house.addr, &telling()).await;
    people.questions(1).await;
    house.policy.store(Arc::new(Bundle::parse(2, &bundle("block", "request")).unwrap()));
    people.answer(0, true);
    let answer = waiting.answer().await;
    assert_eq!((answer.status, fake.requests().len()), (400, 0));
    assert!(answer.error().1.starts_with("refused by policy: Names of secret projects stay here"));
    assert!(!people.asked.lock().unwrap()[0].spent, "nothing was done with the yes");
}

#[tokio::test]
async fn a_token_that_ends_meanwhile_takes_its_call_with_it() {
    let (fake, people) = (provider().await, People::new());
    let house = house(&fake, &people, WAITS).await;
    let waiting = Client::post(house.addr, &telling()).await;
    people.questions(1).await;
    house.erase();
    people.answer(0, true);
    let answer = waiting.answer().await;
    assert_eq!((answer.status, fake.requests().len()), (400, 0));
    assert!(answer.error().1.contains("has ended"), "{}", answer.error().1);
    assert!(!people.asked.lock().unwrap()[0].spent);
}

#[tokio::test]
async fn what_goes_on_after_a_yes_is_redacted_by_the_rules_that_say_so() {
    let (fake, people) = (provider().await, People::new());
    let bundle = format!(
        "{}[[content_words]]\nname = \"names\"\nwords = [\"rumpelstilz\"]\n\
         [[content]]\nid = \"no-names\"\ntitle = \"No names\"\nclasses = [\"words.names\"]\naction = \"redact\"\n",
        bundle("ask", "request")
    );
    let plan = Plan { bundle, config: WAITS.to_owned(), approvals: Arc::new(people.clone()), ..Plan::default() };
    let house = House::with(fake.addr, plan).await;
    let body = telling().replace("Tell me", "rumpelstilz");
    let waiting = Client::post(house.addr, &body).await;
    people.questions(1).await;
    people.answer(0, true);
    assert_eq!(waiting.answer().await.status, 200);
    let sent = String::from_utf8(fake.requests()[0].body.clone()).unwrap();
    assert!(sent.contains(&secret()) && sent.contains("[stockade:redacted:words.names:"), "{sent}");
    assert!(!sent.contains("rumpelstilz"), "{sent}");
}

#[tokio::test]
async fn a_policy_asks_too_and_our_own_loop_is_told_at_once() {
    let (fake, people) = (provider().await, People::new());
    let plan = Plan {
        bundle: ASKS.to_owned(),
        config: WAITS.to_owned(),
        approvals: Arc::new(people.clone()),
        ..Plan::default()
    };
    let house = House::with(fake.addr, plan).await;
    let call = || house.gateway.call(house.caller.clone(), Bytes::from(request(false)), CancellationToken::new());
    let error = call().await.unwrap_err();
    let CallError::Unanswered { approval, title, .. } = error else { panic!("{error:?}") };
    assert_eq!((title.as_str(), approval), ("Dear calls want a person", people.asked.lock().unwrap()[0].approval));
    assert!(house.records().is_empty(), "it is no refusal: the run parks");
    people.answer(0, true);
    assert!(call().await.unwrap().ok());
    let waiting = Client::post(house.addr, &request(true)).await;
    people.questions(2).await;
    people.answer(1, false);
    assert_eq!(waiting.answer().await.status, 400);
}

#[tokio::test]
async fn where_nobody_can_be_asked_it_is_refused_and_said_why() {
    let fake = provider().await;
    let people = People { away: true, ..People::new() };
    let house = house(&fake, &people, WAITS).await;
    let chat = json!({"model": "alias", "messages": [{"role": "user", "content": secret()}]}).to_string();
    let headers = format!("authorization: Bearer {}\r\n", crate::house::TOKEN);
    let answer = Client::send(house.addr, "POST", "/gateway/openai/v1/chat/completions", &headers, &chat).await;
    let answer = answer.answer().await;
    let shape: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status, 400);
    assert!(shape["error"]["message"].as_str().unwrap().contains("the server is away"), "{shape}");
    assert!(matches!(house.records()[0].body, Body::Refused { .. }) && fake.requests().is_empty());
}

#[tokio::test]
async fn what_is_shown_has_its_bounds() {
    let (fake, people) = (provider().await, People::new());
    let house = house(&fake, &people, HASTY).await;
    let long = format!("{} {}end of it", "y".repeat(100_000), format!("{}, ", secret()).repeat(30));
    assert_eq!(wire::post(house.addr, &telling().replace("Tell me", &long)).await.status, 400);
    let inquiry = people.asked.lock().unwrap()[0].inquiry.clone();
    let text = house.open(ContentKind::Question, &inquiry.shown.bytes);
    assert!(text.len() < 30_000 && text.contains("the last 16384 bytes") && text.contains("end of it"), "{text}");
    assert_eq!(text.matches("found:    pattern.project").count(), 20, "{text}");
    assert!(text.contains("and 11 more"), "{text}");
}

#[tokio::test]
async fn a_place_that_nobody_is_asked_about_is_taken_first_and_a_yes_leads_to_the_place_it_was_for() {
    for (rule, count, sent) in [("providers = [\"anthropic\"]\n", 0, [0, 1]), ("", 1, [1, 0])] {
        let (first, second, people) = (provider().await, provider().await, People::new());
        let config = format!(
            "fallbacks = [\"other\"]\n[models.other]\nprovider = \"second\"\nupstream = \"claude-sonnet-4-6\"\n\
             [providers.second]\nkind = \"anthropic\"\nbase_url = \"http://{}\"\nkey = \"none\"\n{WAITS}",
            second.addr
        );
        let approvals = Arc::new(people.clone());
        let bundle = format!("{}{rule}", bundle("ask", "request"));
        let house = House::with(first.addr, Plan { bundle, config, approvals, ..Plan::default() }).await;
        let waiting = Client::post(house.addr, &telling()).await;
        if count > 0 {
            people.questions(count).await;
            people.answer(0, true);
        }
        assert_eq!((waiting.answer().await.status, people.count()), (200, count), "{rule}");
        assert_eq!([first.requests().len(), second.requests().len()], sent, "{rule}");
    }
}
