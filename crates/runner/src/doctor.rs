//! What this machine allows and what is missing, found out by trying.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use stockade_api::http::Check;
use stockade_domain::{EnvironmentClass, Harness};
use stockade_sandbox::{Capability, Driver, NamespaceConfig, NamespaceDriver};

use crate::{RunnerConfig, drive::harness, error::chain, identity, start, workspace::git};

/// Less free space than this in the data folder is a finding: 2 GiB.
pub const MIN_FREE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// A clock that is further from the server's is a finding, in seconds: the server refuses at five minutes.
pub const MAX_CLOCK_S: i64 = 60;

fn check(name: &str, ok: bool, detail: impl Into<String>, hint: Option<&str>) -> Check {
    Check { name: name.to_owned(), ok, detail: detail.into(), hint: hint.map(str::to_owned) }
}

/// Examines this machine for a runner with this configuration. Starts nothing and enrols nobody.
pub async fn doctor(config: &RunnerConfig) -> Vec<Check> {
    let mut checks = vec![git_check().await, space(&config.data_dir).await, identity_check(config)];
    let driver = NamespaceDriver::new(NamespaceConfig {
        root: start::environments(config),
        helpers: config.helpers.clone(),
        allow_degraded: config.allow_degraded.clone(),
        extra_read_only: config.extra_read_only.clone(),
        without_redirection: false,
    });
    let found = driver.probe().await;
    checks.push(wall(&driver, &found, &config.allow_degraded));
    for found in found {
        let degraded = config.allow_degraded.contains(&found.name);
        let ok = found.available || !found.required || degraded;
        let said = if found.available {
            found.why
        } else if degraded {
            format!("missing, and the configuration goes without it: {}", found.why)
        } else {
            format!("missing: {}", found.why)
        };
        checks.push(Check { name: format!("sandbox.{}", found.name), ok, detail: said, hint: None });
    }
    checks.extend(classes(&config.classes));
    checks.extend(agents(config));
    checks.extend(models(config).await);
    checks.push(clock(&config.server_url).await);
    checks
}

/// What environments may be. A class that is larger than the machine is no fault: it holds nobody back, that is all.
fn classes(classes: &[EnvironmentClass]) -> Vec<Check> {
    let cores = std::thread::available_parallelism().map_or(u64::MAX, |cores| cores.get() as u64);
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1_024)
    });
    let one = |(at, class): (usize, &EnvironmentClass)| {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let mut said = format!(
            "{} MiB of memory, {} thousandths of a core, {} MiB of disk, {} processes, {} open files, network `{}`",
            mib(class.memory_bytes),
            class.cpu_millis,
            mib(class.disk_bytes),
            class.processes,
            class.open_files,
            class.network
        );
        if let Some(seconds) = class.lifetime_seconds {
            said.push_str(&format!(", lives for {seconds} s"));
        }
        if let Some(seconds) = class.idle_seconds {
            said.push_str(&format!(", stopped after {seconds} idle s"));
        }
        if at == 0 {
            said.push_str("; used where nobody names one");
        }
        if class.cpu_millis > cores.saturating_mul(1_000) {
            said.push_str(&format!("; this machine has {cores} cores"));
        }
        if let Some(memory) = memory.filter(|memory| *memory < class.memory_bytes) {
            said.push_str(&format!("; this machine has {} MiB of memory", mib(memory)));
        }
        check(&format!("class.{}", class.name), true, said, None)
    };
    classes.iter().enumerate().map(one).collect()
}

/// The folders of this machine that every environment shows, where they are.
const SHOWN: [&str; 3] = ["/usr", "/bin", "/opt"];
/// Where a program inside is looked for, besides `bin` of each folder that the configuration names.
const SEARCHED: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Which programs may do the work inside. That one is not there is no fault: it may not be wanted.
fn agents(config: &RunnerConfig) -> Vec<Check> {
    let named = config.extra_read_only.iter().map(|folder| match folder.ends_with("bin") {
        true => folder.clone(),
        false => folder.join("bin"),
    });
    let searched: Vec<PathBuf> = SEARCHED.iter().map(PathBuf::from).chain(named).collect();
    let shown: Vec<PathBuf> = SHOWN.iter().map(PathBuf::from).chain(config.extra_read_only.iter().cloned()).collect();
    let look = |harness: &Harness| {
        let origin = harness::program::origin(*harness)?;
        let name = format!("agent.{harness}");
        let found = searched.iter().map(|folder| folder.join(origin.program)).find(|path| path.exists());
        let Some(found) = found else {
            let detail = format!("`{}` is not installed where environments see it", origin.program);
            let hint = format!("`npm install --global --prefix /usr/local {}`, if you want it", origin.package);
            return Some(check(&name, true, format!("{detail}; {hint}"), None));
        };
        // A link may lead to where no environment sees it.
        let real = found.canonicalize().unwrap_or_else(|_| found.clone());
        let visible = shown.iter().any(|folder| real.starts_with(folder.canonicalize().as_deref().unwrap_or(folder)));
        Some(match visible {
            true => check(&name, true, found.display().to_string(), None),
            false => check(
                &name,
                false,
                format!("{} leads to {}, which environments do not see", found.display(), real.display()),
                Some("install it below /usr/local or /opt, or name its folder in `extra_read_only`"),
            ),
        })
    };
    Harness::ALL.iter().filter_map(look).collect()
}

