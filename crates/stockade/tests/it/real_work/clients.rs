//! curl, wget, a client for WebSockets and a browser.

use super::{Scene, can_work_with};

/// A page that reads another one of its host and one of another host, and then talks over a WebSocket. It is whole when its picture is there, which its
/// host gives out once the talk has ended.
const PAGE: &str = r#"<!doctype html><title>words</title><p id="out">page</p><img src="/held"><script>
const out = (text) => { document.getElementById('out').textContent += ' | ' + text; };
const works = async () => {
  out('fetched ' + await (await fetch('/data')).text());
  await fetch('https://elsewhere.example/').then(() => out('elsewhere'), () => out('not elsewhere'));
  const socket = new WebSocket('wss://' + location.host + '/talk');
  socket.onopen = () => socket.send('a word');
  socket.onmessage = (event) => { out(event.data); socket.close(); };
};
works();
</script>"#;

const APP: &str = "\n[[connection]]\nid = \"app\"\ntitle = \"The application is looked at\"\nhosts = [\"app.acme.example\"]\nmethods = [\"GET\"]\n";
const TALKS: &str = "upgrade = \"websocket\"\n";

/// A WebSocket by hand: a client that knows nothing of any proxy.
const SOCKET: &str = r#"
import base64, os, socket, ssl
plain = socket.create_connection(("app.acme.example", 443), 30)
stream = ssl.create_default_context().wrap_socket(plain, server_hostname="app.acme.example")
key = base64.b64encode(os.urandom(16)).decode()
stream.sendall(("GET /talk HTTP/1.1\r\nHost: app.acme.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n").encode())
reader = stream.makefile("rb")
print(reader.readline().decode().split()[1])
while reader.readline() not in (b"\r\n", b""):
    pass
for word in (b"one", b"two"):
    mask = os.urandom(4)
    stream.sendall(bytes([0x81, 0x80 | len(word)]) + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(word)))
    head = reader.read(2)
    print(reader.read(head[1]).decode() if head else "closed")
"#;

#[test]
fn curl_and_wget_download_from_a_forge_and_follow_where_they_are_led() {
    if !can_work_with("wget") {
        return;
    }
    let scene = Scene::preset("github");
    let (archives, forge) = (scene.world.host("github.archives", 0), scene.world.host("github.releases", 0));
    let objects = scene.world.host("github.releases", 1);
    let archive = format!("https://{archives}/acme/words/tar.gz/refs/tags/v1");
    let release = format!("https://{forge}/acme/words/releases/download/v1/words.txt");
    for get in ["curl -sSfL", "wget -q -O -"] {
        assert_eq!(scene.works(&format!("{get} {archive} | tar xzO words-1/README")), "words of acme\n", "{get}");
        assert_eq!(scene.works(&format!("{get} {release}")), "words of a release\n", "{get}");
        // A redirect is followed by whoever follows it, and decided again.
        let (status, said) = scene.inside(&format!("{get} https://{forge}/acme/words/away"));
        assert!(status != 0 && !said.contains("nobody"), "{get}: {status} {said}");
    }
    assert_eq!(scene.works(&format!("curl -sS -o /dev/null -w '%{{http_version}}' {archive}")), "2");
    scene.kept_to(&[archives, forge, objects]);
}

#[test]
fn a_websocket_is_opened_and_spoken_over_where_a_rule_says_so() {
    if !can_work_with("python3") {
        return;
    }
    let program = format!("cat > talk.py <<'END'\n{SOCKET}END\npython3 talk.py");
    let scene = Scene::new(&format!("{APP}{TALKS}"));
    assert_eq!(scene.works(&program), "101\nsaid one\nsaid two\n");
    scene.kept_to(&["app.acme.example"]);
    drop(scene);
    let scene = Scene::new(APP);
    assert!(scene.inside(&program).1.starts_with("403\n"));
    assert!(scene.world.seen().is_empty(), "{:?}", scene.world.seen());
}

#[test]
fn a_browser_shows_a_page_that_fetches_and_talks() {
    if !can_work_with("chromium") {
        return;
    }
    // The environment is its sandbox where no namespaces are made inside; else it makes its own.
    for (config, says) in [("", "--no-sandbox "), ("[environment]\nnested = true\n", "")] {
        let scene = Scene::with_config(&format!("{APP}{TALKS}"), config);
        scene.world.add("app.acme.example/", "text/html", PAGE);
        scene.world.add("app.acme.example/data", "text/plain", "words");
        let said = scene.works(&format!(
            "chromium --headless {says}--disable-gpu --dump-dom https://app.acme.example/ 2>told || {{ cat told; exit 1; }}"
        ));
        let out = "page | fetched words | not elsewhere | said a word";
        assert!(
            said.contains(out),
            "{said}\n{}\n{:#?}\n{}",
            scene.works("cat told"),
            scene.world.seen(),
            scene.refused()
        );
        scene.kept_to(&["app.acme.example"]);
    }
}
