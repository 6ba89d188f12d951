//! Which client calls, and in which session of its own.
//!
//! Both are what a client says of itself: useful for finding, worthless as proof. A session's own name may hold anything, so
//! only a digest of it enters a record; a client is named only if it is one of those that are known.

use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use stockade_domain::ids::RunId;

/// Headers in which clients name their session, the most telling first.
const SESSION_HEADERS: [&str; 7] = [
    "x-claude-code-session-id",
    "session-id",
    "session_id",
    "x-session-id",
    "x-session-affinity",
    "thread-id",
    "x-stockade-session",
];
/// The longest name of a session that is looked at, in bytes.
const MAX_SESSION: usize = 512;
/// The longest version of a client that is kept, in bytes.
const MAX_VERSION: usize = 24;

/// How clients begin their `user-agent`, and what they are called here.
const CLIENTS: [(&str, &str); 18] = [
    ("claude-cli/", "claude-code"),
    ("codex_cli_rs/", "codex"),
    ("codex_exec/", "codex"),
    ("codex-tui/", "codex"),
    ("geminicli", "gemini-cli"),
    ("opencode/", "opencode"),
    ("ai-sdk/", "opencode"),
    ("qwencode", "qwen-code"),
    ("copilotcli/", "copilot"),
    ("githubcopilot", "copilot"),
    ("anthropic/python ", "anthropic-python"),
    ("anthropic/js ", "anthropic-js"),
    ("openai/python ", "openai-python"),
    ("asyncopenai/python ", "openai-python"),
    ("openai/js ", "openai-js"),
    ("google-genai-sdk/", "google-genai"),
    ("boto3/", "boto3"),
    ("stockade/", "stockade"),
];

/// Copilot CLI calls itself by the SDK that it is built with; only this header is its own.
const COPILOT_HEADER: &str = "x-initiator";
/// Those SDKs.
const COPILOT_SDKS: [&str; 2] = ["openai-js", "anthropic-js"];

/// What a call says of where it comes from, in a form that may stand in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// `claude-code/2.1.197`, or `other`.
    pub(crate) client: String,
    /// 16 hexadecimal digits; the same for all calls of one session of one run. Nothing if the client says none.
    pub(crate) session: Option<String>,
}

impl Origin {
    /// Looks at headers, and at what the body says of its session.
    pub(crate) fn of(run: RunId, headers: &HeaderMap, in_body: Option<&str>) -> Self {
        let said = SESSION_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok());
        let session = said.or(in_body).filter(|text| !text.is_empty() && text.len() <= MAX_SESSION);
        Self { client: client(headers), session: session.map(|text| digest(run, text)) }
    }
}

fn client(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let lower = agent.to_ascii_lowercase();
    let Some((prefix, name)) = CLIENTS.iter().find(|(prefix, _)| lower.starts_with(prefix)) else {
        return "other".to_owned();
    };
    if COPILOT_SDKS.contains(name) && headers.contains_key(COPILOT_HEADER) {
        return "copilot".to_owned();
    }
    let rest = lower.get(prefix.len()..).unwrap_or_default();
    let rest = rest.split_once('/').filter(|_| !prefix.ends_with(['/', ' '])).map_or(rest, |(_, version)| version);
    let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').take(MAX_VERSION).collect();
    if version.is_empty() { (*name).to_owned() } else { format!("{name}/{version}") }
}

/// Sessions of two runs that have the same name are two sessions.
fn digest(run: RunId, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(run.to_string());
    hash.update([0]);
    hash.update(text);
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn known_clients_are_named_and_others_are_not() {
        for (agent, name) in [
            ("claude-cli/2.1.197 (external, sdk-cli)", "claude-code/2.1.197"),
            ("codex_exec/0.169.0 (Debian 12; x86_64)", "codex/0.169.0"),
            ("GeminiCLI-tui/0.61.0/gemini-2.5-pro (linux; x64)", "gemini-cli/0.61.0"),
            ("Anthropic/Python 2.11.0", "anthropic-python/2.11.0"),
            ("Boto3/1.44.1 md/Botocore#1.44.1", "boto3/1.44.1"),
            ("my secret project", "other"),
        ] {
            assert_eq!(client(&headers(&[("user-agent", agent)])), name, "{agent}");
        }
    }

    #[test]
    fn copilot_is_known_by_its_own_header_and_not_by_its_sdks() {
        for (agent, sdk) in [("OpenAI/JS 5.20.1", "openai-js/5.20.1"), ("Anthropic/JS 0.94.0", "anthropic-js/0.94.0")] {
            assert_eq!(client(&headers(&[("user-agent", agent)])), sdk);
            for turn in ["user", "agent"] {
                assert_eq!(client(&headers(&[("user-agent", agent), ("x-initiator", turn)])), "copilot", "{agent}");
            }
        }
        assert_eq!(client(&headers(&[("user-agent", "curl/8"), ("x-initiator", "user")])), "other");
    }

    #[test]
    fn a_session_is_a_digest_of_its_name_and_run() {
        let world: &dyn stockade_domain::World = &stockade_ledger::SystemWorld;
        let (one, other): (RunId, RunId) = (world.id(), world.id());
        let named = headers(&[("x-claude-code-session-id", "abc")]);
        let of = |run, headers: &HeaderMap, body| Origin::of(run, headers, body).session;
        assert_eq!(of(one, &named, Some("else")), of(one, &headers(&[("session-id", "abc")]), None));
        assert_ne!(of(one, &named, None), of(other, &named, None));
        assert_eq!(of(one, &headers(&[]), Some("abc")), of(one, &named, None));
        assert_eq!(of(one, &headers(&[]), None), None);
        assert_eq!(of(one, &named, None).unwrap().len(), 16);
    }
}
