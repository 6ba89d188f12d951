//! Signed checkpoints, keys and producers: what reads is written again as it stood, and nothing verifies that was
//! not signed.
#![no_main]

use std::sync::LazyLock;

use stockade_ledger::{Producer, SignedNote, SigningKey, VerifyingKey};

static KEY: LazyLock<SigningKey> = LazyLock::new(SigningKey::generate);

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(key) = text.parse::<VerifyingKey>() {
        assert_eq!(key.to_string(), text);
        assert!(!key.verify(b"x", &[0; 64]) || key.as_bytes().iter().all(|byte| *byte < 2));
    }
    if let Ok(producer) = text.parse::<Producer>() {
        assert_eq!(producer.to_string(), text);
    }
    let Ok(mut note) = text.parse::<SignedNote>() else { return };
    assert_eq!(note.to_string(), text);
    let origin = note.checkpoint().origin.clone();
    assert!(note.verify(&origin, &KEY.public()).is_err());
    if note.add_signature(&origin, &KEY).is_ok() {
        let again: SignedNote = note.to_string().parse().expect("what is written reads");
        assert_eq!(again, note);
        assert!(again.verify(&origin, &KEY.public()).is_ok());
    }
});
