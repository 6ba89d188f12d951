//! Refusals of providers: whatever was sent becomes an error of every dialect that reads again as the same, and the tokens and
//! names that clients bring back are read. The first two bytes say which dialect and which status.
#![no_main]

use stockade_llm::{
    Dialect,
    converse::invoke::error_for_messages,
    neutral::{Aliases, NameRules, Signature},
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [first, second, body @ ..] = bytes else { return };
    let dialect = Dialect::ALL[usize::from(*first) % Dialect::ALL.len()];
    let status = [400, 401, 403, 404, 408, 413, 424, 429, 500, 501, 503, 529, 200, 999][usize::from(*second) % 14];
    let fault = dialect.read_error(status, body);
    for to in Dialect::ALL {
        let written = to.error_body(&fault);
        assert!(serde_json::from_slice::<serde_json::Value>(&written).is_ok_and(|value| value.is_object()));
        let again = to.read_error(status, &written);
        assert!(fault.message.is_empty() || again.message == fault.message, "{to:?}: {again:?} of {fault:?}");
    }
    assert!(serde_json::from_slice::<serde_json::Value>(&error_for_messages(status, body)).is_ok());

    let text = String::from_utf8_lossy(body);
    if let Some(signature) = Signature::read(dialect, &text) {
        // One that its provider made to look packed would be read as packed: they make none such.
        for to in Dialect::ALL.iter().filter(|_| !signature.data().starts_with("stk1-")) {
            let again = Signature::read(*to, &signature.for_client(*to)).expect("what was written reads");
            assert_eq!(again, signature);
        }
    }
    let (mut aliases, rules) = (Aliases::default(), NameRules::word(64));
    let alias = aliases.alias(&text, &rules);
    assert!(rules.takes(&alias), "{alias}");
    assert_eq!(aliases.original(&alias), text);
});
