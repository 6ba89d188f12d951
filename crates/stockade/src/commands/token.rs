//! People's tokens for the gateway: made here together with the key that seals what is said with them, shown once.

use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use stockade_api::{
    client::Client,
    domain::{Nanos, Period, RunState, ids::GatewayTokenId},
    http::{CreateGatewayToken, CreatedGatewayToken, GatewayToken, ListGatewayTokens, PrepareToken},
};
use stockade_runner::offline;

use super::{Context, parse, projects, run, time};
use crate::{
    args,
    failure::{Failure, Outcome},
    home::SecretFile,
    output::table,
};

pub async fn main(context: &Context, command: args::Token) -> Outcome {
    let client = context.client()?;
    match command {
        args::Token::Create(create) => {
            let out = create.out.as_deref().map(SecretFile::new).transpose()?;
            let shown = create.out.clone().unwrap_or_default();
            let created = make(context, &client, create).await?;
            give(context, &created, out, &shown)
        }
        args::Token::List { all } => {
            let query = ListGatewayTokens { all, limit: Some(200), cursor: None };
            context.output.show(&client.gateway_tokens(&query).await?, |page| list(&page.items))
        }
        args::Token::Revoke { token } => {
            let id = match token.parse::<GatewayTokenId>() {
                Ok(id) => id,
                Err(_) => by_name(&client, &token).await?,
            };
            let token = client.revoke_gateway_token(id).await?;
            context
                .output
                .show(&token, |token| format!("{} ({}) is revoked: it opens nothing any more", token.name, token.id))
        }
    }
}

/// Makes a token. The key of its run is made here, wrapped for the site, and forgotten.
pub async fn make(context: &Context, client: &Client, create: args::TokenCreate) -> Outcome<CreatedGatewayToken> {
    let budget: Option<Nanos> = create.budget.as_deref().map(|text| parse("amount of dollars", text)).transpose()?;
    let period: Option<Period> = create.period.as_deref().map(|text| parse("period", text)).transpose()?;
    let expires_in_s = create.expires.as_deref().map(run::duration_ms).transpose()?.map(|ms| ms / 1_000);
    let project = projects::find(client, &create.project).await?;
    let prepared = client.prepare_token(&PrepareToken { project: project.id }).await?;
    run::know_site(context, project.id, &prepared)?;
    let sealed = offline::seal_task(&prepared.site_public_key, prepared.run, &create.name)?;
    let body = CreateGatewayToken {
        project: project.id,
        name: create.name,
        task: prepared.task,
        run: prepared.run,
        site: prepared.site,
        wrapped_key: sealed.wrapped_key,
        content: sealed.content,
        sealed: sealed.sealed,
        budget,
        period,
        expires_in_s,
        models: create.models,
    };
    Ok(client.create_gateway_token(&body).await?)
}

fn give(context: &Context, created: &CreatedGatewayToken, out: Option<SecretFile>, path: &Path) -> Outcome {
    let about = &created.about;
    if let Some(file) = out {
        file.write(&SecretString::from(created.token.clone()))?;
        return context.output.show(about, |about| {
            format!("{} ({}) is in {}, which only you can read", about.name, about.id, path.display())
        });
    }
    context.output.remark(&format!("{} ({}): keep this token, it is shown only now.", about.name, about.id));
    context.output.show(created, |created| created.token.clone())
}

async fn by_name(client: &Client, name: &str) -> Outcome<GatewayTokenId> {
    let page = client.gateway_tokens(&ListGatewayTokens { limit: Some(200), ..ListGatewayTokens::default() }).await?;
    let mut found = page.items.iter().filter(|token| token.name == name && token.ended_at.is_none());
    match (found.next(), found.next()) {
        (Some(token), None) => Ok(token.id),
        (Some(_), Some(_)) => Err(Failure::user(
            "many_tokens",
            format!("you have several tokens named `{name}`"),
            "name the one that you mean by its id: `stockade token list`",
        )),
        (None, _) => Err(Failure::user(
            "no_token",
            format!("you have no token named `{name}` that lives"),
            "`stockade token list` shows them",
        )),
    }
}

/// What became of it, in the words of a token and not of a run.
fn state(token: &GatewayToken) -> &'static str {
    match (token.erased, token.ended_at, token.state) {
        (true, ..) => "erased",
        (false, None, _) => "lives",
        (false, Some(_), RunState::Cancelled) => "revoked",
        (false, Some(_), _) => "expired",
    }
}

fn list(tokens: &[GatewayToken]) -> String {
    table(
        ["name", "state", "spent", "limit", "ends", "models", "id", "run"],
        tokens.iter().map(|token| {
            let limit = token.limit.zip(token.period).map(|(limit, period)| format!("{limit} a {period}"));
            [
                token.name.clone(),
                state(token).to_owned(),
                token.cost.to_string(),
                limit.unwrap_or_default(),
                token.ended_at.or(token.expires_at).map(time).unwrap_or_default(),
                if token.models.is_empty() { "all".to_owned() } else { token.models.join(",") },
                token.id.to_string(),
                token.run.to_string(),
            ]
        }),
    )
}

/// A token from a file, as people keep it there.
pub fn read(file: &Path) -> Outcome<SecretString> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::user(
            "token_file",
            format!("the token in {} cannot be read: {error}", file.display()),
            "make one with `stockade token create NAME --project PROJECT --out FILE`",
        )
    })?;
    let token = SecretString::from(text.trim().to_owned());
    if !stockade_api::gateway_token::is_well_formed(token.expose_secret()) {
        return Err(Failure::user(
            "no_gateway_token",
            format!("{} holds no token for the gateway", file.display()),
            "they begin with stk_gw_; make one with `stockade token create`",
        ));
    }
    Ok(token)
}
