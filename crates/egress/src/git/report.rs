//! What receive-pack answers to a push (gitprotocol-pack, "Report Status"), read from a copy and written for a refusal.
//!
//! It owns the words in which a refused push is told, so that `git push` shows them as it shows a server's own, and the copy of a server's
//! answer that a closing record needs. *Invariant:* a reference counts as changed only if the server said so, by name.

use std::collections::BTreeMap;

use super::pkt::{self, Band, Kind, PacketReader};
use super::push::Push;

/// The most references of a report that are read.
pub const MAX_REFERENCES: usize = 1_000;
/// The longest reason that a client is told, in bytes.
pub const MAX_REASON_BYTES: usize = 500;

/// What a server said of a push.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// It took the pack; nothing if it did not say.
    pub unpacked: Option<bool>,
    /// It changed the reference, or did not.
    pub references: BTreeMap<String, bool>,
    /// The answer was read to its end.
    pub whole: bool,
}

/// Reads a report that arrives in pieces. It never fails: what it cannot read it does not report.
#[derive(Debug, Clone)]
pub struct ReportReader {
    side_band: bool,
    outer: PacketReader,
    inner: PacketReader,
    report: Report,
    over: bool,
}

impl ReportReader {
    /// For the answer to this push.
    #[must_use]
    pub fn new(push: &Push) -> Self {
        let side_band = has_side_band(push);
        let (outer, inner) = (PacketReader::new(), PacketReader::new());
        Self { side_band, outer, inner, report: Report::default(), over: !has_report(push) }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !self.over {
            if !self.side_band {
                return self.lines(bytes);
            }
            let Ok(packet) = self.outer.read(&mut bytes) else {
                self.over = true;
                return;
            };
            let Some(packet) = packet else { return };
            match (packet.kind, pkt::side_band(packet.payload)) {
                (Kind::Data, Ok((Band::Data, piece))) => {
                    let piece = piece.to_vec();
                    self.lines(&piece);
                }
                (Kind::Data, Ok((Band::Progress, _))) => {}
                _ => self.over = true,
            }
        }
    }

    /// What was said.
    #[must_use]
    pub fn report(self) -> Report {
        self.report
    }

    fn lines(&mut self, mut bytes: &[u8]) {
        while !self.over {
            match self.inner.read(&mut bytes) {
                Ok(Some(packet)) if packet.kind == Kind::Data => line(&mut self.report, packet.line()),
                Ok(Some(packet)) => {
                    self.report.whole = packet.kind == Kind::Flush;
                    self.over = true;
                }
                Ok(None) => return,
                Err(_) => self.over = true,
            }
        }
    }
}

fn line(report: &mut Report, line: &[u8]) {
    let Ok(text) = std::str::from_utf8(line) else { return };
    let (reference, done) = match text.split_once(' ') {
        Some(("unpack", how)) => {
            report.unpacked = Some(how == "ok");
            return;
        }
        Some(("ok", reference)) => (reference, true),
        Some(("ng", rest)) => (rest.split(' ').next().unwrap_or_default(), false),
        // `option …` says more of the reference before it.
        _ => return,
    };
    if report.references.len() < MAX_REFERENCES || report.references.contains_key(reference) {
        // Said twice in two ways: it is not sure.
        let sure = report.references.get(reference).is_none_or(|before| *before == done);
        report.references.insert(reference.to_owned(), done && sure);
    }
}

fn has_side_band(push: &Push) -> bool {
    push.has("side-band-64k") || push.has("side-band")
}

/// Whether the client wants to be told what became of its references.
#[must_use]
pub fn has_report(push: &Push) -> bool {
    push.has("report-status") || push.has("report-status-v2")
}

/// The answer to a push that is refused: `remote: …` for each of `said`, and for each reference why it was not changed. Nothing if the client
/// does not want to be told: it would take silence for success.
#[must_use]
pub fn refusal(push: &Push, said: &[String], reason: &dyn Fn(&str) -> String) -> Option<Vec<u8>> {
    if !has_report(push) {
        return None;
    }
    let mut report = Vec::new();
    let mut write = |line: String| pkt::write(&mut report, line.as_bytes());
    write("unpack ok\n".to_owned()).ok()?;
    for command in &push.commands {
        write(format!("ng {} {}\n", command.reference, plain(&reason(&command.reference)))).ok()?;
    }
    pkt::write_flush(&mut report);
    if !has_side_band(push) {
        return Some(report);
    }
    // A `side-band` packet has 1,000 bytes at most (gitprotocol-capabilities).
    let most = if push.has("side-band-64k") { pkt::MAX_PAYLOAD_BYTES - 1 } else { 995 };
    let mut out = Vec::new();
    for line in said {
        pkt::write_band(&mut out, Band::Progress, format!("{}\n", plain(line)).as_bytes());
    }
    for piece in report.chunks(most) {
        pkt::write_band(&mut out, Band::Data, piece);
    }
    pkt::write_flush(&mut out);
    Some(out)
}

