//! What a server says it has: references and capabilities (gitprotocol-pack, "Reference Discovery"; gitprotocol-v2,
//! "Capability Advertisement"), and the one place where what passes through is changed.
//!
//! A client of receive-pack is shown `no-thin`, so that packs come whole and can be looked into, and is not shown
//! `push-cert` and `push-options`: signed pushes are refused, and so are words to the server's hooks, by which servers merge or
//! skip their checks. *Invariant:* all other bytes pass as they came, at any split.

use super::path::Service;
use super::pkt::{self, Kind, Packet, PacketReader, PktError};
use super::{Format, ObjectId};

/// The most references of one advertisement.
pub const MAX_REFERENCES: usize = 5_000_000;
/// The most capabilities of one advertisement.
pub const MAX_CAPABILITIES: usize = 256;

/// Why an advertisement cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvertisementError {
    /// The bytes are no packets.
    #[error(transparent)]
    Packets(#[from] PktError),
    /// The server says that it will not.
    #[error("the git server answers: {0}")]
    Server(String),
    /// Another service than was asked for.
    #[error("the git server answers for `{0}`, which was not asked for")]
    Service(String),
    /// A line that is neither reference nor capability.
    #[error("the git server's line `{0}` is neither a reference nor a capability")]
    Line(String),
    /// A version that is not known.
    #[error("the git server speaks `{0}` of the protocol: 0 and 1 are known, and 2 for fetching")]
    Version(String),
    /// An object format that is not known.
    #[error("the git server names objects by `{0}`: sha1 and sha256 are known")]
    Format(String),
    /// Too much of something.
    #[error("the git server advertises more {0} than are read")]
    Many(&'static str),
    /// More after the end.
    #[error("the git server goes on after the end of its advertisement")]
    After,
    /// It ended too early.
    #[error("the git server's advertisement ended too early")]
    Truncated,
}

/// What was read of an advertisement; the references went to whoever asked for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advertisement {
    /// The protocol's version: 0, 1 or 2.
    pub version: u8,
    /// How objects are named.
    pub format: Format,
    /// The capabilities as the server said them.
    pub capabilities: Vec<String>,
    /// How many references there were.
    pub references: usize,
}

/// Reads an advertisement that arrives in pieces and writes what the client is shown.
#[derive(Debug, Clone)]
pub struct Rewriter {
    service: Service,
    packets: PacketReader,
    stage: Stage,
    read: Advertisement,
    failed: Option<AdvertisementError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `# service=…`, over HTTP.
    Announcement,
    /// The flush after it.
    AnnouncementEnd,
    /// `version …` or the first reference.
    First,
    /// The first reference, after a version.
    FirstReference,
    References,
    Version2,
    Done,
}

impl Rewriter {
    /// For the answer to `…/info/refs?service=…`, which begins with the service's name (gitprotocol-http, "Smart Server Response").
    #[must_use]
    pub fn http(service: Service) -> Self {
        Self::at(service, Stage::Announcement)
    }

    /// For a stream, as SSH has it.
    #[must_use]
    pub fn stream(service: Service) -> Self {
        Self::at(service, Stage::First)
    }

    fn at(service: Service, stage: Stage) -> Self {
        Self { service, packets: PacketReader::new(), stage, read: Advertisement::default(), failed: None }
    }

