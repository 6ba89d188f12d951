//! Credentials that are put into requests, and everything that must not become of them.

use std::sync::Mutex;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;

use super::*;
use crate::{
    credential::{Always, Credential, Source},
    path::PathRule,
    placeholder::{Binding, Placeholder},
};

const SECRET: &str = "ghp_thisIsTheSecretItself";

const RULES: &str = r#"
[[policy]]
id = "all"
title = "Connections and requests"
text = "permit(principal is Agent, action in [Action::\"connection.open\", Action::\"request.send\"], resource);"

[[policy]]
id = "token"
title = "The forge's token, for reading"
text = '''
permit(principal is Agent, action == Action::"credential.use", resource)
when { resource.id == "forge-token" && context has method && context.method == "GET" };
'''
"#;

fn placeholder() -> Placeholder {
    Placeholder::from_random(&[7; 20])
}

async fn room() -> Room {
    room_of(Arc::new(Always(SecretString::from(SECRET.to_owned())))).await
}

async fn room_of(source: Arc<dyn Source>) -> Room {
    let (listener, port) = server().await;
    let bound = |port| {
        let binding = Binding {
            placeholder: placeholder(),
            host: "read.example".to_owned(),
            port,
            in_the_clear: false,
            header: http::header::AUTHORIZATION,
            path: PathRule::below("/api").unwrap(),
        };
        Credentials::new([Credential { name: "forge-token".to_owned(), bindings: vec![binding], source }])
    };
    Room::at(RULES, Limits::default(), bound, listener, port)
}

/// A request with this in its `Authorization`.
fn asks(room: &Room, line: &str, value: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: read.example:{}\r\nAccept-Encoding: gzip\r\nAuthorization: {value}\r\n\r\n",
        room.port
    )
}

