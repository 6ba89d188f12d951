//! What a client asks of upload-pack: in the first two versions of the protocol (gitprotocol-pack, "Packfile Negotiation") and in
//! the second one's commands (gitprotocol-v2, "Command Request").
//!
//! What is asked for is given to the caller: names, prefixes, wanted objects, depth, filter. It refuses commands and
//! arguments that it does not know, by name: what they do cannot have been decided about.

use super::pkt::{Kind, PacketReader, PktError};
use super::{Format, ObjectId};

/// The most wanted objects of one request.
pub const MAX_WANTS: usize = 100_000;
/// The most objects that a client may say it has, in one request.
pub const MAX_HAVES: usize = 1_000_000;
/// The most names and prefixes of references in one request.
pub const MAX_NAMES: usize = 65_536;
/// The most lines of one request.
pub const MAX_LINES: usize = 1_200_000;
/// The longest name, prefix, filter or capability, in bytes.
pub const MAX_WORD_BYTES: usize = 4_096;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The bytes are no packets.
    #[error(transparent)]
    Packets(#[from] PktError),
    /// A mark where none belongs.
    #[error("the fetch has a mark where git writes none")]
    Mark,
    /// The client gives up.
    #[error("the client ended the fetch: {0}")]
    Client(String),
    /// A line that is not understood.
    #[error("the line `{0}` of the fetch is not understood")]
    Line(String),
    /// A command that is not known.
    #[error("git's command `{0}` is not known here: ls-refs, fetch, object-info and bundle-uri are")]
    Command(String),
    /// A capability that is not known.
    #[error("the fetch asks for the capability `{0}`, which is not known here")]
    Capability(String),
    /// An argument that the command does not have.
    #[error("the argument `{argument}` of git's command {command} is not known here")]
    Argument {
        /// Which command.
        command: &'static str,
        /// Which argument.
        argument: String,
    },
    /// Too much of something.
    #[error("the fetch has more {0} than are read")]
    Many(&'static str),
}

/// What a fetch asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetch {
    /// How objects are named.
    pub format: Format,
    /// Objects that are wanted by name.
    pub wants: Vec<ObjectId>,
    /// References that are wanted (`want-ref`).
    pub want_refs: Vec<String>,
    /// How many objects the client says it has.
    pub haves: usize,
    /// The ends of the client's shallow history.
    pub shallow: Vec<ObjectId>,
    /// How the history is to be cut, as the client said it: `deepen 1`, `deepen-since …`.
    pub deepen: Vec<String>,
    /// What is left out (`filter blob:none`).
    pub filter: Option<String>,
    /// Capabilities and arguments without more to say.
    pub words: Vec<String>,
    /// The client wants no more talk before the pack.
    pub done: bool,
}

/// One command of the second version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `ls-refs`: which references there are.
    References {
        /// Only those that begin so; all where there is none. The server may send more.
        prefixes: Vec<String>,
    },
    /// `fetch`.
    Fetch(Fetch),
    /// `object-info`: the size of objects.
    ObjectInfo(Vec<ObjectId>),
    /// `bundle-uri`: addresses from which the client would fetch beside this connection.
    BundleUri,
    /// Nothing: the client is done.
    Nothing,
}

/// Reads the commands of the second version, one after the other.
#[derive(Debug, Clone, Default)]
pub struct RequestReader {
    packets: PacketReader,
    lines: Vec<Vec<u8>>,
    /// Where in the lines the arguments begin.
    arguments: Option<usize>,
    failed: Option<FetchError>,
    held: usize,
}

/// The most bytes of lines of one request that are held.
pub const MAX_REQUEST_BYTES: usize = 64 << 20;

