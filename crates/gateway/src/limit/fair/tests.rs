//! Places under load: the model they are held against, and that no place is ever lost.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;

use super::*;

type Attempt = Pin<Box<dyn Future<Output = Result<Place, Busy>>>>;

fn who(n: u8) -> UserId {
    UserId::from_parts(0, [n; 10])
}

const BOUNDS: CallBounds = CallBounds { all: 3, principal: 2, model: 2, queue: 4, queue_all: 9 };

fn poll(attempt: &mut Attempt) -> Poll<Result<Place, Busy>> {
    attempt.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// An attempt whose patience ends when the sender is used or dropped.
fn attempt(fair: &Fair, n: u8, model: &'static str, bounds: CallBounds) -> (Attempt, oneshot::Sender<()>) {
    let (end, ended) = oneshot::channel::<()>();
    let fair = fair.clone();
    let patience = async move {
        let _ = ended.await;
    };
    (Box::pin(async move { fair.acquire(who(n), model, bounds, patience).await }), end)
}

#[test]
fn one_call_waits_behind_one_of_a_thousand() {
    let fair = Fair::default();
    let bounds = CallBounds { all: 1, principal: 1_000, model: 1_000, queue: 1_000, queue_all: 2_000 };
    let (mut first, _end) = attempt(&fair, 1, "m", bounds);
    let Poll::Ready(Ok(place)) = poll(&mut first) else { panic!("no place") };
    let mut many: Vec<_> = (0..1_000).map(|_| attempt(&fair, 1, "m", bounds)).collect();
    for (attempt, _) in &mut many {
        assert!(poll(attempt).is_pending());
    }
    let (mut other, _end) = attempt(&fair, 2, "m", bounds);
    assert!(poll(&mut other).is_pending());
    drop(place);
    // One of the thousand was in turn; then comes the other person.
    let Poll::Ready(Ok(place)) = poll(&mut many[0].0) else { panic!("no place") };
    assert!(poll(&mut other).is_pending());
    drop(place);
    let Poll::Ready(Ok(place)) = poll(&mut other) else { panic!("no place") };
    drop((many, place, other));
    assert_eq!(fair.load(), (0, 0));
}

#[test]
fn who_waits_too_long_or_finds_a_full_queue_is_told_so() {
    let fair = Fair::default();
    let bounds = CallBounds { all: 1, queue: 1, ..BOUNDS };
    let (mut first, _end) = attempt(&fair, 1, "m", bounds);
    let Poll::Ready(Ok(_place)) = poll(&mut first) else { panic!("no place") };
    let (mut second, end) = attempt(&fair, 1, "m", bounds);
    assert!(poll(&mut second).is_pending());
    let (mut third, _end) = attempt(&fair, 1, "m", bounds);
    let Poll::Ready(Err(busy)) = poll(&mut third) else { panic!("a place") };
    assert_eq!(busy, Busy { own: true, retry_after_ms: 2_000 });
    drop(end);
    let Poll::Ready(Err(busy)) = poll(&mut second) else { panic!("a place") };
    assert!(busy.to_string().contains("try again"));
    drop(second);
    assert_eq!(fair.load(), (1, 0));
}

#[test]
fn a_busy_model_does_not_hold_up_other_models() {
    let fair = Fair::default();
    let bounds = CallBounds { all: 9, principal: 9, model: 1, ..BOUNDS };
    let (mut first, _end) = attempt(&fair, 1, "m", bounds);
    let Poll::Ready(Ok(_place)) = poll(&mut first) else { panic!("no place") };
    let (mut second, _end) = attempt(&fair, 1, "m", bounds);
    assert!(poll(&mut second).is_pending());
    let (mut third, _end) = attempt(&fair, 1, "n", bounds);
    assert!(matches!(poll(&mut third), Poll::Ready(Ok(_))));
}

#[derive(Debug, Clone)]
enum Op {
    Ask { who: u8, model: bool },
    Poll { which: usize },
    LosePatience { which: usize },
    DropWaiting { which: usize },
    DropPlace { which: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        5 => (0..4_u8, any::<bool>()).prop_map(|(who, model)| Op::Ask { who, model }),
        3 => any::<usize>().prop_map(|which| Op::Poll { which }),
        1 => any::<usize>().prop_map(|which| Op::LosePatience { which }),
        2 => any::<usize>().prop_map(|which| Op::DropWaiting { which }),
        4 => any::<usize>().prop_map(|which| Op::DropPlace { which }),
    ];
    proptest::collection::vec(op, 0..150)
}

struct Asked {
    who: u8,
    model: &'static str,
    attempt: Attempt,
    patience: Option<oneshot::Sender<()>>,
}

impl State {
    /// What must always be true.
    fn sound(&self) {
        assert_eq!(self.taken, self.people.values().map(|person| person.taken).sum::<usize>());
        assert_eq!(self.taken, self.models.values().sum::<usize>());
        assert_eq!(self.waiting, self.people.values().map(|person| person.queue.len()).sum::<usize>());
        assert!(self.taken <= BOUNDS.all && self.waiting <= BOUNDS.queue_all);
        assert!(self.models.values().all(|taken| (1..=BOUNDS.model).contains(taken)));
        for (who, person) in &self.people {
            assert!(person.taken <= BOUNDS.principal && person.queue.len() <= BOUNDS.queue);
            assert!(person.taken > 0 || !person.queue.is_empty(), "somebody who wants nothing is remembered");
            let turns = self.turn.iter().filter(|other| *other == who).count();
            assert_eq!(turns, usize::from(!person.queue.is_empty()));
            for waiter in &person.queue {
                assert!(!self.fits(*who, &waiter.model, waiter.bounds), "somebody waits beside a free place");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_place_is_ever_lost_and_no_bound_passed(ops in ops()) {
        let fair = Fair::default();
        let (mut asked, mut places): (Vec<Asked>, Vec<Place>) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Ask { who, model } => {
                    let model = if model { "m" } else { "n" };
                    let (mut attempt, patience) = attempt(&fair, who, model, BOUNDS);
                    match poll(&mut attempt) {
                        Poll::Ready(Ok(place)) => places.push(place),
                        Poll::Ready(Err(busy)) => prop_assert!(busy.retry_after_ms >= 1_000),
                        Poll::Pending => asked.push(Asked { who, model, attempt, patience: Some(patience) }),
                    }
                }
                Op::Poll { which } if !asked.is_empty() => {
                    let which = which % asked.len();
                    match poll(&mut asked[which].attempt) {
                        Poll::Ready(Ok(place)) => {
                            let of = asked.swap_remove(which);
                            prop_assert_eq!((place.who, &*place.model), (super::tests::who(of.who), of.model));
                            places.push(place);
                        }
                        Poll::Ready(Err(_)) => {
                            prop_assert!(asked[which].patience.is_none());
                            asked.swap_remove(which);
                        }
                        Poll::Pending => {}
                    }
                }
                Op::LosePatience { which } if !asked.is_empty() => {
                    let which = which % asked.len();
                    asked[which].patience = None;
                }
                Op::DropWaiting { which } if !asked.is_empty() => {
                    let which = which % asked.len();
                    asked.swap_remove(which);
                }
                Op::DropPlace { which } if !places.is_empty() => {
                    let which = which % places.len();
                    drop(places.swap_remove(which));
                }
                _ => {}
            }
            lock(&fair.state).sound();
            // Every place is in somebody's hands, or on its way to an attempt that has not been polled.
            let waiting = lock(&fair.state).waiting;
            prop_assert!(lock(&fair.state).taken >= places.len());
            prop_assert_eq!(lock(&fair.state).taken, places.len() + (asked.len() - waiting));
        }
        drop((asked, places));
        let state = lock(&fair.state);
        prop_assert!(state.taken == 0 && state.waiting == 0 && state.people.is_empty() && state.models.is_empty());
        prop_assert!(state.turn.is_empty());
    }

    /// While somebody waits, each other person is served at most once.
    #[test]
    fn places_go_round(people in proptest::collection::vec(0..4_u8, 1..40), frees in proptest::collection::vec(0..3_usize, 0..60)) {
        let fair = Fair::default();
        let bounds = CallBounds { all: 3, principal: 3, model: 3, queue: 40, queue_all: 40 };
        let (mut places, mut waiting) = (Vec::new(), Vec::new());
        for n in people {
            let (mut attempt, patience) = attempt(&fair, n, "m", bounds);
            match poll(&mut attempt) {
                Poll::Ready(place) => places.push(place.unwrap()),
                Poll::Pending => waiting.push((n, attempt, patience)),
            }
        }
        // For each who waits: how often each other was served since.
        let mut since: BTreeMap<(u8, u8), u32> = BTreeMap::new();
        for which in frees {
            if waiting.is_empty() { break }
            drop(places.swap_remove(which % places.len()));
            let at = waiting.iter_mut().position(|(_, attempt, _)| match poll(attempt) {
                Poll::Ready(place) => { places.push(place.unwrap()); true }
                Poll::Pending => false,
            });
            let (served, ..) = waiting.remove(at.expect("a free place and nobody who gets it"));
            for other in 0..4 {
                since.remove(&(served, other));
                if other != served && waiting.iter().any(|(n, ..)| *n == other) {
                    let times = since.entry((other, served)).or_default();
                    *times += 1;
                    prop_assert!(*times <= 1, "{served} was served twice while {other} waited");
                }
            }
        }
    }
}
