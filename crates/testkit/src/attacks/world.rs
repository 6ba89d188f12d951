//! A hostile world in a network namespace of the test: an origin, an attacker, a company's inside, a cloud's metadata, and whoever knows names.
//!
//! It owns that everything which reaches any of them is heard: each connection, datagram, request and question for a name. It refuses to be anywhere
//! but in a namespace whose only interface is its own loopback, with addresses that are nobody's there ([`ENTER`]). The runner can reach all of it,
//! so what is not heard was held by the way out alone.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use stockade_egress::{
    ca::{Authority, H2, HTTP1},
    dial::Resolver,
    name::{Host, Name},
};
use stockade_ledger::SystemWorld;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tokio_rustls::LazyConfigAcceptor;

/// Python that makes the world's addresses in a fresh network namespace, lets everybody have low ports there, and goes on as another program: its
/// arguments. It needs no right but that of root over the namespace.
pub const ENTER: &str = r#"
import fcntl, os, socket, struct, sys
four, six = socket.socket(), socket.socket(socket.AF_INET6)
fcntl.ioctl(four, 0x8914, struct.pack('16sh22x', b'lo', 0x49))
for n, address in enumerate(['93.184.216.10', '93.184.216.66', '10.0.0.5', '169.254.169.254']):
    name = f'lo:{n}'.encode()
    fcntl.ioctl(four, 0x8916, struct.pack('16sHH4s16x', name, socket.AF_INET, 0, socket.inet_aton(address)))
    fcntl.ioctl(four, 0x891c, struct.pack('16sHH4s16x', name, socket.AF_INET, 0, socket.inet_aton('255.255.255.255')))
for address in ['2606:4700::66', 'fd00::7']:
    fcntl.ioctl(six, 0x8916, socket.inet_pton(socket.AF_INET6, address) + struct.pack('Ii', 128, 1))
open('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'w').write('0')
os.execvp(sys.argv[1], sys.argv[1:])
"#;

/// Says that the test runs where [`ENTER`] has made the world's addresses.
pub const THERE: &str = "STOCKADE_ATTACKED";
/// Where the origin is.
pub const ORIGIN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(93, 184, 216, 10));
/// Where the attacker listens.
pub const EVIL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(93, 184, 216, 66));
/// What must never be seen inside, nor in a record, nor by anybody but the origin's API.
pub const SECRET: &str = "ghp_0aCanaryThatNobodyInsideMaySee0";
/// What the origin takes of a body.
const MAX_BODY: usize = 4 << 20;
/// Names below one parent that are told one by one.
const TOLD: usize = 12;

/// What is asked and reached, in words.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn all(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, what: impl Into<String>) {
        self.all().push(what.into());
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.all().clear();
    }

    /// Each thing once, with how often, in the order of their words; many names below one as one line.
    pub fn told(&self) -> String {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for line in self.all().iter() {
            *times.entry(line.clone()).or_default() += 1;
        }
        let parent = |line: &str| line.strip_prefix("asked for ")?.split_once('.').map(|(_, above)| above.to_owned());
        let mut below: BTreeMap<String, usize> = BTreeMap::new();
        for above in times.keys().filter_map(|line| parent(line)) {
            *below.entry(above).or_default() += 1;
        }
        below.retain(|_, count| *count > TOLD);
        times.retain(|line, _| parent(line).is_none_or(|above| !below.contains_key(&above)));
        let mut lines: Vec<String> = times
            .into_iter()
            .map(|(line, times)| if times > 1 { format!("{line}, {times} times") } else { line })
            .chain(below.into_iter().map(|(above, count)| format!("asked for {count} names below {above}")))
            .collect();
        lines.sort();
        lines.join("\n")
    }
}

/// See the module.
#[derive(Debug)]
pub struct World {
    /// What has reached it.
    pub heard: Arc<Heard>,
    authority: Arc<Authority>,
}

