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
