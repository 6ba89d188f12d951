//! Classes of real environments: what a name comes to, where a class lets one go, resting and coming back, what was used and started.

use serde_json::Value;
use stockade_testkit::{Form, Installation, Options};

use super::{
    bad_input::is_one_clear_error,
    spine::{records_of, sample_in},
};

const CLASSES: &str = "[[class]]\nname = \"middling\"\nmemory_mib = 1024\ncpu_millis = 1500\ndisk_mib = 1024\nidle_seconds = 2\n\
    price_per_hour = \"3.6\"\nprice_per_core_hour = \"36\"\n\
    [[class]]\nname = \"shut\"\nmemory_mib = 1024\ndisk_mib = 1024\nnetwork = \"gateway\"\n\
    [[class]]\nname = \"alone\"\nmemory_mib = 1024\ndisk_mib = 1024\nnetwork = \"none\"\n\
    [[class]]\nname = \"brief\"\nmemory_mib = 1024\ndisk_mib = 1024\nlifetime_seconds = 6\n";

fn begin(form: Form) -> (Installation, stockade_testkit::Repository) {
    let installation = Installation::start(form, Options { config: CLASSES.to_owned(), ..Options::default() }).unwrap();
    let repository = sample_in(&installation, "1");
    (installation, repository)
}

/// A run that waits for a person before its first command, with its environment.
fn waiting(installation: &Installation, class: &str) -> (String, String) {
    let (model, task) = ("rehearsal/fix-the-bug", "The tests fail: make them green.");
    let run = installation.run("word-count", model, task, &["--class", class]).unwrap();
    installation.approval(&run).unwrap();
    let listed = installation.json(&["environments", "list"]).unwrap();
    let of_run = |environment: &&Value| environment["run"] == run.as_str();
    let environment = listed["items"].as_array().unwrap().iter().find(of_run).unwrap();
    assert_eq!(environment["class"], class, "{environment}");
    (run, environment["id"].as_str().unwrap().to_owned())
}

fn observed(installation: &Installation, environment: &str) -> String {
    installation.json(&["environments", "show", environment]).unwrap()["observed"].as_str().unwrap().to_owned()
}

fn inside(installation: &Installation, environment: &str, program: &str) -> (i32, String) {
    let args = ["environments", "exec", environment, "--", "python3", "-c", program];
    let (status, stdout, stderr) = installation.stockade(&args).unwrap();
    (status, stdout + &stderr)
}

#[test]
fn a_class_is_chosen_by_name_and_an_unknown_one_is_refused_with_those_that_there_are() {
    let (installation, repository) = begin(Form::OneProcess);
    let listed = installation.json(&["classes", "list"]).unwrap();
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|class| class["name"].clone()).collect();
    assert_eq!(names, ["middling", "shut", "alone", "brief"]);
    assert_eq!((&listed["items"][0]["default"], &listed["items"][0]["cpu_millis"]), (&true.into(), &1_500.into()));
    let (_, shown, _) = installation.stockade(&["classes", "list"]).unwrap();
    assert!(shown.contains("middling *") && shown.contains("$3.60 an hour + $36.00 a core hour"), "{shown}");
    let path = repository.path().to_string_lossy().into_owned();
    let with_class = |args: &[&str]| {
        let (status, _, stderr) = installation.stockade(args).unwrap();
        (status, stderr)
    };
    for args in [
        &["run", "--detach", "--project", "word-count", "--class", "huge", "x"][..],
        &["project", "add", "other", "--repository", &path, "--class", "huge"],
        &["run", "--detach", "--project", "word-count", "--class", "", "--agent", "no-agent", "x"],
    ] {
        let (status, stderr) = with_class(args);
        assert_eq!(status, 2, "{args:?}: {stderr}");
    }
    let (_, stderr) = with_class(&["run", "--detach", "--project", "word-count", "--class", "huge", "x"]);
    is_one_clear_error(&stderr, "middling, shut, alone, brief");
    let (status, stderr) =
        with_class(&["run", "--detach", "--project", "word-count", "--class", "alone", "--agent", "codex", "x"]);
    assert_eq!(status, 2, "{stderr}");
    is_one_clear_error(&stderr, "gateway");
}