impl RequestReader {
    /// At the beginning of a request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It stands between two commands.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.failed.is_none() && self.packets.finish().is_ok() && self.lines.is_empty() && self.arguments.is_none()
    }

    /// The next command, or `None` while more is needed.
    ///
    /// # Errors
    /// When it must be refused; then always.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Request>, FetchError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.go_on(input).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn go_on(&mut self, input: &mut &[u8]) -> Result<Option<Request>, FetchError> {
        loop {
            let Some(packet) = self.packets.read(input)? else { return Ok(None) };
            match packet.kind {
                Kind::Flush => {
                    let lines = std::mem::take(&mut self.lines);
                    let at = self.arguments.take().unwrap_or(lines.len());
                    self.held = 0;
                    let (head, arguments) = lines.split_at_checked(at).unwrap_or((&lines, &[]));
                    return request(head, arguments).map(Some);
                }
                Kind::Delim if self.arguments.is_none() && !self.lines.is_empty() => {
                    self.arguments = Some(self.lines.len())
                }
                Kind::Data => {
                    if let Some(said) = packet.error() {
                        return Err(FetchError::Client(super::shown(said)));
                    }
                    let line = packet.line();
                    self.held += line.len() + 24;
                    if self.lines.len() >= MAX_LINES || self.held > MAX_REQUEST_BYTES {
                        return Err(FetchError::Many("lines"));
                    }
                    self.lines.push(line.to_vec());
                }
                _ => return Err(FetchError::Mark),
            }
        }
    }
}

/// A line that is text of a bearable length.
fn word(line: &[u8]) -> Result<&str, FetchError> {
    let wrong = || FetchError::Line(super::shown(line));
    let text = std::str::from_utf8(line).map_err(|_| wrong())?;
    if text.is_empty() || text.len() > MAX_WORD_BYTES || text.chars().any(char::is_control) {
        Err(wrong())
    } else {
        Ok(text)
    }
}

fn request(head: &[Vec<u8>], arguments: &[Vec<u8>]) -> Result<Request, FetchError> {
    if head.is_empty() && arguments.is_empty() {
        return Ok(Request::Nothing);
    }
    let mut command = None;
    let mut format = Format::Sha1;
    for line in head {
        let text = word(line)?;
        match text.split_once('=') {
            Some(("command", name)) => {
                if command.replace(name).is_some() {
                    return Err(FetchError::Line(super::shown(line)));
                }
            }
            Some(("object-format", name)) => {
                format = Format::parse(name).ok_or_else(|| FetchError::Capability(super::shown(line)))?
            }
            Some(("agent" | "session-id" | "server-option", _)) => {}
            _ => return Err(FetchError::Capability(super::shown(line))),
        }
    }
    match command {
        Some("ls-refs") => references(arguments),
        Some("fetch") => {
            let mut fetch = Fetch { format, ..Fetch::default() };
            arguments.iter().try_for_each(|line| argument(&mut fetch, line))?;
            Ok(Request::Fetch(fetch))
        }
        Some("object-info") => object_info(format, arguments),
        Some("bundle-uri") if arguments.is_empty() => Ok(Request::BundleUri),
        other => Err(FetchError::Command(super::shown(other.unwrap_or_default().as_bytes()))),
    }
}

fn references(arguments: &[Vec<u8>]) -> Result<Request, FetchError> {
    let mut prefixes = Vec::new();
    for line in arguments {
        // A prefix may be empty: all references.
        match line.strip_prefix(b"ref-prefix ") {
            Some(b"") => prefixes.push(String::new()),
            Some(prefix) => prefixes.push(word(prefix)?.to_owned()),
            None if matches!(line.as_slice(), b"peel" | b"symrefs" | b"unborn") => {}
            None => return Err(FetchError::Argument { command: "ls-refs", argument: super::shown(line) }),
        }
        if prefixes.len() > MAX_NAMES {
            return Err(FetchError::Many("prefixes"));
        }
    }
    Ok(Request::References { prefixes })
}

fn object_info(format: Format, arguments: &[Vec<u8>]) -> Result<Request, FetchError> {
    let mut ids = Vec::new();
    for line in arguments {
        match line.strip_prefix(b"oid ").map(|id| ObjectId::from_hex(format, id)) {
            Some(Some(id)) if ids.len() < MAX_WANTS => ids.push(id),
            Some(Some(_)) => return Err(FetchError::Many("objects")),
            None if line == b"size" => {}
            _ => return Err(FetchError::Argument { command: "object-info", argument: super::shown(line) }),
        }
    }
    Ok(Request::ObjectInfo(ids))
}

