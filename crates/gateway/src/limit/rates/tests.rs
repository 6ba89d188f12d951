//! Rates held against every minute, whatever the order of calls and the jumps of the clock.

use proptest::prelude::*;

use super::*;

fn who(n: u8) -> UserId {
    UserId::from_parts(0, [n; 10])
}

const fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

const fn bounds(requests: Option<u64>, tokens: Option<u64>) -> RateBounds {
    RateBounds { requests, tokens }
}

const NONE: RateBounds = bounds(None, None);

#[test]
fn what_is_not_bounded_is_not_counted() {
    let rates = Rates::default();
    let taken = rates.take(who(1), "m", NONE, NONE, 7, at(0)).unwrap();
    assert!(rates.is_empty());
    rates.settle(taken, 9, at(1));
}

#[test]
fn it_says_when_to_come_back_and_keeps_its_word() {
    let rates = Rates::default();
    let two = bounds(Some(2), None);
    for second in [0, 10] {
        let _kept = rates.take(who(1), "m", two, NONE, 0, at(second)).unwrap();
    }
    let refused = rates.take(who(1), "m", two, NONE, 0, at(20)).unwrap_err();
    assert_eq!(refused, RateRefusal::Later { what: "requests", whose: " for you", retry_after_ms: 41_000 });
    assert!(rates.take(who(1), "m", two, NONE, 0, at(60)).is_err());
    let _kept = rates.take(who(1), "m", two, NONE, 0, at(61)).unwrap();
    // Others, and the same person with another model, have their own.
    let _kept = rates.take(who(2), "m", two, NONE, 0, at(20)).unwrap();
    let _kept = rates.take(who(1), "n", two, NONE, 0, at(20)).unwrap();
}

#[test]
fn an_estimate_is_corrected_both_ways() {
    let rates = Rates::default();
    let all = bounds(None, Some(100));
    let taken = rates.take(who(1), "m", NONE, all, 90, at(0)).unwrap();
    assert!(rates.take(who(2), "m", NONE, all, 20, at(1)).is_err());
    rates.settle(taken, 10, at(2));
    let taken = rates.take(who(2), "m", NONE, all, 20, at(3)).unwrap();
    rates.settle(taken, 90, at(4));
    assert!(rates.take(who(3), "m", NONE, all, 1, at(5)).is_err());
    let refused = rates.take(who(3), "m", NONE, all, 101, at(90)).unwrap_err();
    assert!(matches!(refused, RateRefusal::TooLarge { wanted: 101, bound: 100, .. }));
}

#[test]
fn idle_counters_are_forgotten_and_their_number_is_bounded() {
    let rates = Rates::default();
    let one = bounds(Some(1), None);
    let fill = |from: u32, second| {
        for n in from..from + u32::try_from(MAX_KEYS).unwrap() - 1 {
            let user = UserId::from_parts(u64::from(n), [0; 10]);
            let _kept = rates.take(user, "m", one, NONE, 0, at(second)).unwrap();
        }
    };
    fill(0, 0);
    assert_eq!(rates.len(), MAX_KEYS);
    let refused = rates.take(who(9), "m", one, NONE, 0, at(30)).unwrap_err();
    assert!(matches!(refused, RateRefusal::Later { what: "callers", .. }));
    fill(100_000, 61);
    assert_eq!(rates.len(), MAX_KEYS);
}

#[derive(Debug, Clone)]
enum Op {
    Take { who: u8, model: bool, tokens: u64 },
    Settle { which: usize, tokens: u64 },
    GiveBack { which: usize },
    Wait { us: i64 },
}

fn ops(back: bool) -> impl Strategy<Value = Vec<Op>> {
    let least = if back { -90_000_000 } else { 0 };
    let op = prop_oneof![
        6 => (0..3_u8, any::<bool>(), 0..50_u64).prop_map(|(who, model, tokens)| Op::Take { who, model, tokens }),
        2 => (any::<usize>(), 0..80_u64).prop_map(|(which, tokens)| Op::Settle { which, tokens }),
        1 => any::<usize>().prop_map(|which| Op::GiveBack { which }),
        3 => (least..20_000_000_i64).prop_map(|us| Op::Wait { us }),
    ];
    proptest::collection::vec(op, 0..120)
}

