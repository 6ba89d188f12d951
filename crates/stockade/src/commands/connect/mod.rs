//! Pointing a tool at the gateway: what to set is printed or written, with a token that never stands in an argument, and one
//! small request in the tool's own dialect shows that it works.
//!
//! It owns what each tool has to be told and where; [`files`] owns how that is written and put back.

mod files;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stockade_api::{
    client::{Client, GatewayClient},
    domain::ids::{GatewayTokenId, ProjectId},
    http::ListGatewayTokens,
};

use self::files::{Form, Piece, PutBack, Written};
use super::{Context, projects, token};
use crate::{
    args::{self, Tool},
    failure::{Failure, Outcome},
    home::{Login, write_secret},
};

/// What is asked for when nobody says which.
const DEFAULT_MODEL: &str = "claude-sonnet-5-5";
/// How long a fresh token may take to be known at the site.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// What was made for a tool, kept beside its token.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Made {
    gateway: String,
    /// For which project the token beside this is, and which one it is, if it was made here.
    #[serde(default)]
    token: Option<(ProjectId, GatewayTokenId)>,
    /// Files that were written.
    #[serde(default)]
    files: Vec<Written>,
}

impl Made {
    fn read(record: &Path) -> Self {
        fs::read(record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Whole or not at all.
    fn save(&self, record: &Path) -> Outcome {
        // As private as a secret: what was written has the user's own settings in it.
        let fresh = record.with_extension("json.new");
        let _ = fs::remove_file(&fresh);
        let text = serde_json::to_string(self).map_err(std::io::Error::from)?;
        write_secret(&fresh, &SecretString::from(text))?;
        Ok(fs::rename(&fresh, record)?)
    }
}

pub async fn main(context: &Context, connect: args::Connect) -> Outcome {
    let folder = Login::folder()
        .ok_or_else(|| Failure::config("no_home", "there is no home directory to keep a token in", "set HOME"))?
        .join("connect");
    let word = connect.tool.word();
    let record = folder.join(format!("{word}.json"));
    if connect.undo {
        return undo(context, &record);
    }
    super::private_dir(&folder)?;
    let mut made = Made::read(&record);
    let model = connect.model.clone().unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    if connect.write {
        // Whether their files read and can be written is seen before a token is made.
        let token = own_token(&folder, connect.tool);
        for piece in pieces(connect.tool, "http://127.0.0.1", &token, &model, &folder)? {
            piece.prepare()?;
        }
    }
    let token_file = token_for(context, &connect, &folder, &mut made).await?;
    made.save(&record)?;
    let pieces = pieces(connect.tool, &made.gateway, &token_file, &model, &folder)?;
    if connect.write {
        let prepared = pieces.iter().filter_map(|piece| piece.prepare().transpose()).collect::<Outcome<Vec<_>>>()?;
        for file in &prepared {
            file.keep(&mut made.files)?;
        }
        made.save(&record)?;
        for file in &prepared {
            file.write()?;
        }
    }
    let shown: Vec<Value> = pieces
        .iter()
        .map(|piece| Ok(json!({"file": piece.path, "content": piece.text(None)?})))
        .collect::<Outcome<_>>()?;
    let answer = json!({"tool": word, "gateway": made.gateway, "token_file": token_file, "written": connect.write, "files": shown});
    context.output.show(&answer, |_| {
        let mut lines = vec![if connect.write {
            "written:".to_owned()
        } else {
            "put this there, or repeat with --write:".to_owned()
        }];
        for piece in &shown {
            lines.push(format!(
                "\n# {}\n{}",
                piece["file"].as_str().unwrap_or(""),
                piece["content"].as_str().unwrap_or("").trim_end()
            ));
        }
        lines.push(format!("\n{}", start_with(connect.tool, &folder, &model)));
        lines.join("\n")
    })?;
    if connect.no_check {
        return Ok(());
    }
    let said = check(connect.tool, &made.gateway, token::read(&token_file)?, &model).await?;
    context.output.remark(&format!("{model} answers through the gateway: {said}"));
    Ok(())
}

/// The token's file: the one that was named, the one that was made before, or a new one. `made` learns where the gateway is.
async fn token_for(context: &Context, connect: &args::Connect, folder: &Path, made: &mut Made) -> Outcome<PathBuf> {
    let own = own_token(folder, connect.tool);
    if let Some(gateway) = &connect.gateway {
        made.gateway = listener(gateway)?;
    }
    if let Some(file) = &connect.gateway_token_file {
        token::read(file)?;
        if made.gateway.is_empty() {
            return Err(Failure::user(
                "no_gateway",
                "where is the gateway?",
                "name it with --gateway http://HOST:7081",
            ));
        }
        made.token = None;
        return Ok(fs::canonicalize(file)?);
    }
    let Some(project) = &connect.project else {
        if own.is_file() && !made.gateway.is_empty() {
            return Ok(own);
        }
        return Err(Failure::user(
            "no_token",
            "a token belongs to a project: which one do you work on?",
            "name it with --project NAME, or bring a token with --gateway-token-file FILE --gateway URL",
        ));
    };
    let client = context.client()?;
    let project_id = projects::find(&client, project).await?.id;
    if own.is_file()
        && let Some((of, id)) = made.token
        && of == project_id
        && lives(&client, id).await?
    {
        return Ok(own);
    }
    let create = args::TokenCreate {
        name: format!("{} (connect)", connect.tool.word()),
        project: project.clone(),
        budget: None,
        period: None,
        expires: None,
        models: Vec::new(),
        out: None,
    };
    let created = token::make(context, &client, create).await?;
    if connect.gateway.is_none() {
        let listener = created.listeners.first().ok_or_else(|| {
            Failure::config(
                "no_runner",
                "the project's site has no runner, and so no gateway",
                "start one: `stockade runner`",
            )
        })?;
        made.gateway.clone_from(listener);
    }
    let fresh = own.with_extension("token.new");
    let _ = fs::remove_file(&fresh);
    write_secret(&fresh, &SecretString::from(created.token))?;
    fs::rename(&fresh, &own)?;
    made.token = Some((project_id, created.about.id));
    Ok(own)
}

/// A site's listener as somebody wrote it: the doors below it are known here.
fn listener(text: &str) -> Outcome<String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
        return Err(Failure::user(
            "no_gateway",
            format!("`{text}` is no address of a gateway"),
            "write it like http://HOST:7081 or https://HOST",
        ));
    }
    let (base, _) = text.split_once("/gateway").unwrap_or((text, ""));
    Ok(base.trim_end_matches('/').to_owned())
}