/// An argument of the second version's `fetch`.
fn argument(fetch: &mut Fetch, line: &[u8]) -> Result<(), FetchError> {
    let unknown = || FetchError::Argument { command: "fetch", argument: super::shown(line) };
    if shared(fetch, line)? {
        return Ok(());
    }
    if let Some(id) = line.strip_prefix(b"want ") {
        return want(fetch, id, line);
    }
    let text = word(line)?;
    if let Some(name) = text.strip_prefix("want-ref ") {
        if fetch.want_refs.len() >= MAX_NAMES {
            return Err(FetchError::Many("references"));
        }
        fetch.want_refs.push(name.to_owned());
        return Ok(());
    }
    let words =
        ["thin-pack", "no-progress", "include-tag", "ofs-delta", "deepen-relative", "sideband-all", "wait-for-done"];
    // `packfile-uris` would have the client fetch from elsewhere, which is decided when it does.
    if !words.contains(&text) && !text.starts_with("packfile-uris ") {
        return Err(unknown());
    }
    if fetch.words.len() >= words.len() * 2 {
        return Err(FetchError::Many("arguments"));
    }
    fetch.words.push(text.to_owned());
    Ok(())
}

fn want(fetch: &mut Fetch, id: &[u8], line: &[u8]) -> Result<(), FetchError> {
    if fetch.wants.len() >= MAX_WANTS {
        return Err(FetchError::Many("wanted objects"));
    }
    fetch.wants.push(ObjectId::from_hex(fetch.format, id).ok_or_else(|| FetchError::Line(super::shown(line)))?);
    Ok(())
}

/// Lines that mean the same in all versions. `false` when it is none of them.
fn shared(fetch: &mut Fetch, line: &[u8]) -> Result<bool, FetchError> {
    let wrong = || FetchError::Line(super::shown(line));
    if line == b"done" {
        fetch.done = true;
    } else if let Some(id) = line.strip_prefix(b"have ") {
        ObjectId::from_hex(fetch.format, id).ok_or_else(wrong)?;
        fetch.haves += 1;
        if fetch.haves > MAX_HAVES {
            return Err(FetchError::Many("objects that the client has"));
        }
    } else if let Some(id) = line.strip_prefix(b"shallow ") {
        if fetch.shallow.len() >= MAX_WANTS {
            return Err(FetchError::Many("ends of shallow history"));
        }
        fetch.shallow.push(ObjectId::from_hex(fetch.format, id).ok_or_else(wrong)?);
    } else if let Some(spec) = line.strip_prefix(b"filter ") {
        if fetch.filter.replace(word(spec)?.to_owned()).is_some() {
            return Err(wrong());
        }
    } else if [b"deepen ".as_slice(), b"deepen-since ", b"deepen-not "].iter().any(|start| line.starts_with(start)) {
        if fetch.deepen.len() >= MAX_NAMES {
            return Err(FetchError::Many("cuts"));
        }
        fetch.deepen.push(word(line)?.to_owned());
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// What the first two versions know (gitprotocol-capabilities).
const KNOWN: [&str; 17] = [
    "multi_ack",
    "multi_ack_detailed",
    "no-done",
    "thin-pack",
    "side-band",
    "side-band-64k",
    "ofs-delta",
    "shallow",
    "deepen-since",
    "deepen-not",
    "deepen-relative",
    "no-progress",
    "include-tag",
    "allow-tip-sha1-in-want",
    "allow-reachable-sha1-in-want",
    "filter",
    "report-status",
];

/// Reads a request of the first two versions, as far as the wants go and then the haves, in one round or many.
#[derive(Debug, Clone, Default)]
pub struct FetchReader {
    packets: PacketReader,
    fetch: Fetch,
    stage: Stage,
    failed: Option<FetchError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    First,
    Wants,
    Haves,
    Done,
}

/// Where a request of the first two versions stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// What is wanted is known.
    Wants,
    /// A round of haves is over.
    Haves,
    /// The client waits for the pack.
    Done,
    /// The client wants nothing.
    Nothing,
}

impl FetchReader {
    /// At the beginning of a request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It stands between two packets, and something was asked for.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.failed.is_none() && self.packets.finish().is_ok() && self.stage != Stage::First
    }

    /// What was asked for so far.
    #[must_use]
    pub const fn fetch(&self) -> &Fetch {
        &self.fetch
    }

    /// The next step, or `None` while more is needed.
    ///
    /// # Errors
    /// When it must be refused; then always.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Round>, FetchError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.go_on(input).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn go_on(&mut self, input: &mut &[u8]) -> Result<Option<Round>, FetchError> {
        loop {
            let Some(packet) = self.packets.read(input)? else { return Ok(None) };
            match (self.stage, packet.kind) {
                (Stage::First, Kind::Flush) => {
                    self.stage = Stage::Done;
                    return Ok(Some(Round::Nothing));
                }
                (Stage::Wants, Kind::Flush) => {
                    self.stage = Stage::Haves;
                    return Ok(Some(Round::Wants));
                }
                (Stage::Haves, Kind::Flush) => return Ok(Some(Round::Haves)),
                (Stage::First | Stage::Wants | Stage::Haves, Kind::Data) => {
                    if let Some(said) = packet.error() {
                        return Err(FetchError::Client(super::shown(said)));
                    }
                    let line = packet.line();
                    let wrong = || FetchError::Line(super::shown(line));
                    if self.stage == Stage::Haves {
                        if !(line == b"done" || line.starts_with(b"have ")) || !shared(&mut self.fetch, line)? {
                            return Err(wrong());
                        }
                        if self.fetch.done {
                            self.stage = Stage::Done;
                            return Ok(Some(Round::Done));
                        }
                    } else if let Some(rest) = line.strip_prefix(b"want ") {
                        if self.stage == Stage::First {
                            first_want(&mut self.fetch, rest, line)?;
                            self.stage = Stage::Wants;
                        } else {
                            want(&mut self.fetch, rest, line)?;
                        }
                    } else if self.stage == Stage::First
                        || line == b"done"
                        || line.starts_with(b"have ")
                        || !shared(&mut self.fetch, line)?
                    {
                        return Err(wrong());
                    }
                }
                _ => return Err(FetchError::Mark),
            }
        }
    }
}