proptest! {
    /// Against a list of everything that was ever admitted: never more than the bounds in any sixty seconds, and whoever is
    /// refused is admitted when it was told to come back, if nothing else happens.
    #[test]
    fn never_more_than_the_bound_in_any_minute(ops in ops(false), requests in 1..6_u64, tokens in 50..150_u64) {
        let rates = Rates::default();
        let (mine, all) = (bounds(Some(requests), Some(tokens)), bounds(Some(requests * 2), Some(tokens * 2)));
        let mut now = 1_000_000_000;
        // When, who, model, requests, tokens as far as they are known, and the handle while the call goes on.
        let mut history: Vec<(i64, u8, bool, u64, u64)> = Vec::new();
        let mut open: Vec<(usize, Taken)> = Vec::new();
        for op in ops {
            match op {
                Op::Wait { us } => now += us,
                Op::Take { who: n, model, tokens: wanted } => {
                    let name = if model { "m" } else { "n" };
                    match rates.take(who(n), name, mine, all, wanted, Timestamp(now)) {
                        Ok(taken) => {
                            open.push((history.len(), taken));
                            history.push((now, n, model, 1, wanted));
                            let minute = || history.iter().filter(|of| of.0 > now - 60_000_000 && of.2 == model);
                            let sum = |mine_only: bool| {
                                minute()
                                    .filter(|of| !mine_only || of.1 == n)
                                    .fold((0, 0), |sum, of| (sum.0 + of.3, sum.1 + of.4))
                            };
                            let (my, everybody) = (sum(true), sum(false));
                            prop_assert!(my.0 <= requests && my.1 <= tokens, "{my:?}");
                            prop_assert!(everybody.0 <= requests * 2 && everybody.1 <= tokens * 2, "{everybody:?}");
                        }
                        Err(RateRefusal::Later { retry_after_ms, .. }) => {
                            prop_assert!((1_000..=61_000).contains(&retry_after_ms), "{retry_after_ms}");
                            // The other bound may then be felt; but in a minute and a second everything is over.
                            now += 61_000_000;
                            let again = rates.take(who(n), name, mine, all, wanted, Timestamp(now));
                            prop_assert!(again.is_ok(), "{again:?}");
                            open.push((history.len(), again.unwrap()));
                            history.push((now, n, model, 1, wanted));
                        }
                        Err(other) => prop_assert!(false, "{other:?}"),
                    }
                }
                Op::Settle { which, tokens: used } => {
                    if open.is_empty() { continue }
                    let (of, taken) = open.swap_remove(which % open.len());
                    let estimated = taken.tokens;
                    rates.settle(taken, used, Timestamp(now));
                    let (_, n, model, ..) = history[of];
                    if used <= estimated {
                        history[of].4 = used;
                    } else {
                        history.push((now, n, model, 0, used - estimated));
                    }
                }
                Op::GiveBack { which } => {
                    if open.is_empty() { continue }
                    let (of, taken) = open.swap_remove(which % open.len());
                    rates.give_back(taken);
                    (history[of].3, history[of].4) = (0, 0);
                }
            }
        }
    }

    /// A clock that jumps costs nobody more than a minute and makes nothing panic.
    #[test]
    fn a_clock_that_goes_back_is_survived(ops in ops(true)) {
        let rates = Rates::default();
        let mine = bounds(Some(3), Some(100));
        let (mut now, mut open) = (0, Vec::new());
        for op in ops {
            match op {
                Op::Wait { us } => now += us,
                Op::Take { who: n, model, tokens } => {
                    let name = if model { "m" } else { "n" };
                    open.extend(rates.take(who(n), name, mine, mine, tokens, Timestamp(now)));
                }
                Op::Settle { which, tokens } if !open.is_empty() => {
                    let taken = open.swap_remove(which % open.len());
                    rates.settle(taken, tokens, Timestamp(now));
                }
                Op::GiveBack { which } if !open.is_empty() => {
                    let taken = open.swap_remove(which % open.len());
                    rates.give_back(taken);
                }
                _ => {}
            }
        }
        // One look after the last jump; a minute later everything that was counted until then is over.
        let _ = rates.take(who(0), "m", mine, mine, 1, Timestamp(now));
        let _ = rates.take(who(0), "n", mine, mine, 1, Timestamp(now));
        for model in ["m", "n"] {
            prop_assert!(rates.take(who(0), model, mine, mine, 100, Timestamp(now + 61_000_000)).is_ok());
        }
    }
}
