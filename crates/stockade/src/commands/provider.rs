//! Whether the providers of this site can be used, and what is wrong if not.

use stockade_api::error::Fault;

use super::Context;
use crate::{
    args, config,
    failure::{Failure, Outcome},
    output::table,
};

pub async fn main(context: &Context, command: args::Provider) -> Outcome {
    match command {
        args::Provider::Check { name, site } => check(context, name.as_deref(), &site).await,
    }
}

async fn check(context: &Context, name: Option<&str>, site: &args::Site) -> Outcome {
    let config = config::providers(&context.home, site)?;
    let reports = stockade_runner::check_providers(&config, name).await?;
    let sound = reports.iter().all(|report| report.ok);
    context.output.show(&serde_json::json!({"ok": sound, "providers": reports}), |_| {
        let rows = reports.iter().flat_map(|report| {
            report.steps.iter().map(|step| {
                let detail = match &step.hint {
                    Some(hint) => format!("{}; try: {hint}", step.detail),
                    None => step.detail.clone(),
                };
                let mark = match (step.ok, report.set_up) {
                    (true, false) => "-",
                    (true, true) => "ok",
                    (false, _) => "WRONG",
                };
                [mark.to_owned(), report.provider.clone(), step.step.clone(), detail]
            })
        });
        table(["", "provider", "step", "found"], rows)
    })?;
    if sound {
        return Ok(());
    }
    let wrong: Vec<&str> = reports.iter().filter(|report| !report.ok).map(|report| report.provider.as_str()).collect();
    let message = format!("of {} providers, these cannot be used as configured: {}", reports.len(), wrong.join(", "));
    let hint = "what to try stands beside each step";
    // What is wrong here comes before what is wrong elsewhere: it can be mended here.
    let ours = reports.iter().flat_map(|report| &report.steps).any(|step| step.fault == Some(Fault::Config));
    Err(if ours {
        Failure::config("provider_check", message, hint)
    } else {
        Failure::outside("provider_check", message, hint)
    })
}
