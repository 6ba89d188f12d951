//! That the tools which people use trust an environment's own authority, without being told, and ask the right one for names.

use std::{fs, path::Path, process::Command};

use serde_json::json;
use stockade_sandbox::{Driver, EnvironmentSpec, SandboxError};

use crate::bed::{Bed, Guest, fresh_id, small, spec};

crate::both!(
    names_are_asked_of_the_way_out,
    every_tool_trusts_the_environments_own_authority,
    only_a_certificate_is_taken
);

/// Serves any page over TLS. Listens before it goes into the background.
const SERVER: &str = r"
import http.server, os, ssl, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 8443), Page)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server.key')
server.socket = context.wrap_socket(server.socket, server_side=True)
if os.fork():
    sys.exit(0)
os.setsid()
server.serve_forever()
";

const JAVA: &str = r#"
public class Get {
    public static void main(String[] args) throws Exception {
        var connection = (java.net.HttpURLConnection) new java.net.URL("https://localhost:8443/").openConnection();
        System.exit(connection.getResponseCode() == 200 ? 0 : 3);
    }
}
"#;

const NODE: &str = "node -e 'require(\"https\").get(\"https://localhost:8443/\", (answer) => process.exit(answer.statusCode === 200 ? 0 : 3))\
                    .on(\"error\", () => process.exit(4))'";

/// A program that must be there for the row to count, a script that ends well if the server is trusted, and whether it also does without
/// any of the variables that an environment's commands are given.
const TOOLS: [(&str, &str, bool); 8] = [
    (
        "openssl",
        "openssl s_client -verify_return_error -verify_hostname localhost -connect localhost:8443 </dev/null",
        true,
    ),
    ("curl", "curl -sS https://localhost:8443/", true),
    ("wget", "wget -q -O /dev/null https://localhost:8443/", true),
    ("python3", "python3 -c 'import urllib.request as r; r.urlopen(\"https://localhost:8443/\")'", true),
    // pip brings requests and certifi along, whose own list of authorities is in the package.
    ("python3", "python3 -c 'from pip._vendor import requests as r; r.get(\"https://localhost:8443/\")'", false),
    ("git", "git ls-remote https://localhost:8443/a.git", true),
    ("node", NODE, false),
    ("java", "java -Xmx64m Get.java", true),
];

