//! The main job on packages of other people, with a bug planted by hand: fetched here, never committed. What the fields of the
//! descriptions mean stands in samples/README.md.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use stockade_testkit::{Form, Installation, Options, Repository, repository::copy};

#[derive(Deserialize)]
struct Sample {
    name: String,
    needs: Vec<String>,
    cassette: String,
    task: String,
    fetch: String,
    root: String,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    test: Test,
    bug: Vec<Bug>,
}

#[derive(Deserialize)]
struct Test {
    command: String,
    fails_with: String,
}

#[derive(Deserialize)]
struct Bug {
    file: String,
    old: String,
    new: String,
}

#[test]
fn a_crate_of_others_is_repaired() {
    repaired("crate");
}

#[test]
fn a_python_package_of_others_is_repaired() {
    repaired("pypi");
}

#[test]
fn a_node_package_of_others_is_repaired() {
    repaired("npm");
}

fn repaired(kind: &str) {
    let description = stockade_testkit::root().join(format!("samples/real/{kind}.toml"));
    let sample: Sample = toml::from_str(&fs::read_to_string(description).unwrap()).unwrap();
    if let Some(missing) = sample.needs.iter().find(|program| !there(program)) {
        assert!(std::env::var_os("CI").is_none(), "CI must have {missing}");
        println!("SKIPPED LOUDLY: {kind} needs {missing}, which is not on this machine");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let fetched = scratch.path().join("fetched");
    fs::create_dir(&fetched).unwrap();
    sh(&fetched, &sample.fetch, true);
    let sound = scratch.path().join("sound");
    copy(&fetched.join(&sample.root), &sound).unwrap();
    for name in &sample.remove {
        let path = sound.join(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    let sysroot = sysroot(&sample);
    for (name, text) in &sample.files {
        fs::write(sound.join(name), text.replace("@SYSROOT@", &sysroot)).unwrap();
    }
    sh(&sound, &sample.test.command, true);

    let mut config = String::from("[environment]\nmemory_mib = 4096\nprocesses = 256\n");
    if !sysroot.is_empty() {
        config.push_str(&format!("extra_read_only = [{sysroot:?}]\n"));
    }
    let installation = Installation::start(Form::OneProcess, Options { config, ..Options::default() }).unwrap();
    let broken = installation.folder().join(&sample.name);
    copy(&sound, &broken).unwrap();
    for bug in &sample.bug {
        let text = fs::read_to_string(broken.join(&bug.file)).unwrap();
        assert_eq!(text.matches(&bug.old).count(), 1, "{}: the package is not what it was", bug.file);
        fs::write(broken.join(&bug.file), text.replace(&bug.old, &bug.new)).unwrap();
    }
    let said = sh(&broken, &sample.test.command, false);
    assert!(said.contains(&sample.test.fails_with), "the planted bug shows otherwise: {said}");
    sh(&broken, "rm -rf __pycache__ */__pycache__ target .pytest_cache", true);

    let repository = Repository::init(&broken).unwrap();
    let path = broken.to_string_lossy().into_owned();
    let gate = sample.test.command.as_str();
    installation
        .json(&["project", "add", &sample.name, "--repository", &path, "--level", "2", "--gate", gate])
        .unwrap();
    let model = format!("rehearsal/{}", sample.cassette);
    let run = installation.run(&sample.name, &model, &sample.task, &[]).unwrap();
    let ended = installation.grant_all(&run).unwrap();
    assert_eq!(ended["state"], "succeeded", "{ended}\n{}", installation.logs());
    for bug in &sample.bug {
        let after = repository.git(&["show", &format!("stockade/{run}:{}", bug.file)]).unwrap();
        let expected = fs::read_to_string(sound.join(&bug.file)).unwrap();
        assert_eq!(after.trim(), expected.trim(), "{} is not as its authors wrote it", bug.file);
    }
}

fn there(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// The toolchain's folder, if the sample wants it.
fn sysroot(sample: &Sample) -> String {
    if !sample.files.values().any(|text| text.contains("@SYSROOT@")) {
        return String::new();
    }
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    path.canonicalize().unwrap().to_string_lossy().into_owned()
}

/// Runs a script and says what it printed; it must succeed or fail, as wanted.
fn sh(folder: &Path, script: &str, succeeds: bool) -> String {
    let output = Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), succeeds, "{script}: {said}");
    said
}
