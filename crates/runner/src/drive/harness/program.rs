//! The programs that may do the work inside: how each is started unattended, what it is told of the gateway, and what its output says.
//!
//! Owns their commands, variables and files. It refuses secrets: only the name of the variable that holds the token stands here. What a program
//! prints is untrusted; reading it decides nothing but words.

use serde_json::{Value, json};
use stockade_domain::Harness;

/// A program, ready to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// What it is called, in `PATH`, with what it is told. It reads its prompt from standard input.
    pub argv: Vec<String>,
    /// Its variables.
    pub env: Vec<(String, String)>,
    /// The variable in which it finds the token.
    pub token: &'static str,
    /// Its files, below its home.
    pub files: Vec<(&'static str, String)>,
}

/// What is found of a program that is not there.
pub struct Origin {
    /// The file that is started.
    pub program: &'static str,
    /// The npm package that brings it.
    pub package: &'static str,
}

/// Where a harness comes from. Nothing: it is our own.
pub const fn origin(harness: Harness) -> Option<Origin> {
    let (program, package) = match harness {
        Harness::Stockade => return None,
        Harness::ClaudeCode => ("claude", "@anthropic-ai/claude-code"),
        Harness::Codex => ("codex", "@openai/codex"),
        Harness::Gemini => ("gemini", "@google/gemini-cli"),
        Harness::Opencode => ("opencode", "opencode-ai"),
    };
    Some(Origin { program, package })
}

/// The program of a harness, asking this gateway for that model. Nothing: it is our own loop.
pub fn program(harness: Harness, model: &str, gateway: &str) -> Option<Program> {
    let mut program = match harness {
        Harness::Stockade => return None,
        Harness::ClaudeCode => claude(model, gateway),
        Harness::Codex => codex(model, gateway),
        Harness::Gemini => gemini(model, gateway),
        Harness::Opencode => opencode(model, gateway),
    };
    program.env.extend(pairs(&[("CI", "1"), ("NO_COLOR", "1"), ("TERM", "dumb")]));
    Some(program)
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn words(of: &[&str]) -> Vec<String> {
    of.iter().map(|word| (*word).to_owned()).collect()
}

fn claude(model: &str, gateway: &str) -> Program {
    Program {
        argv: words(&[
            "claude",
            "-p",
            "--output-format",
            "stream-json",
            "--verbose",
            // The environment is the fence: its own questions would have nobody to answer them.
            "--dangerously-skip-permissions",
            // A search by the provider has no price, and what has no price is refused.
            "--disallowedTools",
            "WebSearch",
            "--model",
            model,
        ]),
        env: pairs(&[
            ("ANTHROPIC_BASE_URL", &format!("{gateway}/anthropic")),
            // Whatever it asks for by a family's name is the run's model.
            ("ANTHROPIC_DEFAULT_HAIKU_MODEL", model),
            ("ANTHROPIC_DEFAULT_SONNET_MODEL", model),
            ("ANTHROPIC_DEFAULT_OPUS_MODEL", model),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
            ("DISABLE_TELEMETRY", "1"),
            ("DISABLE_ERROR_REPORTING", "1"),
            // It refuses to skip its questions as root, unless it is told that it is fenced.
            ("IS_SANDBOX", "1"),
        ]),
        token: "ANTHROPIC_AUTH_TOKEN",
        files: Vec::new(),
    }
}

const TOKEN: &str = "STOCKADE_GATEWAY_TOKEN";

fn codex(model: &str, gateway: &str) -> Program {
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let config = format!(
        "model = {}\nmodel_provider = \"stockade\"\ncheck_for_update_on_startup = false\nweb_search = \"disabled\"\n\n\
         [analytics]\nenabled = false\n\n[features]\nplugins = false\napps = false\n\n\
         [model_providers.stockade]\nname = \"Stockade\"\nbase_url = {}\nenv_key = \"{TOKEN}\"\nwire_api = \"responses\"\n",
        text(model),
        text(&format!("{gateway}/openai/v1")),
    );
    Program {
        argv: words(&[
            "codex",
            "exec",
            "--json",
            "--skip-git-repo-check",
            // Its own sandbox cannot be nested everywhere; the environment is the fence.
            "--dangerously-bypass-approvals-and-sandbox",
            "-",
        ]),
        env: Vec::new(),
        token: TOKEN,
        files: vec![(".codex/config.toml", config)],
    }
}

fn gemini(model: &str, gateway: &str) -> Program {
    let settings = json!({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": false},
        "telemetry": {"enabled": false},
        "general": {"disableAutoUpdate": true, "enableAutoUpdate": false, "enableAutoUpdateNotification": false},
        "context": {"fileName": ["AGENTS.md", "GEMINI.md"]},
    });
    Program {
        argv: words(&["gemini", "--yolo", "--skip-trust", "--output-format", "stream-json", "-m", model]),
        env: pairs(&[("GOOGLE_GEMINI_BASE_URL", &format!("{gateway}/gemini")), ("NO_BROWSER", "1")]),
        token: "GEMINI_API_KEY",
        files: vec![(".gemini/settings.json", settings.to_string())],
    }
}

fn opencode(model: &str, gateway: &str) -> Program {
    // Claude's thinking has no place in Chat Completions.
    let (package, door) = match model.contains("claude") {
        true => ("@ai-sdk/anthropic", "anthropic/v1"),
        false => ("@ai-sdk/openai-compatible", "openai/v1"),
    };
    let full = format!("stockade/{model}");
    let config = json!({
        "model": full,
        "small_model": full,
        "permission": "allow",
        "autoupdate": false,
        "share": "disabled",
        "provider": {"stockade": {
            "npm": package,
            "name": "Stockade",
            "options": {"baseURL": format!("{gateway}/{door}"), "apiKey": format!("{{env:{TOKEN}}}")},
            "models": {model: {}},
        }},
    });
    Program {
        argv: words(&["opencode", "run", "--format", "json", "--auto", "-m", &full]),
        env: pairs(&[
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
        ]),
        token: TOKEN,
        files: vec![(".config/opencode/opencode.json", config.to_string())],
    }
}

/// What a program's output comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// What it said last.
    pub words: String,
    /// What it says went wrong.
    pub error: Option<String>,
}

