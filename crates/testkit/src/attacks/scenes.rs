//! Attacks that take more than a program inside: something changes in the middle, a second environment looks on, or there are ten thousand.
//!
//! It owns these scenes and what the page of the manual says of them. Each gives what came to another end than it should, or nothing.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use stockade_domain::{ContextValue, ids::EnvironmentId};
use stockade_ledger::{Body, Record};
use stockade_policy::Bundle;
use stockade_sandbox::Driver;

use super::{
    guest::Guest,
    inside::PRELUDE,
    lists::NET,
    site::{RULES, Site},
    world::SECRET,
};

/// How many connections a flood has.
pub const FLOOD: usize = 10_000;
/// What the runner's side may grow by under it.
pub const FLOOD_BYTES: u64 = 256 << 20;
/// Descriptors that it may take: two for each connection that is carried, and the world's own.
pub const FLOOD_DESCRIPTORS: usize = 4_096;
/// How long whoever comes beside it may wait for an answer.
const BESIDE: Duration = Duration::from_secs(5);

/// What the page says of the scenes: row, attack, what becomes of it, what is recorded.
pub const SCENES: &[[&str; 4]] = &[
    [
        "N26",
        "kill whoever holds the doors, in the middle of a transfer",
        "what was open ends; nothing can be opened until somebody holds them again; then it is as before",
        "`connection.open …: stopped`",
    ],
    [
        "N27",
        "go on with what was open when the policy changed: a WebSocket",
        "it is cut within a second",
        "`request.send …: policy`",
    ],
    [
        "N29",
        "ten thousand connections at once, all of them to a host that is allowed and none of them saying a word",
        "its own kernel keeps 8,192 in mind, 1,024 are carried, the others closed at once; an environment beside it is served meanwhile; memory and descriptors of the runner are bounded. Measured on two busy cores: all of it in 10 s, 44 MiB and 2,900 descriptors more (a third of them the world's own), an answer beside it within 0.7 s",
        "each is counted: those that were carried, `refused, egress:crowded`, and how many of these were not written down",
    ],
    [
        "N30",
        "reach another environment: by loopback, by the addresses of its names, by its sockets",
        "`ECONNREFUSED`, `ended`: the other hears nothing",
        "`connection.open …: refused`",
    ],
    [
        "S2",
        "find a credential that was just used: in variables and command lines of processes, in files, in what is kept of the run",
        "it is nowhere, inside and on the runner's disk",
        "none has it",
    ],
    [
        "A1",
        "write into the record: line feeds, escapes, JSON in paths, hosts and methods",
        "refused where it is no request; else it is content, which is sealed",
        "no control character, no path, no placeholder",
    ],
];

/// A program inside that opens a WebSocket and waits for its end.
const WAITS: &str = "more = 'connection: upgrade\\r\\nupgrade: websocket\\r\\nsec-websocket-version: 13\\r\\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n'\n\
    s = dial('ws.test.example'); s.settimeout(60); print(ask(s, get('/open/ws', 'ws.test.example', more)))\n\
    tell(lambda: len(heard(s)))\n";

async fn python(guest: &mut Guest, script: &str) -> Result<String> {
    let ran = guest.python("scene.py", &format!("{PRELUDE}\n{NET}\n{script}\n"), &[]).await?;
    Ok(if ran.stderr.is_empty() { ran.stdout } else { format!("{}\n{}", ran.stdout, ran.stderr) })
}

