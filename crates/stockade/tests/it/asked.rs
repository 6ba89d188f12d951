//! Model calls about which a person is asked: yes, no, silence, clients that hang up, and processes that die meanwhile.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};
use stockade_api::client::GatewayClient;
use stockade_testkit::{
    Form, Installation, Options, Provider,
    provider::{INPUT_TOKENS, OUTPUT_TOKENS, says},
};

use super::{
    provider::{KEY, MODEL, configuration, key_file},
    spine::{records_of, sample_in},
};

/// What one answer costs at 3 and 15 dollars for a million tokens, in nano-dollars.
const CALL: i64 = INPUT_TOKENS * 3_000 + OUTPUT_TOKENS * 15_000;

/// A name that a content rule asks about. Put together here, so that this file does not hold what it looks for.
fn secret() -> String {
    format!("{}{}", "PROJECT-", "ORION")
}

/// A rule about content that wants a person.
const CONTENT: &str = "\n[[content_pattern]]\nname = \"project\"\nregex = 'PROJECT-[A-Z]+'\n\
    [[content]]\nid = \"projects-stay-here\"\ntitle = \"Names of secret projects stay here\"\n\
    classes = [\"pattern.project\"]\ndirection = [\"request\"]\naction = \"ask\"\n";

/// A policy that wants a person before an agent says its first word.
const FIRST_WORD: &str = "\n[[policy]]\nid = \"first-word\"\ntitle = \"A person says yes to the first word\"\n\
    text = '''forbid(principal is Agent, action == Action::\"model.call\", resource)\n\
    when { context has turn && context.turn == 1 && context.unattended };'''\n";

/// Puts the bundle in force with more in it into force, also at the runner.
pub fn add_to_policy(installation: &Installation, more: &str, process: &str) {
    let shown = installation.json(&["policy", "show"]).unwrap();
    let mut table: toml::Table = shown["text"].as_str().unwrap().parse().unwrap();
    // The examples of the shipped bundle say that agents call models unasked.
    table.remove("example");
    let file = installation.folder().join("bundle.toml");
    fs::write(&file, format!("{}{more}", toml::to_string(&table).unwrap())).unwrap();
    installation.json(&["policy", "apply", &file.to_string_lossy()]).unwrap();
    let number = installation.json(&["policy", "show"]).unwrap()["number"].as_u64().unwrap();
    let word = format!("policy bundle {number} is in force");
    installation.until("the bundle at the runner", |i| i.log(process).contains(&word).then_some(())).unwrap();
}

fn body(text: &str) -> Value {
    json!({"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": text}]})
}

struct Scene {
    installation: Installation,
    provider: Provider,
    token: String,
    _kept: (tempfile::TempDir, stockade_testkit::Repository),
}

impl Scene {
    fn new(form: Form, limits: &str) -> Self {
        let provider = Provider::start(KEY, vec![vec![says("a word of the model")]]).unwrap();
        let (folder, line) = key_file(KEY);
        let config = format!("{}{limits}", configuration(&provider, &line));
        let installation = Installation::start(form, Options { config, ..Options::default() }).unwrap();
        let repository = sample_in(&installation, "2");
        let process = if form == Form::OneProcess { "server" } else { "runner" };
        add_to_policy(&installation, CONTENT, process);
        let file = installation.folder().join("gateway-token");
        let path = file.to_string_lossy().into_owned();
        installation
            .json(&["token", "create", "laptop", "--project", "word-count", "--budget", "1", "--out", &path])
            .unwrap();
        let token = fs::read_to_string(&file).unwrap();
        let scene = Self { installation, provider, token, _kept: (folder, repository) };
        let known = |_: &Installation| (scene.post("nothing of note").0 == 200).then_some(());
        scene.installation.until("the token at the site", known).unwrap();
        scene
    }

    fn post(&self, text: &str) -> (u16, String) {
        self.posting(text).join().unwrap().unwrap_or_default()
    }

