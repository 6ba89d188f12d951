//! What rules name: hosts, paths of requests, repositories and refs.
//!
//! It owns how each is written, which is one spelling only: the one in which a deed says it. A `*` stands where a whole name
//! begins or ends and means what is below, never the thing itself and never a part of a name: `*.crates.example` is not
//! `crates.example`, and not `notcrates.example`. It refuses every text that is spelled otherwise, because a rule that never
//! matches is a refusal that nobody wanted, or a prohibition that holds nothing.
//!
//! *Invariant:* what [`matches`](HostPattern::matches) says here and what Cedar says about the condition written out are the
//! same; a property test holds them together.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::cedar::{pattern, quoted};
use crate::readings;

/// The longest name of a host, in bytes (RFC 1035 §2.3.4).
pub const MAX_HOST_BYTES: usize = 253;
/// The longest label of such a name, in bytes.
const MAX_LABEL_BYTES: usize = 63;
/// The longest path of a rule, and the longest repository or branch, in bytes.
pub const MAX_PATTERN_TEXT_BYTES: usize = 512;

/// Hosts: `crates.example`, `*.crates.example` for what is below it, `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This name or address.
    Exact(String),
    /// The names below this one.
    Below(String),
    /// Every name and address.
    Any,
}

impl HostPattern {
    /// Reads one.
    ///
    /// # Errors
    /// With what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        if name.contains('*') {
            return Err(format!(
                "`{}`: a `*` stands alone in front, as in `*.crates.example`, and means the names below; write each name otherwise",
                shown(text)
            ));
        }
        host(name).map_err(|why| format!("`{}`: {why}", shown(text)))?;
        if !below {
            return Ok(Self::Exact(name.to_owned()));
        }
        if is_address(name) {
            return Err(format!("`{}`: nothing is below an address; write each address", shown(text)));
        }
        Ok(Self::Below(name.to_owned()))
    }

    /// Whether a host, in the spelling of deeds, is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            Self::Below(name) => host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Self::Any => true,
        }
    }

    /// As it is written in a rule.
    pub fn text(&self) -> String {
        match self {
            Self::Exact(name) => name.clone(),
            Self::Below(name) => format!("*.{name}"),
            Self::Any => "*".to_owned(),
        }
    }

    /// The condition of all of them about a text of Cedar. Nothing if it always holds.
    pub(super) fn condition(all: &[Self], about: &str) -> Option<String> {
        if all.contains(&Self::Any) {
            return None;
        }
        let exact = all.iter().filter_map(|one| if let Self::Exact(name) = one { Some(name.as_str()) } else { None });
        let below = all.iter().filter_map(|one| if let Self::Below(name) = one { Some(name) } else { None });
        let below = below.map(|name| format!("{about} like {}", pattern("*.", name, "")));
        Some(any(one_of(about, exact.collect()).into_iter().chain(below).collect()))
    }
}

/// Whether a text is a host in the spelling of deeds: a name in small letters, or an address.
///
/// # Errors
/// With what is wrong and how to write it.
pub(crate) fn host(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("a host has a name; there is none".to_owned());
    }
    if text.contains("//") {
        return Err("this is a URL; write the host alone".to_owned());
    }
    if text.contains('/') {
        return Err("a host has no path; write it as `paths`".to_owned());
    }
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').unwrap_or_default();
        let address: Ipv6Addr = inner.parse().map_err(|_| "what stands in brackets is no IPv6 address".to_owned())?;
        if let Some(address) = address.to_ipv4_mapped() {
            return Err(format!("this is the IPv4 address {address}; write it so"));
        }
        return same(text, &format!("[{address}]"));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Err(format!("an IPv6 address stands in brackets: `[{address}]`"));
    }
    if text.contains(':') {
        return Err("a host has no port; write it as `ports`".to_owned());
    }
    if !text.is_ascii() {
        return Err("the name is not ASCII; write it as it goes over the wire, with `xn--`".to_owned());
    }
    if let Some(name) = text.strip_suffix('.') {
        return Err(format!("a name has no dot at its end; write `{}`", shown(name)));
    }
    if text.len() > MAX_HOST_BYTES {
        return Err(format!("a name has at most {MAX_HOST_BYTES} bytes"));
    }
    for label in text.split('.') {
        if label.is_empty() || label.len() > MAX_LABEL_BYTES {
            return Err(format!("each part of a name between dots has 1 to {MAX_LABEL_BYTES} bytes"));
        }
        if let Some(odd) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
            return Err(format!("`{}` stands in no name of a host", odd.escape_debug()));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("no part of a name begins or ends with `-`".to_owned());
        }
    }
    same(text, &text.to_ascii_lowercase())?;
    if is_number(text.rsplit('.').next().unwrap_or_default()) {
        let address: Ipv4Addr =
            text.parse().map_err(|_| "some programs read this as an address; write an address as four numbers")?;
        return same(text, &address.to_string());
    }
    Ok(())
}