/// A text on one line, of a bearable length, without what terminals obey.
#[must_use]
pub fn plain(text: &str) -> String {
    let hidden = |c: char| matches!(u32::from(c), 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff);
    let shown = text.chars().map(|c| if c.is_control() || hidden(c) { ' ' } else { c });
    let mut out = String::new();
    for c in shown {
        if out.len() + c.len_utf8() > MAX_REASON_BYTES {
            out.push('…');
            break;
        }
        out.push(c);
    }
    if out.trim().is_empty() { "refused".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pkt::packets;
    use super::super::push::{Change, Command};
    use super::super::{Format, ObjectId};
    use super::*;

    fn push(capabilities: &[&str], references: &[&str]) -> Push {
        let zero = ObjectId::zero(Format::Sha1);
        let command =
            |name: &&str| Command { reference: (*name).to_owned(), change: Change::Create, old: zero, new: zero };
        Push {
            capabilities: capabilities.iter().map(|word| (*word).to_owned()).collect(),
            commands: references.iter().map(command).collect(),
            ..Push::default()
        }
    }

    fn read(push: &Push, bytes: &[u8], cut: usize) -> Report {
        let mut reader = ReportReader::new(push);
        bytes.chunks(cut).for_each(|piece| reader.push(piece));
        reader.report()
    }

    #[test]
    fn what_we_refuse_reads_as_a_report_with_and_without_bands() {
        for capabilities in
            [&["report-status"][..], &["report-status-v2", "side-band-64k"], &["report-status", "side-band"]]
        {
            let names: Vec<String> = (0..40).map(|n| format!("refs/heads/a{n}")).collect();
            let push = push(capabilities, &names.iter().map(String::as_str).collect::<Vec<_>>());
            let said = ["a\nb\u{1b}[31m".to_owned()];
            let told = refusal(&push, &said, &|name| format!("no\n{name}\0")).expect("wants to be told");
            for cut in [1, 7, 100_000] {
                let report = read(&push, &told, cut);
                assert_eq!((report.unpacked, report.whole, report.references.len()), (Some(true), true, 40));
                assert!(report.references.values().all(|done| !done));
            }
            assert!(!told.contains(&0x1b) && !told.contains(&0), "nothing that a terminal obeys");
        }
        assert_eq!(refusal(&push(&["side-band-64k"], &["refs/heads/a"]), &[], &|_| String::new()), None);
    }

    #[test]
    fn a_reference_counts_as_changed_only_if_the_server_said_so() {
        let push = push(&["report-status-v2"], &["refs/heads/a", "refs/heads/b"]);
        let said = packets(&[
            "unpack ok\n",
            "ok refs/heads/a\n",
            "option refname refs/changes/1\n",
            "ng refs/heads/b pre-receive hook declined\n",
            "",
        ]);
        let report = read(&push, &said, 3);
        assert_eq!(report.references, [("refs/heads/a".to_owned(), true), ("refs/heads/b".to_owned(), false)].into());
        let torn = read(&push, &said[..40], 3);
        assert!(!torn.whole && torn.references.len() == 1);
        let both = packets(&["unpack ok", "ok refs/heads/a", "ng refs/heads/a x", "ok refs/heads/a", ""]);
        assert_eq!(read(&push, &both, 9).references.get("refs/heads/a"), Some(&false));
        assert_eq!(read(&push, b"zzzz", 9), Report::default());
    }

    proptest! {
        #[test]
        fn never_panics_at_any_split(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1usize..20, band in any::<bool>()) {
            let push = push(if band { &["report-status", "side-band-64k"] } else { &["report-status"] }, &[]);
            prop_assert_eq!(read(&push, &bytes, cut), read(&push, &bytes, 1_000));
        }

        #[test]
        fn a_reason_is_one_line(text in ".{0,700}") {
            let shown = plain(&text);
            prop_assert!(shown.len() <= MAX_REASON_BYTES + 3 && !shown.chars().any(char::is_control) && !shown.is_empty());
        }
    }
}