/// Whether the secret stands anywhere in what was recorded.
fn is_recorded(room: &Room) -> bool {
    let entries = room.house.log.read(room.house.log.start(), usize::MAX, usize::MAX).unwrap();
    entries.iter().any(|(_, entry)| entry.payload.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_goes_in_on_the_last_step_where_it_is_bound_and_its_use_is_a_deed() {
    let room = room().await;
    // The policy would let it go unread; the host has a credential, so it is read.
    let (mut near, mut far, carried) = room.both("read.example").await;
    let bearer = format!("Bearer {}", placeholder().as_str());
    near.write_all(asks(&room, "GET /api/user", &bearer).as_bytes()).await.unwrap();
    let heard = head(&mut far).await;
    assert!(heard.contains(&format!("Authorization: Bearer {SECRET}\r\n")), "{heard}");
    assert!(!heard.contains("Accept-Encoding"), "what comes back can be searched");
    far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nghp_thi").await.unwrap();
    assert!(until(&mut near, "ghp_thi").await.starts_with("HTTP/1.1 200 OK\r\n"), "half of it is none");
    let basic = format!("Basic {}", STANDARD.encode(format!("me:{}", placeholder().as_str())));
    near.write_all(asks(&room, "GET /api/user", &basic).as_bytes()).await.unwrap();
    let heard = head(&mut far).await;
    assert!(heard.contains(&format!("Basic {}", STANDARD.encode(format!("me:{SECRET}")))), "{heard}");
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    head(&mut near).await;
    // The policy is about its use, not only about the request.
    near.write_all(asks(&room, "DELETE /api/user", &bearer).as_bytes()).await.unwrap();
    assert!(head(&mut near).await.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    until(&mut near, "\n").await;
    drop(near);
    assert_eq!(rest(&mut far).await, "");
    drop(far);
    carried.await.unwrap();
    let ok = |status| (String::new(), Some(status));
    assert_eq!(room.closed(Action::RequestSend), [ok(200), ok(204), ("credential".to_owned(), None)]);
    assert_eq!(room.closed(Action::CredentialUse), [(String::new(), None), (String::new(), None)]);
    assert_eq!(room.refused(), [("nothing".to_owned(), "credential.use".to_owned())]);
    assert!(!is_recorded(&room));
    assert!(!format!("{:?}{:?}", room.house.exit, room.house.bodies()).contains(SECRET));
}

/// A secret that changes, or is not there.
#[derive(Debug)]
struct Changing(Mutex<Option<&'static str>>);

#[async_trait]
impl Source for Changing {
    async fn read(&self) -> std::io::Result<SecretString> {
        let secret = *self.0.lock().unwrap();
        secret.map(SecretString::from).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_changes_goes_into_the_next_request_and_without_one_nothing_goes_out() {
    let source = Arc::new(Changing(Mutex::new(Some("the-first-secret"))));
    let room = room_of(source.clone()).await;
    let (mut near, mut far, carried) = room.both("read.example").await;
    let request = asks(&room, "GET /api/user", &format!("Bearer {}", placeholder().as_str()));
    for secret in ["the-first-secret", "the-second-secret"] {
        *source.0.lock().unwrap() = Some(secret);
        near.write_all(request.as_bytes()).await.unwrap();
        let heard = head(&mut far).await;
        assert!(heard.contains(&format!("Authorization: Bearer {secret}\r\n")), "{heard}");
        far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        head(&mut near).await;
    }
    *source.0.lock().unwrap() = None;
    near.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut near).await.starts_with("HTTP/1.1 502 "));
    assert!(until(&mut near, "\n").await.contains("the credential `forge-token` cannot be read at this site now"));
    drop(near);
    assert_eq!(rest(&mut far).await, "");
    drop(far);
    carried.await.unwrap();
    let used = |code: &str| (code.to_owned(), None);
    assert_eq!(room.closed(Action::CredentialUse), [used(""), used(""), used("unused")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_a_placeholder_that_stands_elsewhere_stops_its_request() {
    let room = room().await;
    let (mut near, mut far, carried) = room.both("read.example").await;
    let (text, port) = (placeholder(), room.port);
    let text = text.as_str();
    let requests = [
        asks(&room, "GET /other", &format!("Bearer {text}")),
        asks(&room, "GET /api/../other", &format!("Bearer {text}")),
        asks(&room, &format!("GET /api?token={text}"), "x"),
        format!("GET /api HTTP/1.1\r\nHost: read.example:{port}\r\nX-Token: {text}\r\n\r\n"),
        asks(&room, "GET /api", &format!("Bearer {}", STANDARD.encode(text))),
        asks(&room, "GET /api", &format!("Bearer {}", Placeholder::from_random(&[8; 20]).as_str())),
    ];
    for request in &requests {
        near.write_all(request.as_bytes()).await.unwrap();
        assert!(head(&mut near).await.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{request}");
        until(&mut near, "\n").await;
    }
    drop(near);
    assert_eq!(rest(&mut far).await, "");
    drop(far);
    carried.await.unwrap();
    assert_eq!(room.refused(), vec![("egress:placeholder".to_owned(), "request.send".to_owned()); requests.len()]);
    // To another host it goes as it is, if at all: there it stands for nothing, and is refused as well.
    let away = format!("GET / HTTP/1.1\r\nHost: other.example:{port}\r\nAuthorization: Bearer {text}\r\n\r\n");
    let (mut near, _far, _carried) = room.clear("other.example", away.as_bytes()).await;
    assert!(head(&mut near).await.starts_with("HTTP/1.1 403 "));
    assert!(!is_recorded(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_an_origin_that_repeats_a_credential_is_cut_off_before_it_and_bodies_are_noted() {
    let bearer = format!("Bearer {}", placeholder().as_str());
    for (answer, begins) in [
        (format!("HTTP/1.1 200 OK\r\nX-You-Said: {SECRET}\r\nContent-Length: 0\r\n\r\n"), "HTTP/1.1 502 "),
        (format!("HTTP/1.1 200 OK\r\nX-{SECRET}: 1\r\nContent-Length: 0\r\n\r\n"), "HTTP/1.1 502 "),
        (format!("HTTP/1.1 200 You said {SECRET}\r\nContent-Length: 0\r\n\r\n"), "HTTP/1.1 502 "),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nyou said {SECRET}", 9 + SECRET.len()), ""),
    ] {
        let room = room().await;
        let (mut near, mut far, carried) = room.both("read.example").await;
        near.write_all(asks(&room, "GET /api/echo", &bearer).as_bytes()).await.unwrap();
        head(&mut far).await;
        let (one, two) = answer.split_at(answer.len() - 3);
        far.write_all(one.as_bytes()).await.unwrap();
        far.flush().await.unwrap();
        far.write_all(two.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        let said = rest(&mut near).await;
        assert!(said.starts_with(begins) && !said.contains("ghp_"), "{said}");
        drop((near, far));
        carried.await.unwrap();
        let [(code, _)] = &room.closed(Action::RequestSend)[..] else { panic!() };
        assert_eq!(code, "credential_echoed");
    }
    // A body with a placeholder goes out as it is, and the record says that it had one.
    let room = room().await;
    let (mut near, mut far, carried) = room.both("read.example").await;
    let body = format!("token={}", placeholder().as_str());
    let (port, length) = (room.port, body.len());
    let head = format!("POST /api HTTP/1.1\r\nHost: read.example:{port}\r\nContent-Length: {length}\r\n\r\n");
    near.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    assert_eq!(until(&mut far, &body).await, format!("{head}{body}"));
    far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    until(&mut near, "\r\n\r\n").await;
    drop((near, far));
    carried.await.unwrap();
    let noted = |body: &Told| matches!(body, Told::Close { facts, .. } if facts.contains_key("placeholder_in_body"));
    assert!(room.house.bodies().iter().any(noted));
}
