//! Which repository and which service a request means, over HTTP (gitprotocol-http) and SSH (gitprotocol-pack, "SSH Transport").
//!
//! Paths are read strictly, because the server at the other end reads them too and may read them otherwise: what has two
//! spellings is refused. It also refuses the dumb protocol, large file storage and archives, which go around what is
//! decided for fetch and push.

use std::fmt;

/// The longest path of a request or a command, in bytes.
pub const MAX_PATH_BYTES: usize = 1_024;

/// What is asked of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Fetching.
    UploadPack,
    /// Pushing.
    ReceivePack,
}

impl Service {
    /// The name of the service and of the program.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::UploadPack, Self::ReceivePack].into_iter().find(|service| service.as_str() == word)
    }

    /// The content type of a request's body (gitprotocol-http, "Smart Service").
    #[must_use]
    pub const fn request_type(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-request",
            Self::ReceivePack => "application/x-git-receive-pack-request",
        }
    }

    /// The content type of the answer to a request.
    #[must_use]
    pub const fn result_type(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-result",
            Self::ReceivePack => "application/x-git-receive-pack-result",
        }
    }

    /// The content type of the advertisement.
    #[must_use]
    pub const fn advertisement_type(self) -> &'static str {
        match self {
            Self::UploadPack => "application/x-git-upload-pack-advertisement",
            Self::ReceivePack => "application/x-git-receive-pack-advertisement",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a path, a request or a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is too long.
    #[error("the repository's path has {0} bytes, above the limit of {MAX_PATH_BYTES}")]
    Long(usize),
    /// The path names no repository.
    #[error("the path names no repository")]
    Empty,
    /// A part of the path means something else than itself.
    #[error("the repository's path has the part `{0}`, which may mean another place: spell the path plainly")]
    Segment(String),
    /// A byte that has no business in a path.
    #[error("the repository's path has a byte {0:#04x}: letters, digits and plain signs only")]
    Byte(u8),
    /// Percent-encoding that is wrong or hides something.
    #[error("the path has the percent-encoding `{0}`, which is wrong or not needed: write the character itself")]
    Encoding(String),
    /// The dumb protocol: files of a repository, one by one.
    #[error("`{0}` is of git's dumb protocol, about which nothing can be decided: use a git that speaks the smart one")]
    Dumb(String),
    /// Large file storage.
    #[error("`{0}` is of git's large file storage, which goes around what is decided for pushes")]
    LargeFiles(String),
    /// A service that is not known.
    #[error("the service `{0}` is neither git-upload-pack nor git-receive-pack")]
    Service(String),
    /// The query has more or other than the service.
    #[error("the query `{0}` is not `service=git-upload-pack` or `service=git-receive-pack` alone")]
    Query(String),
    /// Another method than the service is asked with.
    #[error("{service} is not asked for with the method {method}")]
    Method {
        /// What was asked.
        service: &'static str,
        /// With which method.
        method: String,
    },
    /// Another content type than the service's.
    #[error("the body's type is `{said}`, and git's is `{wanted}`")]
    ContentType {
        /// What was said.
        said: String,
        /// What should have been.
        wanted: &'static str,
    },
    /// A command over SSH that is none of the two.
    #[error(
        "the command `{0}` is neither git-upload-pack nor git-receive-pack with a quoted path: nothing else is run over SSH"
    )]
    Command(String),
    /// The path in a command is not quoted as git quotes.
    #[error("the path in the command `{0}` is not one quoted word, as git writes it")]
    Quoting(String),
}

/// A repository's path on its host, of plain parts.
///
/// *Invariant:* at least one part, none empty, none `.` or `..`, no control bytes, nothing that a shell or a URL reads otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    said: String,
    absolute: bool,
}