fn own_token(folder: &Path, tool: Tool) -> PathBuf {
    folder.join(format!("{}.token", tool.word()))
}

/// Whether the token that was made before still opens the gateway.
async fn lives(client: &Client, id: GatewayTokenId) -> Outcome<bool> {
    let query = ListGatewayTokens { limit: Some(200), ..ListGatewayTokens::default() };
    let tokens = client.gateway_tokens(&query).await?.items;
    Ok(tokens.iter().any(|token| token.id == id && token.ended_at.is_none() && !token.erased))
}

/// What the tool has to be told, in the files where it looks.
fn pieces(tool: Tool, gateway: &str, token: &Path, model: &str, folder: &Path) -> Outcome<Vec<Piece>> {
    // Each tool has a variable of its own for another place.
    let place = |variable: &str, otherwise: &str| {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        named(variable).or_else(|| named("HOME").map(|home| home.join(otherwise))).ok_or_else(|| {
            Failure::config("no_home", "there is no home directory where the tool would look", "set HOME")
        })
    };
    let base = gateway.trim_end_matches('/');
    let file = token.display();
    if file.to_string().contains(['\'', '"', '\\', '\n']) {
        return Err(Failure::user(
            "token_file",
            format!("{file} has a quote in its name"),
            "choose another place for it",
        ));
    }
    let shell = |lines: &[String]| Piece {
        path: folder.join(format!("{}.sh", tool.word())),
        form: Form::Whole(lines.iter().map(|line| format!("export {line}\n")).collect()),
    };
    let secret = |name: &str| format!("{name}=\"$(cat '{file}')\"");
    Ok(match tool {
        Tool::Claude => vec![Piece {
            path: place("CLAUDE_CONFIG_DIR", ".claude")?.join("settings.json"),
            form: Form::Json(json!({
                "apiKeyHelper": format!("cat '{file}'"),
                "model": model,
                // Empty: a key of another place, in the shell or here, would be shown instead of the helper's.
                "env": {
                    "ANTHROPIC_BASE_URL": format!("{base}/gateway/anthropic"),
                    "ANTHROPIC_AUTH_TOKEN": "",
                    "ANTHROPIC_API_KEY": "",
                },
            })),
        }],
        Tool::Codex => vec![
            Piece {
                path: place("CODEX_HOME", ".codex")?.join("config.toml"),
                form: Form::Toml(json!({
                    "model": model,
                    "model_provider": "stockade",
                    // A search by the provider has no price, and what has no price is refused.
                    "web_search": "disabled",
                    "model_providers": {"stockade": {
                        "name": "Stockade",
                        "base_url": format!("{base}/gateway/openai/v1"),
                        "env_key": "STOCKADE_GATEWAY_TOKEN",
                        "wire_api": "responses",
                    }},
                })),
            },
            shell(&[secret("STOCKADE_GATEWAY_TOKEN")]),
        ],
        Tool::Gemini => vec![
            Piece {
                path: place("GEMINI_CLI_HOME", "")?.join(".gemini/settings.json"),
                form: Form::Json(
                    json!({"security": {"auth": {"selectedType": "gemini-api-key"}}, "model": {"name": model}}),
                ),
            },
            shell(&[format!("GOOGLE_GEMINI_BASE_URL='{base}/gateway/gemini'"), secret("GEMINI_API_KEY")]),
        ],
        Tool::Opencode => vec![Piece {
            path: place("XDG_CONFIG_HOME", ".config")?.join("opencode/opencode.json"),
            form: Form::Json(json!({
                "model": format!("stockade/{model}"),
                "provider": {"stockade": {
                    "npm": "@ai-sdk/openai-compatible",
                    "name": "Stockade",
                    "options": {"baseURL": format!("{base}/gateway/openai/v1"), "apiKey": format!("{{file:{file}}}")},
                    "models": {model: {}},
                }},
            })),
        }],
        Tool::Aider => vec![shell(&[
            format!("OPENAI_API_BASE='{base}/gateway/openai/v1'"),
            secret("OPENAI_API_KEY"),
            format!("AIDER_MODEL='openai/{model}'"),
        ])],
        Tool::Copilot => {
            let (door, kind, wire, headers) = match copilot_speaks(model) {
                Dialect::Messages => ("anthropic", "anthropic", "completions", COPILOT_SESSION),
                Dialect::Chat => ("openai/v1", "openai", "completions", COPILOT_SESSION),
                _ => ("openai/v1", "openai", "responses", ""),
            };
            vec![shell(&[
                format!("COPILOT_PROVIDER_BASE_URL='{base}/gateway/{door}'"),
                format!("COPILOT_PROVIDER_TYPE={kind}"),
                format!("COPILOT_PROVIDER_WIRE_API={wire}"),
                // Asked before every request, so that the token stands in no variable. Another one would win over it.
                format!("COPILOT_PROVIDER_API_KEY_COMMAND=\"cat '{file}'\""),
                "COPILOT_PROVIDER_BEARER_TOKEN=".to_owned(),
                format!("COPILOT_PROVIDER_HEADERS={headers}"),
                format!("COPILOT_MODEL='{model}'"),
                "COPILOT_OFFLINE=true".to_owned(),
            ])]
        }
    })
}