/// Waits until this holds.
async fn until(what: &str, holds: impl Fn() -> bool) -> Result<Duration> {
    let begun = Instant::now();
    while !holds() {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(60), "{what}: not in a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(begun.elapsed())
}

/// N26: nobody holds the doors any more, in the middle of it.
///
/// # Errors
/// If the environment does not do what every one does.
pub async fn nobody_at_the_doors(driver: &dyn Driver, id: EnvironmentId, site: &Site) -> Result<Vec<String>> {
    let mut guest = Guest::of(driver, id).await?;
    let standing = site.stand(driver, id).await?;
    let since = site.mark();
    let opened = || site.told(since).records.contains("request.send ws.test.example: open");
    let script =
        format!("{WAITS}time.sleep(0.5); tell(to((ADDRESS, 443)), to(('198.18.0.53', 53)), lambda: dial(NAME))");
    let leaving = async {
        until("the WebSocket is open", opened).await?;
        standing.leave().await;
        anyhow::Ok(())
    };
    let (said, left) = tokio::join!(python(&mut guest, &script), leaving);
    left?;
    let mut wrong = Vec::new();
    let said = said?;
    if said != "101\n0\nECONNREFUSED [Errno -3] Temporary failure in name resolution"
        && said != "101\n0\nECONNREFUSED EAI_AGAIN"
    {
        wrong.push(format!("N26: with nobody at the doors: {said}"));
    }
    let told = site.told(since).records;
    if !told.contains("request.send ws.test.example: stopped") || !site.ledger.unclosed().is_empty() {
        wrong.push(format!("N26: recorded: {told}"));
    }
    let standing = site.stand(driver, id).await?;
    let said = python(&mut guest, "tell(once(get()))").await?;
    if said != "200" {
        wrong.push(format!("N26: with somebody there again: {said}"));
    }
    standing.leave().await;
    Ok(wrong)
}

/// N27: the policy changes in the middle of it.
///
/// # Errors
/// If the environment does not do what every one does.
pub async fn another_policy(driver: &dyn Driver, id: EnvironmentId, site: &Site) -> Result<Vec<String>> {
    let mut guest = Guest::of(driver, id).await?;
    let standing = site.stand(driver, id).await?;
    let since = site.mark();
    let opened = || site.told(since).records.contains("request.send ws.test.example: open");
    let changing = async {
        until("the WebSocket is open", opened).await?;
        let rules = RULES.replace("hosts = [\"ws.test.example\"]", "hosts = [\"other.test.example\"]");
        site.put_in_force(2, &rules)?;
        standing.exit().reconsider();
        until("everything is closed", || site.ledger.unclosed().is_empty()).await
    };
    let (said, took) = tokio::join!(python(&mut guest, WAITS), changing);
    let (said, took) = (said?, took?);
    site.put_in_force(3, RULES)?;
    let told = site.told(since).records;
    standing.leave().await;
    let cut = told.contains("request.send ws.test.example: policy") && took < Duration::from_secs(1);
    Ok(if said == "101\n0" && cut { Vec::new() } else { vec![format!("N27: {said}, in {took:?}, recorded {told}")] })
}

/// N30: another environment of the same driver.
///
/// # Errors
/// If an environment does not do what every one does.
pub async fn a_neighbour(
    driver: &dyn Driver,
    (id, other): (EnvironmentId, EnvironmentId),
    site: &Site,
) -> Result<Vec<String>> {
    let (mut guest, mut neighbour) = (Guest::of(driver, id).await?, Guest::of(driver, other).await?);
    let (standing, beside) = (site.stand(driver, id).await?, site.stand(driver, other).await?);
    let listens = "doors = [socket.create_server(('', 7000)), socket.create_server(('::', 7001), family=socket.AF_INET6)]\n\
        own = socket.socket(socket.AF_UNIX); own.bind('\\0neighbour'); own.listen()\n\
        print(socket.gethostbyname(NAME))\n\
        import select; print(len(select.select(doors + [own], [], [], 6)[0]))";
    let tries = "def unix(name):\n\
        \x20   return lambda: socket.socket(socket.AF_UNIX).connect(name)\n\
        time.sleep(1.5)\n\
        tell(to(('127.0.0.1', 7000)), to(('::1', 7001)), unix('\\0neighbour'))\n\
        tell(*together(*[to((a, p)) for a in ('198.18.0.1', '198.18.0.2', '198.18.1.0', '198.18.1.1', '10.0.0.1', '172.17.0.1') for p in (7000, 7001)]))";
    let (said, heard) = tokio::join!(python(&mut guest, tries), python(&mut neighbour, listens));
    let (said, heard) = (said?, heard?);
    standing.leave().await;
    beside.leave().await;
    let alone = heard.ends_with("\n0") && said == "ECONNREFUSED\nended";
    Ok(if alone { Vec::new() } else { vec![format!("N30: it saw {said}, the other heard {heard}")] })
}

/// S2 and A1: what is left of a credential that was used, inside, in what the runner keeps, and in the record. `folders` are the runner's.
///
/// # Errors
/// If the environment does not do what every one does.
pub async fn canaries(driver: &dyn Driver, id: EnvironmentId, site: &Site, folders: &[&Path]) -> Result<Vec<String>> {
    let mut guest = Guest::of(driver, id).await?;
    let standing = site.stand(driver, id).await?;
    let since = site.mark();
    let reversed: String = SECRET.chars().rev().collect();
    let script = format!(
        "API = 'api.test.example'\n\
         print(ask(tls(API), get('/v1/things', API, f'authorization: Bearer {{TOKEN}}\\r\\n')), ask(tls(API), get('/v1/echo', API, f'authorization: Bearer {{TOKEN}}\\r\\n')))\n\
         print(*[once(t)() for t in (get('/open/\\x1b[2Jx'), get('/open/a\\rb'), get('/open/%0a%1b[31m{{}}'), get('/open/%0d%0a%1b%5b2J'), get(method='GET\\x1b'), get(host='a\\x1b[2J'))])\n\
         wanted = '{reversed}'[::-1].encode(); found, looked = [], 0\n\
         places = [f'/proc/{{p}}/{{f}}' for p in os.listdir('/proc') if p.isdigit() for f in ('environ', 'cmdline', 'maps')]\n\
         places += [os.path.join(d, f) for top in ('/etc', '/home', '/root', '/run', '/tmp', '/var', '/workspace', '/dev/shm') for d, _, fs in os.walk(top) for f in fs]\n\
         for place in places:\n\
         \x20   try:\n\
         \x20       if os.path.isfile(place) or place.startswith('/proc'):\n\
         \x20           text = open(place, 'rb').read(4 << 20); looked += 1; found += [place] if wanted in text else []\n\
         \x20   except OSError:\n\
         \x20       pass\n\
         print(found, looked > 20)"
    );
    let said = python(&mut guest, &script).await?;
    until("everything is closed", || site.ledger.unclosed().is_empty()).await?;
    let told = site.told(since);
    standing.leave().await;
    let mut wrong = Vec::new();
    let mut lines = said.lines();
    if lines.next().is_none_or(|line| !line.starts_with("200 ")) || lines.nth(1) != Some("[] True") {
        wrong.push(format!("S2: inside: {said}"));
    }
    if !told.heard.contains("with the secret") {
        wrong.push(format!("S2: nobody was given it: {}", told.heard));
    }
    wrong.extend(told.leaked.map(|leaked| format!("A1: {leaked}")));
    for folder in folders {
        wrong.extend(holding(folder, SECRET)?.into_iter().map(|path| format!("S2: it stands in {path}")));
    }
    for process in fs::read_dir("/proc")?.flatten() {
        for name in ["cmdline", "environ"] {
            let text = fs::read(process.path().join(name)).unwrap_or_default();
            if has(&text, SECRET) {
                wrong.push(format!("S2: it stands in {}", process.path().join(name).display()));
            }
        }
    }
    Ok(wrong)
}

fn has(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|bytes| bytes == what.as_bytes())
}