/// Reads the lines of JSON that every one of them prints. What is none, or unknown, says nothing.
pub fn said(harness: Harness, output: &str) -> Said {
    let mut said = Said::default();
    for line in output.lines().filter(|line| line.starts_with('{')) {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        match harness {
            Harness::Stockade => {}
            Harness::ClaudeCode => claude_said(&line, &mut said),
            Harness::Codex => codex_said(&line, &mut said),
            Harness::Gemini => gemini_said(&line, &mut said),
            Harness::Opencode => opencode_said(&line, &mut said),
        }
    }
    said
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn claude_said(line: &Value, said: &mut Said) {
    if text(line, "/type") != Some("result") {
        return;
    }
    let words = text(line, "/result").or_else(|| text(line, "/subtype")).unwrap_or_default();
    match line.get("is_error").and_then(Value::as_bool) {
        Some(false) => (said.words, said.error) = (words.to_owned(), None),
        _ => said.error = Some(words.to_owned()),
    }
}

fn codex_said(line: &Value, said: &mut Said) {
    match text(line, "/type") {
        Some("item.completed") if text(line, "/item/type") == Some("agent_message") => {
            text(line, "/item/text").unwrap_or_default().clone_into(&mut said.words);
        }
        // It says so of every attempt that it repeats, too: only the end of the turn counts.
        Some("turn.failed") => said.error = text(line, "/error/message").map(str::to_owned),
        Some("turn.completed") => said.error = None,
        _ => {}
    }
}

fn gemini_said(line: &Value, said: &mut Said) {
    match text(line, "/type") {
        // In pieces, until it uses a tool.
        Some("message") if text(line, "/role") == Some("assistant") => {
            said.words.push_str(text(line, "/content").unwrap_or_default());
        }
        Some("tool_use") => said.words.clear(),
        Some("result") if text(line, "/status") != Some("success") => {
            let message = text(line, "/error/message").unwrap_or("it ended with an error");
            said.error = Some(message.to_owned());
        }
        _ => {}
    }
}

fn opencode_said(line: &Value, said: &mut Said) {
    match text(line, "/type") {
        Some("text") => text(line, "/part/text").unwrap_or_default().clone_into(&mut said.words),
        Some("error") => {
            let message = text(line, "/error/data/message").or_else(|| text(line, "/error/name"));
            said.error = Some(message.unwrap_or("it ended with an error").to_owned());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_program_said_last_is_found_in_its_output() {
        let of = |harness, lines: &[Value]| {
            let output: String = lines.iter().map(|line| format!("{line}\nnoise\n")).collect();
            said(harness, &output)
        };
        let done = |words: &str| Said { words: words.to_owned(), error: None };
        let claude = [
            json!({"type": "assistant", "message": {}}),
            json!({"type": "result", "subtype": "success", "is_error": false, "result": "Done."}),
        ];
        assert_eq!(of(Harness::ClaudeCode, &claude), done("Done."));
        let claude = [json!({"type": "result", "subtype": "success", "is_error": true, "result": "API Error: 400"})];
        assert_eq!(of(Harness::ClaudeCode, &claude).error.as_deref(), Some("API Error: 400"));
        let claude = [json!({"type": "result", "subtype": "error_max_turns", "is_error": true})];
        assert_eq!(of(Harness::ClaudeCode, &claude).error.as_deref(), Some("error_max_turns"));

        let message = |text: &str| json!({"type": "item.completed", "item": {"type": "agent_message", "text": text}});
        let tool = json!({"type": "item.completed", "item": {"type": "command_execution", "aggregated_output": "x"}});
        let codex = [message("I look."), tool, message("Done."), json!({"type": "turn.completed"})];
        assert_eq!(of(Harness::Codex, &codex), done("Done."));
        let codex = [json!({"type": "turn.failed", "error": {"message": "stream disconnected"}})];
        assert_eq!(of(Harness::Codex, &codex).error.as_deref(), Some("stream disconnected"));

        let piece = |text: &str| json!({"type": "message", "role": "assistant", "content": text, "delta": true});
        let gemini = [
            piece("I look."),
            json!({"type": "tool_use"}),
            piece("Do"),
            piece("ne."),
            json!({"type": "result", "status": "success"}),
        ];
        assert_eq!(of(Harness::Gemini, &gemini), done("Done."));
        let gemini = [json!({"type": "result", "status": "error", "error": {"message": "quota"}})];
        assert_eq!(of(Harness::Gemini, &gemini).error.as_deref(), Some("quota"));

        let opencode =
            [json!({"type": "text", "part": {"text": "Look."}}), json!({"type": "text", "part": {"text": "Done."}})];
        assert_eq!(of(Harness::Opencode, &opencode), done("Done."));
        let opencode = [json!({"type": "error", "error": {"name": "APIError", "data": {"message": "no"}}})];
        assert_eq!(of(Harness::Opencode, &opencode).error.as_deref(), Some("no"));
    }

    #[test]
    fn every_harness_but_our_own_is_a_program_and_no_token_stands_in_it() {
        for harness in Harness::ALL {
            let program = program(*harness, "a \"model\"", "http://gateway.example/gateway");
            assert_eq!(program.is_some(), harness.is_inside());
            let Some(program) = program else { continue };
            assert_eq!(origin(*harness).map(|o| o.program), program.argv.first().map(String::as_str));
            assert!(program.env.iter().all(|(name, _)| name != program.token));
            let all = format!("{program:?}");
            assert!(all.contains("http://gateway.example/gateway/") && !all.contains("stk_gw_"), "{all}");
            for (path, file) in &program.files {
                let reads = match path.ends_with(".toml") {
                    true => {
                        toml::from_str::<toml::Table>(file).is_ok_and(|t| t["model"].as_str() == Some("a \"model\""))
                    }
                    false => serde_json::from_str::<Value>(file).is_ok(),
                };
                assert!(reads, "{path}: {file}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_output_makes_it_panic(
            harness in prop::sample::select(Harness::ALL.to_vec()),
            output in "(\\{\"type\":\"(result|text|error|message|item.completed)\",\"(item|part|error|result)\":[\\{\\}\\[\\]\"a-z:,0-9]{0,20}\\}\n|\\PC{0,20}\n){0,5}",
        ) {
            let _ = said(harness, &output);
        }
    }
}
