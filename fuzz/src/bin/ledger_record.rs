//! Records: one record has one spelling.
#![no_main]

use stockade_ledger::{Record, leaf_hash};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = Record::parse(bytes) else { return };
    assert_eq!(record.checked_canonical().expect("what reads can be written"), bytes);
    assert_eq!(record.leaf(), leaf_hash(bytes));
    assert!(!record.summary().contains(char::is_control));
});
