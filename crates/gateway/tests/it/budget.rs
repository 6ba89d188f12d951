//! Hard budgets, under concurrency.

use std::sync::Arc;

use bytes::Bytes;
use stockade_gateway::CallError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    fake::{Fake, Step, whole},
    house::{House, Plan},
    wire::{COST, MESSAGE, request},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_calls_at_once_against_money_for_thirty_seven() {
    // All that are admitted are under way at the same time: nobody profits from somebody else's settlement.
    let gate = Arc::new(Semaphore::new(0));
    let answer = whole("200 OK", "content-type: application/json\r\n", MESSAGE);
    let fake = Fake::start(vec![Step::Gate(gate.clone()), answer]).await;
    let config = "[limits]\ncalls = 500\n[limits.principal]\ncalls = 500\n".to_owned();
    let probe = House::with(fake.addr, Plan { config: config.clone(), ..Plan::default() }).await;
    gate.add_permits(1);
    probe.call(&request(false)).await;
    let reserved = probe.purse.state.lock().unwrap().peak;
    assert!(reserved > COST);

    // One nano less than thirty-eight.
    let budget = reserved * 38 - 1;
    let house = Arc::new(House::with(fake.addr, Plan { config, budget, ..Plan::default() }).await);
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let house = house.clone();
            tokio::spawn(async move {
                let body = Bytes::from(request(false));
                house.gateway.call(house.caller.clone(), body, CancellationToken::new()).await
            })
        })
        .collect();
    while house.purse.state.lock().unwrap().refused < 163 || fake.requests().len() < 38 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.purse.state.lock().unwrap().reserved.len(), 37);
    gate.add_permits(37);
    let (mut made, mut refused) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(finished) => {
                assert_eq!(finished.cost.0, COST);
                made += 1;
            }
            Err(CallError::Exhausted { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((made, refused), (37, 163));
    let entries = house.entries().await;
    assert_eq!(entries.len(), 37);
    let money = house.purse.state.lock().unwrap();
    assert_eq!(money.spent, 37 * COST);
    assert!(money.peak <= budget, "never a nano above");
}
