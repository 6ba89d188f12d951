//! What comes out of an environment, and addresses of repositories that people write.
#![no_main]

use stockade_domain::Harness;
use stockade_runner::hostile::{ProgramSaid, RepositoryAddress, bundle_head, parse_answer, program_said};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(answer) = parse_answer(bytes) {
        let written = serde_json::to_vec(&answer).expect("an answer can be written");
        assert_eq!(parse_answer(&written).expect("what is written reads"), answer);
    }
    if let Ok(head) = bundle_head(bytes) {
        assert!(head.pack_at <= bytes.len());
        assert!(matches!(head.commit.len(), 40 | 64) && head.commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for harness in Harness::ALL {
            let ProgramSaid { words, error } = program_said(*harness, text);
            // Nothing is said that was not printed, but for a few words of ours.
            assert!(words.len() <= text.len() && error.is_none_or(|error| error.len() <= text.len().max(64)));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(address) = RepositoryAddress::parse(text)
    {
        assert_eq!(address.as_str(), text);
        assert!(!text.starts_with('-') && !text.contains(char::is_control));
        assert!(text.starts_with('/') || !text.contains("::"), "{text} names a transport helper");
    }
});