/// Copilot CLI names its sessions in Responses only. Elsewhere the shell that it is started from is one.
const COPILOT_SESSION: &str = "\"X-Stockade-Session: $$-$(date +%s)\"";

/// What a tool speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Messages,
    Responses,
    Chat,
    Gemini,
}

/// By their names: of OpenAI's models, those that reason refuse what it asks for in Chat Completions (`max_tokens`), and those
/// that do not may refuse what it asks for in Responses (their sealed thoughts).
fn copilot_speaks(model: &str) -> Dialect {
    match model {
        claude if claude.contains("claude") => Dialect::Messages,
        older if ["gpt-4", "gpt-3.5"].iter().any(|family| older.starts_with(family)) => Dialect::Chat,
        _ => Dialect::Responses,
    }
}

/// What bounds an answer in Chat Completions is called anew for OpenAI's models that reason, which refuse the old word; other
/// servers know the old one only.
fn chat_bound(model: &str) -> &'static str {
    let reasons = ["gpt-5", "gpt-6", "o1", "o3", "o4"].iter().any(|family| model.starts_with(family));
    if reasons { "max_completion_tokens" } else { "max_tokens" }
}

fn start_with(tool: Tool, folder: &Path, model: &str) -> String {
    let source = format!(". '{}'", folder.join(format!("{}.sh", tool.word())).display());
    match tool {
        Tool::Claude => "then: claude".to_owned(),
        Tool::Opencode => "then: opencode".to_owned(),
        Tool::Codex => format!("then: {source}; codex"),
        Tool::Gemini => format!("then: {source}; gemini -m {model}"),
        Tool::Aider => format!("then: {source}; aider"),
        Tool::Copilot => format!("then: {source}; copilot"),
    }
}

