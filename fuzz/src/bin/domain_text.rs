//! Identifiers, amounts of money, digests and the small words: what reads is written again as it stood.
#![no_main]

use std::{fmt::Display, str::FromStr};

use stockade_domain::{
    Action, Answer, BudgetScope, ContentKind, Desired, Digest, Level, Nanos, ResourceKind, RunState,
    ids::{CallId, RunId, RunnerId},
};

fn same<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    same::<RunId>(text);
    same::<CallId>(text);
    same::<RunnerId>(text);
    same::<Digest>(text);
    same::<Action>(text);
    same::<ResourceKind>(text);
    same::<ContentKind>(text);
    same::<Answer>(text);
    same::<RunState>(text);
    same::<BudgetScope>(text);
    same::<Desired>(text);
    let _ = text.parse::<Level>();
    if let Ok(amount) = text.parse::<Nanos>() {
        assert!(amount >= Nanos::ZERO);
        assert_eq!(amount.to_string().parse(), Ok(amount));
    }
});
