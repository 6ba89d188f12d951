//! What well-behaved programs do.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

const GET: &[u8] = b"GET /open/a?q=1 HTTP/1.1\r\nHost: read.example\r\nX-Odd-Case: 1\r\nAccept: */*\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_an_inspected_connection_is_a_deed_and_the_connection_outlives_a_refused_one() {
    let room = Room::new(RULES).await;
    let (mut near, mut far, carried) = room.both("read.example").await;
    let host = format!("read.example:{}", room.port);
    let get = String::from_utf8_lossy(GET).replace("read.example", &host);
    near.write_all(get.as_bytes()).await.unwrap();
    assert_eq!(head(&mut far).await, get, "not a byte of it is another");
    let [(connection, Told::Open { .. }), (_, Told::Open { deed, contents, .. })] = &room.house.records()[..] else {
        panic!("{:?}", room.house.bodies())
    };
    assert_eq!(deed.action, Action::RequestSend);
    assert_eq!(deed.context["connection"], connection.to_string().as_str().into());
    assert_eq!((&deed.context["method"], &deed.context["inspected"]), (&"GET".into(), &true.into()));
    assert!(!deed.context.contains_key("path") && contents.len() == 1, "the path is sealed");
    far.write_all(b"HTTP/1.1 200 Fine\r\nX-Answer: 1\r\nContent-Length: 5\r\nKeep-Alive: timeout=5\r\n\r\nhello")
        .await
        .unwrap();
    assert_eq!(until(&mut near, "hello").await, "HTTP/1.1 200 Fine\r\nX-Answer: 1\r\nContent-Length: 5\r\n\r\nhello");

    near.write_all(format!("GET /secret HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let said = head(&mut near).await;
    assert!(said.starts_with("HTTP/1.1 403 Forbidden\r\n") && said.contains("stockade-refused: "), "{said}");
    assert!(until(&mut near, "\n").await.starts_with("Stockade: "));

    near.write_all(get.as_bytes()).await.unwrap();
    head(&mut far).await;
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert!(head(&mut near).await.starts_with("HTTP/1.1 204 No Content\r\n"));
    near.shutdown().await.unwrap();
    carried.await.unwrap();
    assert_eq!(room.closed(Action::RequestSend), [(String::new(), Some(200)), (String::new(), Some(204))]);
    assert_eq!(room.closed(Action::ConnectionOpen), [(String::new(), None)]);
    assert_eq!(room.refused(), [("nothing".to_owned(), "request.send".to_owned())]);
    let bodies = room.house.bodies();
    let Some(Told::Close { facts, .. }) = bodies.last() else { panic!() };
    assert_eq!((&facts["requests"], &facts["spoken"]), (&3.into(), &"http1".into()));
    assert!(room.house.ledger.unclosed().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_go_unread_is_not_read_and_what_may_not_be_read_either_is_refused() {
    let room = Room::new(RULES).await;
    // The origin's own certificate, of the world's authority: a tunnel.
    let (near, far) = tokio::join!(room.tls("tunnel.example", &[]), room.origin("tunnel.example", b""));
    let ((near, _carried), _far) = (near.unwrap(), far);
    let shown = near.get_ref().1.peer_certificates().unwrap();
    assert!(shown[0].windows(14).any(|bytes| bytes == b"Stockade world"));
    let (near, _far, _carried) = room.both("read.example").await;
    let shown = near.get_ref().1.peer_certificates().unwrap();
    assert!(shown[0].windows(12).any(|bytes| bytes == b"Stockade env"));
    assert!(room.tls("nobody.example", &[]).await.is_err());
    assert_eq!(room.refused(), [("nothing".to_owned(), "connection.open".to_owned())]);
    let Some(Told::Refused { deed, .. }) = room.house.bodies().pop() else { panic!() };
    assert_eq!(deed.context["inspected"], false.into(), "the first refusal is the one that is told");
    // What says that it is not HTTP cannot be read.
    assert!(room.tls("read.example", &[b"imap"]).await.is_err());
    assert_eq!(room.refused()[1].0, "egress:not_http");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n28_an_encoded_slash_goes_out_as_it_came_where_every_reading_of_it_is_permitted() {
    let room = Room::new(RULES).await;
    let (mut near, mut far, carried) = room.both("read.example").await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: read.example:{}\r\n\r\n", room.port);
    near.write_all(get("/open%2fa").as_bytes()).await.unwrap();
    assert!(head(&mut far).await.starts_with("GET /open%2fa HTTP/1.1\r\n"));
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert!(head(&mut near).await.starts_with("HTTP/1.1 204 "));
    // One reading of each is not below what is open: by the policy, or by what is no path for it.
    for (path, why) in [("/x%2Fopen", "every reading"), ("/open%2F..%2Fx", "more ways than are judged")] {
        near.write_all(get(path).as_bytes()).await.unwrap();
        assert!(head(&mut near).await.starts_with("HTTP/1.1 403 "), "{path}");
        assert!(until(&mut near, "\n").await.contains(why), "{path}");
    }
    near.shutdown().await.unwrap();
    carried.await.unwrap();
    assert_eq!(room.closed(Action::RequestSend), [(String::new(), Some(204))]);
}

/// Browsers always send what may be an encrypted hello. What ends here cannot be for another host; what goes on might.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n12_what_may_hide_for_whom_it_is_goes_read_or_not_at_all() {
    let only_unread = r#"
[[policy]]
id = "unread"
title = "Never looked into"
text = '''
forbid(principal is Agent, action == Action::"connection.open", resource)
when { resource.id == "tunnel.example" && context has inspected && context.inspected };
'''
"#;
    let room = Room::new(RULES).await;
    for name in ["read.example", "tunnel.example"] {
        let (near, far) = tokio::join!(room.greased(name, &[b"http/1.1"]), room.origin(name, b"http/1.1"));
        let ((mut near, carried), mut far) = (near.unwrap(), far);
        near.write_all(format!("GET /open HTTP/1.1\r\nHost: {name}:{}\r\n\r\n", room.port).as_bytes()).await.unwrap();
        assert!(head(&mut far).await.starts_with("GET /open "), "{name}");
        far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert!(head(&mut near).await.starts_with("HTTP/1.1 204 "), "{name}");
        near.shutdown().await.unwrap();
        carried.await.unwrap();
    }
    assert_eq!(room.closed(Action::RequestSend).len(), 2);
    assert!(room.greased("nobody.example", &[b"http/1.1"]).await.is_err());
    assert_eq!(room.refused(), [("nothing".to_owned(), "connection.open".to_owned())]);
    let room = Room::new(&format!("{RULES}{only_unread}")).await;
    assert!(room.greased("tunnel.example", &[b"http/1.1"]).await.is_err());
    assert_eq!(room.refused(), [("egress:misdirected".to_owned(), "connection.open".to_owned())]);
}

async fn second(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let heard = body.collect().await?;
    let trailer = heard.trailers().and_then(|trailers| trailers.get("x-end")).cloned();
    let said = format!("{} {:?} {}", parts.uri, parts.headers.get("te"), heard.to_bytes().len());
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-back", trailer.unwrap());
    let frames = [Ok(Frame::data(Bytes::from(said))), Ok(Frame::trailers(trailers))];
    Ok(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_relayed_with_its_trailers_and_n11_no_other_authority() {
    let room = Room::new(RULES).await;
    let (near, far) = tokio::join!(room.tls("read.example", &[b"h2", b"http/1.1"]), room.origin("read.example", b"h2"));
    let (near, carried) = near.unwrap();
    assert_eq!(near.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), hyper::service::service_fn(second)),
    );
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut end = http::HeaderMap::new();
    end.insert("x-end", "whole".parse().unwrap());
    let request = |authority: String, path: &str| {
        let frames = [
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(&[7; 9_000]))),
            Ok(Frame::trailers(end.clone())),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        Request::post(format!("https://{authority}{path}")).header("te", "trailers").body(body).unwrap()
    };
    let host = format!("read.example:{}", room.port);
    let answer = sender.send_request(request(host.clone(), "/open/x/../y?z")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-back"], "whole");
    let target = format!("https://{host}/open/y?z");
    assert_eq!(
        body.to_bytes(),
        format!("{target} Some(\"trailers\") 9000"),
        "the path that was judged is the one that is sent"
    );

    for (authority, path, status) in [
        (format!("evil.example:{}", room.port), "/open", StatusCode::MISDIRECTED_REQUEST),
        ("read.example".to_owned(), "/open", StatusCode::MISDIRECTED_REQUEST),
        (host.clone(), "/secret", StatusCode::FORBIDDEN),
        (host.clone(), "/open/../secret", StatusCode::FORBIDDEN),
        (host, "/open/%2e%2e%2fsecret", StatusCode::FORBIDDEN),
    ] {
        let answer = sender.send_request(request(authority.clone(), path)).await.unwrap();
        assert_eq!(answer.status(), status, "{authority}{path}");
    }
    drop(sender);
    connection.await.unwrap().unwrap();
    carried.await.unwrap();
    assert_eq!(room.closed(Action::RequestSend), [(String::new(), Some(200))]);
    assert_eq!(room.refused().len(), 5);
}

/// A request in the clear.
fn says(room: &Room, line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: read.example:{}\r\n{more}\r\n", room.port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_at_once_are_answered_in_their_order_and_a_head_has_no_body() {
    let room = Room::new(RULES).await;
    let (one, two) = (says(&room, "HEAD /open/1", ""), says(&room, "GET /open/2", "TE: trailers\r\n"));
    let three = says(&room, "POST /open/3", "Content-Length: 4\r\n") + "body";
    let all = format!("{one}{two}{three}");
    let (mut near, mut far, carried) = room.clear("read.example", all.as_bytes()).await;
    assert_eq!(head(&mut far).await, one);
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").await.unwrap();
    assert_eq!(head(&mut far).await, two.replace("TE: trailers\r\n", ""), "that is said to us");
    far.write_all(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\ntwo\r\n0\r\nX-Sum: 2\r\n\r\n",
    )
    .await
    .unwrap();
    assert_eq!(until(&mut far, "body").await, three);
    far.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthree").await.unwrap();
    drop(far);
    let said = rest(&mut near).await;
    let (first, after) = said.split_once("\r\n\r\n").unwrap();
    assert_eq!(first, "HTTP/1.1 200 OK\r\nContent-Length: 99");
    let (second, third) = after.split_once("HTTP/1.1 201 Created").unwrap();
    assert!(second.contains("3\r\ntwo\r\n0\r\n") && second.to_ascii_lowercase().contains("x-sum: 2"), "{second}");
    assert!(
        third.to_ascii_lowercase().contains("connection: close\r\n") && third.ends_with("\r\n\r\nthree"),
        "{third}"
    );
    carried.await.unwrap();
    let statuses: Vec<_> =
        room.closed(Action::RequestSend).into_iter().map(|(code, status)| (code, status.unwrap())).collect();
    assert_eq!(statuses, [(String::new(), 200), (String::new(), 200), (String::new(), 201)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_waits_until_it_is_wanted_and_large_ones_are_held_back_and_not_kept() {
    let room = Room::new(RULES).await;
    let size = 8 << 20;
    let asks = says(&room, "PUT /open/large", &format!("Content-Length: {size}\r\nExpect: 100-continue\r\n"));
    let (mut near, mut far, carried) = room.clear("read.example", asks.as_bytes()).await;
    assert_eq!(head(&mut far).await, asks);
    far.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert_eq!(head(&mut near).await, "HTTP/1.1 100 Continue\r\n\r\n");
    // The origin does not read: what can be written has a bound that is far from the whole.
    let mut written = 0;
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(300), near.write(&[7; 16 * 1024])).await {
        written += taken.unwrap();
        assert!(written < size, "nobody held it back");
    }
    let writing = async {
        while written < size {
            let piece = vec![7; (size - written).min(64 * 1024)];
            near.write_all(&piece).await.unwrap();
            written += piece.len();
        }
        near
    };
    let reading = async {
        let mut body = vec![0; size];
        far.read_exact(&mut body).await.unwrap();
        assert!(body.iter().all(|byte| *byte == 7));
        far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        far
    };
    let (mut near, far) = tokio::join!(writing, reading);
    assert!(head(&mut near).await.starts_with("HTTP/1.1 200 OK\r\n"));
    drop((near, far));
    carried.await.unwrap();
    let bodies = room.house.bodies();
    let sent = bodies.iter().find_map(|body| match body {
        Told::Close { facts, .. } if facts.contains_key("status") => facts.get("bytes_out"),
        _ => None,
    });
    assert_eq!(sent, Some(&ContextValue::Long(size as i64)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n14_a_websocket_is_opened_where_policy_allows_it_and_its_bytes_are_counted() {
    const WANTS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let room = Room::new(RULES).await;
    let asks = says(&room, "GET /open/socket", WANTS);
    let (mut near, far, carried) = room.clear("read.example", asks.as_bytes()).await;
    assert!(head(&mut near).await.starts_with("HTTP/1.1 403 "), "an upgrade is not an ordinary request");
    drop((near, far));
    carried.await.unwrap();

    let room =
        Room::new(&RULES.replace("!(context has upgrade)", "context has upgrade && context.upgrade == \"websocket\""))
            .await;
    let asks = says(&room, "GET /open/socket", WANTS);
    let (mut near, mut far, carried) = room.clear("read.example", asks.as_bytes()).await;
    let heard = head(&mut far).await.to_ascii_lowercase();
    assert!(heard.contains("connection: upgrade\r\n") && heard.contains("upgrade: websocket\r\n"), "{heard}");
    far.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n\x81\x02hi").await.unwrap();
    let said = head(&mut near).await.to_ascii_lowercase();
    assert!(said.starts_with("http/1.1 101 ") && said.contains("sec-websocket-accept: x\r\n"), "{said}");
    let mut frame = [0; 4];
    near.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\x81\x02hi");
    // What would be no head at all goes over now.
    near.write_all(b"\x81\x85\0\0\0\0hello\n\n").await.unwrap();
    let mut heard = [0; 13];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"\x81\x85\0\0\0\0hello\n\n");
    drop(far);
    near.shutdown().await.unwrap();
    carried.await.unwrap();
    assert_eq!(room.closed(Action::RequestSend), [(String::new(), Some(101))]);
    let bodies = room.house.bodies();
    let closes = bodies.iter().filter_map(|body| match body {
        Told::Close { facts, .. } => facts.get("status").and(Some((&facts["bytes_out"], &facts["bytes_in"]))),
        _ => None,
    });
    assert_eq!(closes.collect::<Vec<_>>(), [(&13.into(), &4.into())]);
}

/// Remembers about what it was asked, and says yes.
#[derive(Debug, Default)]
struct Asked(std::sync::Mutex<Vec<ContextValue>>);

#[async_trait::async_trait]
impl crate::exit::People for Asked {
    async fn ask(
        &self,
        question: stockade_policy::Question,
        _contents: Vec<stockade_ledger::Sealed>,
        _patience: Duration,
    ) -> Result<Permit, stockade_policy::Refusal> {
        self.0.lock().unwrap().push(question.deed().context.public["inspected"].clone());
        Ok(question.granted((&SystemWorld as &dyn World).id()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_only_if_neither_way_is_open_without_one_and_rather_about_the_first() {
    const ANY: &str = r#"
[[policy]]
id = "any"
title = "Anything"
text = "permit(principal is Agent, action, resource);"

[[policy]]
id = "ask"
title = "A person says yes"
text = '''
forbid(principal is Agent, action == Action::"connection.open", resource)
when { context.unattended && context has inspected && WHEN };
'''
"#;
    let deny = "[[policy]]\nid = \"deny\"\ntitle = \"Read or not at all\"\ntext = '''forbid(principal is Agent, action == \
                Action::\"connection.open\", resource) when { context has inspected && !context.inspected };'''\n";
    for (rules, asked, inspected) in [
        (ANY.replace("WHEN", "!context.inspected"), vec![], true),
        (ANY.replace("WHEN", "true"), vec![false.into()], false),
        (format!("{}\n{deny}", ANY.replace("WHEN", "context.inspected")), vec![true.into()], true),
    ] {
        let mut room = Room::new(&rules).await;
        let people = Arc::new(Asked::default());
        let parts = Parts { people: people.clone(), ..room.house.exit.parts.clone() };
        room.house.exit = Arc::new(Exit::new(room.house.exit.who.clone(), parts, Limits::default()));
        let (near, _far, _carried) = room.both("read.example").await;
        let shown = near.get_ref().1.peer_certificates().unwrap();
        assert_eq!(shown[0].windows(12).any(|bytes| bytes == b"Stockade env"), inspected, "{rules}");
        assert_eq!(*people.0.lock().unwrap(), asked, "{rules}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_gits_is_decided_as_git_and_not_as_a_request() {
    // Every request below `/open` is allowed, and git is none of them.
    let room = Room::new(RULES).await;
    let asks = says(&room, "GET /open/app.git/info/refs?service=git-upload-pack", "");
    let (mut near, far, carried) = room.clear("read.example", asks.as_bytes()).await;
    let said = head(&mut near).await;
    assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
    drop((near, far));
    carried.await.unwrap();
    assert_eq!(room.refused(), [("nothing".to_owned(), "git.fetch".to_owned())]);
    assert!(room.closed(Action::RequestSend).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_in_the_clear_is_served_and_held_against_its_connection() {
    let room = Room::new(RULES).await;
    let (near, carried) = room.stream("read.example").await;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near));
    let (handshake, far) = tokio::join!(handshake, accept(&room.listener));
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(serving.serve_connection(TokioIo::new(far), hyper::service::service_fn(second)));
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let mut end = http::HeaderMap::new();
    end.insert("x-end", "whole".parse().unwrap());
    for (authority, status) in [("read.example", StatusCode::OK), ("evil.example", StatusCode::MISDIRECTED_REQUEST)] {
        let frames = [Ok::<Frame<Bytes>, std::convert::Infallible>(Frame::trailers(end.clone()))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let request = Request::post(format!("http://{authority}:{}/open", room.port)).body(body).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status);
        // Who does not take the answer is lost.
        answer.into_body().collect().await.unwrap();
    }
    drop(sender);
    carried.await.unwrap();
    assert_eq!(room.closed(Action::RequestSend), [(String::new(), Some(200))]);
    assert_eq!(room.refused(), [("egress:request".to_owned(), "request.send".to_owned())]);
}
