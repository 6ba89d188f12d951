//! Presets on the command line, and learning from what was refused.

use std::{fs, process::Command};

use stockade_testkit::Form;

use super::spine::with_sample;

/// Runs `stockade` without a server; gives its exit status and what it said on both ways.
fn alone(data: &std::path::Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(stockade_testkit::stockade().unwrap());
    command.args(args).env("STOCKADE_DATA", data).env_remove("STOCKADE_URL").env_remove("STOCKADE_TOKEN_FILE");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn presets_are_listed_shown_and_put_to_use_without_a_server() {
    let data = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| alone(data.path(), args);
    let (status, list, _) = run(&["policy", "preset", "list"]);
    assert!(status == 0 && list.contains("rust") && list.contains("cargo") && list.contains("codeberg"), "{list}");
    let (_, list, _) = run(&["policy", "preset", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert!(list.as_array().unwrap().iter().any(|one| one["name"] == "debian" && one["tools"][0] == "apt"), "{list}");
    let (status, shown, _) = run(&["policy", "preset", "show", "npm"]);
    assert!(status == 0 && shown.contains("registry.npmjs.org") && shown.contains("[[example]]"), "{shown}");
    let (status, _, stderr) = run(&["policy", "preset", "show", "cobol"]);
    assert!(status == 2 && stderr.contains("cobol") && stderr.contains("python"), "{stderr}");

    let file = data.path().join("bundle.toml");
    let before = "# Ours.\nabout = \"x\"   # kept\n";
    fs::write(&file, before).unwrap();
    let path = file.to_string_lossy().into_owned();
    let add =
        ["policy", "preset", "add", "rust", "--mirror", "nexus.example/crates", "--level", "2", "--bundle", &path];
    let (status, said, stderr) = run(&add);
    assert!(status == 0 && said.contains("uses rust"), "{said}{stderr}");
    let after = fs::read_to_string(&file).unwrap();
    let added = after.strip_prefix(before).expect("every byte that was there stays");
    assert!(added.contains("use = \"rust\"") && added.contains("mirror") && added.contains("levels = [2]"), "{added}");
    let (status, said, _) = run(&add);
    assert!(status == 1 && said.contains("is there twice"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), after, "what would not load is not written");
    let (status, said, _) = run(&["policy", "check", &path]);
    assert!(status == 0 && said.contains("8 policies"), "{said}");
    let wish = ["policy", "explain", "connection.open", "host:nexus.example", "--bundle", &path];
    let with = ["--with", "port=443", "--with", "inspected=true", "--with", "level=2"];
    let (_, said, _) = run(&[&wish[..], &with[..]].concat());
    assert!(said.starts_with("allow") && said.contains("rust.index.open: The index of crates.io is read"), "{said}");
}

#[test]
fn a_preset_is_added_to_the_bundle_in_force() {
    let (installation, _repository) = with_sample(Form::OneProcess, "4");
    let before = installation.json(&["policy", "show"]).unwrap();
    let policy = installation.json(&["policy", "preset", "add", "rust", "--ask", "--project", "word-count"]).unwrap();
    assert_eq!(policy["number"].as_u64(), before["number"].as_u64().map(|number| number + 1), "{policy}");
    let after = installation.json(&["policy", "show"]).unwrap();
    let added = after["text"].as_str().unwrap().strip_prefix(before["text"].as_str().unwrap()).unwrap().to_owned();
    assert!(added.contains("effect = \"ask\"") && added.contains("projects = [\"prj_"), "{added}");
    let (status, cedar, _) = installation.stockade(&["policy", "show", "--cedar"]).unwrap();
    assert!(
        status == 0 && cedar.contains("// rust.index.open.ask: The index of crates.io is read\nforbid("),
        "{cedar}"
    );
    let (status, said, _) = installation.stockade(&["policy", "preset", "add", "rust"]).unwrap();
    assert!(status == 1 && said.contains("is there twice"), "{said}");

    let run = installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
    installation.ended(&run).unwrap();
    let learned = installation.json(&["environments", "learn", &run]).unwrap();
    assert_eq!(
        (learned["text"].as_str(), learned["presets"].as_array().map(Vec::len)),
        (Some(""), Some(0)),
        "{learned}"
    );
    let (status, _, stderr) = installation.stockade(&["environments", "learn", &run]).unwrap();
    assert!(status == 0 && stderr.contains("nothing was refused on the way out"), "{stderr}");
    let (status, _, stderr) = installation.stockade(&["environments", "learn", "nonsense"]).unwrap();
    assert!(status == 2 && stderr.contains("nonsense"), "{stderr}");
}
