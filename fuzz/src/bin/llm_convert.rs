//! Requests of every dialect: what reads as one is looked at, becomes neutral and is written in every dialect, and what
//! was written reads again. The first byte says which dialect the rest is in.
#![no_main]

use bytes::Bytes;
use stockade_llm::{Dialect, PathFacts, Target, spliced};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let dialect = Dialect::ALL[usize::from(*first) % Dialect::ALL.len()];
    if let Ok(view) = dialect.view(body) {
        if let Some(at) = &view.model_at {
            assert!(body.get(at.clone()).is_some());
        }
        // Another name, and a wish for usage: the request is the same but for these.
        let splices: Vec<_> =
            view.other_model("another-\"name\"").into_iter().chain(view.ask_for_usage.clone()).collect();
        let asks = view.ask_for_usage.is_some();
        let other = dialect.view(&spliced(&Bytes::copy_from_slice(body), splices)).expect("it is still a request");
        assert!(view.model.is_none() || other.model.as_deref() == Some("another-\"name\""));
        assert_eq!((other.stream, other.messages, other.max_output), (view.stream, view.messages, view.max_output));
        assert!(!asks || other.include_usage);
    }
    let Ok(request) = dialect.read_request(body, &PathFacts::default()) else { return };
    for model in ["claude-haiku-4-5", "claude-opus-4-8", "gemini-2.5-pro", "gemini-3-flash", "gpt-5", "other"] {
        let request = stockade_llm::neutral::Request { model: model.to_owned(), ..request.clone() };
        for to in Dialect::ALL {
            let target = Target { max_output: 10_000, reasoning: true };
            if let Ok(written) = to.write_request(&request, &target) {
                let again = to.read_request(&written.body, &PathFacts::default());
                assert!(again.is_ok(), "{to:?}: {again:?} of {}", String::from_utf8_lossy(&written.body));
            }
        }
    }
});
