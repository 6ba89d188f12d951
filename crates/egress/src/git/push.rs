//! What a client asks of receive-pack: which references become what (gitprotocol-pack, "Reference Update Request and Packfile Transfer").
//!
//! *Invariant:* what is read here is what the server reads. So it refuses everything that has two readings: references
//! named twice, names that git forbids, a second list of capabilities, capabilities that are not known, and signed pushes
//! (their commands stand inside the certificate).

use std::collections::HashSet;

use super::pkt::{Kind, Packet, PacketReader, PktError};
use super::{Format, ObjectId};

/// The most commands of one push.
pub const MAX_COMMANDS: usize = 1_000;
/// The longest name of a reference, in bytes.
pub const MAX_REFERENCE_BYTES: usize = 1_024;
/// The most push options.
pub const MAX_OPTIONS: usize = 100;
/// The longest push option, in bytes.
pub const MAX_OPTION_BYTES: usize = 1_024;
/// The most commits that a client may say are the ends of its shallow history.
pub const MAX_SHALLOW: usize = 10_000;
/// The longest list of capabilities, in bytes.
pub const MAX_CAPABILITIES_BYTES: usize = 4_096;

/// What receive-pack knows of and clients ask for (gitprotocol-capabilities).
const KNOWN: [&str; 9] = [
    "report-status",
    "report-status-v2",
    "delete-refs",
    "side-band-64k",
    "side-band",
    "quiet",
    "atomic",
    "ofs-delta",
    "push-options",
];
/// The same, with a value.
const KNOWN_WITH_VALUE: [&str; 3] = ["object-format", "agent", "session-id"];

/// Why a push is refused before it is looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The bytes are no packets.
    #[error(transparent)]
    Packets(#[from] PktError),
    /// A mark where none belongs.
    #[error("the push has a mark between its commands where git writes none")]
    Mark,
    /// The client gives up.
    #[error("the client ended the push: {0}")]
    Client(String),
    /// A line that is no command.
    #[error("the line `{0}` of the push is no command: two object names and a reference, with one space between")]
    Line(String),
    /// A command that does nothing.
    #[error("the command for {0} neither creates nor changes nor deletes: both its object names are zero")]
    Nothing(String),
    /// A name that git does not allow.
    #[error("`{name}` is no name of a reference: {rule}")]
    Name {
        /// The name, so that it can be shown.
        name: String,
        /// What it breaks.
        rule: &'static str,
    },
    /// A reference stands twice.
    #[error("the push has two commands for {0}: push it once")]
    Twice(String),
    /// Too many commands.
    #[error("the push has more than {MAX_COMMANDS} commands: push fewer references at once")]
    Commands,
    /// Capabilities where none belong, or wrong ones.
    #[error("the push asks for capabilities in a way that git does not: {0}")]
    Capabilities(&'static str),
    /// A capability that is not known.
    #[error(
        "the push asks for the capability `{0}`, which is not known here: nothing can be said about what it changes"
    )]
    Capability(String),
    /// An unknown object format.
    #[error("the push says the object format `{0}`: sha1 and sha256 are known")]
    Format(String),
    /// A signed push.
    #[error("the push is signed (a push certificate): the way out cannot decide about those, push with --no-signed")]
    Certificate,
    /// The lines about shallow history do not read, or are too many.
    #[error("the push has wrong or more than {MAX_SHALLOW} lines about shallow history")]
    Shallow,
    /// The options do not read, or are too many.
    #[error("the push has wrong or more than {MAX_OPTIONS} push options, or one above {MAX_OPTION_BYTES} bytes")]
    Options,
}

/// What becomes of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// It was not there, says the client; the server holds it against what there is.
    Create,
    /// It pointed elsewhere.
    Update,
    /// It is to go.
    Delete,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The full name of the reference: it keeps git's rules.
    pub reference: String,
    /// What becomes of it.
    pub change: Change,
    /// What the client says it points to; zero for [`Change::Create`].
    pub old: ObjectId,
    /// What it shall point to; zero for [`Change::Delete`].
    pub new: ObjectId,
}

