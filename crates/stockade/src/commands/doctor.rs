//! What this machine allows and what is missing.

use stockade_api::http::Check;

use super::Context;
use crate::{
    args, config,
    failure::{Failure, Outcome},
    output::table,
};

pub async fn main(context: &Context, doctor: args::Doctor) -> Outcome {
    let mut checks = Vec::new();
    let server = context.home.url(&context.global).unwrap_or_else(|| "http://127.0.0.1:7080".to_owned());
    match config::runner(&context.home, &doctor.site, &server, "127.0.0.1:7081") {
        Ok(config) => checks.extend(stockade_runner::doctor(&config).await),
        Err(Failure::Error(error)) => {
            checks.push(Check { name: "configuration".to_owned(), ok: false, detail: error.message, hint: error.hint });
        }
        Err(failure) => return Err(failure),
    }
    match context.client() {
        Ok(client) => match client.doctor().await {
            Ok(server) => checks.extend(server.checks),
            Err(error) => {
                checks.push(Check { name: "server".to_owned(), ok: false, detail: error.message, hint: error.hint })
            }
        },
        Err(Failure::Error(error)) => {
            checks.push(Check {
                name: "server".to_owned(),
                ok: true,
                detail: format!("none asked: {}", error.message),
                hint: None,
            });
        }
        Err(failure) => return Err(failure),
    }
    let sound = checks.iter().all(|check| check.ok);
    context.output.show(&serde_json::json!({"ok": sound, "checks": checks}), |_| {
        let rows = checks.iter().map(|check| {
            let detail = match &check.hint {
                Some(hint) if !check.ok => format!("{}; try: {hint}", check.detail),
                _ => check.detail.clone(),
            };
            [if check.ok { "ok" } else { "MISSING" }.to_owned(), check.name.clone(), detail]
        });
        let verdict = if sound { "this machine can run environments" } else { "something is missing" };
        format!("{}\n{verdict}", table(["", "what", "found"], rows))
    })?;
    if sound { Ok(()) } else { Err(Failure::No) }
}
