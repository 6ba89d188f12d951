//! Requests for the connection's own place, and for others.

use http::Request;
use proptest::prelude::*;

use super::*;

const TLS: Layer<'static> = Layer::Tls { server_name: Some("a.example") };

fn via(layer: Layer<'static>, port: u16) -> Via<'static> {
    Via { host: "a.example", port, layer }
}

/// A head as hyper makes it: read by the same parser.
fn parts(head: &str) -> Parts {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut raw = httparse::Request::new(&mut headers);
    assert!(raw.parse(head.as_bytes()).unwrap().is_complete());
    let version = if raw.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut request = Request::builder().method(raw.method.unwrap()).uri(raw.path.unwrap()).version(version);
    for one in raw.headers.iter() {
        request = request.header(one.name, one.value);
    }
    request.body(()).unwrap().into_parts().0
}

fn one(via: &Via<'_>, line: &str, lines: &str) -> Result<Wanted, RequestError> {
    check(via, &parts(&format!("{line} HTTP/1.1\r\n{lines}\r\n")), None)
}

fn two(uri: &str, headers: &[(&str, &str)]) -> Result<Wanted, RequestError> {
    let mut request = Request::builder().method("GET").uri(uri).version(Version::HTTP_2);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    check(&via(TLS, 443), &request.body(()).unwrap().into_parts().0, None)
}

fn host(text: &str) -> Result<Wanted, RequestError> {
    one(&via(TLS, 443), "GET /", &format!("Host: {text}\r\n"))
}

fn with(lines: &str) -> Result<Option<Upgrade>, RequestError> {
    one(&via(TLS, 443), "GET /", &format!("Host: a.example\r\n{lines}")).map(|wanted| wanted.upgrade)
}

#[test]
fn a_request_for_its_own_connection_says_what_it_wants() {
    let wanted =
        one(&via(TLS, 443), "POST /a/%2e%2e/b%2Dc?d=../e", "Host: A.example\r\nContent-Length: 5\r\n").unwrap();
    assert_eq!(wanted.path.as_ref().map(NormalPath::as_str), Ok("/b-c"));
    assert_eq!(wanted.target(), "/b-c?d=../e");
    let raw_target = "/a/%2e%2e/b%2Dc?d=../e".to_owned();
    let path = NormalPath::read("/a/../b-c");
    let whole = Wanted {
        host: "a.example".into(),
        port: 443,
        tls: true,
        method: Method::POST,
        path,
        raw_target,
        upgrade: None,
    };
    assert_eq!(wanted, whole);
    let untouched = one(&via(Layer::Plain, 8080), "GET /%61//b%2F?", "Host: a.example:8080\r\n").unwrap();
    assert_eq!(
        (untouched.target().as_str(), untouched.tls, untouched.path),
        ("/%61//b%2F?", false, Err(PathError::EncodedSlash))
    );
    assert_eq!(two("https://a.example/x?y", &[]).unwrap().raw_target, "/x?y");
    assert_eq!(two("https://a.example:443/", &[("host", "a.example"), ("te", "trailers")]).unwrap().raw_target, "/");
    for (line, target) in [
        ("GET https://a.example", "/"),
        ("GET https://a.example?x", "/?x"),
        ("GET https://a.example:443/x", "/x"),
        ("OPTIONS *", "*"),
    ] {
        assert_eq!(one(&via(TLS, 443), line, "Host: a.example\r\n").unwrap().raw_target, target);
    }
}

#[test]
fn n11_another_host_on_the_same_connection_is_misdirected() {
    use RequestError::*;
    for (text, why) in [
        ("b.example", OtherHost("b.example".into())),
        ("a.example.b.example", OtherHost("a.example.b.example".into())),
        ("xa.example", OtherHost("xa.example".into())),
        ("a.example:80", OtherPort(80)),
        ("a.example:8443", OtherPort(8443)),
        ("203.0.113.20", Address),
        ("[2001:db8::1]", Address),
        ("127.1:443", Address),
    ] {
        let seen = host(text).unwrap_err();
        assert_eq!((&seen, seen.status().as_u16()), (&why, 421), "{text}");
        let seen = two(&format!("https://{text}/"), &[]).unwrap_err();
        assert_eq!(seen, why, "{text}");
        assert_eq!(two("https://a.example/", &[("host", text)]), Err(why.clone()));
        assert_eq!(one(&via(TLS, 443), &format!("GET https://{text}/"), "Host: a.example\r\n"), Err(why));
    }
    assert_eq!(host("a.example:443").map(|wanted| wanted.port), Ok(443));
    assert_eq!(one(&via(TLS, 8443), "GET /", "Host: a.example\r\n"), Err(OtherPort(443)));
    assert_eq!(one(&via(TLS, 443), "GET http://a.example/", "Host: a.example\r\n"), Err(OtherScheme));
    assert_eq!(two("http://a.example/", &[]), Err(OtherScheme));
}

#[test]
fn n10_tls_for_another_name_than_the_dialled_one_is_misdirected() {
    let spoofed = Via { layer: Layer::Tls { server_name: Some("b.example") }, ..via(TLS, 443) };
    let seen = one(&spoofed, "GET /", "Host: a.example\r\n").unwrap_err();
    assert_eq!((seen.status().as_u16(), seen), (421, RequestError::OtherServerName("b.example".into())));
    let unnamed = Via { layer: Layer::Tls { server_name: None }, ..via(TLS, 443) };
    assert!(one(&unnamed, "GET /", "Host: a.example\r\n").is_ok());
}

#[test]
fn n15_a_host_has_one_spelling() {
    use RequestError::*;
    for (text, why) in [
        ("", NoHost),
        ("a.example.", Host(HostError::TrailingDot)),
        ("a.example:", Port),
        ("a.example:0443", Port),
        ("a.example:+443", Port),
        ("a.example:443:443", Port),
        ("a.example:70000", Port),
        ("a.example:443 ", Port),
        ("user@a.example", UserInfo),
        ("a.example@b.example", UserInfo),
        ("a%2eexample", Host(HostError::Character)),
        ("a.example,b.example", Host(HostError::Character)),
        ("a.example b.example", Host(HostError::Character)),
        ("a.example/", Host(HostError::Character)),
        ("*.example", Host(HostError::Character)),
        ("[::1", Port),
        ("[fe80::1%25lo]", Host(HostError::Character)),
    ] {
        let mut request = parts("GET / HTTP/1.1\r\n\r\n");
        request.headers.insert(header::HOST, text.parse().unwrap());
        let seen = check(&via(TLS, 443), &request, None).unwrap_err();
        assert_eq!((&seen, seen.status().as_u16()), (&why, 400), "{text}");
    }
    assert_eq!(one(&via(TLS, 443), "GET /", ""), Err(NoHost));
    assert_eq!(one(&via(TLS, 443), "GET /", "Host: a.example\r\nHost: a.example\r\n"), Err(TwoHosts));
    assert_eq!(two("https://a.example/", &[("host", "a.example"), ("host", "a.example")]), Err(TwoHosts));
    assert_eq!(two("/", &[("host", "a.example")]), Err(NoHost));
    assert_eq!(two("https://u:p@a.example/", &[]), Err(UserInfo));
    assert_eq!(one(&via(TLS, 443), "GET https://u@a.example/", "Host: a.example\r\n"), Err(UserInfo));
    assert_eq!(one(&via(TLS, 443), "GET a.example:443", "Host: a.example\r\n"), Err(Target));
    assert_eq!(one(&via(TLS, 443), "GET *", "Host: a.example\r\n"), Err(Target));
}

#[test]
fn an_address_is_good_where_it_was_dialled() {
    let four = Via { host: "203.0.113.20", port: 80, layer: Layer::Plain };
    assert!(one(&four, "GET /", "Host: 203.0.113.20\r\n").is_ok());
    assert_eq!(one(&four, "GET /", "Host: 203.0.113.020\r\n"), Err(RequestError::Address));
    assert_eq!(one(&four, "GET /", "Host: a.example\r\n"), Err(RequestError::OtherHost("a.example".into())));
    let six = Via { host: "2001:db8::1", port: 81, layer: Layer::Plain };
    assert!(one(&six, "GET /", "Host: [2001:DB8:0::1]:81\r\n").is_ok());
    assert_eq!(one(&six, "GET /", "Host: [2001:db8::2]:81\r\n"), Err(RequestError::Address));
}

#[test]
fn n13_a_body_has_one_length() {
    use RequestError::*;
    assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok(None));
    assert_eq!(with("Content-Length: 5\r\nContent-Length: 5\r\n"), Ok(None));
    for (lines, why) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndCoding),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Length),
        ("Content-Length: 5, 5\r\n", Length),
        ("Content-Length: -5\r\n", Length),
        ("Transfer-Encoding: gzip, chunked\r\n", Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Coding),
        ("Transfer-Encoding: identity\r\n", Coding),
        ("X: a\tb\r\n", Value(HeaderName::from_static("x"))),
    ] {
        assert_eq!(with(lines), Err(why));
    }
    let old = parts("GET / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(check(&via(TLS, 443), &old, None), Err(Coding));
    let chunked = two("https://a.example/", &[("transfer-encoding", "chunked")]);
    assert_eq!(chunked, Err(Connection(header::TRANSFER_ENCODING)));
    assert_eq!(two("https://a.example/", &[("content-length", "1"), ("content-length", "2")]), Err(Length));
}

