//! Requests: putting in another model's name changes that and nothing else, and no price is above its bound.
#![no_main]

use bytes::Bytes;
use stockade_llm::{PriceTable, anthropic::Request};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = Request::parse(bytes) else { return };
    let body = Bytes::copy_from_slice(bytes);
    assert_eq!(request.with_model(&body, &request.model), body);
    let name = "another-\"model\"";
    let other = Request::parse(&request.with_model(&body, name)).expect("a request with another name is a request");
    assert_eq!(other.model, name);
    assert_eq!(
        (other.max_tokens, other.stream, other.messages, other.estimate),
        (request.max_tokens, request.stream, request.messages, request.estimate)
    );
    let table = PriceTable::shipped().expect("the shipped table reads");
    if let Ok(price) = table.get(&request.model) {
        assert!(price.upper_bound(&request.estimate) >= 0);
    }
});
