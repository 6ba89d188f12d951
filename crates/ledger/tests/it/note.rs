//! Checkpoints as signed notes.

use proptest::prelude::*;
use stockade_domain::Digest;
use stockade_ledger::{
    Checkpoint, MAX_NOTE_BYTES, MAX_NOTE_SIGNATURES, NoteError, SignedNote, SigningKey, VerifyingKey,
};

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: "stockade/test".into(), size: 42, root: Digest([7; 32]) }
}

#[test]
fn a_note_of_somebody_else_verifies() {
    // The example of the Go implementation of signed notes (golang.org/x/mod/sumdb/note, package documentation) is the form that
    // others write. Its text is no checkpoint, so the key's id is what is held against it here.
    let key = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let bytes = base64_decode(key);
    assert_eq!(bytes[0], 1);
    let key = VerifyingKey::from_bytes(bytes[1..].try_into().unwrap());
    assert_eq!(key.note_key("PeterNeumann"), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
}

fn base64_decode(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn a_note_reads_back_and_verifies() {
    let (runner, server) = (SigningKey::generate(), SigningKey::generate());
    let mut note = checkpoint().sign("stockade/runner", &runner);
    note.add_signature("stockade/server", &server).unwrap();
    let text = note.to_string();
    assert!(
        text.starts_with(
            "stockade/test\n42\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n\u{2014} stockade/runner "
        )
    );
    let read: SignedNote = text.parse().unwrap();
    assert_eq!(read, note);
    assert_eq!(read.verify("stockade/runner", &runner.public()), Ok(&checkpoint()));
    assert_eq!(read.verify("stockade/server", &server.public()), Ok(&checkpoint()));
    let not_signed = |name: &str| Err(NoteError::NotSigned { name: name.into() });
    assert_eq!(read.verify("stockade/runner", &server.public()), not_signed("stockade/runner"));
    assert_eq!(read.verify("stockade/other", &runner.public()), not_signed("stockade/other"));
    assert_eq!(serde_json::from_str::<SignedNote>(&serde_json::to_string(&note).unwrap()).unwrap(), note);
}

#[test]
fn a_changed_checkpoint_does_not_verify() {
    let key = SigningKey::generate();
    let text = checkpoint().sign("stockade/test", &key).to_string();
    let changed: SignedNote = text.replace("\n42\n", "\n43\n").parse().unwrap();
    let wrong = NoteError::WrongSignature { name: "stockade/test".into() };
    assert_eq!(changed.verify("stockade/test", &key.public()), Err(wrong));
}

#[test]
fn signing_twice_is_one_signature_and_there_is_a_limit() {
    let key = SigningKey::generate();
    let mut note = checkpoint().sign("stockade/test", &key);
    note.add_signature("stockade/test", &key).unwrap();
    assert_eq!(note.signatures().len(), 1);
    for i in 1..MAX_NOTE_SIGNATURES {
        note.add_signature(&format!("stockade/{i}"), &key).unwrap();
    }
    assert_eq!(note.add_signature("stockade/more", &key), Err(NoteError::Full));
    let text = note.to_string();
    assert!(text.parse::<SignedNote>().is_ok());
    let more = format!("{text}{}\n", text.lines().last().unwrap());
    assert!(matches!(more.parse::<SignedNote>(), Err(NoteError::Malformed(_))));
}

#[test]
fn malformed_notes_are_refused() {
    let text = checkpoint().sign("stockade/test", &SigningKey::generate()).to_string();
    for wrong in [
        String::new(),
        text.replace("\n42\n", "\n042\n"),
        text.replace("\n42\n", "\n-1\n"),
        text.replace("\n42\n", "\n+42\n"),
        text.replace("\n42\n", "\n42\nmore\n"),
        text.replace("\n\n", "\n"),
        text.replace("\u{2014} ", "- "),
        text.trim_end().into(),
        format!("{text}\n"),
        text.replace("stockade/test\n", "stockade test\n"),
        text.replace("BwcH", "Bw"),
        format!("{text}{}", "x".repeat(MAX_NOTE_BYTES)),
    ] {
        assert!(matches!(wrong.parse::<SignedNote>(), Err(NoteError::Malformed(_))), "{wrong:.200}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(stockade/x|\n|[0-9]{1,3}|[A-Za-z=]{0,50}|\u{2014} | ){0,12}") {
        let _ = text.parse::<SignedNote>();
    }

    #[test]
    fn every_checkpoint_reads_back(size: u64, root: [u8; 32], origin in "[a-z/_0-9]{1,30}") {
        let note = Checkpoint { origin, size, root: Digest(root) }.sign("k", &SigningKey::generate());
        prop_assert_eq!(note.to_string().parse(), Ok(note));
    }
}