impl World {
    /// Listens everywhere, and sees that the runner's side reaches the attacker: if it could not, no attack would prove anything.
    ///
    /// # Errors
    /// If this is no namespace that [`ENTER`] has made.
    pub async fn new() -> Result<Self> {
        let heard = Arc::new(Heard::default());
        let authority = Arc::new(Authority::generate(Arc::new(SystemWorld), "world")?);
        for port in [22, 53, 80, 443, 853, 1080, 3128, 5353, 8080] {
            lurk(&heard, "evil", EVIL, port).await?;
            lurk(&heard, "evil", "2606:4700::66".parse()?, port).await?;
        }
        for (who, address) in [("metadata", "169.254.169.254"), ("inside", "10.0.0.5"), ("runner", "127.0.0.1")] {
            lurk(&heard, who, address.parse()?, 80).await?;
            lurk(&heard, who, address.parse()?, 443).await?;
        }
        lurk(&heard, "inside", "fd00::7".parse()?, 80).await?;
        for port in [53, 123, 443, 5353, 5355, 51_820] {
            let socket = UdpSocket::bind((EVIL, port)).await?;
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                while socket.recv_from(&mut [0; 64]).await.is_ok() {
                    heard.add(format!("evil: a datagram at {port}"));
                }
            });
        }
        for port in [80, 443] {
            let listener = TcpListener::bind((ORIGIN, port)).await.context("the origin's address")?;
            let (heard, authority) = (Arc::clone(&heard), Arc::clone(&authority));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (heard, authority) = (Arc::clone(&heard), Arc::clone(&authority));
                    tokio::spawn(async move { origin(stream, port, &heard, &authority).await });
                }
            });
        }
        let mut near = TcpStream::connect((EVIL, 443)).await?;
        near.write_all(b"hello").await?;
        near.read_to_end(&mut Vec::new()).await?;
        ensure!(heard.told() == "evil: a connection to 443", "the attacker hears");
        heard.clear();
        Ok(Self { heard, authority })
    }

    /// Whom the runner trusts.
    ///
    /// # Errors
    /// None that can be.
    pub fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.certificate().as_bytes())?)?;
        Ok(roots)
    }

    /// Who knows names.
    pub fn names(&self) -> Arc<dyn Resolver> {
        Arc::new(Names { heard: Arc::clone(&self.heard), flipped: Mutex::default() })
    }
}

/// Hears every connection, says `evil` and ends it.
async fn lurk(heard: &Arc<Heard>, who: &'static str, address: IpAddr, port: u16) -> Result<()> {
    let listener = TcpListener::bind((address, port)).await.with_context(|| format!("{address} port {port}"))?;
    let heard = Arc::clone(heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            heard.add(format!("{who}: a connection to {port}"));
            tokio::spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut [0; 512])).await;
                // Whoever came may be gone.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
            });
        }
    });
    Ok(())
}

/// Knows names of the world, and whom they belong to.
#[derive(Debug)]
struct Names {
    heard: Arc<Heard>,
    /// Whether `flip` has been asked for.
    flipped: Mutex<bool>,
}

#[async_trait]
impl Resolver for Names {
    async fn addresses(&self, name: &Name) -> io::Result<Vec<IpAddr>> {
        let name = name.as_str();
        self.heard.add(format!("asked for {name}"));
        let flipped = std::mem::replace(
            &mut *self.flipped.lock().unwrap_or_else(PoisonError::into_inner),
            name.starts_with("flip."),
        );
        let texts: &[&str] = match name.strip_suffix(".test.example").unwrap_or_default() {
            "loop" => &["127.0.0.1"],
            "flip" if flipped => &["127.0.0.1"],
            "ten" => &["10.0.0.5"],
            "metadata" => &["169.254.169.254"],
            "six" => &["::1"],
            "ula" => &["fd00::7"],
            "mapped" => &["::ffff:10.0.0.5"],
            "translated" => &["64:ff9b::a00:5"],
            "tunnelled" => &["2002:a00:5::1"],
            "mixed" => &["93.184.216.10", "10.0.0.5"],
            "evil" => &["93.184.216.66", "2606:4700::66"],
            "nobody" => return Err(io::ErrorKind::NotFound.into()),
            _ => &["93.184.216.10"],
        };
        Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
    }
}

