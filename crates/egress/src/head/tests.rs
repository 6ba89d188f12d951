//! Heads that have one reading, and those that do not.

use proptest::prelude::*;

use super::*;

const HOST: &str = "Host: a.example\r\n";

fn read(bytes: &[u8]) -> (Verdict, Option<Body>) {
    let mut reader = Reader::new();
    let seen = reader.push(bytes);
    let body = reader.body();
    assert_eq!(reader.into_bytes(), bytes);
    (seen, body)
}

fn one_by_one(bytes: &[u8]) -> (Verdict, Option<Body>) {
    let mut reader = Reader::new();
    for byte in bytes {
        reader.push(&[*byte]);
    }
    assert_eq!(reader.bytes(), bytes);
    (reader.push(&[]), reader.body())
}

fn refused(bytes: impl AsRef<[u8]>, why: HeadError) {
    let bytes = bytes.as_ref();
    assert_eq!(read(bytes).0, Verdict::Refused(why), "{}", String::from_utf8_lossy(bytes));
    assert_eq!(one_by_one(bytes).0, Verdict::Refused(why));
}

/// A head with these lines behind its host.
fn with(lines: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\n{HOST}{lines}\r\n").into_bytes()
}

#[test]
fn ordinary_heads_pass() {
    for (lines, body) in [
        ("", Body::Length(0)),
        ("Content-Length: 12\r\n", Body::Length(12)),
        ("content-length:0\r\n", Body::Length(0)),
        ("Transfer-Encoding: Chunked \r\n", Body::Chunked),
        ("Accept:\r\nX-A: b: c\r\nX-Name: b\u{fc}cher\r\nUser-Agent: git/2.47 (x; y)\r\n", Body::Length(0)),
    ] {
        let head = with(lines);
        let all = [&head[..], b"GET / HTTP/1.1\r\n\n\0"].concat();
        assert_eq!(read(&all), (Verdict::Ok(head.len()), Some(body)));
        assert_eq!(one_by_one(&all), read(&all));
        assert_eq!(read(&head[..head.len() - 1]), (Verdict::NeedMore, None));
    }
    for line in [
        "GET http://a.example/b?c=d HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT a.example:443 HTTP/1.1",
        "GET / HTTP/1.0",
    ] {
        let head = format!("{line}\r\n{HOST}\r\n");
        assert_eq!(read(head.as_bytes()).0, Verdict::Ok(head.len()));
    }
}

#[test]
fn n13_a_length_is_said_once_or_not_at_all() {
    use HeadError::*;
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    let other = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    for (lines, why) in [
        (both, LengthAndCoding),
        (other, LengthAndCoding),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", TwoLengths),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", TwoLengths),
        ("Content-Length: 5, 5\r\n", Length),
        ("Content-Length: +5\r\n", Length),
        ("Content-Length: 0x5\r\n", Length),
        ("Content-Length: 5 5\r\n", Length),
        ("Content-Length:\r\n", Length),
        ("Content-Length: 1234567890123456789\r\n", Length),
        ("Transfer-Encoding: gzip, chunked\r\n", Coding),
        ("Transfer-Encoding: chunked, identity\r\n", Coding),
        ("Transfer-Encoding: \"chunked\"\r\n", Coding),
        ("Transfer-Encoding: xchunked\r\n", Coding),
        ("Transfer-Encoding:\r\n", Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Coding),
        ("Content_Length: 5\r\n", Underscore),
        ("Transfer_Encoding: chunked\r\n", Underscore),
    ] {
        refused(with(lines), why);
    }
    refused(format!("POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"), Coding);
}

#[test]
fn n13_lines_end_in_one_way() {
    use HeadError::*;
    for (bytes, why) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLf),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", BareCr),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BareCr),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rX", BareCr),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Folded),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Folded),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", Control),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", EmptyLine),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLf),
    ] {
        refused(bytes, why);
    }
}