/// How strong the wall is, and what of it this machine does not give.
fn wall(driver: &dyn Driver, found: &[Capability], allowed: &[String]) -> Check {
    let level = match driver.assurance() {
        1 => "1: the machine's own kernel, shared (docs/isolation.md says what that does not protect from)",
        2 => "2: a kernel in user space",
        3 => "3: a virtual machine",
        _ => "unknown",
    };
    let (without, lacks): (Vec<_>, Vec<_>) = found
        .iter()
        .filter(|found| found.required && !found.available)
        .map(|found| found.name.as_str())
        .partition(|name| allowed.iter().any(|allowed| allowed == name));
    let mut said = format!("driver `{}`, assurance level {level}", driver.name());
    if !without.is_empty() {
        said.push_str(&format!("; the configuration goes without: {}", without.join(", ")));
    }
    if lacks.is_empty() {
        return check("sandbox.assurance", true, said, None);
    }
    said.push_str(&format!("; no environment is made, because this machine lacks: {}", lacks.join(", ")));
    let hint = "each is explained below; what you go without, name in `allow_degraded`";
    check("sandbox.assurance", false, said, Some(hint))
}

async fn git_check() -> Check {
    match git::version().await {
        Ok(version) => check("git", true, format!("version {version}"), None),
        Err(error) => check("git", false, error.to_string(), Some("install git, version 2.30 or later")),
    }
}

async fn space(dir: &Path) -> Check {
    // The nearest folder that is there: the data folder may not have been made yet.
    let there = dir.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/"));
    let out = tokio::process::Command::new("df").args(["-Pk", "--"]).arg(there).kill_on_drop(true).output().await;
    let free = out.ok().and_then(|out| {
        let text = String::from_utf8(out.stdout).ok()?;
        text.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    match free {
        Some(free) => check(
            "disk",
            free >= MIN_FREE_BYTES,
            format!("{} MiB are free below {}", free / (1024 * 1024), there.display()),
            Some("free some space: environments, mirrors and the spool need it"),
        ),
        None => check("disk", false, "the free space cannot be found out", Some("check that `df` is installed")),
    }
}

fn identity_check(config: &RunnerConfig) -> Check {
    if crate::has_identity(&config.data_dir) {
        match identity::keys_are_usable(&config.data_dir) {
            Ok(()) => check("identity", true, "this runner is enrolled and its keys are private", None),
            Err(error) => check("identity", false, error.to_string(), Some("restore the keys with mode 0600")),
        }
    } else {
        check("identity", true, "not enrolled yet: the first start needs a token", None)
    }
}

async fn models(config: &RunnerConfig) -> Vec<Check> {
    let table = match start::model_table(config) {
        Ok(table) => table,
        Err(error) => {
            return vec![check(
                "models",
                false,
                error.to_string(),
                Some("correct the configuration's part about models"),
            )];
        }
    };
    let hint = "set the provider's key, or use a model `rehearsal/NAME`";
    let now = stockade_domain::World::now(&stockade_ledger::SystemWorld);
    let mut checks = Vec::new();
    for provider in table.providers() {
        let name = format!("provider.{}", provider.name());
        checks.push(match provider.check_credentials(now).await {
            Ok(_) => check(&name, true, format!("{}", provider.base_url()), None),
            // A provider without a key is no defect of the machine: only its models cannot be used.
            Err(error) => check(&name, true, format!("not usable: {}", chain(&error)), Some(hint)),
        });
    }
    checks
}

async fn clock(url: &str) -> Check {
    let hint = "start the server, or check its URL and this machine's clock";
    let Ok(client) = reqwest::Client::builder().timeout(Duration::from_secs(3)).build() else {
        return check("server.clock", false, "no HTTP client can be made", None);
    };
    let asked = client.get(format!("{}/v1/health", url.trim_end_matches('/'))).send().await;
    match asked.map(|answer| answer.headers().get("date").and_then(|d| d.to_str().ok().and_then(http_date))) {
        Err(_) => check("server.clock", true, format!("the server at {url} does not answer now"), Some(hint)),
        Ok(None) => check("server.clock", true, "the server says no time", None),
        Ok(Some(theirs)) => {
            let ours = stockade_domain::World::now(&stockade_ledger::SystemWorld).0 / 1_000_000;
            let off = (ours - theirs).abs();
            check("server.clock", off <= MAX_CLOCK_S, format!("the clocks are {off} s apart"), Some(hint))
        }
    }
}

/// Seconds since the epoch of an IMF-fixdate (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<i64> {
    let mut parts = text.split_once(", ")?.1.split(' ');
    let day: i64 = parts.next()?.parse().ok()?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = parts.next()?;
    let month = i64::try_from(months.iter().position(|m| *m == name)?).ok()? + 1;
    let year: i64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(str::parse::<i64>);
    let (h, m, s) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    // Days from civil (Howard Hinnant): the year begins in March.
    let (y, mp) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let days = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + (153 * mp + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + h * 3_600 + m * 60 + s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("yesterday"), None);
    }
}