/// One connection to the origin: TLS at 443 with whatever the client offers first, HTTP/1 or HTTP/2.
async fn origin(stream: TcpStream, port: u16, heard: &Arc<Heard>, authority: &Authority) {
    if port == 80 {
        let mut first = [0; 3];
        let second = stream.peek(&mut first).await.is_ok_and(|len| first.get(..len) == Some(b"PRI"));
        return serve(stream, second, heard).await;
    }
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let Ok(Ok(begun)) = tokio::time::timeout(Duration::from_secs(10), hello).await else { return };
    let (second, name) = {
        let hello = begun.client_hello();
        let second = hello.alpn().is_some_and(|mut offered| offered.next() == Some(H2));
        (second, hello.server_name().unwrap_or("read.test.example").to_owned())
    };
    let Ok(host) = Host::parse(&name) else { return };
    let Ok(config) = authority.server(&host, if second { H2 } else { HTTP1 }) else { return };
    if let Ok(stream) = begun.into_stream(config).await {
        serve(stream, second, heard).await;
    }
}

async fn serve<S>(stream: S, second: bool, heard: &Arc<Heard>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request| answer(request, Arc::clone(heard)));
    // How a connection ends is the client's business.
    if second {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
    }
}

/// The origin hears what is asked for, with what, and says back what its path is for.
async fn answer(mut request: Request<Incoming>, heard: Arc<Heard>) -> Result<Response<Full<Bytes>>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    // What breaks off has not been asked for.
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await.map(|body| body.to_bytes()) else {
        return Ok(Response::new(Full::default()));
    };
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).or_else(|| head.uri.host()).unwrap_or("-");
    let host = host.split('.').next().unwrap_or_default();
    let sent = format!("{} {:?} {}", head.uri, head.headers, String::from_utf8_lossy(&body));
    let told = head.headers.get("authorization").map(|value| value.as_bytes().to_vec()).unwrap_or_default();
    let with = match (sent.contains(SECRET), sent.contains("stk_ph_")) {
        (true, _) => " with the secret",
        (false, true) => " with a placeholder",
        (false, false) => "",
    };
    heard.add(format!("{host}: {} {}{with}", head.method, head.uri.path()));
    let path = head.uri.path();
    let mut response = Response::new(Full::new(Bytes::from_static(b"hello")));
    if path.ends_with("/redirect") {
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(
            "location",
            "http://evil.test.example/".parse().unwrap_or(hyper::header::HeaderValue::from_static("/")),
        );
    } else if path.ends_with("/echo") {
        *response.body_mut() = Full::new([told.as_slice(), b" ", &body].concat().into());
    } else if path.ends_with("/echo-head") {
        if let Ok(value) = hyper::header::HeaderValue::from_bytes(&told) {
            response.headers_mut().insert("x-you-said", value);
        }
    } else if path.ends_with("/ws") && head.headers.contains_key("upgrade") {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.body_mut() = Full::default();
        for (name, value) in [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ] {
            response.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
        }
        tokio::spawn(async move {
            let Ok(stream) = upgrade.await else { return };
            let mut stream = TokioIo::new(stream);
            let mut piece = [0; 512];
            let Ok(len) = stream.read(&mut piece).await else { return };
            // What it was told, as a text frame of RFC 6455, and what it heard.
            let length = u8::try_from(told.len()).unwrap_or(125);
            let said = [&[0x81, length][..], &told, piece.get(..len).unwrap_or_default()].concat();
            let _ = stream.write_all(&said).await;
            let _ = stream.shutdown().await;
        });
    } else if path.contains(".git/info/refs") {
        let service =
            if head.uri.query().is_some_and(|query| query.contains("receive")) { "receive" } else { "upload" };
        let line = format!("# service=git-{service}-pack\n");
        let zero = "0".repeat(40);
        let refs = format!("{zero} capabilities^{{}}\0report-status delete-refs ofs-delta\n");
        let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
        *response.body_mut() = Full::new(format!("{}0000{}0000", packet(&line), packet(&refs)).into());
        let kind = format!("application/x-git-{service}-pack-advertisement");
        response
            .headers_mut()
            .insert("content-type", kind.parse().unwrap_or(hyper::header::HeaderValue::from_static("x")));
    }
    Ok(response)
}

/// The attacker's address at a port.
pub const fn evil(port: u16) -> SocketAddr {
    SocketAddr::new(EVIL, port)
}
