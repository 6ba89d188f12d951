//! Starting and draining: everything in one process, or server and runner apart. It reads as steps, and holds no logic.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde_json::json;
use stockade_api::{client::Client, http::CreateEnrollToken};
use stockade_runner::{Runner, RunnerConfig, RunningRunner};
use stockade_server::{Database, RunningServer, Server, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

use super::Context;
use crate::{
    args, config,
    failure::{Failure, Outcome},
};

/// How often the configuration file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a drain may take before what is left is dropped; the next start goes on with it, as after a crash.
const DRAIN: Duration = Duration::from_secs(10);

/// `stockade up`.
pub async fn up(context: &Context, up: args::Up) -> Outcome {
    context.home.make()?;
    // The configuration is checked as a whole before anything is bound or started.
    let mut site = config::runner(&context.home, &up.site, "http://127.0.0.1:7080", &up.site_listen)?;
    let server = start_server(context, &up.listen, up.database).await?;
    site.server_url = format!("http://{}", server.addr());
    "local".clone_into(&mut site.name);
    let started = match enrolled(context, &mut site).await {
        Ok(()) => start_runner(site).await,
        Err(failure) => Err(failure),
    };
    let runner = match started {
        Ok(runner) => runner,
        Err(failure) => {
            server.stop(DRAIN).await;
            return Err(failure);
        }
    };
    let url = format!("http://{}", server.addr());
    let site_url = format!("http://{}", runner.addr());
    let token_file = token_file(context);
    let ready = json!({"url": url, "site_url": site_url, "token_file": token_file, "data_dir": context.home.path()});
    context.output.show(&ready, |_| {
        format!(
            "Stockade is up.\n  API       {url}\n  site      {site_url}   (gateway: {site_url}/gateway/anthropic)\n  data      {}\n\
             Sign in: on this machine the command line finds it all by itself. Elsewhere: --url {url} --token-file FILE,\n\
             with a copy of {}.\nTry: stockade run --project PATH_OR_URL \"fix the failing test\"",
            context.home.path().display(),
            token_file.display()
        )
    })?;
    serve(context, &up.site, &runner).await?;
    runner.stop(DRAIN).await;
    server.stop(DRAIN).await;
    Ok(())
}

/// `stockade server`.
pub async fn server(context: &Context, args: args::Server) -> Outcome {
    context.home.make()?;
    let server = start_server(context, &args.listen, args.database).await?;
    let url = format!("http://{}", server.addr());
    let token_file = token_file(context);
    let ready = json!({"url": url, "token_file": token_file, "data_dir": context.home.path()});
    context.output.show(&ready, |_| {
        format!("The server is up at {url}.\nSign in with the token in {}.\nNext: stockade runners token --output FILE, and a runner.", token_file.display())
    })?;
    until_told_to_stop(context).await?;
    server.stop(DRAIN).await;
    Ok(())
}

/// `stockade runner`.
pub async fn runner(context: &Context, args: args::RunnerArgs) -> Outcome {
    context.home.make()?;
    let mut site = config::runner(&context.home, &args.site, &args.server, &args.listen)?;
    site.name = args.name;
    if let Some(file) = &args.enroll_token_file {
        let token = std::fs::read_to_string(file).map_err(|error| {
            Failure::user(
                "enroll_token_file",
                format!("{} cannot be read: {error}", file.display()),
                "make one with `stockade runners token --output FILE`",
            )
        })?;
        site.enroll_token = Some(SecretString::from(token.trim().to_owned()));
    }
    let runner = start_runner(site).await?;
    let site_url = format!("http://{}", runner.addr());
    let ready = json!({"site_url": site_url, "server": args.server, "data_dir": context.home.path()});
    context
        .output
        .show(&ready, |_| format!("The runner is up; its site listens at {site_url} and it dials {}.", args.server))?;
    serve(context, &args.site, &runner).await?;
    runner.stop(DRAIN).await;
    Ok(())
}

async fn start_server(context: &Context, listen: &str, database: Option<String>) -> Outcome<RunningServer> {
    let mut server = ServerConfig::new(context.home.server());
    server.listen = config::address(listen)?;
    if let Some(url) = database {
        server.database = Database::Url(url);
    }
    let server = Server::start(server).await?;
    context.home.leave_address(&format!("http://{}", server.addr()), &token_file(context))?;
    Ok(server)
}

fn token_file(context: &Context) -> PathBuf {
    context.home.server().join("admin-token")
}

async fn start_runner(config: RunnerConfig) -> Outcome<RunningRunner> {
    Ok(Runner::start(config).await?)
}

/// Gives a runner of our own its one-time token, if it has no identity yet: over the same API as everybody else.
async fn enrolled(context: &Context, site: &mut RunnerConfig) -> Outcome {
    if stockade_runner::has_identity(&site.data_dir) {
        return Ok(());
    }
    let client: Client = context.home.local(&args::Global { url: None, token_file: None, ..context.global.clone() })?;
    site.enroll_token =
        Some(SecretString::from(client.create_enroll_token(&CreateEnrollToken::default()).await?.token));
    Ok(())
}

/// Until told to stop. The gateway's part of the configuration is taken up when the file changes, or at once on SIGHUP; what is
/// wrong in it is said and changes nothing.
async fn serve(context: &Context, site: &args::Site, runner: &RunningRunner) -> Outcome {
    let (path, _) = config::path(&context.home, site);
    let stamp = || std::fs::metadata(&path).and_then(|meta| Ok((meta.modified()?, meta.len()))).ok();
    let mut hangup = signal(SignalKind::hangup())?;
    let follow = async {
        let mut known = stamp();
        let mut was_there = known.is_some();
        loop {
            tokio::select! {
                _ = hangup.recv() => known = stamp(),
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let now = stamp();
                    if now == known {
                        continue;
                    }
                    known = now;
                }
            }
            // Whoever writes a file anew may take it away first: that is no wish for other providers and no limits.
            if stamp().is_none() && was_there {
                tracing::error!(
                    path = %path.display(),
                    "{} is gone, so models and providers stay as they were",
                    path.display(),
                );
                continue;
            }
            was_there = true;
            let taken = config::gateway(&context.home, site)
                .and_then(|text| runner.set_models(&text).map_err(|error| config::in_file(&path, error)));
            match taken {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "models and providers of {} are in force", path.display())
                }
                Err(failure) => tracing::error!(
                    path = %path.display(),
                    why = %failure.message(),
                    "models and providers stay as they were, because the configuration is wrong: {}",
                    failure.message(),
                ),
            }
        }
    };
    tokio::select! {
        told = until_told_to_stop(context) => told,
        () = follow => Ok(()),
    }
}

async fn until_told_to_stop(context: &Context) -> Outcome {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    context.output.remark("stopping: what is under way is brought to a safe place");
    Ok(())
}
