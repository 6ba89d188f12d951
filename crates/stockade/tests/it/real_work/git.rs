//! git under its preset, and pushing with a rule beside it.

use std::{fs, process::Command};

use super::{Scene, can_work_with, preset};

/// A repository outside, and a branch of it.
fn published(scene: &Scene) -> String {
    let bare = scene.world.folder().join("repositories/acme/words.git");
    fs::create_dir_all(&bare).unwrap();
    let script = "git init -q -b main --bare . && git config http.receivepack true && git init -q -b main ../source && cd ../source && \
        echo words > README && git add . && git -c user.name=a -c user.email=a@acme.example commit -qm first && git push -q ../words.git main";
    let output = Command::new("sh").current_dir(&bare).args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("https://{}/acme/words.git", scene.world.host("github.releases", 0))
}

impl Scene {
    fn branches(&self) -> String {
        let bare = self.world.folder().join("repositories/acme/words.git");
        let listed =
            Command::new("git").arg("-C").arg(bare).args(["for-each-ref", "--format=%(refname)"]).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).into_owned()
    }
}

/// In which whoever is inside commits.
const COMMITS: &str =
    "cd words; echo more >> README; git -c user.name=a -c user.email=a@acme.example commit -qam more\n";

#[test]
fn git_clones_and_pushes_where_a_rule_says_so() {
    if !can_work_with("git") {
        return;
    }
    let scene = Scene::preset("github");
    let url = published(&scene);
    assert!(scene.works(&format!("git clone -q {url}; cat words/README; cd words; git fetch -q")).contains("words"));
    let (status, said) = scene.inside(&format!("{COMMITS}git push -q origin HEAD:stockade/x"));
    assert!(status != 0 && said.contains("nothing permits this"), "the preset reads: {said}");
    assert_eq!(scene.branches(), "refs/heads/main\n");
    scene.kept_to(&[scene.world.host("github.releases", 0)]);
    drop(scene);

    let rule = "[[repository]]\nid = \"words\"\ntitle = \"Words are worked on\"\nrepositories = [\"FORGE/acme/words\"]\npush = [\"stockade/*\"]\n";
    let forge = super::world::host_of("github.releases");
    let scene = Scene::new(&format!("{}{}", preset("github"), rule.replace("FORGE", &forge)));
    let url = published(&scene);
    scene.works(&format!("git clone -q --depth 1 {url}\n{COMMITS}git push -q origin HEAD:stockade/x"));
    assert_eq!(scene.branches(), "refs/heads/main\nrefs/heads/stockade/x\n");
    for push in ["HEAD:main", "HEAD:other", "+HEAD~0:stockade/../main", ":stockade/x"] {
        let (status, said) = scene.inside(&format!("cd words; git push -q origin {push}"));
        assert_ne!(status, 0, "{push}: {said}");
    }
    assert_eq!(scene.branches(), "refs/heads/main\nrefs/heads/stockade/x\n");
    scene.kept_to(&[&forge]);
}
