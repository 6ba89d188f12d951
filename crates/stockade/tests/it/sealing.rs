//! The server never has plain text, and a destroyed key is the end of the content.

use std::fs;

use stockade_testkit::{Form, Installation, Options, Proxy, Repository, installation::files};

/// Words that stand in the prompt, in a file, in what a tool prints and so in the diff and the model's context.
const PROMPT: &str = "canary-prompt-7f3a91";
const FILE: &str = "canary-file-2b8c44";
const OUTPUT: &str = "canary-output-d05e16";

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[test]
fn the_server_never_stores_or_receives_plain_text() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // The server's port is known before it starts, so that everybody reaches it through the proxy only.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = runtime.block_on(Proxy::start(([127, 0, 0, 1], port).into())).unwrap();
    let options =
        Options { server_seen_from_runner: Some(proxy.addr()), server_port: Some(port), ..Options::default() };
    let mut installation = Installation::start(Form::TwoProcesses, options).unwrap();
    let folder = installation.folder().join("secret-project");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("notes.txt"), format!("{FILE}\n")).unwrap();
    let repository = Repository::init(&folder).unwrap();

    let through = format!("http://{}", proxy.addr());
    let path = folder.to_string_lossy().into_owned();
    let add = [
        "project",
        "add",
        "secret",
        "--repository",
        &path,
        "--level",
        "2",
        "--gate",
        "cat notes.txt",
        "--url",
        &through,
    ];
    installation.json(&add).unwrap();
    let task = format!("Work with {PROMPT}.");
    let run = installation.run("secret", "rehearsal/canary", &task, &["--url", &through]).unwrap();
    let ended = installation.grant_all(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}\n{}", installation.logs());
    assert!(
        repository.file(&format!("stockade/{run}"), "notes.txt").unwrap().contains(OUTPUT),
        "the words did take part"
    );

    // Whoever may read gets it from the site, and the reading is recorded.
    let shown = installation.json(&["runs", "show", &run, "--transcript", "--diff"]).unwrap();
    let text = shown.to_string();
    for word in [PROMPT, FILE, OUTPUT] {
        assert!(text.contains(word), "{word} cannot be read by whom policy allows: {text}");
    }
    let readings = installation.json(&["audit", "search", "--action", "content.read"]).unwrap();
    assert!(!readings["items"].as_array().unwrap().is_empty(), "the reading has no record");
    let export = installation.folder().join("export.jsonl");
    installation.json(&["audit", "export", "--with-content", "--output", &export.to_string_lossy()]).unwrap();

    installation.stop().unwrap();
    let mut searched = 0;
    let mut look = |what: &str, bytes: &[u8]| {
        searched += bytes.len();
        for word in [PROMPT, FILE, OUTPUT] {
            assert!(!contains(bytes, word), "{word} stands in {what} in plain text");
        }
    };
    look("what was sent to the server", &proxy.seen());
    look("the export", &fs::read(&export).unwrap());
    look("the server's log", &fs::read(installation.folder().join("server.log")).unwrap());
    look("the runner's log", &fs::read(installation.folder().join("runner.log")).unwrap());
    for file in files(&installation.data().join("server")) {
        look(&file.display().to_string(), &fs::read(&file).unwrap());
    }
    assert!(searched > 100_000, "only {searched} bytes were searched: was anything sent through the proxy?");
}

#[test]
fn an_erased_run_is_unreadable_for_ever_and_the_record_still_verifies() {
    let (installation, _repository) = super::spine::with_sample(Form::TwoProcesses, "4");
    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    assert_eq!(installation.ended(&run).unwrap()["state"], "succeeded");
    let shown = installation.json(&["runs", "show", &run, "--transcript"]).unwrap();
    assert!(!shown["transcript"].as_array().unwrap().is_empty());

    installation.json(&["runs", "erase", &run, "--yes"]).unwrap();
    // The runner takes its part of the key away when it next hears from the server.
    installation
        .until("the content to be gone", |i| {
            let (status, _, _) = i.stockade(&["runs", "show", &run, "--transcript", "--json"]).ok()?;
            (status != 0).then_some(())
        })
        .unwrap();
    let journals = installation.data().join("runner/runs").join(&run).join("journal");
    installation.until("the journal to go", |_| (!journals.exists()).then_some(())).unwrap();
    assert_eq!(installation.json(&["runs", "show", &run]).unwrap()["erased"], true);

    let export = installation.folder().join("export.jsonl").to_string_lossy().into_owned();
    installation.json(&["audit", "export", "--with-content", "--output", &export]).unwrap();
    let (status, stdout, stderr) = installation.stockade(&["audit", "verify", &export]).unwrap();
    assert_eq!(status, 0, "{stdout}{stderr}");
}