#[test]
fn a_class_without_a_way_out_has_none_and_one_with_the_gateway_has_nothing_else() {
    let (installation, _repository) = begin(Form::OneProcess);
    let gateway = "import urllib.request\ntry: print(urllib.request.urlopen('http://gateway.stockade.internal/gateway/', timeout=5).status)\n\
        except urllib.error.HTTPError as e: print('said', e.code)\nexcept Exception as e: print('nothing', e)\n";
    let beyond = "import socket\ntry:\n s=socket.create_connection(('example.org',22),5); s.settimeout(5); s.sendall(b'SSH-2.0-x\\r\\n'); print('got', s.recv(9))\n\
        except OSError as e: print('nothing')\n";
    let (run, environment) = waiting(&installation, "shut");
    let (_, said) = inside(&installation, &environment, gateway);
    assert!(said.contains("said 4"), "the gateway answers: {said}");
    let (_, said) = inside(&installation, &environment, beyond);
    assert!(said.contains("nothing") || said.contains("got b''"), "{said}");
    installation
        .until("the record of it", |i| {
            let text = records_of(i, &run).iter().map(ToString::to_string).collect::<String>();
            (text.contains("class-network") && text.contains("example.org")).then_some(())
        })
        .unwrap();
    let (run, environment) = waiting(&installation, "alone");
    for program in [gateway, beyond] {
        let (_, said) = inside(&installation, &environment, program);
        assert!(said.contains("nothing"), "{said}");
    }
    let text = records_of(&installation, &run).iter().map(ToString::to_string).collect::<String>();
    assert!(!text.contains("connection.open"), "nothing arrives anywhere: {text}");
}

#[test]
fn an_environment_rests_and_comes_back_and_what_it_used_survives_a_killed_runner() {
    let (mut installation, _repository) = begin(Form::TwoProcesses);
    let (run, environment) = waiting(&installation, "middling");
    let rests = |i: &Installation| (observed(i, &environment) == "stopped").then_some(());
    installation.until("it to rest", rests).unwrap();
    assert!(installation.guests().is_empty(), "nothing of it runs");
    // A person goes in: it is there again, with its files; and it does not rest while somebody is inside.
    let work = "import time,subprocess\nwhile time.process_time()<1.5: pass\nfor _ in range(20): subprocess.run(['/bin/true'])\n\
        open('/workspace/note','w').write('kept')\ntime.sleep(14)\nprint('still here')\n";
    let (status, said) = inside(&installation, &environment, work);
    assert_eq!((status, said.trim()), (0, "still here"));
    installation.kill_runner().unwrap();
    installation.start_runner().unwrap();
    installation.until("it to rest again", rests).unwrap();
    let shown = installation.json(&["environments", "show", &environment]).unwrap();
    let usage = &shown["usage"];
    let number = |name: &str| usage[name].as_u64().unwrap();
    assert!(number("cpu_ms") >= 1_400, "what was used before the kill is not lost: {shown}");
    assert!(number("running_ms") >= 15_000 && number("running_ms") < 240_000, "{shown}");
    assert!(number("memory_byte_seconds") > 1 << 20 && number("memory_peak_bytes") > 1 << 20, "{shown}");
    assert!(number("disk_peak_bytes") > 0, "{shown}");
    let cost = number("running_ms") * 1_000 + number("cpu_ms") * 10_000;
    assert_eq!(shown["cost"].as_u64().unwrap(), cost, "{shown}");
    // The run goes on where it stood, and all of it is summed and told.
    let ended = installation.grant_all(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let ended = installation.json(&["runs", "show", &run]).unwrap();
    assert!(ended["environment_cost"].as_u64().unwrap() >= cost, "{ended}");
    assert!(ended["environment_usage"]["cpu_ms"].as_u64().unwrap() >= number("cpu_ms"), "{ended}");
    let (_, said, _) = installation.stockade(&["runs", "show", &run]).unwrap();
    assert!(said.contains("for the environment") && said.contains("MiB at most"), "{said}");
    let started = installation.json(&["environments", "executions", &run]).unwrap();
    let programs = started["programs"].as_array().unwrap();
    let named = |name: &str| programs.iter().filter(|p| p["path"].as_str().unwrap().ends_with(name)).count();
    assert!(named("/true") > 0 && named("sh") > 0, "{started}");
    let trues: u64 = programs.iter().filter(|p| p["path"] == "/bin/true").map(|p| p["starts"].as_u64().unwrap()).sum();
    assert_eq!(trues, 20, "each start once: {started}");
    let of_one = installation.json(&["environments", "executions", &environment]).unwrap();
    assert_eq!(of_one["starts"], started["starts"]);
    // How many is known to the control plane, and which is not.
    let events = installation.json(&["audit", "search", "--run", &run, "--limit", "500"]).unwrap().to_string();
    assert!(!events.contains("/bin/true"), "paths are content");
}

#[test]
fn a_lifetime_ends_a_run_that_waits_and_it_can_be_tried_again() {
    let (mut installation, _repository) = begin(Form::TwoProcesses);
    let (run, environment) = waiting(&installation, "brief");
    installation.kill_runner().unwrap();
    installation.start_runner().unwrap();
    let ended = installation.ended(&run).unwrap();
    assert_eq!((&ended["state"], &ended["cause"]), (&"failed".into(), &"lifetime".into()), "{ended}");
    installation.until("it to be gone", |i| (observed(i, &environment) == "deleted").then_some(())).unwrap();
    installation.json(&["runs", "resume", &run]).unwrap();
    let again = installation.grant_all(&run).unwrap();
    assert_eq!(again["state"], "succeeded", "a new environment has a lifetime of its own: {again}");
    assert_ne!(again["environment"].as_str().unwrap(), environment);
}
