//! pip, cargo, go and Java under their presets.

use std::path::Path;

use super::{Scene, can_work_with, preset};

#[test]
fn pip_installs_what_it_then_imports() {
    if !can_work_with("pip3") {
        return;
    }
    let scene = Scene::preset("python");
    let said = scene.works(
        "python3 -m pip install --target lib acme-words; PYTHONPATH=lib python3 -c 'import acme_words; print(acme_words.count(\"a b c\"))'",
    );
    assert!(said.contains("Successfully installed acme-words-1.0") && said.contains("\n3\n"), "{said}");
    let (index, files) = (scene.world.host("python.index", 0), scene.world.host("python.files", 0));
    assert!(scene.world.saw(&format!("GET {index}/simple/acme-words/")), "{:?}", scene.world.seen());
    let code = "curl -sS -o /dev/null -w '%{http_code}'";
    assert_eq!(scene.works(&format!("{code} -d x=y https://{index}/simple/")), "403");
    assert_eq!(scene.works(&format!("{code} https://{index}/manage/account/")), "403");
    scene.kept_to(&[index, files]);
}

#[test]
fn cargo_builds_with_a_crate_from_the_registry() {
    if !can_work_with("cc") {
        return;
    }
    // What tests are run with has its toolchain below somebody's home, which no environment sees.
    let cargo = std::env::var_os("CARGO").unwrap();
    let toolchain = Path::new(&cargo).parent().and_then(Path::parent).unwrap();
    let shown = format!("[environment]\nextra_read_only = [{toolchain:?}]\n");
    let scene = Scene::with_config(&preset("rust"), &shown);
    let said = scene.works(
        "mkdir -p app/src; cd app\n\
         printf '[package]\\nname = \"app\"\\nedition = \"2021\"\\n[dependencies]\\nacme-words = \"1\"\\n' > Cargo.toml\n\
         echo 'fn main() { println!(\"{}\", acme_words::count(\"a b c\")); }' > src/main.rs\n\
         cargo build; cargo run --locked --offline --quiet",
    );
    assert!(said.contains("Downloaded acme-words v1.0.0") && said.contains("3\n"), "{said}");
    let (index, downloads) = (scene.world.host("rust.index", 0), scene.world.host("rust.downloads", 0));
    assert!(scene.world.saw(&format!("GET {downloads}/crates/acme-words/1.0.0/download")), "{:?}", scene.world.seen());
    // Cargo asks for many things at once on one connection.
    assert!(scene.world.seen().iter().any(|(_, http)| http == "2.0"), "{:?}", scene.world.seen());
    scene.kept_to(&[index, downloads]);
}

/// It counts with a module of somebody's, and asks with Go's own client.
const GO: &str = r#"package main

import (
	"fmt"
	"net/http"
	"os"

	"example.com/acme/words"
)

func main() {
	for _, url := range os.Args[1:] {
		answer, err := http.Get(url)
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		fmt.Println(answer.Proto, answer.StatusCode)
	}
	fmt.Println(words.Count("a b c"))
}
"#;

#[test]
fn go_builds_with_a_module_and_its_own_client_asks() {
    if !can_work_with("go") {
        return;
    }
    let scene = Scene::preset("go");
    let sums = std::fs::read_to_string(scene.world.folder().join("go.sum")).unwrap();
    let proxy = scene.world.host("go.proxy", 0);
    let list = format!("https://{proxy}/example.com/acme/words/@v/list");
    let said = scene.works(&format!(
        "mkdir app; cd app\nprintf 'module app\\n\\ngo 1.19\\n\\nrequire example.com/acme/words v1.0.0\\n' > go.mod\n\
         cat > go.sum <<'END'\n{sums}END\ncat > main.go <<'END'\n{GO}END\n\
         go build -o app .\n./app {list} https://elsewhere.example/"
    ));
    assert!(said.starts_with("HTTP/2.0 200\nno answer\n3\n"), "{said}");
    assert!(scene.world.saw(&format!("GET {proxy}/example.com/acme/words/@v/v1.0.0.zip")), "{:?}", scene.world.seen());
    scene.kept_to(&[proxy]);
}

/// Java has two clients.
const JAVA: &str = r#"import java.net.*;
import java.net.http.*;
import java.nio.charset.StandardCharsets;

class Words {
    public static void main(String[] urls) throws Exception {
        URI uri = URI.create(urls[0]);
        var old = (HttpURLConnection) uri.toURL().openConnection();
        System.out.println(new String(old.getInputStream().readAllBytes(), StandardCharsets.UTF_8));
        var answer = HttpClient.newHttpClient().send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.version() + " " + answer.body());
        try {
            HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(urls[1])).build(), HttpResponse.BodyHandlers.ofString());
        } catch (java.io.IOException expected) {
            System.out.println("no answer");
        }
    }
}
"#;

#[test]
fn java_downloads_an_artifact_with_both_of_its_clients() {
    if !can_work_with("javac") {
        return;
    }
    let scene = Scene::preset("maven");
    let central = scene.world.host("maven.central", 0);
    let pom = format!("https://{central}/maven2/com/acme/words/1.0/words-1.0.pom");
    let said =
        scene.works(&format!("cat > Words.java <<'END'\n{JAVA}END\njava Words.java {pom} https://elsewhere.example/"));
    let project = "<project><artifactId>words</artifactId></project>";
    assert!(said.ends_with(&format!("{project}\nHTTP_2 {project}\nno answer\n")), "{said}");
    scene.kept_to(&[central]);
}