fn same(text: &str, canonical: &str) -> Result<(), String> {
    if text == canonical { Ok(()) } else { Err(format!("write it as `{}`", shown(canonical))) }
}

fn is_address(name: &str) -> bool {
    name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok()
}

/// What parsers of URLs and `inet_aton` take for a number at the end of a name.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hexadecimal || label.bytes().all(|b| b.is_ascii_digit())
}

/// Paths of requests: `/config.json`, `/crates/*` for what is below. `%2F` is another thing than a slash: which of both a server takes it for is seen to
/// when a request is judged, in every reading by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathPattern {
    /// This path.
    Exact(String),
    /// What begins with this, which ends with a slash or an encoded one.
    Below(String),
}

impl PathPattern {
    /// Reads one.
    ///
    /// # Errors
    /// With what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("`{}`: {why}", shown(text));
        if text.len() > MAX_PATTERN_TEXT_BYTES {
            return Err(wrong(format!("a path in a rule has at most {MAX_PATTERN_TEXT_BYTES} bytes")));
        }
        let (below, path) = match text.strip_suffix('*') {
            Some(path) if path.ends_with('/') || path.ends_with("%2F") => (true, path),
            _ => (false, text),
        };
        if path.contains('*') {
            return Err(wrong("a `*` stands alone at the end, as in `/crates/*`, and means what is below".to_owned()));
        }
        // An encoded slash stands between two names: below it, anything.
        let name = if below && !path.ends_with('/') { "x" } else { "" };
        normal(&format!("{path}{name}")).map_err(|why| wrong(why.to_owned()))?;
        Ok(if below { Self::Below(path.to_owned()) } else { Self::Exact(path.to_owned()) })
    }

    /// Whether a path, in the spelling of deeds, is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Below(above) => path.starts_with(above.as_str()),
        }
    }

    /// As it is written in a rule.
    pub fn text(&self) -> String {
        match self {
            Self::Exact(path) => path.clone(),
            Self::Below(path) => format!("{path}*"),
        }
    }

    /// The same below another path, which is one without a slash at its end.
    pub(super) fn moved_below(&self, prefix: &str) -> Self {
        match self {
            Self::Exact(path) => Self::Exact(format!("{prefix}{path}")),
            Self::Below(path) => Self::Below(format!("{prefix}{path}")),
        }
    }

    pub(super) fn condition(all: &[Self], about: &str) -> String {
        let exact = all.iter().filter_map(|one| if let Self::Exact(path) = one { Some(path.as_str()) } else { None });
        let below = all.iter().filter_map(|one| if let Self::Below(path) = one { Some(path) } else { None });
        let below = below.map(|path| format!("{about} like {}", pattern("", path, "*")));
        any(one_of(about, exact.collect()).into_iter().chain(below).collect())
    }
}