fn undo(context: &Context, record: &Path) -> Outcome {
    let mut made = Made::read(record);
    if made.files.is_empty() {
        return Err(Failure::user(
            "not_connected",
            "nothing was written for this tool",
            "`stockade connect TOOL --write` writes it",
        ));
    }
    let mut done = Vec::new();
    while let Some(written) = made.files.first() {
        done.push(files::put_back(written)?);
        made.files.remove(0);
        made.save(record)?;
    }
    context.output.show(&json!({"undone": done}), |_| {
        let line = |file: &PutBack| match &file.changed {
            None => format!("as it was before: {}", file.path.display()),
            Some(changed) => format!(
                "as it was before: {}; it had been changed since, and lies as it was now in {}",
                file.path.display(),
                changed.display()
            ),
        };
        let mut lines: Vec<String> = done.iter().map(line).collect();
        if made.token.is_some() {
            lines.push("the token lives on: `stockade token list` and `stockade token revoke` end it".to_owned());
        }
        lines.join("\n")
    })
}

/// One small request in the tool's dialect; what came back, in words.
async fn check(tool: Tool, gateway: &str, token: SecretString, model: &str) -> Outcome<String> {
    let ask = "Answer with one word: hello.";
    let dialect = match tool {
        Tool::Claude => Dialect::Messages,
        Tool::Codex => Dialect::Responses,
        Tool::Opencode | Tool::Aider => Dialect::Chat,
        Tool::Copilot => copilot_speaks(model),
        Tool::Gemini => Dialect::Gemini,
    };
    let (path, body) = match dialect {
        Dialect::Messages => (
            "anthropic/v1/messages".to_owned(),
            json!({"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": ask}]}),
        ),
        Dialect::Responses => (
            "openai/v1/responses".to_owned(),
            json!({"model": model, "input": ask, "store": false, "max_output_tokens": 64}),
        ),
        Dialect::Chat => (
            "openai/v1/chat/completions".to_owned(),
            json!({"model": model, chat_bound(model): 64, "messages": [{"role": "user", "content": ask}]}),
        ),
        Dialect::Gemini => (
            format!("gemini/v1beta/models/{model}:generateContent"),
            json!({"contents": [{"role": "user", "parts": [{"text": ask}]}], "generationConfig": {"maxOutputTokens": 64}}),
        ),
    };
    let client = GatewayClient::new(gateway, token)?;
    let mut tries = 0;
    let (status, bytes) = loop {
        let (status, bytes) = client.post(&path, &body).await?;
        tries += 1;
        // A token that was made a moment ago may not have reached the site yet.
        if status != 401 || tries >= TRIES {
            break (status, bytes);
        }
        tokio::time::sleep(PAUSE).await;
    };
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if (200..300).contains(&status) {
        return Ok(said(&answer).unwrap_or_else(|| "(an answer without text)".to_owned()));
    }
    let why = answer.pointer("/error/message").and_then(Value::as_str).unwrap_or("it says no more");
    Err(Failure::outside(
        "no_answer",
        format!("the gateway answers {model} with HTTP {status}: {why}"),
        match status {
            401 => "the site does not know the token: was it revoked? Make another with --project",
            400 => "choose another --model, or ask an admin about policy and budget",
            _ => "look at the site's log; `--no-check` leaves this out",
        },
    ))
}

