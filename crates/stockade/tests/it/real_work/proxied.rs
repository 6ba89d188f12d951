//! Through a company's proxy: the real `tinyproxy`, which wants a password and alone knows where hosts are.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use super::{Scene, can_work_with, records_of};

const RULES: &str = "\n[[connection]]\nid = \"app\"\ntitle = \"The application is looked at\"\nhosts = [\"app.acme.example\"]\nmethods = [\"GET\"]\n\
    [[connection]]\nid = \"mirror\"\ntitle = \"The mirror, unread\"\nhosts = [\"mirror.acme.example\"]\n";

/// A running proxy. It has its own file of hosts, so it is in a mount namespace of its own.
struct Proxy {
    program: Child,
    port: u16,
}

impl Proxy {
    fn start(folder: &Path, address: &str, port: u16) -> Self {
        fs::write(folder.join("hosts"), format!("{address} app.acme.example mirror.acme.example\n")).unwrap();
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nLogLevel Connect\nLogFile \"{0}/proxy.log\"\n\
             BasicAuth stockade a-password\nConnectPort 443\n",
            folder.display()
        );
        fs::write(folder.join("proxy.conf"), text).unwrap();
        let script = "mount --bind hosts /etc/hosts; exec tinyproxy -d -c proxy.conf";
        let program =
            Command::new("unshare").current_dir(folder).args(["--mount", "sh", "-ec", script]).spawn().unwrap();
        let proxy = Self { program, port };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the proxy does not come up");
            stockade_testkit::installation::pause(Duration::from_millis(20));
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// An environment of a site that reaches the internet through a proxy with this password, and the mirror without it.
fn behind(password: &str) -> (Scene, Proxy) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, format!("{password}\n")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let after = format!(
        "[egress.proxy]\nurl = \"http://127.0.0.1:{port}\"\nuser = \"stockade\"\npassword_file = {file:?}\n\
         direct = [\"mirror.acme.example\"]\n"
    );
    let scene = Scene::with_config(RULES, &after);
    let proxy = Proxy::start(&scene.world.folder(), scene.world.address(), port);
    (scene, proxy)
}

fn has_closed_with(scene: &Scene, code: &str) -> bool {
    let records = records_of(&scene.installation, &scene.run);
    records.iter().any(|record| record["record"]["body"]["outcome"]["code"] == code)
}

#[test]
fn a_proxy_with_a_password_is_the_way_to_everything_that_is_not_direct() {
    if !can_work_with("tinyproxy") {
        return;
    }
    let (scene, proxy) = behind("a-password");
    scene.world.add("app.acme.example/", "text/plain", "through the proxy\n");
    scene.world.add("mirror.acme.example/", "text/plain", "without it\n");
    let get = "curl -sS --max-time 30 https://app.acme.example/";
    assert_eq!(scene.works(get), "through the proxy\n");
    // Unread, so it is curl that has to believe the certificate: here it is told not to look.
    assert_eq!(scene.works("curl -sSk --max-time 30 https://mirror.acme.example/"), "without it\n");
    let log = || fs::read_to_string(scene.world.folder().join("proxy.log")).unwrap();
    assert!(log().contains("CONNECT app.acme.example:443"), "{}", log());
    assert!(!log().contains("mirror.acme.example"), "{}", log());
    // What is refused is not asked of the proxy either.
    assert_ne!(scene.inside("curl -sS --max-time 30 https://elsewhere.example/").0, 0);
    assert!(!log().contains("elsewhere"), "{}", log());

    // The proxy dies: nothing goes another way. It comes back: so does the way.
    let port = proxy.port;
    drop(proxy);
    let (status, said) = scene.inside(get);
    assert!(status != 0 || !said.contains("through"), "{said}");
    scene.installation.until("the record of it", |_| has_closed_with(&scene, "unreachable").then_some(())).unwrap();
    let _proxy = Proxy::start(&scene.world.folder(), scene.world.address(), port);
    assert_eq!(scene.works(get), "through the proxy\n");
}

#[test]
fn a_password_that_the_proxy_does_not_take_opens_nothing_and_is_never_shown() {
    if !can_work_with("tinyproxy") {
        return;
    }
    let (scene, _proxy) = behind("not-this-one");
    let (_, said) = scene.inside("curl -sS --max-time 30 https://app.acme.example/");
    assert!(said.contains("the host cannot be reached from here"), "{said}");
    scene.installation.until("the record of it", |_| has_closed_with(&scene, "proxy").then_some(())).unwrap();
    let log = scene.installation.log("server");
    assert!(log.contains("the proxy wants a credential"), "{log}");
    let records = format!("{:?}", records_of(&scene.installation, &scene.run));
    for told in [&said, &log, &records] {
        assert!(!told.contains("not-this-one"), "{told}");
    }
    assert!(scene.world.seen().is_empty(), "{:?}", scene.world.seen());
}
