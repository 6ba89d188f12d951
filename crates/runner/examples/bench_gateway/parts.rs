//! The processes between load and provider: a relay that parses nothing, and the gateway.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
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

use crate::{bodies::MODEL, soak};

/// A process that ends with this value.
pub struct Part {
    pub addr: String,
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Part {
    /// This program in another role. It prints its address first.
    pub fn start(words: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {words:?}"))?;
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().context("no output")?);
        out.read_line(&mut line)?;
        Ok(Self { addr: line.trim().to_owned(), child, out })
    }

    /// Asks it to come to its end, and gives what it says there.
    pub fn end(&mut self) -> Result<String> {
        let mut line = String::new();
        self.child.stdin.take().context("no input")?.write_all(b"end\n")?;
        self.out.read_line(&mut line)?;
        Ok(line)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
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

/// The gateway of the soak over the folder `dir`, until a line comes in; then it says how the books stand.
pub fn soaked(dir: &str, provider: &str) -> Result<()> {
    let [messages, chat] = soak::MODELS;
    let models = format!(
        "[providers.messages]\nkind = \"anthropic\"\nbase_url = \"http://{provider}\"\nkey = \"none\"\n\
         [providers.chat]\nkind = \"openai-compatible\"\nbase_url = \"http://{provider}/v1\"\nkey = \"none\"\n\
         [models.{messages}]\nprovider = \"messages\"\nupstream = \"{MODEL}\"\n\
         [models.{chat}]\nprovider = \"chat\"\nupstream = \"{MODEL}\"\n\
         [limits]\ncalls = 4096\n[limits.principal]\ncalls = 4096\n"
    );
    let policy = soak::policy(stockade_policy::default_bundle());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let stop = CancellationToken::new();
        let (addr, soak) = stockade_runner::bench::serve_with(
            Path::new(dir),
            &models,
            &soak::MODELS,
            &policy,
            CancellationToken::new(),
        )
        .await?;
        println!("{addr}");
        let line = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        let (watched, _) = tokio::join!(soak.watch(&stop), async {
            let said = line.await;
            stop.cancel();
            said
        });
        watched?;
        println!("{}", serde_json::to_string(&soak.end().await?)?);
        anyhow::Ok(())
    })
}