impl Repository {
    /// Reads a path, with or without a leading slash.
    ///
    /// # Errors
    /// When it may mean another place than it says.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path.len() > MAX_PATH_BYTES {
            return Err(PathError::Long(path.len()));
        }
        let (absolute, said) = path.strip_prefix('/').map_or((false, path), |rest| (true, rest));
        // A trailing slash is what people type; servers ignore it.
        let said = said.strip_suffix('/').unwrap_or(said);
        if said.is_empty() {
            return Err(PathError::Empty);
        }
        let bad = |character: &char| {
            character.is_control()
                || character.is_whitespace()
                || matches!(
                    character,
                    '\\' | '%' | '?' | '#' | '\'' | '"' | '`' | '$' | ';' | '&' | '|' | '<' | '>' | '*' | '!' | ':'
                )
                || matches!(u32::from(*character), 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff)
        };
        if let Some(character) = said.chars().find(bad) {
            return Err(PathError::Byte(character.to_string().bytes().next().unwrap_or_default()));
        }
        // What it is called without `.git` has to be a plain part as well.
        let bad = |part: &&str| {
            matches!(part.strip_suffix(".git").unwrap_or(part), "" | "." | "..")
                || part.eq_ignore_ascii_case(".git")
                || part.starts_with('-')
        };
        if let Some(part) = said.split('/').find(bad) {
            return Err(PathError::Segment(part.to_owned()));
        }
        Ok(Self { said: said.to_owned(), absolute })
    }

    /// The path as it is matched: without leading slash and without `.git`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.said.strip_suffix(".git").unwrap_or(&self.said)
    }

    /// The path as it was said, without leading slash.
    #[must_use]
    pub fn said(&self) -> &str {
        &self.said
    }

    /// It was said with a leading slash: over SSH to a plain server, without one it begins at the user's home.
    #[must_use]
    pub const fn absolute(&self) -> bool {
        self.absolute
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A repository, what is asked of it, and in which step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// Of which repository.
    pub repository: Repository,
    /// Fetching or pushing.
    pub service: Service,
    /// What the request carries.
    pub step: Step,
}

/// The steps of the smart protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `GET …/info/refs`: the answer is an advertisement.
    Advertisement,
    /// `POST …/git-…-pack`: the body is a request.
    Rpc,
    /// A command over SSH: advertisement, request and answer on one stream.
    Stream,
}

/// What an HTTP request means to git; `None` when it is not git's at all. `path` is as it stands in the request, undecoded.
///
/// # Errors
/// When it is git's and must be refused.
pub fn http(
    method: &str,
    path: &str,
    query: Option<&str>,
    content_type: Option<&str>,
) -> Result<Option<GitRequest>, PathError> {
    let said_git = content_type.is_some_and(says_git);
    let decoded = match decode(path) {
        Ok(decoded) => decoded,
        // Where the strict reading fails, a lenient one says whether a server may take the request for git's.
        Err(error) => return if said_git || looks_like_git(&lenient(path), query) { Err(error) } else { Ok(None) },
    };
    let path = decoded.as_str();
    if !looks_like_git(path, query) && !said_git {
        return Ok(None);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(PathError::Long(path.len()));
    }
    if let Some(repository) = path.strip_suffix("/info/refs") {
        let Some(query) = query.filter(|query| !query.is_empty()) else {
            return Err(PathError::Dumb(super::shown(path.as_bytes())));
        };
        let Some(word) = query.strip_prefix("service=") else {
            return Err(PathError::Query(super::shown(query.as_bytes())));
        };
        let service = Service::parse(word).ok_or_else(|| {
            if word.starts_with("git-") && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
                PathError::Service(super::shown(word.as_bytes()))
            } else {
                PathError::Query(super::shown(query.as_bytes()))
            }
        })?;
        if method != "GET" {
            return Err(PathError::Method { service: "info/refs", method: super::shown(method.as_bytes()) });
        }
        return Ok(Some(GitRequest { repository: Repository::parse(repository)?, service, step: Step::Advertisement }));
    }
    for service in [Service::UploadPack, Service::ReceivePack] {
        let Some(repository) = path.strip_suffix(service.as_str()).and_then(|path| path.strip_suffix('/')) else {
            continue;
        };
        if method != "POST" {
            return Err(PathError::Method { service: service.as_str(), method: super::shown(method.as_bytes()) });
        }
        if let Some(query) = query {
            return Err(PathError::Query(super::shown(query.as_bytes())));
        }
        let said = content_type.unwrap_or_default();
        if !said.eq_ignore_ascii_case(service.request_type()) {
            return Err(PathError::ContentType { said: super::shown(said.as_bytes()), wanted: service.request_type() });
        }
        return Ok(Some(GitRequest { repository: Repository::parse(repository)?, service, step: Step::Rpc }));
    }
    let shown = super::shown(path.as_bytes());
    let last = path.rsplit('/').next().unwrap_or_default();
    Err(if path.contains("/info/lfs") {
        PathError::LargeFiles(shown)
    } else if last.to_ascii_lowercase().starts_with("git-") {
        PathError::Service(super::shown(last.as_bytes()))
    } else {
        PathError::Dumb(shown)
    })
}