fn openssl(folder: &Path, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(folder).output().expect("openssl is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a server's key and certificate from it.
pub fn authority(folder: &Path) -> String {
    let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(folder, &[&new[..], &["-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Its Own CA"]].concat());
    openssl(folder, &[&new[..], &["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"]].concat());
    fs::write(folder.join("names"), "subjectAltName = DNS:localhost").unwrap();
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(folder, &[&sign[..], &["-extfile", "names", "-out", "server.pem"]].concat());
    fs::read_to_string(folder.join("ca.pem")).unwrap()
}

async fn serve(guest: &mut Guest, folder: &Path) {
    for (name, text) in [
        ("server.py", SERVER.to_owned()),
        ("Get.java", JAVA.to_owned()),
        ("server.pem", fs::read_to_string(folder.join("server.pem")).unwrap()),
        ("server.key", fs::read_to_string(folder.join("server.key")).unwrap()),
    ] {
        assert_eq!(guest.ask(json!({"op": "write", "path": name, "text": text})).await["reply"], "done");
    }
    let ran = guest.sh("python3 server.py >/dev/null 2>server.log; e=$?; cat server.log; exit $e").await;
    assert_eq!(ran.status, 0, "{}", ran.stdout);
}

async fn names_are_asked_of_the_way_out(bed: &Bed) {
    let (_, mut guest) = bed.make(small()).await;
    let resolver = guest.sh("cat /etc/resolv.conf").await.stdout;
    assert_eq!(resolver, "nameserver 198.18.0.53\noptions timeout:2 attempts:2");
    assert_eq!(guest.sh("grep ^hosts: /etc/nsswitch.conf").await.stdout, "hosts: files dns");
    assert_eq!(guest.sh("getent hosts localhost | head -c 3; cat /etc/hosts | wc -l").await.stdout, "::12");
    // Nobody holds the doors: a name is given up at once, not after minutes.
    let ran = guest.run(&["getent", "hosts", "example.org"], 30_000).await;
    assert_ne!(ran.status, 0);
    let took = ran.answer["duration_ms"].as_u64().unwrap();
    assert!(took < 10_000, "{took} ms");
}

async fn every_tool_trusts_the_environments_own_authority(bed: &Bed) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority(folder.path());
    let large = stockade_sandbox::Class { memory_bytes: 1 << 30, ..small() };
    let (_, mut stranger) = bed.make(large.clone()).await;
    serve(&mut stranger, folder.path()).await;
    let (id, mut guest) =
        bed.make_as(EnvironmentSpec { certificate: Some(certificate.clone()), ..spec(fresh_id(), large) }).await;
    assert_eq!(guest.sh("cat /etc/stockade/ca.pem").await.stdout, certificate.trim_end());
    serve(&mut guest, folder.path()).await;
    let mut tried = Vec::new();
    for (program, script, bare) in TOOLS {
        if guest.sh(&format!("command -v {program}")).await.status != 0
            || (script.contains("_vendor") && guest.sh("python3 -m pip -V").await.status != 0)
        {
            continue;
        }
        assert_ne!(stranger.sh(script).await.status, 0, "without the certificate nobody trusts it: {script}");
        let ran = guest.sh(script).await;
        assert_eq!(ran.status, 0, "{script}: {}\n{}", ran.stdout, ran.stderr);
        if bare {
            let ran = guest.sh(&format!("for name in $(env | grep -o '^[A-Z_]*'); do case $name in PATH|HOME) ;; *) unset $name ;; esac; done; {script}")).await;
            assert_eq!(ran.status, 0, "without variables, {script}: {}\n{}", ran.stdout, ran.stderr);
        }
        tried.push(program);
    }
    assert!(["openssl", "curl", "python3", "git"].iter().all(|program| tried.contains(program)), "{tried:?}");
    // What the machine trusts is still trusted, and the directory finds ours by its name.
    let count = "grep -c BEGIN /etc/stockade/ca-bundle.pem; ls /etc/ssl/certs | wc -l";
    let counts: Vec<usize> = guest.sh(count).await.stdout.lines().map(|line| line.parse().unwrap()).collect();
    let machine = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
    assert_eq!(counts[0], machine.matches("BEGIN").count() + 1);
    assert!(counts[1] > counts[0], "{counts:?}");
    // Wherever this machine keeps the one file, ours is in it.
    for path in stockade_sandbox::launch::BUNDLES.iter().filter(|path| Path::new(path).is_file()) {
        let machine = fs::read_to_string(path).unwrap().matches("BEGIN CERT").count();
        assert_eq!(guest.sh(&format!("grep -c 'BEGIN CERT' {path}")).await.stdout, (machine + 1).to_string(), "{path}");
    }
    let directory = "SSL_CERT_FILE=/dev/null openssl s_client -CApath /etc/ssl/certs -no-CAfile -no-CAstore \
                     -verify_return_error -connect localhost:8443 </dev/null";
    assert_eq!(guest.sh(directory).await.status, 0);
    for path in ["/etc/stockade/ca.pem", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/new"] {
        assert_ne!(guest.sh(&format!("echo x >> {path}")).await.status, 0, "{path} is not the workload's");
    }
    // A restart has it again, and deletion takes it away.
    bed.driver.restart(id).await.unwrap();
    let mut guest = Guest::of(&bed.driver, id).await;
    assert_eq!(guest.sh("cat $NODE_EXTRA_CA_CERTS").await.stdout, certificate.trim_end());
    bed.driver.delete(id).await.unwrap();
    assert!(!bed.folder(id).exists());
}

async fn only_a_certificate_is_taken(bed: &Bed) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = authority(folder.path());
    let key = fs::read_to_string(folder.path().join("ca.key")).unwrap();
    for text in ["", "nonsense", &format!("{certificate}{certificate}"), &format!("{certificate}{key}")] {
        let wrong = EnvironmentSpec { certificate: Some(text.to_owned()), ..spec(fresh_id(), small()) };
        let error = bed.driver.create(&wrong).await.unwrap_err();
        assert!(matches!(error, SandboxError::BadSpec { .. }), "{error}");
    }
    assert!(bed.driver.list().await.is_empty());
}
