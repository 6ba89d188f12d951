//! The way out of real environments: decided, recorded, asked about, cut, and there again after a crash.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener},
    process::{Child, Stdio},
    thread,
};

use stockade_testkit::{Form, Installation, Options};

use super::{
    as_user::{degraded, is_root},
    asked::add_to_policy,
    spine::{records_of, sample_in},
    told::people_are_told,
};

/// What the environment may reach, and about what a person is asked.
const RULES: &str = "\n[[policy]]\nid = \"echo\"\ntitle = \"The echo, and the one behind a person\"\n\
    text = '''permit(principal is Agent, action == Action::\"connection.open\", resource)\n\
    when { [\"echo.test.example\", \"asked.test.example\", \"inside.test.example\"].contains(resource.id) };'''\n\
    [[policy]]\nid = \"echo-ask\"\ntitle = \"A person says yes to asked.test.example\"\n\
    text = '''forbid(principal is Agent, action == Action::\"connection.open\", resource)\n\
    when { resource.id == \"asked.test.example\" && context.unattended };'''\n";

/// Says a line to a host and port, then prints what comes back; waits for the end of it.
const SAYS: &str = "import socket,sys\n\
    s=socket.create_connection((sys.argv[1],int(sys.argv[2])),60)\n\
    s.settimeout(60)\n\
    s.sendall(b'?a word\\n')\n\
    sys.stdout.write(s.recv(99).decode()); sys.stdout.flush()\n\
    print(len(s.recv(99)))\n";

struct Scene {
    installation: Installation,
    environment: String,
    run: String,
    port: u16,
    _repository: stockade_testkit::Repository,
}

/// Says back what it hears, to everybody. When it hears nothing more, it hangs up.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut piece = [0; 99];
                while let Ok(len @ 1..) = stream.read(&mut piece) {
                    stream.write_all(&piece[..len]).unwrap();
                }
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

impl Scene {
    fn new(form: Form) -> Self {
        Self::with_egress(form, "", "", RULES)
    }

    /// `egress` stands in the table, and `after` behind its hosts.
    fn with_egress(form: Form, egress: &str, after: &str, rules: &str) -> Self {
        let config = format!(
            "[egress]\nprivate = [\"127.0.0.1/32\"]\n{egress}[egress.hosts]\n\"echo.test.example\" = [\"127.0.0.1\"]\n\
             \"asked.test.example\" = [\"127.0.0.1\"]\n\"inside.test.example\" = [\"127.0.0.2\"]\n{after}{}",
            if is_root() { "" } else { degraded() }
        );
        let installation = Installation::start(form, Options { config, ..Options::default() }).unwrap();
        let repository = sample_in(&installation, "1");
        add_to_policy(&installation, rules, if form == Form::OneProcess { "server" } else { "runner" });
        // It waits for a person before its first command, and its environment is there.
        let run =
            installation.run("word-count", "rehearsal/fix-the-bug", "The tests fail: make them green.", &[]).unwrap();
        installation.approval(&run).unwrap();
        let listed = installation.json(&["environments", "list"]).unwrap();
        let environment = listed["items"][0]["id"].as_str().unwrap().to_owned();
        Self { installation, environment, run, port: echo(), _repository: repository }
    }

    fn python(&self, program: &str, args: &[&str]) -> Vec<String> {
        let head = ["environments", "exec", &self.environment, "--", "python3", "-c", program];
        head.iter().chain(args).map(ToString::to_string).collect()
    }

