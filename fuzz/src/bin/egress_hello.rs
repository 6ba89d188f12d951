//! What a connection says first: the same however it comes, nothing lost, and a name that is one. What is read as a
//! hello is read alike when the same message comes in other records.
#![no_main]

use stockade_egress::{
    first::First,
    hello::{MAX_RECORDS, Progress, Reader},
};
use stockade_fuzz::arrivals;

/// What stands in the records.
fn message(bytes: &[u8]) -> Vec<u8> {
    let (mut rest, mut message) = (bytes, Vec::new());
    while let [22, 3, _, high, low, after @ ..] = rest {
        let (piece, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(after.len()));
        message.extend_from_slice(piece);
        rest = after;
    }
    message
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let seen = arrivals(bytes).map(|pieces| {
        let mut reader = Reader::new();
        let last = pieces.into_iter().fold(Progress::NeedMore, |_, piece| reader.push(piece));
        assert_eq!(reader.into_bytes(), bytes);
        last
    });
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    assert_eq!(First::of(bytes) == First::Tls, bytes.len() > 1 && seen[0] != Progress::NotTls);
    let early = (0..bytes.len().min(64)).map(|end| First::of(&bytes[..end])).find(|what| *what != First::NeedMore);
    assert!(early.is_none_or(|what| what == First::of(bytes)));
    let Progress::Hello(hello) = &seen[0] else { return };
    if let Some(name) = &hello.server_name {
        assert!((1..=253).contains(&name.len()) && !name.ends_with('.'));
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)));
        assert!(name.parse::<std::net::IpAddr>().is_err());
    }
    let mut whole = message(bytes);
    if let [_, high, mid, low, ..] = whole[..] {
        whole.truncate(4 + (usize::from(high) << 16 | usize::from(mid) << 8 | usize::from(low)));
    }
    let size = 7.max(whole.len() / MAX_RECORDS + 1);
    let mut reader = Reader::new();
    let last = whole.chunks(size).fold(Progress::NeedMore, |_, piece| {
        let length = u16::try_from(piece.len()).unwrap_or_default().to_be_bytes();
        reader.push(&[&[22, 3, 1], &length[..], piece].concat())
    });
    assert!(last == seen[0] || reader.bytes().len() > 65_000);
});