#[test]
fn n13_headers_about_the_connection_say_nothing_else() {
    use RequestError::*;
    for lines in [
        "Connection: Keep-Alive, TE\r\nTE: trailers, gzip;q=0.5\r\n",
        "Expect: 100-Continue\r\n",
        "Connection: close\r\n",
    ] {
        assert_eq!(with(lines), Ok(None));
    }
    for (lines, why, status) in [
        ("Connection: close, authorization\r\n", Connection(header::CONNECTION), 400),
        ("Connection: host\r\n", Connection(header::CONNECTION), 400),
        ("TE: chunked\r\n", Connection(header::TE), 400),
        ("Expect: 200-ok\r\n", Expect, 417),
        ("Expect: 100-continue\r\nExpect: 100-continue\r\n", Expect, 417),
    ] {
        assert_eq!(with(lines).map_err(|seen| (seen.status().as_u16(), seen)), Err((status, why)));
    }
    for name in ["connection", "upgrade", "keep-alive", "proxy-connection", "http2-settings"] {
        let why = Connection(HeaderName::from_static(name));
        assert_eq!(two("https://a.example/", &[(name, "close")]), Err(why));
    }
    assert_eq!(two("https://a.example/", &[("te", "gzip")]), Err(Connection(header::TE)));
}

#[test]
fn n14_a_websocket_is_told_and_other_upgrades_are_refused() {
    use RequestError::*;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let open = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
    assert_eq!(with(&format!("{open}{key}")), Ok(Some(super::Upgrade::WebSocket)));
    let clear = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    assert_eq!(with(clear), Ok(Some(super::Upgrade::H2c)));
    for (lines, why) in [
        (open.to_owned(), WebSocket),
        (format!("{open}{key}Content-Length: 5\r\n"), WebSocket),
        (format!("{open}{key}{key}"), WebSocket),
        (format!("Upgrade: websocket\r\n{key}"), Connection(header::UPGRADE)),
        ("Connection: upgrade\r\nUpgrade: SPDY/3.1\r\n".to_owned(), RequestError::Upgrade),
        (format!("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n{key}"), RequestError::Upgrade),
        ("Connection: upgrade\r\nUpgrade: ,\r\n".to_owned(), Connection(header::UPGRADE)),
    ] {
        assert_eq!(with(&lines), Err(why), "{lines}");
    }
    let post = one(&via(TLS, 443), "POST /", &format!("Host: a.example\r\n{open}{key}"));
    assert_eq!(post, Err(WebSocket));
}