/// Whether a path is spelled as the way out spells paths before they are judged: nothing encoded that need not be, large
/// hexadecimal digits, no dot segments, no query.
pub(super) fn normal(path: &str) -> Result<(), &'static str> {
    let Some(rest) = path.strip_prefix('/') else { return Err("a path begins with `/`") };
    for segment in rest.split('/') {
        if matches!(segment.split(';').next(), Some("." | "..")) {
            return Err("a path has no parts `.` and `..`; write it without");
        }
    }
    readings::encoded_slashes(path)?;
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => return Err("a path has no backslash; write `/`"),
            b'?' | b'#' => return Err("a path has no query and no fragment: no rule looks at them"),
            b'%' => encoded([bytes.next(), bytes.next()])?,
            b'!'..=b'~' => {}
            _ => return Err("a path is of ASCII without spaces; write the rest percent-encoded, as in `%20`"),
        }
    }
    Ok(())
}

fn encoded(digits: [Option<u8>; 2]) -> Result<(), &'static str> {
    const SAID: &str = "`%` is followed by two digits of 0-9 and A-F, in large letters";
    let value = |digit: Option<u8>| match digit {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(SAID),
    };
    let [high, low] = digits;
    match value(high)? << 4 | value(low)? {
        b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
            Err("letters, digits, `-`, `.`, `_` and `~` are not percent-encoded; write them themselves")
        }
        b'\\' | 0..=31 | 127 => Err("encoded backslashes and control characters are refused always"),
        _ => Ok(()),
    }
}

/// Repositories: `forge.example/team/app`, `forge.example/team/*` for what is below, `forge.example/*` for all of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryPattern {
    /// Its host.
    pub host: String,
    /// The path, without a slash in front; empty for all of the host.
    pub path: String,
    /// What is below, and not the path itself.
    pub below: bool,
}

impl RepositoryPattern {
    /// Reads one.
    ///
    /// # Errors
    /// With what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("`{}`: {why}", shown(text));
        if text.len() > MAX_PATTERN_TEXT_BYTES {
            return Err(wrong(format!("a repository has at most {MAX_PATTERN_TEXT_BYTES} bytes")));
        }
        if text.contains("://") {
            return Err(wrong("this is a URL; write host and path, as in `forge.example/team/app`".to_owned()));
        }
        let Some((name, path)) = text.split_once('/') else {
            return Err(wrong(
                "write host and path, as in `forge.example/team/app` or `forge.example/team/*`".to_owned(),
            ));
        };
        if name.contains('*') {
            return Err(wrong("the host of a repository has no `*`; write each host".to_owned()));
        }
        host(name).map_err(wrong)?;
        let (below, path) = match path.strip_suffix('*') {
            Some("") => (true, ""),
            Some(path) if path.ends_with('/') => (true, path.trim_end_matches('/')),
            _ => (false, path),
        };
        if path.contains('*') {
            return Err(wrong(
                "a `*` stands alone at the end, as in `forge.example/team/*`, and means what is below".to_owned(),
            ));
        }
        if !(below && path.is_empty()) {
            repository_path(path).map_err(|why| wrong(why.to_owned()))?;
        }
        Ok(Self { host: name.to_owned(), path: path.to_owned(), below })
    }

    /// Whether a repository, in the spelling of deeds, is meant.
    pub fn matches(&self, repository: &str) -> bool {
        let Some(path) = repository.strip_prefix(self.host.as_str()).and_then(|rest| rest.strip_prefix('/')) else {
            return false;
        };
        match (self.below, self.path.as_str()) {
            (false, exact) => path == exact,
            (true, "") => true,
            (true, above) => path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
        }
    }

    /// As it is written in a rule.
    pub fn text(&self) -> String {
        match (self.below, self.path.as_str()) {
            (false, path) => format!("{}/{path}", self.host),
            (true, "") => format!("{}/*", self.host),
            (true, path) => format!("{}/{path}/*", self.host),
        }
    }

    /// The condition of all of them about a text of Cedar, in small letters if `folded`.
    pub(super) fn condition(all: &[Self], about: &str, folded: bool) -> String {
        let spelled = |text: String| if folded { text.to_lowercase() } else { text };
        let exact: Vec<String> = all.iter().filter(|one| !one.below).map(|one| spelled(one.text())).collect();
        let below = all.iter().filter(|one| one.below).map(|one| spelled(one.text()));
        let below = below.map(|text| format!("{about} like {}", pattern("", text.trim_end_matches('*'), "*")));
        any(one_of(about, exact.iter().map(String::as_str).collect()).into_iter().chain(below).collect())
    }
}

