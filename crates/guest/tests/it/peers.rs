//! Peers that say nonsense, too much, or nothing.

use std::io::Write;

use stockade_api::guest::{MAX_FRAME, Op, Reply};

use crate::bed::{Bed, code, shell};

#[test]
fn nonsense_is_answered_and_the_connection_closed() {
    let bed = Bed::new();
    for body in
        [&b"{}"[..], b"not json", b"{\"id\":1,\"op\":\"fly\"}", b"", b"\xff\xfe", b"{\"id\":-1,\"op\":\"ping\"}"]
    {
        let mut peer = bed.connect();
        peer.send_raw(body);
        let answer = peer.receive().unwrap();
        assert_eq!(code(&answer.reply), "bad_request");
        assert!(peer.receive().is_none(), "and that is the end of it");
    }
    let deep = format!("{{\"id\":1,\"op\":\"exec\",\"argv\":{}", "[".repeat(100_000));
    let mut peer = bed.connect();
    peer.send_raw(deep.as_bytes());
    assert_eq!(code(&peer.receive().unwrap().reply), "bad_request");
    assert!(matches!(bed.connect().ask(Op::Ping {}), Reply::Pong { .. }));
}

#[test]
fn a_frame_above_the_limit_is_not_read() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    peer.stream.write_all(&(u32::try_from(MAX_FRAME).unwrap() + 1).to_be_bytes()).unwrap();
    assert_eq!(code(&peer.receive().unwrap().reply), "bad_request");
    assert!(peer.receive().is_none());
    let mut half = bed.connect();
    half.stream.write_all(&[0, 0]).unwrap();
    drop(half);
    assert!(matches!(bed.connect().ask(Op::Ping {}), Reply::Pong { .. }));
}

#[test]
fn only_so_many_connections_and_requests_at_once() {
    let bed = Bed::new();
    let mut peer = bed.connect();
    for _ in 0..40 {
        peer.send(None, Op::Exec(shell("while ! test -e go; do sleep 0.02; done")));
    }
    let busy: Vec<_> = (0..8).map(|_| peer.receive().unwrap().reply).collect();
    assert!(busy.iter().all(|reply| code(reply) == "busy"), "{busy:?}");
    std::fs::write(bed.workspace().join("go"), "").unwrap();
    for _ in 0..32 {
        assert!(matches!(peer.receive().unwrap().reply, Reply::Exited { status: 0, .. }));
    }
    let mut many: Vec<_> = (0..15).map(|_| bed.connect()).collect();
    assert!(many.iter_mut().all(|one| matches!(one.ask(Op::Ping {}), Reply::Pong { .. })));
    let mut one_more = bed.connect();
    assert!(one_more.receive().is_none(), "the seventeenth is closed");
    drop(many);
    drop(peer);
    // Given back as the guest notices.
    loop {
        let mut again = bed.connect();
        again.stream.write_all(&[0, 0, 0, 20]).unwrap();
        if again.stream.write_all(b"{\"id\":1,\"op\":\"ping\"}").is_ok() && again.receive().is_some() {
            break;
        }
    }
}

#[test]
fn a_peer_that_does_not_read_holds_up_nobody_else() {
    let bed = Bed::new();
    let mut deaf = bed.connect();
    for n in 0..3 {
        deaf.send(
            None,
            Op::Exec(stockade_api::guest::Exec {
                max_output: 500_000,
                ..shell(&format!("head -c 400000 /dev/zero; touch done{n}"))
            }),
        );
    }
    let mut peer = bed.connect();
    assert!(matches!(peer.ask(Op::Ping {}), Reply::Pong { .. }));
    while !(0..3).all(|n| bed.workspace().join(format!("done{n}")).exists()) {}
    drop(deaf);
}