/// Files below a folder that have this in them.
fn holding(folder: &Path, what: &str) -> Result<Vec<String>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // What goes away meanwhile has nothing any more.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.metadata().is_ok_and(|about| about.len() < 256 << 20) {
                let text = fs::read(entry.path()).unwrap_or_default();
                if has(&text, what) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    Ok(found)
}

/// What a flood took.
#[derive(Debug)]
pub struct Flood {
    /// What went wrong.
    pub wrong: Vec<String>,
    /// Connections that the environment's kernel has made.
    pub connected: i64,
    /// Those that were carried.
    pub carried: usize,
    /// Refusals that were written down.
    pub written: usize,
    /// Those that were counted and not written down.
    pub left_out: i64,
    /// Memory of this process beyond what it had before, in bytes.
    pub memory: u64,
    /// The same of descriptors.
    pub descriptors: usize,
    /// The longest wait for an answer in the environment beside it.
    pub beside: Duration,
    /// How long all of it took.
    pub took: Duration,
}

/// N29: ten thousand connections of one environment, while another is served.
///
/// # Errors
/// If an environment does not do what every one does.
pub async fn ten_thousand(
    driver: &dyn Driver,
    (id, other): (EnvironmentId, EnvironmentId),
    site: &Site,
) -> Result<Flood> {
    let (mut guest, mut neighbour) = (Guest::of(driver, id).await?, Guest::of(driver, other).await?);
    let (standing, beside) = (site.stand(driver, id).await?, site.stand(driver, other).await?);
    let (memory, descriptors) = (resident()?, held()?);
    let since = site.mark();
    let begun = Instant::now();
    let each = FLOOD / 5;
    let script = format!(
        "to = socket.gethostbyname('tunnel.test.example')\n\
         def flood():\n\
         \x20   kept = []\n\
         \x20   for _ in range({each}):\n\
         \x20       s = socket.socket(); s.settimeout(3); kept.append(s)\n\
         \x20       try:\n\
         \x20           s.connect((to, 443))\n\
         \x20       except OSError:\n\
         \x20           return kept, len(kept) - 1\n\
         \x20   return kept, len(kept)\n\
         ends = []\n\
         for _ in range(5):\n\
         \x20   near, far = os.pipe(); ends.append(near)\n\
         \x20   if os.fork() == 0:\n\
         \x20       kept, many = flood(); os.write(far, struct.pack('I', many)); time.sleep(2); os._exit(0)\n\
         print(sum(struct.unpack('I', os.read(near, 4))[0] for near in ends))\n\
         for _ in ends:\n\
         \x20   os.wait()"
    );
    let looking = async {
        let (mut most, mut many, mut longest) = (0, 0, Duration::ZERO);
        for _ in 0..20 {
            let asked = Instant::now();
            let said = python(&mut neighbour, "tell(once(get()))").await?;
            anyhow::ensure!(said == "200", "the environment beside it is not served: {said}");
            longest = longest.max(asked.elapsed());
            most = most.max(resident()?);
            many = many.max(held()?);
        }
        anyhow::Ok((most, many, longest))
    };
    let (said, looked) = tokio::join!(python(&mut guest, &script), looking);
    let (said, (most, many, longest)) = (said?, looked?);
    let took = begun.elapsed();
    beside.leave().await;
    // What is still counted is written down when nobody stands there any more.
    standing.leave().await;
    until("everything is closed", || site.ledger.unclosed().is_empty()).await?;
    let (mut carried, mut written, mut left_out) = (0, 0, 0);
    for (_, entry) in site.log.read(since, usize::MAX, usize::MAX).context("the record is read")? {
        let Ok(record) = Record::parse(&entry.payload) else { continue };
        let count = |name: Option<&ContextValue>| match name {
            Some(ContextValue::Long(count)) => *count,
            _ => 0,
        };
        match &record.body {
            Body::Open { deed, .. } if deed.resource.id == "tunnel.test.example" => carried += 1,
            Body::Refused { deed, decision, .. }
                if decision.policies.iter().any(|policy| policy.id == "egress:crowded") =>
            {
                written += 1;
                left_out += count(deed.context.get("left_out"));
            }
            Body::Note { code, facts, .. } if code == "refusals_left_out" => left_out += count(facts.get("left_out")),
            _ => {}
        }
    }
    let connected: i64 = said.trim().parse().with_context(|| said.clone())?;
    let flood = Flood {
        wrong: Vec::new(),
        connected,
        carried,
        written,
        left_out,
        memory: most.saturating_sub(memory),
        descriptors: many.saturating_sub(descriptors),
        beside: longest,
        took,
    };
    let counted = i64::try_from(carried + written)? + left_out;
    let mut wrong = Vec::new();
    // More than 8,192 the environment's own kernel does not keep in mind; and of what its own queue was too full for, the runner never hears.
    if connected < 5_000 || counted < connected * 99 / 100 {
        wrong.push(format!("N29: {counted} of {connected} are counted: {flood:?}"));
    }
    if flood.memory > FLOOD_BYTES || flood.descriptors > FLOOD_DESCRIPTORS || flood.beside > BESIDE {
        wrong.push(format!("N29: it is not bounded: {flood:?}"));
    }
    Ok(Flood { wrong, ..flood })
}

/// Memory of this process that is there.
fn resident() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

/// Descriptors of this process.
fn held() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

impl Site {
    /// Puts other rules in force. What is open is looked at again only when its exit is told to.
    ///
    /// # Errors
    /// If they do not read.
    pub fn put_in_force(&self, number: u64, rules: &str) -> Result<()> {
        let bundle = Bundle::parse(number, rules).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        self.policy.store(Arc::new(bundle));
        Ok(())
    }
}