/// Whether a text is a repository in the spelling of deeds: host, slash, path.
///
/// # Errors
/// With what is wrong.
pub(crate) fn repository(text: &str) -> Result<(), String> {
    let (name, path) = text.split_once('/').ok_or("a repository is a host and a path")?;
    host(name)?;
    repository_path(path).map_err(str::to_owned)
}

/// Whether this is a repository's path in the spelling of deeds.
fn repository_path(path: &str) -> Result<(), &'static str> {
    if path.split('/').any(|part| matches!(part, "" | "." | "..") || part.starts_with('-')) {
        return Err("each part of a repository's path has a name, and none is `.` or `..` or begins with `-`");
    }
    if path.ends_with(".git") {
        return Err("write the repository without `.git` at the end");
    }
    let odd = |letter: char| letter.is_whitespace() || letter.is_control() || "\\%?#'\"`$;&|<>!:".contains(letter);
    if path.contains(odd) {
        return Err("a repository's path is of letters, digits and plain signs");
    }
    Ok(())
}

/// Refs: `stockade/*` and `main` are branches, `refs/tags/*` is said whole, `*` is every branch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefPattern {
    /// The ref's whole name, or what it begins with, which ends with a slash.
    full: String,
    below: bool,
}

impl RefPattern {
    /// The branches of Stockade's own.
    pub fn own() -> Self {
        Self { full: "refs/heads/stockade/".to_owned(), below: true }
    }

    /// Reads one.
    ///
    /// # Errors
    /// With what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{}`: {why}", shown(text));
        if text.len() > MAX_PATTERN_TEXT_BYTES {
            return Err(wrong("a branch in a rule is shorter than that"));
        }
        let full = if text.starts_with("refs/") { text.to_owned() } else { format!("refs/heads/{text}") };
        let (below, name) = match full.strip_suffix('*') {
            Some(name) if name.ends_with('/') => (true, name.trim_end_matches('/')),
            _ => (false, full.as_str()),
        };
        if name.contains('*') {
            return Err(wrong("a `*` stands alone at the end, as in `stockade/*`, and means what is below"));
        }
        // git-check-ref-format, for ASCII.
        let odd = |letter: char| !letter.is_ascii_graphic() || "~^:?[\\\"".contains(letter);
        let part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
        if name.contains(odd)
            || name.contains("..")
            || name.contains("@{")
            || name.ends_with('.')
            || name.split('/').any(part)
        {
            return Err(wrong("this is no name of a branch that git takes, or not of plain ASCII"));
        }
        if name == "refs" {
            return Err(wrong("`refs/*` would be everything; write `*` for every branch, `refs/tags/*` for every tag"));
        }
        let slash = if below { "/" } else { "" };
        Ok(Self { full: format!("{name}{slash}"), below })
    }

    /// Whether a ref, by its whole name, is meant.
    pub fn matches(&self, full: &str) -> bool {
        if self.below { full.starts_with(&self.full) } else { full == self.full }
    }

    pub(super) fn condition(all: &[Self], about: &str) -> String {
        let exact = all.iter().filter(|one| !one.below).map(|one| one.full.as_str()).collect();
        let below = all.iter().filter(|one| one.below);
        let below = below.map(|one| format!("{about} like {}", pattern("", &one.full, "*")));
        any(one_of(about, exact).into_iter().chain(below).collect())
    }
}

/// Whether a text of Cedar is one of these; nothing if there are none.
pub(super) fn one_of(about: &str, texts: Vec<&str>) -> Option<String> {
    match texts.as_slice() {
        [] => None,
        [only] => Some(format!("{about} == {}", quoted(only))),
        texts => {
            let all: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            Some(format!("[{}].contains({about})", all.join(", ")))
        }
    }
}

/// One of these conditions.
fn any(conditions: Vec<String>) -> String {
    match conditions.as_slice() {
        [only] => only.clone(),
        [] => "false".to_owned(),
        all => format!("({})", all.join(" || ")),
    }
}

/// So much of a text as an error may repeat.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}
