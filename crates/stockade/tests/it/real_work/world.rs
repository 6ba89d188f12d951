//! The world outside: registries, a forge and others, in a network namespace of its own that the runner reaches by one link and environments only by
//! the way out.
//!
//! It owns the namespace, its address, the authority that vouches for its hosts, and what was asked for there. *Invariant:* no packet of a test leaves
//! this machine: every host that a test names is at this address, which is of this namespace alone, and both end with the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

/// Which presets' hosts are there.
const PRESETS: [&str; 7] = ["debian", "github", "go", "maven", "npm", "python", "rust"];
/// And these, of which the last is what nobody is to reach.
pub const MORE: [&str; 3] = ["app.acme.example", "mirror.acme.example", "elsewhere.example"];

#[derive(Debug)]
pub struct World {
    folder: tempfile::TempDir,
    servers: Child,
    address: String,
    /// The hosts of the presets' rules, by `preset.rule`.
    hosts: BTreeMap<String, Vec<String>>,
}

/// Whether it can be made here, and this program is there. If not, that is said loudly, and CI fails.
pub fn can_work_with(program: &str) -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/bin".into(), "/usr/sbin".into()])
            .any(|bin| bin.join(program).is_file())
    };
    let missing =
        ["ip", "unshare", "node", "python3", "openssl", "dpkg-deb", program].into_iter().find(|one| !there(one));
    let Some(what) = missing.map(str::to_owned).or_else(|| (!root).then(|| "root, for a network namespace".to_owned()))
    else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none(), "CI must have {what}: `cargo xtask test` installs what is missing");
    println!("SKIPPED LOUDLY: {what} is missing (`cargo xtask test` installs programs)");
    false
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hosts = hosts();
        fs::write(folder.path().join("hosts.json"), serde_json::to_vec(&hosts).unwrap()).unwrap();
        let packages = ["-c", include_str!("packages.py"), "."];
        run(Command::new("python3").current_dir(folder.path()).args(packages));
        vouched(folder.path(), &names(&hosts));
        fs::write(folder.path().join("servers.js"), include_str!("servers.js")).unwrap();
        let (servers, address) = started(folder.path());
        Self { folder, servers, address, hosts }
    }

    /// The runner's configuration: where the hosts are, that this address is meant, and whom to trust.
    pub fn config(&self) -> String {
        let address = &self.address;
        let ca = self.folder.path().join("ca.pem");
        let mut text =
            format!("[egress]\nprivate = [\"{address}/32\"]\ncertificate_authorities = [{ca:?}]\n[egress.hosts]\n");
        for name in names(&self.hosts) {
            text.push_str(&format!("{name:?} = [{address:?}]\n"));
        }
        text
    }

    /// The nth host of a preset's rule.
    pub fn host(&self, rule: &str, nth: usize) -> &str {
        &self.hosts[rule][nth]
    }

    /// One more page.
    pub fn add(&self, place: &str, kind: &str, text: &str) {
        let file = self.folder.path().join("pages.json");
        let mut pages: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        pages[place] = serde_json::json!({ "type": kind, "text": text });
        fs::write(file, serde_json::to_vec(&pages).unwrap()).unwrap();
    }

    /// Where every host is.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// What was asked for, in its order: `METHOD host/path`, and with which version of HTTP.
    pub fn seen(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.folder.path().join("seen")).unwrap_or_default();
        let said = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|one| {
                (format!("{} {}{}", said(&one, "method"), said(&one, "host"), said(&one, "path")), said(&one, "http"))
            })
            .collect()
    }

    /// Whether exactly this was asked for.
    pub fn saw(&self, what: &str) -> bool {
        self.seen().iter().any(|(seen, _)| seen == what)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.servers.kill();
        let _ = self.servers.wait();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The first host of a preset's rule.
pub fn host_of(rule: &str) -> String {
    hosts()[rule][0].clone()
}

/// The hosts of each rule of the presets, as they ship.
fn hosts() -> BTreeMap<String, Vec<String>> {
    let mut hosts = BTreeMap::new();
    for preset in PRESETS {
        let file = stockade_testkit::root().join(format!("crates/policy/presets/{preset}.toml"));
        let table: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
        for rule in table["connection"].as_array().unwrap() {
            let names = rule["hosts"].as_array().unwrap().iter().map(|host| host.as_str().unwrap().to_owned());
            hosts.insert(format!("{preset}.{}", rule["id"].as_str().unwrap()), names.collect());
        }
    }
    hosts
}

fn names(hosts: &BTreeMap<String, Vec<String>>) -> BTreeSet<&str> {
    hosts.values().flatten().map(String::as_str).chain(MORE).collect()
}

/// An authority, and one certificate for all hosts.
fn vouched(folder: &std::path::Path, names: &BTreeSet<&str>) {
    let openssl = |args: &str| run(Command::new("openssl").current_dir(folder).args(args.split(' ')));
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=World"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=servers"));
    let all: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
    fs::write(folder.join("ext"), format!("subjectAltName={}", all.join(","))).unwrap();
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile ext");
}

/// The servers in a network of their own, and where they are. Their end of the link ends with them, and with it ours.
fn started(folder: &std::path::Path) -> (Child, String) {
    const INSIDE: &str = "echo made; read here there; ip link set lo up; ip address add $here/32 dev out; ip link set out up; \
        ip route add $there/32 dev out; exec node servers.js . $here";
    let mut servers = Command::new("unshare")
        .current_dir(folder)
        .args(["--net", "sh", "-ec", INSIDE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut says = BufReader::new(servers.stdout.take().unwrap());
    let mut said = |wanted: &str| {
        let mut line = String::new();
        says.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), wanted);
    };
    said("made");
    let (here, there) = linked(servers.id());
    writeln!(servers.stdin.as_mut().unwrap(), "{there} {here}").unwrap();
    said("ready");
    (servers, there)
}

/// A link from this network to that of a process; gives both addresses. Other tests have theirs: the first that is free is taken.
fn linked(process: u32) -> (String, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let ip = |args: &str| Command::new("ip").args(args.split(' ')).stderr(Stdio::null()).status().unwrap().success();
    let link = format!("stk{process}");
    let free = (0..64).find_map(|_| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 16;
        let (third, fourth) = (number / 64 % 256, number % 64 * 4);
        let (here, there) = (format!("10.213.{third}.{}", fourth + 1), format!("10.213.{third}.{}", fourth + 2));
        assert!(ip(&format!("link add {link} type veth peer name out netns {process}")), "no link can be made");
        let made = ip(&format!("address add {here}/32 dev {link}"))
            && ip(&format!("link set {link} up"))
            && ip(&format!("route add {there}/32 dev {link}"));
        if !made {
            ip(&format!("link delete {link}"));
        }
        made.then_some((here, there))
    });
    free.unwrap()
}