    /// Takes bytes, up to the end of the advertisement, and writes to `out` what the client is shown. Each reference is given to `each`.
    /// What follows the end stays in `input`.
    ///
    /// # Errors
    /// When it cannot be read; then always.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        each: &mut dyn FnMut(ObjectId, &[u8]),
    ) -> Result<Option<&Advertisement>, AdvertisementError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.go_on(input, out, each) {
            Ok(()) => Ok((self.stage == Stage::Done).then_some(&self.read)),
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// When the advertisement is not whole.
    pub fn finish(self, rest: &[u8]) -> Result<Advertisement, AdvertisementError> {
        match (self.failed, self.stage) {
            (Some(error), _) => Err(error),
            (None, Stage::Done) if rest.is_empty() => Ok(self.read),
            (None, Stage::Done) => Err(AdvertisementError::After),
            _ => Err(AdvertisementError::Truncated),
        }
    }

    fn go_on(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        each: &mut dyn FnMut(ObjectId, &[u8]),
    ) -> Result<(), AdvertisementError> {
        while self.stage != Stage::Done {
            let Some(packet) = self.packets.read(input)? else { return Ok(()) };
            if packet.kind == Kind::Data
                && let Some(said) = packet.error()
            {
                return Err(AdvertisementError::Server(super::shown(said)));
            }
            self.stage = step(self.service, self.stage, &mut self.read, packet, out, each)?;
        }
        Ok(())
    }
}

fn step(
    service: Service,
    stage: Stage,
    read: &mut Advertisement,
    packet: Packet<'_>,
    out: &mut Vec<u8>,
    each: &mut dyn FnMut(ObjectId, &[u8]),
) -> Result<Stage, AdvertisementError> {
    let wrong = || AdvertisementError::Line(super::shown(packet.raw));
    let pass = |out: &mut Vec<u8>, next| {
        out.extend_from_slice(packet.raw);
        Ok(next)
    };
    match (stage, packet.kind) {
        (Stage::Announcement, Kind::Data) => {
            let said = packet.line().strip_prefix(b"# service=").ok_or_else(wrong)?;
            if said != service.as_str().as_bytes() {
                return Err(AdvertisementError::Service(super::shown(said)));
            }
            pass(out, Stage::AnnouncementEnd)
        }
        (Stage::AnnouncementEnd, Kind::Flush) => pass(out, Stage::First),
        (Stage::First, Kind::Data) if packet.payload.starts_with(b"version ") => match packet.line() {
            b"version 1" => {
                read.version = 1;
                pass(out, Stage::FirstReference)
            }
            // Pushing has no second version.
            b"version 2" if service == Service::UploadPack => {
                read.version = 2;
                pass(out, Stage::Version2)
            }
            other => Err(AdvertisementError::Version(super::shown(other))),
        },
        (Stage::First | Stage::FirstReference, Kind::Data) => {
            first_reference(service, read, packet, out, each)?;
            Ok(Stage::References)
        }
        (Stage::References, Kind::Data) => {
            if let Some(id) = packet.line().strip_prefix(b"shallow ") {
                ObjectId::from_hex(read.format, id).ok_or_else(wrong)?;
            } else {
                reference(read, packet.line(), each).ok_or_else(wrong)?;
                if read.references > MAX_REFERENCES {
                    return Err(AdvertisementError::Many("references"));
                }
            }
            pass(out, Stage::References)
        }
        // A server without references and without capabilities says nothing at all.
        (Stage::First | Stage::FirstReference | Stage::References | Stage::Version2, Kind::Flush) => {
            pass(out, Stage::Done)
        }
        (Stage::Version2, Kind::Data) => {
            let capability = capability(packet.line()).ok_or_else(wrong)?;
            if let Some(word) = capability.strip_prefix("object-format=") {
                read.format =
                    Format::parse(word).ok_or_else(|| AdvertisementError::Format(super::shown(word.as_bytes())))?;
            }
            if read.capabilities.len() >= MAX_CAPABILITIES {
                return Err(AdvertisementError::Many("capabilities"));
            }
            read.capabilities.push(capability.to_owned());
            pass(out, Stage::Version2)
        }
        _ => Err(wrong()),
    }
}

/// A line of the second version: `key` or `key=value`, printable.
fn capability(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line).ok()?;
    (!text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))).then_some(text)
}