    /// Sends it, and gives what will come. Nothing if the connection broke.
    fn posting(&self, text: &str) -> JoinHandle<Option<(u16, String)>> {
        let (url, token, body) = (format!("http://{}", self.installation.site_addr()), self.token.clone(), body(text));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let gateway = GatewayClient::new(&url, token.into()).unwrap();
            let (status, bytes) = runtime.block_on(gateway.post("anthropic/v1/messages", &body)).ok()?;
            Some((status, String::from_utf8_lossy(&bytes).into_owned()))
        })
    }

    /// The same over a connection that the caller may drop.
    fn bare(&self, text: &str) -> TcpStream {
        let (token, text) = (&self.token, body(text).to_string());
        let mut client = TcpStream::connect(self.installation.site_addr()).unwrap();
        let head = format!("POST /gateway/anthropic/v1/messages HTTP/1.1\r\nhost: gateway\r\nx-api-key: {token}\r\n");
        let about = "content-type: application/json\r\nanthropic-version: 2023-06-01\r\nconnection: close";
        let about = format!("{about}\r\ncontent-length: {}", text.len());
        write!(client, "{head}{about}\r\n\r\n{text}").unwrap();
        client
    }

    /// How many calls wait for a person, by the runner's numbers.
    fn asking(&self) -> Option<u64> {
        let token = fs::read_to_string(self.installation.data().join("runner/metrics.token")).ok()?;
        let mut client = TcpStream::connect(self.installation.site_addr()).ok()?;
        let head = "GET /metrics HTTP/1.1\r\nhost: site\r\nconnection: close\r\nauthorization: Bearer";
        write!(client, "{head} {}\r\n\r\n", token.trim()).ok()?;
        let mut text = String::new();
        client.read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| line.strip_prefix("stockade_gateway_calls_asking "))?.trim().parse().ok()
    }

    fn pending(&self) -> Vec<String> {
        let listed = self.installation.json(&["approvals", "list"]).unwrap();
        let ids = listed["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned());
        ids.collect()
    }

    /// The one question that is open.
    fn question(&self) -> String {
        let mut pending =
            self.installation.until("a question", |_| Some(self.pending()).filter(|p| !p.is_empty())).unwrap();
        assert_eq!(pending.len(), 1, "{pending:?}");
        pending.remove(0)
    }

    fn say(&self, word: &str, approval: &str) {
        self.installation.json(&["approvals", word, approval]).unwrap();
    }

    fn sent(&self) -> usize {
        self.provider.seen().len()
    }
}

#[test]
fn a_call_of_a_persons_tool_waits_for_a_person_through_all_that_happens() {
    let mut scene = Scene::new(Form::TwoProcesses, "");
    let about = |what: &str| format!("a word about {} {what}", secret());
    let before = scene.sent();

    // Yes: shown, answered, sent.
    let waiting = scene.posting(&about("and one"));
    let approval = scene.question();
    let (_, shown, _) = scene.installation.stockade(&["approvals", "show", &approval]).unwrap();
    for part in ["model.call", "Names of secret projects stay here", "pattern.project", &secret(), "and one"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(scene.sent(), before, "it was sent before anybody said yes");
    scene.say("grant", &approval);
    assert_eq!(waiting.join().unwrap().unwrap().0, 200);
    assert_eq!((scene.sent(), scene.pending().len()), (before + 1, 0));
    let run = scene.installation.json(&["approvals", "show", &approval]).unwrap()["run"].as_str().unwrap().to_owned();
    let about_it = |i: &Installation| {
        let records: Vec<Value> =
            records_of(i, &run).into_iter().map(|record| record["record"]["body"].clone()).collect();
        let asked =
            records.iter().position(|body| body["phase"] == "asked" && body["approval"] == approval.as_str())?;
        let done =
            records.iter().position(|b| b["phase"] == "open" && b["decision"]["approval"] == approval.as_str())?;
        Some((asked, done))
    };
    let (asked, done) = scene.installation.until("the records", about_it).unwrap();
    assert_ne!(asked, done);

    // No: told in the client's own shape, with the question; and a person is not asked twice.
    let waiting = scene.posting(&about("and two"));
    let approval = scene.question();
    scene.say("deny", &approval);
    let (status, text) = waiting.join().unwrap().unwrap();
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, error["error"]["type"].as_str()), (400, Some("invalid_request_error")), "{text}");
    assert!(text.contains(&approval) && text.contains("usr_") && !text.contains(&secret()), "{text}");
    assert_eq!(scene.post(&about("and two")).0, 400);
    assert!(scene.pending().is_empty());

    // The client hangs up: its question stays, and a yes is for its next attempt.
    let client = scene.bare(&about("and three"));
    let approval = scene.question();
    assert_eq!(scene.asking(), Some(1));
    drop(client);
    scene.installation.until("the call to end", |_| (scene.asking() == Some(0)).then_some(())).unwrap();
    scene.say("grant", &approval);
    let mut answer = String::new();
    scene.bare(&about("and three")).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!((scene.sent(), scene.pending().len()), (before + 2, 0));

    // The runner dies while a call waits: nothing was sent, and the question is still the same.
    let waiting = scene.posting(&about("and four"));
    let approval = scene.question();
    scene.installation.kill_runner().unwrap();
    assert!(waiting.join().unwrap().is_none(), "the connection should have broken");
    scene.installation.start_runner().unwrap();
    let waiting = scene.posting(&about("and four"));
    assert_eq!(scene.question(), approval);
    scene.say("grant", &approval);
    assert_eq!(waiting.join().unwrap().unwrap().0, 200);
    assert_eq!((scene.sent(), scene.pending().len()), (before + 3, 0));

    // The server is away: nobody can be asked, and that is what is said.
    scene.installation.kill_server().unwrap();
    let noticed = |i: &Installation| i.log("runner").contains("the server is away").then_some(());
    scene.installation.until("the runner to notice", noticed).unwrap();
    let (status, text) = scene.post(&about("and five"));
    assert!(status == 400 && text.contains("the server is away"), "{status} {text}");
    assert_eq!(scene.sent(), before + 3);

    // What was sent is what was paid.
    scene.installation.start_server().unwrap();
    let paid = |i: &Installation| {
        let sums = i.json(&["calls", "list", "--by", "model"]).ok()?;
        let all = i64::try_from(scene.sent()).ok()?;
        (sums["items"][0]["cost"] == all * CALL).then_some(())
    };
    scene.installation.until("the sum of the calls", paid).unwrap();
}

