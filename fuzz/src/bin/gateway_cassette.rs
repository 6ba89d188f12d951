//! Cassettes: what reads can be written and reads again as the same.
#![no_main]

use stockade_gateway::rehearsal::Cassette;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(cassette) = Cassette::parse("fuzz", text) else { return };
    let written = cassette.to_toml();
    let again = Cassette::parse("again", &written).unwrap_or_else(|error| panic!("{error} in\n{written}"));
    assert_eq!((again.name(), again.turns()), (cassette.name(), cassette.turns()));
    assert_eq!(again.to_toml(), written);
});