/// The first want carries the capabilities after a space.
fn first_want(fetch: &mut Fetch, rest: &[u8], line: &[u8]) -> Result<(), FetchError> {
    let mut words = rest.split(|byte| *byte == b' ');
    let id = words.next().unwrap_or_default();
    for capability in words.filter(|word| !word.is_empty()) {
        let text = word(capability)?;
        match text.split_once('=') {
            Some(("object-format", name)) => {
                fetch.format = Format::parse(name).ok_or_else(|| FetchError::Capability(super::shown(capability)))?;
            }
            Some(("agent" | "session-id", _)) => {}
            None if KNOWN.contains(&text) => {}
            _ => return Err(FetchError::Capability(super::shown(capability))),
        }
        if fetch.words.len() > KNOWN.len() * 2 {
            return Err(FetchError::Many("capabilities"));
        }
        fetch.words.push(text.to_owned());
    }
    want(fetch, id, line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pkt::packets;
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";

    fn second(lines: &[&str]) -> Result<Option<Request>, FetchError> {
        RequestReader::new().read(&mut packets(lines).as_slice())
    }

    #[test]
    fn commands_of_the_second_version_are_read() {
        let asked = second(&[
            "command=ls-refs\n",
            "agent=git/2.47",
            "object-format=sha1",
            "|",
            "peel\n",
            "ref-prefix refs/heads/main\n",
            "",
        ]);
        assert_eq!(asked, Ok(Some(Request::References { prefixes: vec!["refs/heads/main".to_owned()] })));
        let want = format!("want {A}\n");
        let have = format!("have {A}\n");
        let lines = [
            "command=fetch",
            "|",
            "thin-pack",
            "ofs-delta",
            &want,
            "want-ref refs/heads/x",
            &have,
            "deepen 1",
            "filter blob:none",
            "done\n",
            "",
        ];
        let Ok(Some(Request::Fetch(fetch))) = second(&lines) else { panic!("is a fetch") };
        assert_eq!((fetch.wants.len(), fetch.want_refs, fetch.haves), (1, vec!["refs/heads/x".to_owned()], 1));
        assert_eq!(
            (fetch.deepen, fetch.filter.as_deref(), fetch.done),
            (vec!["deepen 1".to_owned()], Some("blob:none"), true)
        );
        assert_eq!(second(&["command=bundle-uri", ""]), Ok(Some(Request::BundleUri)));
        assert!(
            matches!(second(&["command=object-info", "|", "size", &format!("oid {A}"), ""]), Ok(Some(Request::ObjectInfo(ids))) if ids.len() == 1)
        );
        assert_eq!(second(&[""]), Ok(Some(Request::Nothing)));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let refused = second(&["command=receive", "|", ""]).expect_err("is not known");
        assert_eq!(
            refused.to_string(),
            "git's command `receive` is not known here: ls-refs, fetch, object-info and bundle-uri are"
        );
        assert!(matches!(second(&["agent=git/2", ""]), Err(FetchError::Command(_))));
        assert!(matches!(second(&["command=fetch", "command=ls-refs", ""]), Err(FetchError::Line(_))));
        assert!(matches!(second(&["command=fetch", "new-thing", ""]), Err(FetchError::Capability(_))));
        assert!(matches!(second(&["command=fetch", "|", "new-thing", ""]), Err(FetchError::Argument { .. })));
        assert!(matches!(second(&["command=fetch", "|", "want x", ""]), Err(FetchError::Line(_))));
        assert!(matches!(second(&["command=fetch", "|", "|", ""]), Err(FetchError::Mark)));
        assert!(matches!(second(&["command=ls-refs", "|", "ref-prefix a\0b", ""]), Err(FetchError::Line(_))));
    }

    #[test]
    fn requests_of_the_first_versions_are_read() {
        let first =
            format!("want {A} multi_ack_detailed side-band-64k thin-pack ofs-delta deepen-since agent=git/2.47\n");
        let bytes = packets(&[
            &first,
            &format!("want {A}"),
            &format!("shallow {A}"),
            "deepen 1",
            "filter blob:none",
            "",
            &format!("have {A}"),
            "",
            "done\n",
        ]);
        let mut input = bytes.as_slice();
        let mut reader = FetchReader::new();
        let mut rounds = Vec::new();
        while let Some(round) = reader.read(&mut input).expect("reads") {
            rounds.push(round);
        }
        assert_eq!(rounds, [Round::Wants, Round::Haves, Round::Done]);
        assert_eq!((reader.fetch().wants.len(), reader.fetch().haves, reader.fetch().shallow.len()), (2, 1, 1));
        let one = |lines: &[&str]| FetchReader::new().read(&mut packets(lines).as_slice());
        assert_eq!(one(&[""]), Ok(Some(Round::Nothing)));
        assert!(matches!(one(&[&format!("want {A} new-thing")]), Err(FetchError::Capability(_))));
        assert!(matches!(one(&[&format!("have {A}")]), Err(FetchError::Line(_))));
        assert!(matches!(one(&["want 1"]), Err(FetchError::Line(_))));
        assert!(matches!(one(&["|"]), Err(FetchError::Mark)));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(cut in 1usize..40) {
            let lines = ["command=ls-refs\n", "agent=git/2.47", "|", "peel\n", "ref-prefix refs/heads/main\n", ""];
            let mut reader = RequestReader::new();
            let mut asked = None;
            for mut piece in packets(&lines).chunks(cut) {
                if let Some(request) = reader.read(&mut piece).expect("reads") {
                    asked = Some(request);
                }
            }
            prop_assert_eq!(asked, second(&lines).expect("reads"));
        }

        #[test]
        fn never_panics(lines in prop::collection::vec(".{0,60}", 0..8)) {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let _ = second(&lines);
            let _ = FetchReader::new().read(&mut packets(&lines).as_slice());
        }
    }
}
