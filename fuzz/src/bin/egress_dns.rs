//! Questions for names, several in one table: each by UDP and, in one stream that is cut anywhere, by TCP. A reply reads, belongs to
//! its question and fits; an address that was given means one name for ever. The input is the bytes of a connection: two of length, then a
//! query; the first byte says where it is cut.
#![no_main]

use std::{collections::HashMap, net::IpAddr};

use stockade_egress::{
    address::{Class, class},
    dns::{MAX_NAMES, MAX_UDP_REPLY_BYTES, Messages, Names, Transport, Verdict, answer, framed},
    name::Name,
};

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn skip_name(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes[at] {
            0 => return at + 1,
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0 => return at + 2,
            other => panic!("a label of type {other:#x} in a reply"),
        }
    }
}

/// Reads a reply to its last byte: the length of its question, and type and data of its answers.
fn read(reply: &[u8]) -> (usize, Vec<(u16, &[u8])>) {
    assert!(u16_at(reply, 4) <= 1 && u16_at(reply, 6) <= 1 && u16_at(reply, 8) <= 1 && u16_at(reply, 10) <= 1);
    let mut at = 12;
    if u16_at(reply, 4) == 1 {
        at = skip_name(reply, at) + 4;
    }
    let (question, mut answers) = (at - 12, Vec::new());
    for (count, is_answer) in [(6, true), (8, false), (10, false)] {
        for _ in 0..u16_at(reply, count) {
            at = skip_name(reply, at);
            let (kind, length) = (u16_at(reply, at), usize::from(u16_at(reply, at + 8)));
            at += 10 + length;
            if is_answer {
                answers.push((kind, &reply[at - length..at]));
            }
        }
    }
    assert_eq!(at, reply.len());
    (question, answers)
}

fn messages(parts: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut messages, mut found) = (Messages::new(), Vec::new());
    for part in parts {
        let mut rest = *part;
        loop {
            match messages.take(&mut rest) {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(_) => return (found, false),
            }
        }
    }
    (found, messages.is_between())
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let (queries, whole) = messages(&[stream]);
    let (before, after) = stream.split_at(usize::from(*cut).min(stream.len()));
    assert_eq!(messages(&[before, after]), (queries.clone(), whole));

    let (mut names, mut given) = (Names::new(), HashMap::<IpAddr, Name>::new());
    for query in queries.iter().map(Vec::as_slice).chain([stream]) {
        let by_udp = answer(&mut names, query, Transport::Udp);
        let by_tcp = answer(&mut names, query, Transport::Tcp);
        assert_eq!((&by_udp.asked, by_udp.verdict.as_str()), (&by_tcp.asked, by_tcp.verdict.as_str()));
        let Some(reply) = by_udp.reply else {
            assert!(by_tcp.reply.is_none() && (query.len() < 12 || query[2] & 0x80 != 0));
            continue;
        };
        assert!(reply.len() <= MAX_UDP_REPLY_BYTES);
        let framed = framed(by_tcp.reply.as_deref().expect("both reply")).expect("short enough");
        let (question, _) = read(&framed[2..]);
        assert_eq!(reply[..2], query[..2]);
        assert_ne!(reply[2] & 0x80, 0);
        assert_eq!(reply[12..12 + question], query[12..12 + question]);
        assert_eq!(question == 0, by_udp.asked.is_none());
        if let Some(asked) = &by_udp.asked {
            assert!(asked.name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
        }
        let (_, answers) = read(&reply);
        let is_cut = reply[2] & 2 != 0;
        assert_eq!(!answers.is_empty(), by_udp.verdict == Verdict::Answered && !is_cut);
        for (kind, data) in answers {
            let address = match (kind, data.len()) {
                (1, 4) => IpAddr::from(*data.first_chunk::<4>().expect("four")),
                (28, 16) => IpAddr::from(*data.first_chunk::<16>().expect("sixteen")),
                (12, _) => continue,
                other => panic!("{other:?}"),
            };
            match class(address) {
                Class::Loopback => {}
                Class::OurOwn => {
                    let name = names.name_of(address).expect("a name").clone();
                    assert_eq!(by_udp.asked.as_ref().map(|asked| asked.name.as_str()), Some(name.as_str()));
                    given.insert(address, name);
                }
                other => panic!("{address} is {other}"),
            }
        }
    }
    assert!(names.len() <= MAX_NAMES);
    for (address, name) in &given {
        assert_eq!(names.name_of(*address), Some(name));
    }
});
