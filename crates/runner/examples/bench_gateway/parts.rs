//! The processes between load and provider: a relay that parses nothing, and the gateway.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use http::{Request, Uri, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::bodies::MODEL;

/// A process that ends with this value.
pub struct Part {
    pub addr: String,
    child: Child,
}

impl Part {
    /// This program in another role. It prints its address first.
    pub fn start(words: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {words:?}"))?;
        let mut line = String::new();
        let out = child.stdout.take().context("no output")?;
        BufReader::new(out).read_line(&mut line)?;
        Ok(Self { addr: line.trim().to_owned(), child })
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.child.id())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// The next argument.
pub fn next(args: &mut impl Iterator<Item = String>) -> Result<String> {
    args.next().context("an argument is missing")
}

/// Passes requests on to `to` and answers back, bodies as they come: what any gateway must at least cost.
pub fn relay(to: &str) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        let client: Client<HttpConnector, Incoming> = Client::builder(TokioExecutor::new()).build(http);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (client, to) = (client.clone(), to.to_owned());
            let service = service_fn(move |mut request: Request<Incoming>| {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let uri: Result<Uri, _> = format!("http://{to}{path}").parse();
                let client = client.clone();
                async move {
                    *request.uri_mut() = uri?;
                    request.headers_mut().remove(header::HOST);
                    anyhow::Ok(client.request(request).await?)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

/// The gateway as the runner serves it, over the folder `dir`.
pub fn ours(dir: &str, provider: &str) -> Result<()> {
    // One person makes the whole load: the bound is not what is measured.
    let models = format!(
        "[providers.anthropic]\nbase_url = \"http://{provider}\"\nkey = \"none\"\n\
         [limits]\ncalls = 4096\n[limits.principal]\ncalls = 4096\n"
    );
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let addr = stockade_runner::bench::serve(Path::new(dir), &models, &[MODEL], CancellationToken::new()).await?;
        println!("{addr}");
        std::future::pending().await
    })
}
