//! What hostile programs and origins do.

use super::*;

const MANY: &str = r#"
[[policy]]
id = "all"
title = "Everything"
text = "permit(principal is Agent, action, resource);"
"#;

/// A request in the clear to the room's origin.
fn get(room: &Room, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: read.example:{}\r\n{more}\r\n", room.port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n13_what_is_read_in_two_ways_is_answered_400_after_what_came_before_and_nothing_of_it_goes_out() {
    let host = "Host: read.example:PORT\r\n";
    for (says, status) in [
        (
            format!(
                "POST /open HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n"
            ),
            "400 Bad Request",
        ),
        (format!("POST /open HTTP/1.1\r\n{host}Transfer-Encoding: chunked, identity\r\n\r\n"), "400 Bad Request"),
        (format!("POST /open HTTP/1.1\r\n{host}Transfer-Encoding : chunked\r\n\r\n"), "400 Bad Request"),
        (
            format!("POST /open HTTP/1.1\r\n{host}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
            "400 Bad Request",
        ),
        (format!("POST /open HTTP/1.1\r\n{host}Content-Length: +5\r\n\r\nhello"), "400 Bad Request"),
        (format!("GET /open HTTP/1.1\r\n{host}X: 1\r\n folded\r\n\r\n"), "400 Bad Request"),
        (format!("GET /open HTTP/1.1\n{host}\r\n"), "400 Bad Request"),
        (format!("GET /open HTTP/1.1\r\n{host}{host}\r\n"), "400 Bad Request"),
        (format!("GET /open HTTP/2.0\r\n{host}\r\n"), "505 HTTP Version Not Supported"),
        (format!("GET /open HTTP/1.1\r\n{host}{}\r\n", "a: b\r\n".repeat(200)), "431 Request Header Fields Too Large"),
    ] {
        let room = Room::new(MANY).await;
        let good = get(&room, "/open/first", "");
        let says = says.replace("PORT", &room.port.to_string());
        let (mut near, mut far, carried) = room.clear("read.example", format!("{good}{says}").as_bytes()).await;
        assert_eq!(head(&mut far).await, good);
        far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        let said = rest(&mut near).await;
        let (one, other) = said.split_once("ok").unwrap();
        assert!(one.starts_with("HTTP/1.1 200 OK\r\n"), "{one}");
        assert!(other.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{says:?}: {said}");
        drop(near);
        carried.await.unwrap();
        assert_eq!(rest(&mut far).await, "", "{says:?}");
        assert_eq!(room.closed(Action::RequestSend), [(String::new(), Some(200))], "{says:?}");
        assert_eq!(room.closed(Action::ConnectionOpen)[0].0, "malformed");
        assert_eq!(room.refused(), [("egress:malformed".to_owned(), "request.send".to_owned())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n13_a_body_that_is_read_in_two_ways_breaks_off_and_no_second_request_goes_out() {
    for body in ["5;x=y\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\r\n\r\n", "5\nhello\n0\n\n"] {
        let room = Room::new(MANY).await;
        let says = get(&room, "/open", "Transfer-Encoding: chunked\r\n").replace("GET", "POST");
        let next = get(&room, "/next", "");
        let (mut near, mut far, carried) = room.clear("read.example", format!("{says}{body}{next}").as_bytes()).await;
        let said = rest(&mut near).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{said}");
        drop(near);
        let heard = rest(&mut far).await;
        assert!(!heard.contains("/next") && !heard.ends_with("0\r\n\r\n"), "{heard}");
        carried.await.unwrap();
        assert_eq!(room.closed(Action::ConnectionOpen)[0].0, "malformed");
        assert_eq!(room.closed(Action::RequestSend).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n11_a_request_for_another_host_is_misdirected_also_as_the_second_one() {
    let room = Room::new(MANY).await;
    let good = get(&room, "/open", "");
    let (mut near, mut far, carried) = room.clear("read.example", good.as_bytes()).await;
    head(&mut far).await;
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert!(head(&mut near).await.starts_with("HTTP/1.1 200 "));
    let port = room.port;
    for (line, host, status) in [
        ("GET /open", format!("other.example:{port}"), "421 Misdirected Request"),
        ("GET /open", "read.example".to_owned(), "421 Misdirected Request"),
        ("GET /open", format!("127.0.0.1:{port}"), "421 Misdirected Request"),
        (&format!("GET http://other.example:{port}/open"), format!("read.example:{port}"), "421 Misdirected Request"),
        (&format!("GET https://read.example:{port}/open"), format!("read.example:{port}"), "421 Misdirected Request"),
        (&format!("CONNECT other.example:{port}"), format!("read.example:{port}"), "405 Method Not Allowed"),
    ] {
        near.write_all(format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let said = head(&mut near).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{line} {host}: {said}");
        until(&mut near, "\n").await;
    }
    // The connection has outlived all that.
    near.write_all(good.as_bytes()).await.unwrap();
    assert_eq!(head(&mut far).await, good);
    drop((near, far));
    carried.await.unwrap();
    assert_eq!(room.closed(Action::RequestSend).len(), 2);
    assert_eq!(room.refused().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n10_tls_to_an_origin_that_is_another_is_not_made_and_the_environment_hears_why() {
    let room = Room::new(
        MANY.replace(
            "resource);",
            "resource) unless { action == Action::\\\"connection.open\\\" && !(context has inspected && context.inspected) };",
        )
        .as_str(),
    )
    .await;
    // The origin shows a certificate for another name.
    let config = room.world.server(&Host::parse("evil.example").unwrap(), b"http/1.1").unwrap();
    let (near, far) = tokio::join!(room.tls("read.example", &[b"http/1.1"]), async {
        TlsAcceptor::from(config).accept(accept(&room.listener).await).await
    });
    assert!(far.is_err());
    let (mut near, carried) = near.unwrap();
    near.write_all(get(&room, "/open", "").as_bytes()).await.unwrap();
    let said = rest(&mut near).await;
    assert!(
        said.starts_with("HTTP/1.1 502 ") && said.ends_with("the host's certificate is not trusted here\n"),
        "{said}"
    );
    drop(near);
    carried.await.unwrap();
    assert_eq!(room.closed(Action::ConnectionOpen), [("untrusted".to_owned(), None)]);
    assert!(room.closed(Action::RequestSend).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_answers_end_in_a_record_and_in_nothing_else() {
    for (answer, status, code) in [
        ("garbage that is no head\r\n\r\n".to_owned(), 502, "lost"),
        (String::new(), 502, "lost"),
        (format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200 * 1024)), 502, "lost"),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(300)), 502, "lost"),
        ("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(80), 502, "lost"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
            502,
            "lost",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!".to_owned(), 502, "lost"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort".to_owned(), 200, "lost"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(), 200, "lost"),
        // The second answer is nobody's.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_owned(),
            200,
            "",
        ),
    ] {
        let room = Room::new(MANY).await;
        let (mut near, mut far, carried) = room.clear("read.example", get(&room, "/open", "").as_bytes()).await;
        head(&mut far).await;
        // It may be cut off before it has said all.
        let _ = far.write_all(answer.as_bytes()).await;
        let _ = far.shutdown().await;
        let said = rest(&mut near).await;
        let shown = &answer[..answer.len().min(80)];
        // What breaks off at once may do so before its head has been handed on.
        let nothing = said.is_empty() && status == 200 && code == "lost";
        assert!(nothing || said.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {said}");
        assert!(!said.contains("evil"), "{said}");
        drop((near, far));
        carried.await.unwrap();
        let [(ended, _)] = &room.closed(Action::RequestSend)[..] else { panic!() };
        assert_eq!(ended, code, "{shown}");
        assert!(room.house.ledger.unclosed().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n27_a_policy_that_changes_cuts_a_download_in_the_middle() {
    let room = Room::new(MANY).await;
    let (mut near, mut far, carried) = room.clear("read.example", get(&room, "/open", "").as_bytes()).await;
    head(&mut far).await;
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome").await.unwrap();
    until(&mut near, "some").await;
    let only =
        MANY.replace("principal is Agent, action,", "principal is Agent, action == Action::\\\"connection.open\\\",");
    room.house.exit.parts.policy.store(Arc::new(Bundle::parse(9, &only).unwrap()));
    assert_eq!(room.house.exit.reconsider(), 1, "the request, and not its connection");
    assert_eq!(rest(&mut near).await, "", "not a byte comes after it");
    carried.await.unwrap();
    assert_eq!(room.closed(Action::RequestSend), [("policy".to_owned(), Some(200))]);
    drop(far);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n29_a_head_that_drips_is_given_up_and_one_more_connection_is_turned_away() {
    let limits = Limits {
        connections: 2,
        opening: crate::opening::Patience { silence: Duration::from_millis(200), whole: Duration::from_millis(300) },
        ..Limits::default()
    };
    let room = Room::with(MANY, limits, Credentials::default).await;
    let good = get(&room, "/open", "");
    let (mut near, mut far, carried) = room.clear("read.example", good.as_bytes()).await;
    head(&mut far).await;
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    head(&mut near).await;
    // The second head does not come to its end.
    near.write_all(&good.as_bytes()[..good.len() - 2]).await.unwrap();
    let said = rest(&mut near).await;
    assert!(said.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{said}");
    carried.await.unwrap();
    assert_eq!(rest(&mut far).await, "");
    assert_eq!(room.closed(Action::RequestSend).len(), 1);

    let open = [room.clear("read.example", good.as_bytes()).await, room.clear("read.example", good.as_bytes()).await];
    let (mut third, _carried) = room.stream("read.example").await;
    assert_eq!(rest(&mut third).await, "");
    assert_eq!(room.refused().last().unwrap().0, "egress:crowded");
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_connections_at_once_are_looked_into() {
    let room = Room::with(MANY, Limits { inspected: 2, ..Limits::default() }, Credentials::default).await;
    let good = get(&room, "/open", "");
    let open = [room.clear("read.example", good.as_bytes()).await, room.clear("read.example", good.as_bytes()).await];
    let (mut third, carried) = room.stream("read.example").await;
    third.write_all(good.as_bytes()).await.unwrap();
    assert_eq!(rest(&mut third).await, "");
    carried.await.unwrap();
    assert_eq!(room.refused().last().unwrap().0, "egress:crowded");
    // One that ends makes room for another.
    let [first, _second] = open;
    let (near, far, carried) = first;
    drop((near, far));
    carried.await.unwrap();
    let (_near, mut far, _carried) = room.clear("read.example", good.as_bytes()).await;
    head(&mut far).await;
}
