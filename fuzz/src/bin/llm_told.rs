//! What is read back from kept bytes for people: nothing is made up, and nothing reads as nothing.
#![no_main]

use stockade_llm::told;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for told in [told::request(bytes), told::answer(bytes)].into_iter().flatten() {
        assert!(!told.is_empty() && told.iter().all(|one| !one.who.is_empty()));
    }
});
