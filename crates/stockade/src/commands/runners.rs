//! Runners.

use secrecy::SecretString;
use stockade_api::http::CreateEnrollToken;

use super::{Context, time};
use crate::{args, failure::Outcome, home::write_secret, output::table};

pub async fn main(context: &Context, command: args::Runners) -> Outcome {
    let client = context.client()?;
    match command {
        args::Runners::List => context.output.show(&client.runners().await?, |page| {
            let rows = page.items.iter().map(|runner| {
                [
                    runner.name.clone(),
                    if runner.live { "live" } else { "away" }.to_owned(),
                    runner.seen_at.map_or_else(|| "never".to_owned(), time),
                    runner.bundle.to_string(),
                    runner.spooled.to_string(),
                    runner.away_since.map_or_else(|| "never".to_owned(), time),
                    runner.id.to_string(),
                ]
            });
            table(["name", "is", "last heard (UTC)", "bundle", "spooled", "was away (UTC)", "id"], rows)
        }),
        args::Runners::Token { output } => {
            let token = client.create_enroll_token(&CreateEnrollToken::default()).await?;
            write_secret(&output, &SecretString::from(token.token))?;
            let told = serde_json::json!({"token_file": output, "expires_at": token.expires_at});
            context.output.show(&told, |_| {
                format!(
                    "a one-time token is in {}, good until {} UTC; with it: stockade runner --server URL --enroll-token-file FILE",
                    output.display(),
                    time(token.expires_at)
                )
            })
        }
    }
}
