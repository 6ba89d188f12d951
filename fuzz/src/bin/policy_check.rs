//! Policy bundles. A panic on the reader's own thread is a finding too: the fuzzer ends the process for it.
#![no_main]

use stockade_policy::{MAX_PROBLEMS, check};

libfuzzer_sys::fuzz_target!(|text: &str| {
    match check(text) {
        Ok(summary) => assert_eq!(summary.policies, summary.permits + summary.forbids),
        Err(problems) => {
            assert!((1..=MAX_PROBLEMS + 1).contains(&problems.len()));
            let lines = text.matches('\n').count() + 1;
            for problem in problems {
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem}");
            }
        }
    }
});