#[test]
fn n13_names_values_and_the_first_line_have_one_spelling() {
    use HeadError::*;
    for (lines, why) in [
        ("Content-Length : 5\r\n", SpaceBeforeColon),
        ("X Y: 5\r\n", HeaderName),
        (": 5\r\n", HeaderName),
        ("X\u{e9}: 5\r\n", HeaderName),
        ("X(: 5\r\n", HeaderName),
        ("nothing\r\n", NoColon),
        ("X: a\tb\r\n", Control),
        ("X: a\0b\r\n", Control),
        ("X: a\u{7f}b\r\n", Control),
        ("X: a\u{b}b\r\n", Control),
        ("Host: a.example\r\n", TwoHosts),
        ("hOST: b.example\r\n", TwoHosts),
    ] {
        refused(with(lines), why);
    }
    for (line, why) in [
        ("GET /", Version),
        ("GET", RequestLine),
        ("GET / HTTP/0.9", Version),
        ("GET / HTTP/2.0", Version),
        ("GET / HTTP/1.2", Version),
        ("GET / http/1.1", Version),
        ("GET / HTTP/1.1 ", RequestLine),
        ("GET  / HTTP/1.1", Target),
        ("GET /  HTTP/1.1", RequestLine),
        (" GET / HTTP/1.1", Method),
        ("G(T / HTTP/1.1", Method),
        ("GET /a#b HTTP/1.1", Target),
        ("GET /\u{fc} HTTP/1.1", Target),
        ("GET /\0 HTTP/1.1", Control),
        ("GET\t/ HTTP/1.1", Control),
    ] {
        refused(format!("{line}\r\n{HOST}\r\n"), why);
    }
    refused("GET / HTTP/1.1\r\n\r\n", NoHost);
    refused("GET / HTTP/1.0\r\n\r\n", NoHost);
    refused("GET / HTTP/1.1\r\nHost: \r\n\r\n", NoHost);
    refused(format!("{} / HTTP/1.1\r\n", "A".repeat(33)), Method);
}

#[test]
fn n29_a_head_has_its_bounds() {
    let headers = |count: usize| with(&"X: y\r\n".repeat(count - 1));
    assert!(matches!(read(&headers(100)).0, Verdict::Ok(_)));
    refused(headers(101), HeadError::TooManyHeaders);
    let long = |length: usize| {
        let rest = with("X: \r\n").len();
        with(&format!("X: {}\r\n", "y".repeat(length - rest)))
    };
    assert_eq!(read(&long(MAX_HEAD)).0, Verdict::Ok(MAX_HEAD));
    refused(long(MAX_HEAD + 1), HeadError::TooLong);
    refused(vec![b'A'; MAX_HEAD], HeadError::TooLong);
    assert_eq!(read(&vec![b'A'; MAX_HEAD - 1]).0, Verdict::NeedMore);
}

/// Names and values.
type Headers = Vec<(String, Vec<u8>)>;

/// What hyper's parser makes of a head: method, target, names and values.
fn httparse_says(bytes: &[u8]) -> Option<(usize, String, String, Headers)> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).ok()? else { return None };
    let all = request.headers.iter().map(|one| (one.name.to_owned(), one.value.to_vec())).collect();
    Some((length, request.method?.to_owned(), request.path?.to_owned(), all))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_split_gives_the_same(
        lines in prop::collection::vec("[a-zA-Z_-]{0,9}[: ]{0,3}[ -~\t]{0,9}(\r\n|\n|\r)", 0..6), cut in 0_usize..100,
    ) {
        let bytes = with(&lines.concat());
        let mut reader = Reader::new();
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        reader.push(first);
        prop_assert_eq!(reader.push(second), read(&bytes).0);
        prop_assert_eq!(one_by_one(&bytes), read(&bytes));
    }

    /// The border is where hyper's parser has it, and the headers are the same.
    #[test]
    fn what_passes_is_read_alike_by_hypers_parser(
        start in prop::sample::select(vec!["GET / HTTP/1.1\r\nHost: a\r\n", "POST /x HTTP/1.0\r\nHost: b\r\n", "", "\r\n"]),
        lines in prop::collection::vec("([a-zA-Z-]{1,9}|Content-Length|Transfer-Encoding)( ?: ?)([0-9]{1,3}|chunked|[ -~]{0,9}|[\\x00-\\xff]{1,2})\r?\n", 0..5),
        end in "\r?\n?\r?\n[a-z]{0,9}",
    ) {
        let bytes = [start, &lines.concat(), &end].concat().into_bytes();
        if let Verdict::Ok(length) = read(&bytes).0 {
            let Some((theirs, method, target, headers)) = httparse_says(&bytes) else {
                return Err(TestCaseError::fail("it passed and hyper does not read it"));
            };
            prop_assert_eq!(theirs, length);
            let mut again = format!("{method} {target} ");
            for (name, _) in &headers {
                again.push_str(name);
            }
            prop_assert!(again.len() <= length);
            let ours: Vec<_> = bytes[..length - 4].split(|byte| *byte == b'\n').skip(1)
                .map(|line| named(line.strip_suffix(b"\r").unwrap_or(line)).unwrap())
                .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())).collect();
            prop_assert_eq!(headers, ours);
        }
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(one_by_one(&bytes), read(&bytes));
    }
}