/// Whether a body's type is one of the smart protocol's.
pub(super) fn says_git(content_type: &str) -> bool {
    content_type.trim_start().to_ascii_lowercase().starts_with("application/x-git-")
}

/// Whether a server may take the path for git's: wider than what is accepted, so that what is git's and spelled oddly is refused, not passed by.
/// Some servers ignore case, what follows a `;`, dots and spaces at the end of a part, or parts that say nothing.
fn looks_like_git(path: &str, query: Option<&str>) -> bool {
    let path = path.to_ascii_lowercase();
    let odd = |character: char| matches!(character, '.' | ' ') || character.is_control();
    let parts = path.split(['/', '\\']).map(|part| part.split(';').next().unwrap_or_default().trim_matches(odd));
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let asks = query.is_some_and(|query| query.to_ascii_lowercase().contains("service=git"));
    asks || parts.iter().any(|part| matches!(*part, "git-upload-pack" | "git-receive-pack" | "git-upload-archive"))
        || parts.windows(2).any(|pair| matches!(pair, ["info", "refs" | "lfs"]))
        || is_dumb(&path)
}

/// The files that the dumb protocol reads (gitprotocol-http, "Dumb Clients", and git-http-backend's list).
fn is_dumb(path: &str) -> bool {
    if [".git/head", "/objects/info/packs", "/objects/info/alternates", "/objects/info/http-alternates"]
        .iter()
        .any(|end| path.ends_with(end))
    {
        return true;
    }
    let Some((_, object)) = path.rsplit_once("/objects/") else { return false };
    match object.split_once('/') {
        Some(("pack", file)) => file.starts_with("pack-"),
        Some((two, rest)) => {
            two.len() == 2
                && matches!(rest.len(), 38 | 62)
                && object.bytes().all(|byte| byte == b'/' || byte.is_ascii_hexdigit())
        }
        None => false,
    }
}

/// Whether a request of the dumb protocol or of large file storage is a plain one: it reads, or has nothing to do with packs, and stands in
/// the one spelling that all servers read alike. What it wants can then be decided as of any other request.
pub(super) fn is_plain(method: &str, path: &str, query: Option<&str>) -> bool {
    let Ok(path) = decode(path) else { return false };
    let parts: Vec<&str> = path.split('/').collect();
    let plain = |part: &&str| !matches!(*part, "." | "..") && !part.contains([';', '\\']) && part.trim() == *part;
    let serves = |part: &&str| {
        let part = part.to_ascii_lowercase();
        ["git-upload-pack", "git-receive-pack", "git-upload-archive"].iter().any(|service| part.contains(service))
    };
    if !parts.iter().all(plain) || parts.iter().any(serves) {
        return false;
    }
    if path.contains("/info/lfs/") {
        return true;
    }
    let reads = matches!(method, "GET" | "HEAD");
    let lists = path.ends_with("/info/refs") && query.is_none_or(str::is_empty);
    reads && (lists || is_dumb(&path.to_ascii_lowercase())) && !path.ends_with('/')
}

/// Whether a request would change a repository by the dumb protocol, which is WebDAV (`git help http-push`).
pub(super) fn is_dumb_push(method: &str, path: &str) -> bool {
    let changes = ["PUT", "DELETE", "PATCH", "LOCK", "UNLOCK", "MKCOL", "MOVE", "COPY", "PROPFIND", "PROPPATCH"]
        .contains(&method);
    let files = is_plain(method, path, None);
    let path = lenient(path).to_ascii_lowercase();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let inside = |pair: &[&str]| matches!(pair, [repository, "refs" | "objects" | "info" | "head" | "packed-refs"] if repository.ends_with(".git"));
    changes && !files && (looks_like_git(&path, None) || parts.windows(2).any(inside))
}

/// Percent-decoding, once, of what has to be encoded and nothing else.
fn decode(path: &str) -> Result<String, PathError> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let Some((pair, after)) = after.split_at_checked(2) else {
            return Err(PathError::Encoding(super::shown(rest)));
        };
        let wrong = || PathError::Encoding(format!("%{}", super::shown(pair)));
        let [high, low] = pair else { return Err(wrong()) };
        let byte = super::digit(*high).zip(super::digit(*low)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
        let needless = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if needless || byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'%') {
            return Err(wrong());
        }
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|error| PathError::Encoding(super::shown(error.as_bytes())))
}

