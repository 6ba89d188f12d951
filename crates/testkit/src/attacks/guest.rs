//! The runner's side of a connection to an environment's guest, as far as attacks need it: programs are run, and what they say is read.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use stockade_domain::ids::EnvironmentId;
use stockade_sandbox::Driver;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// Nothing here takes this long, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a program may say.
const MOST: u32 = 65_536;

/// A connection to a guest.
#[derive(Debug)]
pub struct Guest {
    stream: UnixStream,
    next: u64,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: i64,
    /// What it said, without its last line feed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Guest {
    /// Connects.
    ///
    /// # Errors
    /// If no guest answers.
    pub async fn of(driver: &dyn Driver, id: EnvironmentId) -> Result<Self> {
        let mut guest = Self { stream: driver.connect(id).await?, next: 1 };
        let said = guest.ask(json!({"op": "ping"})).await?;
        ensure!(said["reply"] == "pong", "the guest says {said}");
        Ok(guest)
    }

    /// Asks and waits for the final frame.
    ///
    /// # Errors
    /// If the guest is gone, or takes longer than anything may.
    pub async fn ask(&mut self, mut request: Value) -> Result<Value> {
        request["id"] = self.next.into();
        self.next += 1;
        let body = request.to_string();
        let talk = async {
            self.stream.write_u32(u32::try_from(body.len())?).await?;
            self.stream.write_all(body.as_bytes()).await?;
            loop {
                let mut frame = vec![0; usize::try_from(self.stream.read_u32().await?)?];
                self.stream.read_exact(&mut frame).await?;
                let answer: Value = serde_json::from_slice(&frame)?;
                if answer["reply"] != "output" {
                    return anyhow::Ok(answer);
                }
            }
        };
        tokio::time::timeout(PATIENCE, talk).await.context("the guest does not answer")?.context("the guest is gone")
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// If the guest does not run it.
    pub async fn run(&mut self, argv: &[&str], timeout_ms: u64) -> Result<Ran> {
        let answer =
            self.ask(json!({"op": "exec", "argv": argv, "timeout_ms": timeout_ms, "max_output": MOST})).await?;
        ensure!(answer["reply"] == "exited", "{answer}");
        let text = |name: &str| answer[name].as_str().unwrap_or_default().trim_end().to_owned();
        Ok(Ran { status: answer["status"].as_i64().unwrap_or(-1), stdout: text("stdout"), stderr: text("stderr") })
    }

    /// Puts Python into the workspace and runs it.
    ///
    /// # Errors
    /// If the guest does not.
    pub async fn python(&mut self, name: &str, text: &str, args: &[&str]) -> Result<Ran> {
        let written = self.ask(json!({"op": "write", "path": name, "text": text})).await?;
        ensure!(written["reply"] == "done", "{written}");
        let argv: Vec<&str> = ["/usr/bin/python3", name].into_iter().chain(args.iter().copied()).collect();
        self.run(&argv, 100_000).await
    }
}
