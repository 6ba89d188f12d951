//! Writing a proposal as the tables of a bundle.

use std::collections::{BTreeMap, BTreeSet};

use stockade_domain::ids::ProjectId;

use super::{MANY, Paths, Shape};
use crate::{bundle::MAX_TITLE_BYTES, tables::MAX_PATTERNS};

/// So many bytes of paths or branches go into one table: it becomes one policy.
const MAX_LIST_BYTES: usize = 6_000;

/// A proposal that is being written.
pub(super) struct Writer {
    text: String,
    presets: Vec<String>,
    project: Option<ProjectId>,
    ids: BTreeMap<String, usize>,
}

impl Writer {
    pub(super) fn new(project: Option<ProjectId>) -> Self {
        Self { text: String::new(), presets: Vec::new(), project, ids: BTreeMap::new() }
    }

    pub(super) fn done(self) -> (String, Vec<String>) {
        (self.text, self.presets)
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn begin(&mut self, seen: &str, table: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(&format!("# {seen}"));
        self.line(&format!("[[{table}]]"));
    }

    fn end(&mut self) {
        if let Some(project) = self.project {
            self.line(&format!("projects = [\"{project}\"]"));
        }
    }

    /// An id that no other table of the proposal has.
    fn id(&mut self, name: &str) {
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let mut plain: String = plain.trim_matches('-').chars().take(50).collect();
        while plain.contains("--") {
            plain = plain.replace("--", "-");
        }
        let id = format!("learned-{plain}");
        let count = self.ids.entry(id.clone()).or_default();
        *count += 1;
        let id = if *count == 1 { id } else { format!("{id}.{count}") };
        self.line(&format!("id = \"{id}\""));
    }

    fn title(&mut self, title: &str) {
        let ends = title.char_indices().map(|(at, letter)| at + letter.len_utf8());
        let end = ends.take_while(|end| *end <= MAX_TITLE_BYTES).last().unwrap_or_default();
        self.line(&format!("title = {}", quoted(title.get(..end).unwrap_or_default().trim_end())));
    }

    pub(super) fn preset(&mut self, name: &str, seen: &BTreeSet<String>, times: u64) {
        let shown: Vec<&str> = seen.iter().map(String::as_str).take(MANY).collect();
        let more = seen.len().saturating_sub(MANY);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.begin(&format!("Serves {}{more} (refused {}).", plain(&shown.join(", ")), often(times)), "preset");
        self.line(&format!("use = \"{name}\""));
        self.end();
        self.presets.push(name.to_owned());
    }

    pub(super) fn connection(&mut self, pattern: &str, hosts: &[&str], shape: &Shape, times: u64) {
        let (paths, folded) = match &shape.paths {
            Paths::Any => (Vec::new(), false),
            Paths::These(paths) => folded(paths),
        };
        for paths in lists(&paths) {
            self.begin(&format!("Refused {}.", often(times)), "connection");
            self.id(pattern);
            self.title(&format!("Agents reach {pattern}"));
            if hosts.len() > 1 {
                self.line(&format!(
                    "# Wider than what was seen: {} names directly below, {} among them.",
                    hosts.len(),
                    hosts.first().copied().unwrap_or_default()
                ));
            }
            self.line(&format!("hosts = [{}]", quoted(pattern)));
            self.line(&format!(
                "ports = [{}]",
                shape.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ));
            if shape.methods.is_empty() && shape.inspected {
                self.line("# Which requests were meant is not known. Without this line it may be tunnelled, for what is not HTTP.");
                self.line("inspected = true");
            }
            if !shape.methods.is_empty() {
                self.line(&format!("methods = [{}]", list(shape.methods.iter().map(String::as_str))));
                if shape.paths == Paths::Any {
                    self.line("# Which paths were meant is not known: `paths` would narrow it.");
                }
            }
            if !paths.is_empty() {
                if folded {
                    self.line(&format!(
                        "# Wider than what was seen where it ends with `*`: at least {MANY} paths stood below."
                    ));
                }
                self.line(&format!("paths = [{}]", list(paths.iter().map(String::as_str))));
            }
            if shape.websocket {
                self.line("upgrade = \"websocket\"");
            }
            self.end();
        }
    }

    pub(super) fn repository(&mut self, pattern: &str, seen: &[&str], fetch: bool, refs: &BTreeSet<&str>, times: u64) {
        let refs: Vec<String> = refs.iter().map(|full| branch(full)).collect::<BTreeSet<_>>().into_iter().collect();
        for refs in lists(&refs) {
            self.begin(&format!("Refused {}.", often(times)), "repository");
            self.id(pattern);
            let deeds = match (fetch, refs.is_empty()) {
                (true, true) => "fetch from",
                (true, false) => "fetch from and push to",
                _ => "push to",
            };
            self.title(&format!("Agents {deeds} {pattern}"));
            if seen.len() > 1 {
                self.line(&format!("# Wider than what was seen: {} repositories directly below.", seen.len()));
            }
            self.line(&format!("repositories = [{}]", quoted(pattern)));
            if !fetch {
                self.line("fetch = false");
            }
            match refs {
                [] => {}
                [own] if own == OWN => {
                    self.line("# Every branch below stockade/: each run has its own there.");
                    self.line("push = true");
                }
                refs => self.line(&format!("push = [{}]", list(refs.iter().map(String::as_str)))),
            }
            self.end();
        }
    }

    pub(super) fn credential(&mut self, credential: &str, host: &str, methods: &[&str], times: u64) {
        self.begin(&format!("Refused {}.", often(times)), "credential");
        self.id(&format!("{credential}-{host}"));
        self.title(&format!("The credential {credential} is for {host}"));
        self.line(&format!("credentials = [{}]", quoted(credential)));
        self.line(&format!("hosts = [{}]", quoted(host)));
        if !methods.is_empty() {
            self.line(&format!("methods = [{}]", list(methods.iter().copied())));
        }
        self.end();
    }
}

/// Stockade's own branches, as a rule says them.
const OWN: &str = "stockade/*";

/// A ref as a rule says it. Branches below `stockade/` are made for each run: they are meant together.
fn branch(full: &str) -> String {
    match full.strip_prefix("refs/heads/") {
        Some(name) if name.starts_with("stockade/") => OWN.to_owned(),
        // A branch that is called `refs/…` is said whole.
        Some(name) if !name.starts_with("refs/") => name.to_owned(),
        _ => full.to_owned(),
    }
}

/// Paths, and folders in place of the many directly below them.
fn folded(paths: &BTreeSet<String>) -> (Vec<String>, bool) {
    let mut folders: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for path in paths {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        folders.entry(folder).or_default().push(path);
    }
    let mut all = Vec::new();
    let mut any = false;
    for (folder, paths) in folders {
        // What is below the root is everything.
        if paths.len() >= MANY && !folder.is_empty() {
            any = true;
            all.push(format!("{folder}/*"));
        } else {
            all.extend(paths.into_iter().cloned());
        }
    }
    (all, any)
}

/// Lists that one table holds, each; an empty one if there is nothing.
fn lists(all: &[String]) -> Vec<&[String]> {
    let mut lists = Vec::new();
    let mut rest = all;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(MAX_PATTERNS).take_while(|text| {
            bytes += text.len();
            bytes <= MAX_LIST_BYTES
        });
        let (list, after) = rest.split_at(fits.count().max(1));
        lists.push(list);
        rest = after;
    }
    if lists.is_empty() { vec![&[]] } else { lists }
}

fn often(times: u64) -> String {
    match times {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        times => format!("{times} times"),
    }
}

/// What may stand in a comment: one line, without control characters.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(quoted).collect::<Vec<_>>().join(", ")
}
