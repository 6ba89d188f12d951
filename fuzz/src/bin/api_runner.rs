//! The frames between runner and server: what reads is written and reads again as the same.
#![no_main]

use serde::{Serialize, de::DeserializeOwned};
use stockade_api::runner::{
    Assignment, BudgetEntry, Countersign, Countersigned, Enroll, Enrolled, Entry, Heartbeat, Heartbeaten, Lease,
    LeaseSlice, Poll, Polled, Ship, Shipped, Slice, TakeLease,
};

fn same<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(frame) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_string(&frame).expect("a frame can be written");
        let again: T = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error} in {written}"));
        assert_eq!(serde_json::to_string(&again).expect("a frame can be written"), written);
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Whoever reads JSON at all reads this first: no need to fail eighteen times for the same reason.
    if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() {
        return;
    }
    same::<Enroll>(bytes);
    same::<Enrolled>(bytes);
    same::<Poll>(bytes);
    same::<Polled>(bytes);
    same::<Assignment>(bytes);
    same::<TakeLease>(bytes);
    same::<Lease>(bytes);
    same::<Heartbeat>(bytes);
    same::<Heartbeaten>(bytes);
    same::<Ship>(bytes);
    same::<Entry>(bytes);
    same::<BudgetEntry>(bytes);
    same::<Shipped>(bytes);
    same::<LeaseSlice>(bytes);
    same::<Slice>(bytes);
    same::<Countersign>(bytes);
    same::<Countersigned>(bytes);
});
