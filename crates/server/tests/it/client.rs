//! The client of the API when things are not as they should be: every failure is an error that says what,
//! whose fault, and what to try.

use stockade_api::{
    client::{Client, SiteClient},
    error::Fault,
    http::IssuedTicket,
    site::{ExecFrame, ExecRequest},
};
use stockade_domain::{Id, Timestamp};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Answers every request with these bytes and hangs up.
async fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn nobody_there_is_said_with_a_hint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(&url, None).unwrap().health().await.unwrap_err();
    assert_eq!((error.fault, error.code.as_str()), (Fault::Outside, "unreachable"));
    assert!(error.message.contains(&url) && error.hint.unwrap().contains("stockade up"), "{}", error.message);
}

#[tokio::test]
async fn an_address_that_is_none_is_a_mistake_of_configuration() {
    for base in ["", "here", "ftp://x", "127.0.0.1:7080", "http://"] {
        let error = Client::new(base, None).unwrap_err();
        assert_eq!((error.fault, error.code.as_str()), (Fault::Config, "bad_address"), "{base}");
    }
}

#[tokio::test]
async fn what_is_no_stockade_is_noticed() {
    for (answer, code) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "unexpected_answer"),
        ("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno", "unexpected_answer"),
        ("HTTP/1.1 302 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "unexpected_answer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", "cut_off"),
        ("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", "unauthenticated"),
    ] {
        let error = Client::new(&answering(answer).await, None).unwrap().health().await.unwrap_err();
        assert_eq!(error.code, code, "{answer}: {error}");
    }
}

#[tokio::test]
async fn frames_of_a_command_are_read_one_by_one() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 123\r\n\r\n{\"frame\":\"output\",\"stream\":\"stdout\",\"text\":\"a\"}\n\
                  {\"frame\":\"exited\",\"status\":0,\"timed_out\":false,\"duration_ms\":1}\nnonsense\n\n\n";
    let ticket = IssuedTicket {
        ticket: "t".to_owned(),
        listener: answering(answer).await,
        expires_at: Timestamp(0),
        environment: None,
    };
    let site = SiteClient::new(&ticket).unwrap();
    let mut frames = site.exec(Id::from_bytes([1; 16]), &ExecRequest::default()).await.unwrap();
    assert!(matches!(frames.next().await, Some(Ok(ExecFrame::Output { .. }))));
    assert!(matches!(frames.next().await, Some(Ok(ExecFrame::Exited { status: 0, .. }))));
    assert_eq!(frames.next().await.unwrap().unwrap_err().code, "unexpected_answer");
}