fn reference(read: &mut Advertisement, line: &[u8], each: &mut dyn FnMut(ObjectId, &[u8])) -> Option<()> {
    let (id, name) = line.split_at_checked(read.format.bytes() * 2)?;
    let name = name.strip_prefix(b" ")?;
    let id = ObjectId::from_hex(read.format, id)?;
    if name.is_empty() || name.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return None;
    }
    if name != b"capabilities^{}" {
        read.references += 1;
        each(id, name);
    }
    Some(())
}

/// The line that carries the capabilities, and is changed for those who push.
fn first_reference(
    service: Service,
    read: &mut Advertisement,
    packet: Packet<'_>,
    out: &mut Vec<u8>,
    each: &mut dyn FnMut(ObjectId, &[u8]),
) -> Result<(), AdvertisementError> {
    let wrong = || AdvertisementError::Line(super::shown(packet.raw));
    let nul = packet.payload.iter().position(|byte| *byte == 0).ok_or_else(wrong)?;
    let (name, list) = packet.payload.split_at_checked(nul).ok_or_else(wrong)?;
    let list = list.get(1..).unwrap_or_default();
    let (words, feed) = list.strip_suffix(b"\n").map_or((list, b"".as_slice()), |words| (words, b"\n".as_slice()));
    let text = std::str::from_utf8(words)
        .ok()
        .filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
        .ok_or_else(wrong)?;
    let mut format = None;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if let Some(value) = word.strip_prefix("object-format=") {
            // More than one may be named; the first is the repository's own.
            let said =
                Format::parse(value).ok_or_else(|| AdvertisementError::Format(super::shown(value.as_bytes())))?;
            format.get_or_insert(said);
        }
        if read.capabilities.len() >= MAX_CAPABILITIES {
            return Err(AdvertisementError::Many("capabilities"));
        }
        read.capabilities.push(word.to_owned());
    }
    read.format = format.unwrap_or_default();
    reference(read, name, each).ok_or_else(wrong)?;
    let hidden = |word: &str| matches!(word, "push-cert" | "push-options") || word.starts_with("push-cert=");
    let has_no_thin = read.capabilities.iter().any(|word| word == "no-thin");
    if service == Service::UploadPack || (has_no_thin && !read.capabilities.iter().any(|word| hidden(word))) {
        out.extend_from_slice(packet.raw);
        return Ok(());
    }
    let mut kept: Vec<&str> = text.split(' ').filter(|word| !hidden(word)).collect();
    if !has_no_thin {
        // Where the list ends with a space, it still does.
        let at = kept.iter().rposition(|word| !word.is_empty()).map_or(kept.len(), |last| last + 1);
        kept.insert(at, "no-thin");
    }
    let mut payload = name.to_vec();
    payload.push(0);
    payload.extend_from_slice(kept.join(" ").as_bytes());
    payload.extend_from_slice(feed);
    Ok(pkt::write(out, &payload)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::git::pkt::packets;

    const A: &str = "1111111111111111111111111111111111111111";

    fn rewrite(
        mut rewriter: Rewriter,
        pieces: &[&[u8]],
    ) -> Result<(Advertisement, Vec<u8>, Vec<String>), AdvertisementError> {
        let (mut out, mut names) = (Vec::new(), Vec::new());
        let mut rest = Vec::new();
        for mut piece in pieces.iter().copied() {
            rewriter
                .read(&mut piece, &mut out, &mut |_, name| names.push(String::from_utf8_lossy(name).into_owned()))?;
            rest.extend_from_slice(piece);
        }
        Ok((rewriter.finish(&rest)?, out, names))
    }

    #[test]
    fn who_pushes_is_shown_no_thin_and_no_certificates() {
        let said = packets(&[
            "# service=git-receive-pack\n",
            "",
            &format!("{A} refs/heads/main\0report-status push-cert=17-abc delete-refs ofs-delta agent=git/2\n"),
            &format!("{A} .have\n"),
            "",
        ]);
        let (read, out, names) = rewrite(Rewriter::http(Service::ReceivePack), &[&said]).expect("reads");
        assert_eq!((read.references, names), (2, vec!["refs/heads/main".to_owned(), ".have".to_owned()]));
        assert!(read.capabilities.contains(&"push-cert=17-abc".to_owned()));
        let shown = packets(&[
            "# service=git-receive-pack\n",
            "",
            &format!("{A} refs/heads/main\0report-status delete-refs ofs-delta agent=git/2 no-thin\n"),
            &format!("{A} .have\n"),
            "",
        ]);
        assert_eq!(out, shown);
        // What is rewritten already is not rewritten again.
        assert_eq!(rewrite(Rewriter::http(Service::ReceivePack), &[&shown]).expect("reads").1, shown);
    }

    #[test]
    fn who_fetches_is_shown_what_the_server_said() {
        let first = format!("{A} HEAD\0multi_ack thin-pack symref=HEAD:refs/heads/main object-format=sha1");
        for said in [
            packets(&["version 1\n", &first, &format!("{A} refs/tags/v1^{{}}"), &format!("shallow {A}"), ""]),
            packets(&[
                "version 2\n",
                "agent=git/2.47",
                "ls-refs=unborn",
                "fetch=shallow filter\n",
                "object-format=sha1",
                "",
            ]),
            packets(&[""]),
        ] {
            let (read, out, _) = rewrite(Rewriter::stream(Service::UploadPack), &[&said]).expect("reads");
            assert_eq!(out, said);
            assert!(read.version < 3);
        }
    }

    #[test]
    fn an_empty_repository_has_capabilities_and_no_reference() {
        let said = packets(&[&format!("{} capabilities^{{}}\0report-status object-format=sha256", "0".repeat(64)), ""]);
        let (read, out, names) = rewrite(Rewriter::stream(Service::ReceivePack), &[&said]).expect("reads");
        assert_eq!((read.format, read.references, names.len()), (Format::Sha256, 0, 0));
        assert!(out.windows(8).any(|window| window == b" no-thin"));
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        let of = |lines: &[&str]| rewrite(Rewriter::http(Service::ReceivePack), &[&packets(lines)]).map(|_| ());
        assert!(matches!(of(&["# service=git-upload-pack\n", ""]), Err(AdvertisementError::Service(_))));
        assert!(matches!(of(&[&format!("{A} refs/heads/main\0x"), ""]), Err(AdvertisementError::Line(_))));
        let announced = |lines: &[&str]| of(&[&["# service=git-receive-pack", ""], lines].concat());
        assert!(matches!(announced(&["ERR repository not found"]), Err(AdvertisementError::Server(_))));
        assert!(matches!(announced(&["version 3"]), Err(AdvertisementError::Version(_))));
        assert!(matches!(announced(&[&format!("{A} refs/heads/main")]), Err(AdvertisementError::Line(_))));
        assert!(matches!(
            announced(&[&format!("{A} refs/heads/main\0object-format=md5")]),
            Err(AdvertisementError::Format(_))
        ));
        assert!(matches!(announced(&[&format!("{A} refs/heads/main\0x")]), Err(AdvertisementError::Truncated)));
        assert!(matches!(announced(&["", ""]), Err(AdvertisementError::After)));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(cut in 1usize..60) {
            let said = packets(&["# service=git-receive-pack\n", "", &format!("{A} refs/heads/main\0report-status push-cert=1\n"), &format!("{A} refs/heads/b\n"), ""]);
            let pieces: Vec<_> = said.chunks(cut).collect();
            prop_assert_eq!(rewrite(Rewriter::http(Service::ReceivePack), &pieces), rewrite(Rewriter::http(Service::ReceivePack), &[&said]));
        }

        #[test]
        fn never_panics(lines in prop::collection::vec(".{0,90}", 0..5)) {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let _ = rewrite(Rewriter::stream(Service::ReceivePack), &[&packets(&lines)]);
        }
    }
}