/// The first text of an answer in whatever dialect.
fn said(answer: &Value) -> Option<String> {
    let places = [
        "/content/0/text",
        "/choices/0/message/content",
        "/candidates/0/content/parts/0/text",
        "/output/0/content/0/text",
        "/output/1/content/0/text",
    ];
    let text = places.iter().find_map(|place| answer.pointer(place)?.as_str())?;
    Some(text.trim().chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_s_address_is_the_listener_s() {
        for text in ["http://h:7081", "http://h:7081/", "http://h:7081/gateway", "http://h:7081/gateway/openai/v1"] {
            assert_eq!(listener(text).unwrap(), "http://h:7081");
        }
        for wrong in ["h:7081", "http://", "ftp://h", ""] {
            assert!(listener(wrong).is_err(), "{wrong}");
        }
    }

    fn text(pieces: &[Piece]) -> String {
        pieces.iter().map(|piece| piece.text(None).unwrap()).collect()
    }

    #[test]
    fn copilot_speaks_what_its_model_takes_and_keeps_no_token() {
        let all = |model| {
            text(&pieces(Tool::Copilot, "http://h:7081", Path::new("/home/ada/t"), model, Path::new("/c")).unwrap())
        };
        for model in ["claude-sonnet-5-5", "eu.anthropic.claude-opus-5-5-v1:0"] {
            let text = all(model);
            assert!(text.contains("BASE_URL='http://h:7081/gateway/anthropic'\n"), "{text}");
            assert!(text.contains("TYPE=anthropic\n") && text.contains("\"X-Stockade-Session: $$-"), "{text}");
        }
        let text = all("gpt-4.1");
        assert!(text.contains("WIRE_API=completions\n") && text.contains("/gateway/openai/v1'\n"), "{text}");
        for model in ["gpt-5.2", "gemini-3-pro-preview", "sonnet"] {
            let text = all(model);
            assert!(text.contains("BASE_URL='http://h:7081/gateway/openai/v1'\n"), "{text}");
            assert!(text.contains("WIRE_API=responses\n") && text.contains("HEADERS=\n"), "{text}");
            assert!(text.contains("export COPILOT_PROVIDER_API_KEY_COMMAND=\"cat '/home/ada/t'\"\n"), "{text}");
            assert!(text.contains("export COPILOT_PROVIDER_BEARER_TOKEN=\n"), "{text}");
        }
    }

    #[test]
    fn a_proof_bounds_its_answer_in_the_word_that_the_model_takes() {
        let words = ["gpt-5.2", "o3-mini", "gpt-4.1", "qwen3-coder"].map(chat_bound);
        assert_eq!(words, ["max_completion_tokens", "max_completion_tokens", "max_tokens", "max_tokens"]);
    }

    #[test]
    fn no_configuration_holds_the_token_itself() {
        let (token, folder) = (Path::new("/home/ada/t"), Path::new("/home/ada/c"));
        for tool in [Tool::Claude, Tool::Codex, Tool::Gemini, Tool::Opencode, Tool::Aider, Tool::Copilot] {
            let pieces = pieces(tool, "http://127.0.0.1:7081/", token, "m", folder).unwrap();
            let all = text(&pieces);
            assert!(all.contains("/home/ada/t") && !all.contains("stk_gw_"), "{all}");
            assert!(all.contains("http://127.0.0.1:7081/gateway/"), "{all}");
        }
        assert!(pieces(Tool::Claude, "http://x", Path::new("/a'b"), "m", folder).is_err());
    }
}
