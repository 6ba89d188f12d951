//! Content tickets: what reads is written and reads again as the same, and what was signed is what stood there.
#![no_main]

use stockade_api::ticket::Ticket;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok((ticket, signed, signature)) = Ticket::decode(text) else { return };
    assert!(text.as_bytes().starts_with(&signed));
    let written = ticket.encode(&signature);
    let (again, signed, same) = Ticket::decode(&written).expect("what is written reads");
    assert_eq!((again, same), (ticket.clone(), signature));
    assert_eq!(signed, ticket.signed_bytes());
});