    /// What a program inside prints, and how it ends.
    fn inside(&self, program: &str, args: &[&str]) -> (i32, String) {
        let args = self.python(program, args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (status, stdout, stderr) = self.installation.stockade(&args).unwrap();
        (status, stdout + &stderr)
    }

    /// A program inside that is not waited for.
    fn begin(&self, program: &str, args: &[&str]) -> Child {
        let args = self.python(program, args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.installation.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn says(&self, host: &str) -> Child {
        self.begin(SAYS, &[host, &self.port.to_string()])
    }

    /// Whether the record says this somewhere.
    fn recorded(&self, word: &str) -> Option<()> {
        records_of(&self.installation, &self.run).iter().any(|record| record.to_string().contains(word)).then_some(())
    }
}

fn heard(child: &mut Child) -> String {
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    line
}

#[test]
fn what_policy_allows_goes_out_and_nothing_else_does_and_all_of_it_is_recorded() {
    for form in [Form::OneProcess, Form::TwoProcesses] {
        let scene = Scene::new(form);
        let port = scene.port.to_string();
        let hangs_up = SAYS.replace("print(", "s.shutdown(1); print(");
        let (status, said) = scene.inside(&hangs_up, &["echo.test.example", &port]);
        assert_eq!((status, said.as_str()), (0, "?a word\n0\n"), "{form:?}");
        for (host, why) in [
            ("other.test.example", "nobody allows it"),
            ("127.0.0.3", "the environment's own address: nobody listens"),
            ("203.0.113.9", "an address that nobody allows"),
            ("inside.test.example", "allowed, and at an address that is not declared"),
        ] {
            let (status, said) = scene.inside(&hangs_up, &[host, &port]);
            assert!(status != 0 || said.trim() == "0", "{host} ({why}): {said}");
        }
        let udp = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.settimeout(0.2)\n\
             s.sendto(b'x',('203.0.113.9',443))\ntry: s.recv(9)\nexcept OSError as e: print('nothing')\n";
        assert!(scene.inside(udp, &[]).1.contains("nothing"));
        let told = scene.installation.until("the records", |i| {
            let page = i.json(&["audit", "search", "--run", &scene.run, "--limit", "500"]).ok()?.to_string();
            (page.contains("packet_nowhere") && page.contains("not_public")).then_some(page)
        });
        let told = told.unwrap();
        for word in ["echo.test.example", "other.test.example", "203.0.113.9", "inside.test.example"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(!told.contains("127.0.0.3"), "what stays inside is nobody's business");
        people_are_told(&scene.installation, &scene.run, &scene.environment, scene.port);
    }
}

#[test]
fn a_person_is_asked_about_a_connection_which_waits_for_the_answer() {
    let scene = Scene::new(Form::TwoProcesses);
    let mut waiting = scene.says("asked.test.example");
    let asked = scene
        .installation
        .until("the question", |i| {
            let list = i.json(&["approvals", "list"]).ok()?;
            list["items"].as_array()?.iter().find(|a| a["action"] == "connection.open").cloned()
        })
        .unwrap();
    assert_eq!(asked["resource"], "asked.test.example", "{asked}");
    scene.installation.json(&["approvals", "grant", asked["id"].as_str().unwrap()]).unwrap();
    assert_eq!(heard(&mut waiting), "?a word\n");
    // The same host again: nobody is asked twice.
    let mut again = scene.says("asked.test.example");
    assert_eq!(heard(&mut again), "?a word\n");
    let list = scene.installation.json(&["approvals", "list"]).unwrap().to_string();
    assert!(!list.contains("connection.open"), "{list}");
    for child in [&mut waiting, &mut again] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn n26_n27_what_is_open_ends_with_a_policy_that_refuses_it_and_with_the_runner_and_comes_back() {
    let mut scene = Scene::new(Form::TwoProcesses);
    let mut open = scene.says("echo.test.example");
    assert_eq!(heard(&mut open), "?a word\n");
    let refuses = "\n[[policy]]\nid = \"no-echo\"\ntitle = \"No echo\"\n\
         text = '''forbid(principal is Agent, action == Action::\"connection.open\", resource)\n\
         when { resource.id == \"echo.test.example\" };'''\n";
    add_to_policy(&scene.installation, refuses, "runner");
    assert_eq!(heard(&mut open), "0\n", "its end came, and nothing with it");
    open.wait().unwrap();
    scene.installation.until("the record of it", |_| scene.recorded("\"code\":\"policy\"")).unwrap();

    let mut open = scene.says("asked.test.example");
    let asked = scene
        .installation
        .until("the question", |i| {
            let list = i.json(&["approvals", "list"]).ok()?;
            list["items"].as_array()?.iter().find(|a| a["action"] == "connection.open").cloned()
        })
        .unwrap();
    scene.installation.json(&["approvals", "grant", asked["id"].as_str().unwrap()]).unwrap();
    assert_eq!(heard(&mut open), "?a word\n");
    let tries = "import socket,sys,time\n\
         s=socket.create_connection((sys.argv[1],int(sys.argv[2])),60)\nto=s.getpeername()[:2]; s.sendall(b'?x\\n'); s.recv(9)\n\
         open('/tmp/open','w').write('1')\n\
         try: n=len(s.recv(9))\nexcept OSError: n=0\n\
         try: t=socket.create_connection(to,5); t.sendall(b'?y\\n'); m='open' if t.recv(9) else 'shut'\nexcept OSError as e: m='shut'\n\
         open('/tmp/told','w').write(str(n)+m)\n";
    let detach = "import subprocess,sys\nsubprocess.Popen(['python3','-c']+sys.argv[1:],start_new_session=True)\n";
    let port = scene.port.to_string();
    assert_eq!(scene.inside(detach, &[tries, "asked.test.example", &port]).0, 0);
    let cat = |scene: &Scene, path: &str| scene.inside("import sys; print(open(sys.argv[1]).read())", &[path]).1;
    scene.installation.until("it to be open", |_| cat(&scene, "/tmp/open").starts_with('1').then_some(())).unwrap();
    scene.installation.kill_runner().unwrap();
    open.kill().unwrap();
    open.wait().unwrap();
    scene.installation.start_runner().unwrap();
    // While nobody held the doors, what was open ended, and nothing could be opened: its address is nobody's, also afterwards.
    scene.installation.until("what it saw", |_| cat(&scene, "/tmp/told").starts_with("0shut").then_some(())).unwrap();
    // The environment was adopted, its way out with it, and the yes still holds.
    let mut again = scene.says("asked.test.example");
    assert_eq!(heard(&mut again), "?a word\n");
    again.kill().unwrap();
    again.wait().unwrap();
}

/// An HTTPS server of a company's own authority, in a folder: it writes down what it was asked for, and with what.
struct Api {
    folder: tempfile::TempDir,
    port: u16,
    server: Child,
}

impl Api {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let openssl = |args: &str| {
            let made = std::process::Command::new("openssl")
                .current_dir(folder.path())
                .args(args.split(' '))
                .output()
                .unwrap();
            assert!(made.status.success(), "{args}: {}", String::from_utf8_lossy(&made.stderr));
        };
        openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=Corp",
        );
        openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout api.key -out api.csr -subj /CN=api.test.example",
        );
        std::fs::write(folder.path().join("ext"), "subjectAltName=DNS:api.test.example").unwrap();
        openssl("x509 -req -in api.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out api.pem -days 2 -extfile ext");
        let program = "import http.server,ssl,sys\n\
             class H(http.server.BaseHTTPRequestHandler):\n\
             \x20protocol_version='HTTP/1.1'\n\
             \x20def do_GET(self):\n\
             \x20 open('seen','a').write(self.path+' '+str(self.headers.get('authorization'))+'\\n')\n\
             \x20 b=b'hello from the origin\\n'\n\
             \x20 self.send_response(200); self.send_header('content-length',str(len(b))); self.end_headers(); self.wfile.write(b)\n\
             \x20def log_message(self,*a): pass\n\
             s=http.server.ThreadingHTTPServer(('127.0.0.1',0),H)\n\
             c=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain('api.pem','api.key')\n\
             s.socket=c.wrap_socket(s.socket,server_side=True)\n\
             print(s.server_address[1],flush=True); s.serve_forever()\n";
        let mut server = std::process::Command::new("python3")
            .current_dir(folder.path())
            .args(["-c", program])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let port = heard(&mut server).trim().parse().unwrap();
        Self { folder, port, server }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn s1_a_request_is_looked_into_and_given_its_credential_on_the_way_and_no_other_is_let_through() {
    const SECRET: &str = "a-secret-that-never-enters";
    let api = Api::start();
    std::fs::write(api.folder.path().join("secret"), SECRET).unwrap();
    let port = api.port;
    let more = format!(
        "\"api.test.example\" = [\"127.0.0.1\"]\n\"twin.test.example\" = [\"127.0.0.1\"]\n\
         [egress.credentials.api]\nhost = \"api.test.example\"\nport = {port}\n\
         secret_file = {:?}\nvariable = \"API_TOKEN\"\npath = \"/v1\"\n",
        api.path("secret")
    );
    let rules = format!(
        "\n[[connection]]\nid = \"api\"\ntitle = \"The API is read\"\nhosts = [\"api.test.example\", \"twin.test.example\"]\n\
         ports = [{port}]\nmethods = [\"GET\"]\npaths = [\"/v1/*\", \"/v2/*\"]\n\
         [[credential]]\nid = \"api-token\"\ntitle = \"The API's token is used\"\ncredentials = [\"api\"]\n\
         hosts = [\"api.test.example\"]\n"
    );
    let authorities = format!("certificate_authorities = [{:?}]\n", api.path("ca.pem"));
    let scene = Scene::with_egress(Form::TwoProcesses, &authorities, &more, &rules);
    let curl = |args: &str, path: &str| {
        let line = format!("curl -sS --max-time 20 -w '%{{http_code}}' {args} https://api.test.example:{port}{path}");
        let head = ["environments", "exec", &scene.environment, "--", "sh", "-c", &line];
        let (_, stdout, stderr) = scene.installation.stockade(&head).unwrap();
        stdout + &stderr
    };
    let seen = || std::fs::read_to_string(api.path("seen")).unwrap_or_default();
    let token = "-H \"authorization: Bearer $API_TOKEN\"";
    let said = curl(token, "/v1/things?q=1");
    assert_eq!(said, "hello from the origin\n200", "{}", scene.installation.logs());
    assert_eq!(seen(), format!("/v1/things?q=1 Bearer {SECRET}\n"));
    for (args, path, code) in [
        (token, "/v2/things", "403"),
        ("-H \"x-other: $API_TOKEN\"", "/v1/things", "403"),
        ("", "/v1/things?t=$API_TOKEN", "403"),
        ("", "/v3/things", "403"),
        ("-X DELETE", "/v1/things", "403"),
        ("-H 'host: twin.test.example'", "/v1/things", "421"),
    ] {
        let said = curl(args, path);
        assert!(said.ends_with(code), "{args} {path}: {said}");
        assert!(!said.contains(SECRET));
    }
    assert_eq!(seen().lines().count(), 1, "{}", seen());
    let (_, found) = scene.inside("import os; print(os.environ['API_TOKEN'])", &[]);
    assert!(found.starts_with("stk_ph_"), "{found}");
    let told = scene
        .installation
        .until("the records", |i| {
            let page = i.json(&["audit", "search", "--run", &scene.run, "--limit", "500"]).ok()?.to_string();
            (page.contains("credential.use") && page.contains("\"bytes_in\"")).then_some(page)
        })
        .unwrap();
    assert!(told.contains("request.send") && !told.contains("/v1/things") && !told.contains(SECRET), "{told}");
    assert!(!scene.installation.logs().contains(SECRET));
}