/// Percent-decoding until nothing changes, as the most obliging server does it.
fn lenient(path: &str) -> String {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..3 {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes.as_slice();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            if *first == b'%'
                && let Some(([high, low], after)) = after.split_first_chunk::<2>().map(|(pair, after)| (*pair, after))
                && let Some((high, low)) = super::digit(high).zip(super::digit(low))
            {
                out.push(high << 4 | low);
                rest = after;
            } else {
                out.push(if *first == b'\\' { b'/' } else { *first });
            }
        }
        bytes = out;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a command over SSH means: `git-upload-pack 'path'` or `git-receive-pack 'path'`, also as `git upload-pack` and with double quotes.
///
/// # Errors
/// For every other command, with its name.
pub fn ssh(command: &[u8]) -> Result<GitRequest, PathError> {
    let refuse = || PathError::Command(super::shown(command));
    let text = std::str::from_utf8(command).map_err(|_| refuse())?;
    let words = [
        ("git-upload-pack ", Service::UploadPack),
        ("git upload-pack ", Service::UploadPack),
        ("git-receive-pack ", Service::ReceivePack),
        ("git receive-pack ", Service::ReceivePack),
    ];
    let (argument, service) =
        words.iter().find_map(|(word, service)| Some((text.strip_prefix(word)?, *service))).ok_or_else(refuse)?;
    let quoting = || PathError::Quoting(super::shown(command));
    let quote = argument.chars().next().filter(|quote| matches!(quote, '\'' | '"')).ok_or_else(quoting)?;
    let path = argument.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)).ok_or_else(quoting)?;
    if path.contains(quote) {
        return Err(quoting());
    }
    Ok(GitRequest { repository: Repository::parse(path)?, service, step: Step::Stream })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn get(path: &str, query: &str) -> Result<Option<GitRequest>, PathError> {
        http("GET", path, Some(query), None)
    }

    fn post(path: &str, content_type: &str) -> Result<Option<GitRequest>, PathError> {
        http("POST", path, None, Some(content_type))
    }

    #[test]
    fn what_git_asks_over_http_is_read() {
        let asked = get("/team/app.git/info/refs", "service=git-receive-pack").expect("reads").expect("is git's");
        assert_eq!(
            (asked.repository.name(), asked.service, asked.step),
            ("team/app", Service::ReceivePack, Step::Advertisement)
        );
        let asked = post("/team/app/git-upload-pack", "application/x-git-upload-pack-request")
            .expect("reads")
            .expect("is git's");
        assert_eq!((asked.repository.name(), asked.service, asked.step), ("team/app", Service::UploadPack, Step::Rpc));
        assert_eq!(get("/team/app/pulls", "page=2"), Ok(None));
        assert_eq!(get("/simple/100%25/", "page=2"), Ok(None));
    }

    #[test]
    fn n28_another_spelling_of_a_repository_is_no_way_to_it() {
        for path in [
            "/team/../other/app",
            "/team//app",
            "/./app",
            "/team/%2e%2e/app",
            "/team%2fapp",
            "/team%2Fapp",
            "/%74eam/app",
            "/team\\app",
            "/team/app%00",
            "/team/app%0d%0a",
            "/team/app%5c",
            "/team/%252e%252e/app",
            "",
            "/",
            "/.git",
            "/..git",
            "/team/...git",
            "/-app",
            "/team/ap\u{200b}p",
        ] {
            assert!(get(&format!("{path}/info/refs"), "service=git-upload-pack").is_err(), "{path}");
            assert!(post(&format!("{path}/git-receive-pack"), Service::ReceivePack.request_type()).is_err(), "{path}");
        }
        for path in [
            "/team/app/git%2dreceive-pack",
            "/team/app/git-receive%2Dpack",
            "/team/app/info%2frefs",
            "/team/app/GIT-RECEIVE-PACK",
            "/team/app/git-receive-pack;x=1",
            "/team;x/app/git-receive-pack",
            "/team/app/git-receive-pack/x/..",
            "/team/app/git-receive-pack%00",
            "/team/app/git-receive-pack%20",
            "/team/app/./git-receive-pack.",
            "/team/app/another",
            "/team/app/git-receive-pack/",
        ] {
            assert!(post(path, Service::ReceivePack.request_type()).is_err(), "{path}");
        }
    }

    #[test]
    fn dumb_protocol_large_files_and_archives_are_refused_by_name() {
        for path in [
            "/a/info/refs",
            "/a.git/HEAD",
            "/a/objects/info/packs",
            "/a/objects/pack/pack-1.idx",
            &format!("/a/objects/ab/{}", "c".repeat(38)),
        ] {
            assert!(matches!(http("GET", path, None, None), Err(PathError::Dumb(_))), "{path}");
        }
        assert!(matches!(post("/a.git/info/lfs/objects/batch", "application/json"), Err(PathError::LargeFiles(_))));
        assert!(matches!(post("/a/git-upload-archive", ""), Err(PathError::Service(_))));
        assert!(matches!(get("/a/info/refs", "service=git-upload-archive"), Err(PathError::Service(_))));
    }

    #[test]
    fn a_request_that_two_servers_read_differently_is_refused() {
        for query in [
            "service=git-upload-pack&service=git-receive-pack",
            "x=1&service=git-upload-pack",
            "service=git%2dreceive-pack",
            "service=git-receive-pack ",
        ] {
            assert!(get("/a/info/refs", query).is_err(), "{query}");
        }
        assert!(matches!(
            http("POST", "/a/info/refs", Some("service=git-upload-pack"), None),
            Err(PathError::Method { .. })
        ));
        assert!(matches!(http("GET", "/a/git-upload-pack", None, None), Err(PathError::Method { .. })));
        assert!(matches!(
            post("/a/git-receive-pack", "application/x-git-upload-pack-request"),
            Err(PathError::ContentType { .. })
        ));
        assert!(matches!(post("/a/git-receive-pack", "text/plain"), Err(PathError::ContentType { .. })));
        assert!(matches!(
            http("POST", "/a/git-receive-pack", Some("x"), Some(Service::ReceivePack.request_type())),
            Err(PathError::Query(_))
        ));
    }

    #[test]
    fn what_git_runs_over_ssh_is_read() {
        for command in
            ["git-receive-pack 'team/app.git'", "git receive-pack \"team/app\"", "git-receive-pack '/team/app.git/'"]
        {
            let asked = ssh(command.as_bytes()).expect("reads");
            assert_eq!((asked.repository.name(), asked.service), ("team/app", Service::ReceivePack), "{command}");
        }
        assert!(ssh(b"git-upload-pack '/a'").expect("reads").repository.absolute());
    }

    #[test]
    fn nothing_else_is_run_over_ssh() {
        for command in [
            "git-lfs-authenticate team/app upload",
            "git-upload-archive 'a'",
            "git-receive-pack --stateless-rpc 'a'",
            "git-receive-pack 'a'; id",
            "git-receive-pack 'a' 'b'",
            "git-receive-pack 'a'\n",
            "git-receive-pack '--help'",
            "git-receive-pack ''",
            "git-receive-pack a",
            "git-receive-pack '",
            "git-receive-pack 'a\"",
            "git-receive-pack  'a'",
            "/usr/bin/git-receive-pack 'a'",
            "GIT_DIR=x git-receive-pack 'a'",
            "git-receive-pack 'a'\\''b'",
            "git-receive-pack \"$HOME\"",
            "git-receive-pack \"`id`\"",
            "git-receive-pack 'a/../b'",
            "git-receive-pack 'a\0'",
            "git -c core.x=y receive-pack 'a'",
            "sh",
            "",
            "git-receive-pack '../a'",
            "git-receive-pack '~/../a'",
            "git-receive-pack 'a!b'",
        ] {
            assert!(ssh(command.as_bytes()).is_err(), "{command}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_what_is_read_is_plain(path in ".{0,60}", query in proptest::option::of(".{0,40}"), command in prop::collection::vec(any::<u8>(), 0..80)) {
            for asked in [http("GET", &path, query.as_deref(), None).ok().flatten(), ssh(&command).ok()].into_iter().flatten() {
                prop_assert!(!asked.repository.name().split('/').any(|part| part == ".." || part == "."));
            }
        }

        #[test]
        fn plain_paths_read(path in "[a-z0-9_]{1,8}(/[a-z0-9_.]{0,7}[a-z0-9]){0,4}") {
            if let Ok(repository) = Repository::parse(&path) {
                let command = format!("git-upload-pack '{path}'");
                prop_assert_eq!(ssh(command.as_bytes()).expect("reads").repository, repository);
            }
        }
    }
}
