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
