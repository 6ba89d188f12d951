//! A provider that does exactly what a test says. A real server on loopback.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// One thing that the provider does.
#[derive(Clone)]
pub enum Step {
    /// Writes these bytes as they are.
    Raw(Vec<u8>),
    /// Writes one chunk of a chunked body.
    Chunk(Vec<u8>),
    /// Writes the end of a chunked body.
    End,
    /// Waits until the test adds a permit.
    Gate(Arc<Semaphore>),
    /// Says nothing any more, until the other side goes.
    Silence,
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
}

pub fn chunk(text: impl AsRef<[u8]>) -> Step {
    Step::Chunk(text.as_ref().to_vec())
}

pub fn head(status: &str, headers: &str) -> Step {
    Step::Raw(format!("HTTP/1.1 {status}\r\n{headers}transfer-encoding: chunked\r\n\r\n").into_bytes())
}

pub fn stream_head() -> Step {
    head("200 OK", "content-type: text/event-stream; charset=utf-8\r\nrequest-id: req_1\r\nset-cookie: a=b\r\n")
}

/// A whole answer with a length.
pub fn whole(status: &str, headers: &str, body: &str) -> Step {
    let len = body.len();
    Step::Raw(format!("HTTP/1.1 {status}\r\n{headers}content-length: {len}\r\n\r\n{body}").into_bytes())
}

/// A request as it came in.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
}

#[derive(Clone)]
pub struct Fake {
    pub addr: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    /// One permit for every connection whose script was left by the other side.
    pub left: Arc<Semaphore>,
}

impl Fake {
    /// Answers every request with these steps.
    pub async fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake =
            Self { addr: listener.local_addr().unwrap(), seen: Arc::default(), left: Arc::new(Semaphore::new(0)) };
        let this = fake.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(this.clone().serve(stream, steps.clone()));
            }
        });
        fake
    }

    async fn serve(self, mut stream: TcpStream, steps: Vec<Step>) {
        while let Some(seen) = request(&mut stream).await {
            self.seen.lock().unwrap().push(seen);
            for step in &steps {
                let done = match step {
                    Step::Raw(bytes) => stream.write_all(bytes).await,
                    Step::Chunk(bytes) => {
                        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
                        framed.extend_from_slice(bytes);
                        framed.extend_from_slice(b"\r\n");
                        stream.write_all(&framed).await
                    }
                    Step::End => stream.write_all(b"0\r\n\r\n").await,
                    Step::Gate(gate) => {
                        tokio::select! {
                            permit = gate.acquire() => { permit.unwrap().forget(); Ok(()) }
                            () = gone(&mut stream) => Err(std::io::ErrorKind::BrokenPipe.into()),
                        }
                    }
                    Step::Silence => {
                        gone(&mut stream).await;
                        Err(std::io::ErrorKind::BrokenPipe.into())
                    }
                    Step::Reset => {
                        stream.set_zero_linger().unwrap();
                        return;
                    }
                    Step::Close => return,
                };
                if done.is_err() {
                    self.left.add_permits(1);
                    return;
                }
            }
        }
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn gone(stream: &mut TcpStream) {
    let mut byte = [0];
    while matches!(stream.read(&mut byte).await, Ok(n) if n > 0) {}
}

async fn request(stream: &mut TcpStream) -> Option<Seen> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let len: usize = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
    while bytes.len() < end + len {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
    Some(Seen { head, body: bytes[end..end + len].to_vec() })
}

/// A header's value, if it is there.
pub fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