#[test]
fn n14_n16_tunnels_are_refused() {
    let line = one(&via(Layer::Plain, 80), "CONNECT b.example:443", "Host: b.example:443\r\n").unwrap_err();
    assert_eq!((line.status().as_u16(), line), (405, RequestError::Tunnel));
    let extended = |protocol| {
        let request = Request::builder().method("CONNECT").uri("https://a.example/chat").version(Version::HTTP_2);
        check(&via(TLS, 443), &request.body(()).unwrap().into_parts().0, protocol)
    };
    assert_eq!(extended(Some("websocket")).map(|wanted| wanted.upgrade), Ok(Some(super::Upgrade::WebSocket)));
    assert_eq!(extended(None), Err(RequestError::Tunnel));
    let other = extended(Some("connect-udp")).unwrap_err();
    assert_eq!((other.status().as_u16(), other), (501, RequestError::Upgrade));
}

#[test]
fn n29_headers_have_their_bounds() {
    let many = |count: usize| with(&"X: y\r\n".repeat(count - 1));
    assert_eq!(many(100), Ok(None));
    assert_eq!(many(101), Err(RequestError::TooLarge));
    let long = with(&format!("X: {}\r\n", "y".repeat(MAX_HEAD)));
    assert_eq!(long.map_err(|why| why.status().as_u16()), Err(431));
    let mut request = parts("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    request.version = Version::HTTP_3;
    assert_eq!(check(&via(TLS, 443), &request, None), Err(RequestError::Version));
}

/// If you are here because this failed, hyper's parser has become stricter: say so in the head of `request.rs`.
#[test]
fn n13_what_hypers_parser_forgives_is_refused_over_the_raw_head() {
    for head in [
        "GET / HTTP/1.1\nHost: a.example\n\n",
        "\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    ] {
        let wanted = check(&via(TLS, 443), &parts(head), None).unwrap();
        assert!(!wanted.raw_target.contains('#'));
        assert!(matches!(head::Reader::new().push(head.as_bytes()), head::Verdict::Refused(_)), "{head}");
    }
}

proptest! {
    /// Whatever passes is for the connection's host and nobody else's.
    #[test]
    fn what_passes_is_for_the_connection(
        host in "(a\\.example|A\\.EXAMPLE|b\\.example|[a-z.@:\\[\\]0-9%]{0,12})(:443|:80|\\.|@|:)?",
        target in "(/|https://|http://)(a\\.example|[a-z.@:]{0,9})(/[!-~]{0,9})?",
    ) {
        let Ok(request) = Request::builder().uri(&target).header("host", &host).body(()) else { return Ok(()) };
        if let Ok(wanted) = check(&via(TLS, 443), &request.into_parts().0, None) {
            prop_assert_eq!(wanted.host, "a.example");
            let plain = host.to_ascii_lowercase();
            prop_assert_eq!(plain.strip_suffix(":443").unwrap_or(&plain), "a.example");
            let absolute = target.starts_with("https://a.example");
            prop_assert!(target.starts_with('/') || absolute, "{}", target);
        }
    }
}