/// What a client asks for, without the pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Push {
    /// How objects are named.
    pub format: Format,
    /// The commands in their order; empty when git only asks whether it may.
    pub commands: Vec<Command>,
    /// What the client asks of the protocol.
    pub capabilities: Vec<String>,
    /// Words for the server's hooks.
    pub options: Vec<String>,
    /// The ends of the client's shallow history.
    pub shallow: Vec<ObjectId>,
}

impl Push {
    /// All or nothing was asked for.
    #[must_use]
    pub fn atomic(&self) -> bool {
        self.has("atomic")
    }

    /// A pack follows: always, but when there are only deletions. Otherwise nothing may follow: the caller refuses what does.
    #[must_use]
    pub fn has_pack(&self) -> bool {
        self.commands.iter().any(|command| command.change != Change::Delete)
    }

    /// This capability was asked for.
    #[must_use]
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known == capability)
    }
}

/// Reads the commands and options of a push that arrives in pieces, up to where the pack begins.
#[derive(Debug, Clone, Default)]
pub struct PushReader {
    packets: PacketReader,
    push: Push,
    /// Until the first command says how objects are named.
    shallow: Vec<Vec<u8>>,
    names: HashSet<String>,
    stage: Stage,
    failed: Option<PushError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Commands,
    Options,
    Done,
}

impl PushReader {
    /// At the beginning of a push.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The push, once it is whole; `None` while more is needed. What follows it in `input`, the pack, is not taken.
    ///
    /// # Errors
    /// When it must be refused; then always.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<&Push>, PushError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.go_on(input) {
            Ok(()) => Ok((self.stage == Stage::Done).then_some(&self.push)),
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn go_on(&mut self, input: &mut &[u8]) -> Result<(), PushError> {
        while self.stage != Stage::Done {
            let Some(packet) = self.packets.read(input)? else { return Ok(()) };
            match (self.stage, packet.kind) {
                (Stage::Commands, Kind::Flush) => {
                    if self.push.commands.is_empty() && !self.shallow.is_empty() {
                        return Err(PushError::Shallow);
                    }
                    self.stage = if self.push.has("push-options") { Stage::Options } else { Stage::Done };
                }
                (Stage::Options, Kind::Flush) => self.stage = Stage::Done,
                (Stage::Commands, Kind::Data) => line(&mut self.push, &mut self.shallow, &mut self.names, packet)?,
                (Stage::Options, Kind::Data) => self.push.options.push(option(packet, self.push.options.len())?),
                _ => return Err(PushError::Mark),
            }
        }
        Ok(())
    }
}

/// One packet of the list: a shallow line or a command.
fn line(
    push: &mut Push,
    shallow: &mut Vec<Vec<u8>>,
    names: &mut HashSet<String>,
    packet: Packet<'_>,
) -> Result<(), PushError> {
    if let Some(said) = packet.error() {
        return Err(PushError::Client(super::shown(said)));
    }
    let whole = packet.payload;
    if whole.starts_with(b"push-cert") {
        return Err(PushError::Certificate);
    }
    let first = push.commands.is_empty();
    if let Some(id) = packet.line().strip_prefix(b"shallow ") {
        if !first || shallow.len() >= MAX_SHALLOW || id.len() > 64 {
            return Err(PushError::Shallow);
        }
        shallow.push(id.to_vec());
        return Ok(());
    }
    let command = match whole.iter().position(|byte| *byte == 0) {
        Some(nul) => {
            let (command, capabilities) = whole.split_at_checked(nul).unwrap_or((whole, b""));
            if !first {
                return Err(PushError::Capabilities("only the first command carries them"));
            }
            let capabilities = capabilities.get(1..).unwrap_or_default();
            (push.capabilities, push.format) =
                read_capabilities(capabilities.strip_suffix(b"\n").unwrap_or(capabilities))?;
            command
        }
        None => packet.line(),
    };
    if push.commands.len() >= MAX_COMMANDS {
        return Err(PushError::Commands);
    }
    if first {
        push.shallow = shallow
            .iter()
            .map(|id| ObjectId::from_hex(push.format, id).ok_or(PushError::Shallow))
            .collect::<Result<_, _>>()?;
    }
    let command = read_command(push.format, command)?;
    if !names.insert(command.reference.clone()) {
        return Err(PushError::Twice(command.reference));
    }
    push.commands.push(command);
    Ok(())
}

