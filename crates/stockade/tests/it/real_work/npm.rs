//! npm under its preset: from the registry itself, and from a company's mirror below a path, with a package that has a scope.

use super::{Scene, can_work_with};

const PACKAGE: &str = "mkdir app; cd app\n\
    echo '{\"name\": \"app\", \"version\": \"1.0.0\", \"dependencies\": {\"@acme/x\": \"^1.0.0\"}}' > package.json\n";
/// With the lock file and without anything that is there from before.
const WORKS: &str = "npm install --no-fund; rm -rf node_modules ~/.npm; npm ci --no-fund; node -e 'console.log(require(\"@acme/x\")(\"a b c\"))'";

#[test]
fn npm_installs_and_does_it_again_from_its_lock_file() {
    if !can_work_with("npm") {
        return;
    }
    let scene = Scene::preset("npm");
    let said = scene.works(&format!("{PACKAGE}{WORKS}"));
    assert!(said.contains("added 2 packages") && said.ends_with("3\n"), "{said}");
    let registry = scene.world.host("npm.registry", 0);
    assert!(scene.world.saw(&format!("GET {registry}/@acme%2fx")), "{:?}", scene.world.seen());
    let twice = format!("GET {registry}/@acme/x/-/x-1.0.0.tgz");
    assert_eq!(scene.world.seen().iter().filter(|(seen, _)| *seen == twice).count(), 2, "{:?}", scene.world.seen());
    // It asks about known holes, which would send what the project depends on.
    assert!(!scene.world.seen().iter().any(|(seen, _)| seen.starts_with("POST")), "{:?}", scene.world.seen());
    scene.kept_to(&[registry]);
}

#[test]
fn npm_installs_a_package_with_a_scope_from_a_mirror_below_a_path() {
    if !can_work_with("npm") {
        return;
    }
    let scene = Scene::new("\n[[preset]]\nuse = \"npm\"\nmirror = \"mirror.acme.example/npm\"\n");
    // npm is told of the mirror as everywhere.
    let npmrc = "echo registry=https://mirror.acme.example/npm/ > .npmrc\n";
    let said = scene.works(&format!("{PACKAGE}{npmrc}{WORKS}"));
    assert!(said.ends_with("3\n"), "{said}");
    assert!(scene.world.saw("GET mirror.acme.example/npm/@acme%2fx"), "{:?}", scene.world.seen());
    for (path, code) in [
        ("/npm/@acme%2fx", "200"),
        ("/npm/@acme%2Fx", "404"),
        ("/other/@acme%2fx", "403"),
        ("/npm%2f..%2fother/x", "403"),
        ("/npm/..%2fother", "403"),
        ("/npm/a%2f%2e%2e/b", "403"),
        ("/npm/a%2fb%2fc%2fd%2fe", "403"),
    ] {
        let said =
            scene.works(&format!("curl -sS -o /dev/null -w '%{{http_code}}' 'https://mirror.acme.example{path}'"));
        assert_eq!(said, code, "{path}");
    }
    scene.kept_to(&["mirror.acme.example"]);
}