#[test]
fn a_late_yes_is_for_the_next_equal_request_and_for_one() {
    let scene = Scene::new(Form::OneProcess, "\n[gateway.limits.ask]\nwait_ms = 500\nvalid_ms = 600000\n");
    let before = scene.sent();
    let text = format!("{} at night", secret());
    let (status, told) = scene.post(&text);
    let approval = scene.question();
    assert!(status == 400 && told.contains("nobody answered in time") && told.contains(&approval), "{told}");
    scene.say("grant", &approval);
    // The runner hears of it within moments.
    let heard = |_: &Installation| (scene.post(&text).0 == 200).then_some(());
    scene.installation.until_within(Duration::from_secs(20), "the late yes", heard).unwrap();
    assert_eq!(scene.sent(), before + 1);
    let (status, told) = scene.post(&text);
    let next = scene.question();
    assert!(status == 400 && told.contains(&next) && next != approval, "a yes is for once: {told}");
    assert_eq!(scene.sent(), before + 1);
}

#[test]
fn a_run_parks_where_policy_asks_about_its_model_call() {
    let (mut installation, _repository) = super::spine::with_sample(Form::TwoProcesses, "4");
    add_to_policy(&installation, FIRST_WORD, "runner");
    let run = |installation: &Installation, more: &[&str]| {
        installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", more).unwrap()
    };
    let yes = run(&installation, &[]);
    let approval = installation.approval(&yes).unwrap();
    assert_eq!(
        (approval["action"].as_str(), approval["policy"].as_str()),
        (Some("model.call"), Some("A person says yes to the first word"))
    );
    assert_eq!(installation.json(&["runs", "show", &yes]).unwrap()["state"], "waiting_approval");
    // A runner that dies meanwhile asks nothing anew.
    installation.kill_runner().unwrap();
    installation.start_runner().unwrap();
    installation.json(&["approvals", "grant", approval["id"].as_str().unwrap()]).unwrap();
    let ended = installation.ended(&yes).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}");

    let asked = installation.json(&["approvals", "list", "--all"]).unwrap();
    assert_eq!(asked["items"].as_array().unwrap().len(), 1, "{asked}");

    let no = run(&installation, &[]);
    let approval = installation.approval(&no).unwrap();
    installation.json(&["approvals", "deny", approval["id"].as_str().unwrap()]).unwrap();
    // Silence is a no, too.
    let silent = run(&installation, &["--approval-timeout", "2s"]);
    for run in [no, silent] {
        let ended = installation.ended(&run).unwrap();
        assert_eq!((ended["state"].as_str(), ended["cause"].as_str()), (Some("failed"), Some("policy")), "{ended}");
    }
}