fn read_command(format: Format, line: &[u8]) -> Result<Command, PushError> {
    let wrong = || PushError::Line(super::shown(line));
    let digits = format.bytes() * 2;
    let (old, rest) = line.split_at_checked(digits).ok_or_else(wrong)?;
    let (new, name) = rest.strip_prefix(b" ").and_then(|rest| rest.split_at_checked(digits)).ok_or_else(wrong)?;
    let name = name.strip_prefix(b" ").ok_or_else(wrong)?;
    let old = ObjectId::from_hex(format, old).ok_or_else(wrong)?;
    let new = ObjectId::from_hex(format, new).ok_or_else(wrong)?;
    let reference =
        check_reference(name).map_err(|rule| PushError::Name { name: super::shown(name), rule })?.to_owned();
    let change = match (old.is_zero(), new.is_zero()) {
        (true, false) => Change::Create,
        (false, false) => Change::Update,
        (false, true) => Change::Delete,
        (true, true) => return Err(PushError::Nothing(reference)),
    };
    Ok(Command { reference, change, old, new })
}

fn read_capabilities(list: &[u8]) -> Result<(Vec<String>, Format), PushError> {
    if list.len() > MAX_CAPABILITIES_BYTES {
        return Err(PushError::Capabilities("the list is too long"));
    }
    if !list.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(PushError::Capabilities("they are printable words with spaces between"));
    }
    let text = std::str::from_utf8(list).unwrap_or_default();
    let mut capabilities: Vec<String> = Vec::new();
    let mut format = None;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        if key == "push-cert" {
            return Err(PushError::Certificate);
        }
        let known = if value.is_some() { KNOWN_WITH_VALUE.contains(&key) } else { KNOWN.contains(&key) };
        if !known {
            return Err(PushError::Capability(super::shown(word.as_bytes())));
        }
        if let ("object-format", Some(value)) = (key, value) {
            let said = Format::parse(value).ok_or_else(|| PushError::Format(super::shown(value.as_bytes())))?;
            if format.replace(said).is_some() {
                return Err(PushError::Capabilities("the object format stands twice"));
            }
        }
        capabilities.push(word.to_owned());
    }
    Ok((capabilities, format.unwrap_or_default()))
}

fn option(packet: Packet<'_>, so_far: usize) -> Result<String, PushError> {
    let text = std::str::from_utf8(packet.line()).map_err(|_| PushError::Options)?;
    if so_far >= MAX_OPTIONS || text.len() > MAX_OPTION_BYTES || text.chars().any(char::is_control) {
        return Err(PushError::Options);
    }
    Ok(text.to_owned())
}

/// A reference's full name, by the rules of git-check-ref-format, and below `refs/`.
///
/// # Errors
/// The rule that it breaks.
pub fn check_reference(name: &[u8]) -> Result<&str, &'static str> {
    if name.len() > MAX_REFERENCE_BYTES {
        return Err("it is too long");
    }
    let name = std::str::from_utf8(name).map_err(|_| "it is not UTF-8")?;
    if !name.starts_with("refs/") {
        return Err("it does not begin with refs/");
    }
    if name
        .chars()
        .any(|character| character.is_control() || matches!(character, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\'))
    {
        return Err("it has a control character, a space or one of ~ ^ : ? * [ \\");
    }
    if name
        .chars()
        .any(|character| matches!(u32::from(character), 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff))
    {
        return Err("it has a character that nobody sees");
    }
    if name.contains("..") || name.contains("@{") {
        return Err("it has `..` or `@{`");
    }
    if name.ends_with('.') {
        return Err("it ends with a dot");
    }
    for part in name.split('/') {
        if part.is_empty() {
            return Err("it has an empty part, or begins or ends with a slash");
        }
        if part.starts_with('.') || part.to_ascii_lowercase().ends_with(".lock") {
            return Err("a part begins with a dot or ends with .lock");
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pkt::packets;
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    fn read(lines: &[&str]) -> Result<Option<Push>, PushError> {
        let bytes = packets(lines);
        PushReader::new().read(&mut bytes.as_slice()).map(|push| push.cloned())
    }

    #[test]
    fn commands_capabilities_and_options_are_read_up_to_the_pack() {
        let mut bytes = packets(&[
            &format!("shallow {A}"),
            &format!(
                "{ZERO} {A} refs/heads/stockade/a\0 report-status-v2 side-band-64k atomic push-options object-format=sha1 agent=git/2.47.3"
            ),
            &format!("{A} {B} refs/heads/b\n"),
            &format!("{A} {ZERO} refs/tags/c"),
            "",
            "ci.skip",
            "",
        ]);
        bytes.extend_from_slice(b"PACK");
        let mut input = bytes.as_slice();
        let mut reader = PushReader::new();
        let push = reader.read(&mut input).expect("reads").expect("whole").clone();
        assert_eq!(input, b"PACK");
        let changes: Vec<_> =
            push.commands.iter().map(|command| (command.reference.as_str(), command.change)).collect();
        assert_eq!(
            changes,
            [
                ("refs/heads/stockade/a", Change::Create),
                ("refs/heads/b", Change::Update),
                ("refs/tags/c", Change::Delete)
            ]
        );
        assert!(push.atomic() && push.has_pack());
        assert_eq!((push.options.as_slice(), push.shallow.len()), (["ci.skip".to_owned()].as_slice(), 1));
    }

    #[test]
    fn asking_whether_one_may_is_a_push_of_nothing() {
        assert_eq!(read(&[""]), Ok(Some(Push::default())));
    }

    #[test]
    fn n28_lies_in_the_commands_are_refused() {
        let caps = "\0report-status";
        let twice = read(&[&format!("{ZERO} {A} refs/heads/a{caps}"), &format!("{ZERO} {B} refs/heads/a"), ""]);
        assert_eq!(twice, Err(PushError::Twice("refs/heads/a".to_owned())));
        for line in [
            format!("{A} {B}  refs/heads/a"),
            format!("{A}  {B} refs/heads/a"),
            format!("{A} refs/heads/a"),
            format!("{A}\t{B} refs/heads/a"),
            format!(" {A} {B} refs/heads/a"),
            format!("{A}{A} {B} refs/heads/a"),
            format!("{} {B} refs/heads/a", "g".repeat(40)),
            format!("{} {} refs/heads/a\0object-format=sha256", "1".repeat(40), "2".repeat(40)),
            format!("{} {} refs/heads/a", "1".repeat(64), "2".repeat(64)),
            "hello".to_owned(),
            "\n".to_owned(),
        ] {
            assert!(matches!(read(&[&line, ""]), Err(PushError::Line(_) | PushError::Name { .. })), "{line:?}");
        }
        assert!(matches!(read(&[&format!("{ZERO} {ZERO} refs/heads/a"), ""]), Err(PushError::Nothing(_))));
        assert!(matches!(read(&["0001"]), Err(PushError::Line(_))));
        let mut marks = b"0001".as_slice();
        assert_eq!(PushReader::new().read(&mut marks).map(|_| ()), Err(PushError::Mark));
    }

    #[test]
    fn nul_tricks_are_refused() {
        let second =
            read(&[&format!("{ZERO} {A} refs/heads/a\0atomic"), &format!("{ZERO} {B} refs/heads/b\0push-options"), ""]);
        assert!(matches!(second, Err(PushError::Capabilities(_))));
        assert!(matches!(
            read(&[&format!("{ZERO} {A} refs/heads/a\0atomic\0quiet"), ""]),
            Err(PushError::Capabilities(_))
        ));
        assert!(matches!(read(&[&format!("{ZERO} {A} refs/heads/a\n\0atomic"), ""]), Err(PushError::Name { .. })));
        assert!(matches!(read(&[&format!("{ZERO} {A} refs/heads/a\0new-thing"), ""]), Err(PushError::Capability(_))));
        let two = format!("{ZERO} {A} refs/heads/a\0object-format=sha1 object-format=sha256");
        assert!(matches!(read(&[&two, ""]), Err(PushError::Capabilities(_))));
        assert!(matches!(
            read(&[&format!("{ZERO} {A} refs/heads/a\0object-format=md5"), ""]),
            Err(PushError::Format(_))
        ));
    }

    #[test]
    fn carriage_returns_and_forbidden_names_are_refused() {
        for name in [
            "refs/heads/a\r",
            "refs/heads/a\r\n",
            "refs/heads/a..b",
            "refs/heads/../main",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a.LOCK/b",
            "refs/heads//a",
            "refs/heads/a/",
            "refs/heads/a.",
            "refs/heads/a b",
            "refs/heads/a~1",
            "refs/heads/a^",
            "refs/heads/a:b",
            "refs/heads/a?",
            "refs/heads/*",
            "refs/heads/[a",
            "refs/heads/a\\b",
            "refs/heads/a@{1}",
            "@",
            "HEAD",
            "heads/a",
            "/refs/heads/a",
            "refs",
            "refs/heads/a\u{7f}",
            "refs/heads/a\u{202e}b",
            "refs/heads/\u{85}",
            &format!("refs/heads/{}", "a".repeat(MAX_REFERENCE_BYTES)),
        ] {
            assert!(matches!(read(&[&format!("{ZERO} {A} {name}"), ""]), Err(PushError::Name { .. })), "{name:?}");
        }
        for name in [
            "refs/heads/a-b_c/d",
            "refs/heads/@",
            "refs/heads/ünï",
            "refs/for/main",
            "refs/heads/a.b",
            "refs/heads/{a}",
        ] {
            assert!(check_reference(name.as_bytes()).is_ok(), "{name}");
        }
    }

    #[test]
    fn signed_pushes_are_refused_with_the_reason() {
        assert_eq!(read(&["push-cert\0report-status\n"]), Err(PushError::Certificate));
        assert_eq!(read(&[&format!("{ZERO} {A} refs/heads/a\0push-cert=x"), ""]), Err(PushError::Certificate));
    }

    #[test]
    fn there_may_be_so_many_commands_and_options_and_no_more() {
        let commands: Vec<_> = (0..=MAX_COMMANDS).map(|n| format!("{ZERO} {A} refs/heads/{n}")).collect();
        let mut lines: Vec<_> = commands.iter().map(String::as_str).collect();
        lines.push("");
        assert_eq!(read(&lines), Err(PushError::Commands));
        lines.remove(0);
        assert_eq!(read(&lines).expect("reads").expect("whole").commands.len(), MAX_COMMANDS);
        let first = format!("{ZERO} {A} refs/heads/a\0push-options");
        let mut lines = vec![first.as_str(), ""];
        lines.extend(["x"; MAX_OPTIONS + 1]);
        assert_eq!(read(&lines), Err(PushError::Options));
        assert_eq!(read(&[&first, "", "a\u{1}"]), Err(PushError::Options));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(names in prop::collection::hash_set("[a-z]{1,6}", 1..10), cut in 1usize..40) {
            let lines: Vec<_> = names.iter().map(|name| format!("{A} {B} refs/heads/{name}")).collect();
            let mut lines: Vec<_> = lines.iter().map(String::as_str).collect();
            lines.push("");
            let mut bytes = packets(&lines);
            bytes.extend_from_slice(b"PACK");
            let mut reader = PushReader::new();
            let mut left = Vec::new();
            for mut piece in bytes.chunks(cut) {
                reader.read(&mut piece).expect("reads");
                left.extend_from_slice(piece);
            }
            prop_assert_eq!(left, b"PACK");
            prop_assert_eq!(reader.read(&mut b"".as_slice()).expect("reads").cloned(), read(&lines).expect("reads"));
        }

        #[test]
        fn never_panics(lines in prop::collection::vec(".{0,80}", 0..6), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let _ = read(&lines);
            let _ = PushReader::new().read(&mut bytes.as_slice());
        }
    }
}
