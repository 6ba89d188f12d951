//! What other providers of Claude refuse of a request that Anthropic takes: beta flags and fields, with the reasons, as data.
//!
//! Bedrock refuses a request with any flag that it does not know (`invalid beta flag`), so there only known flags pass.
//! Vertex and Azure refuse some, and the rest passes. A field whose flag does not pass is taken out with it: the one without the
//! other is refused (`Extra inputs are not permitted`).

/// Who serves Claude besides Anthropic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// Bedrock's `invoke`.
    Invoke,
    /// Bedrock's Converse, with flags in `additionalModelRequestFields`.
    Converse,
    /// Vertex's `rawPredict`.
    Vertex,
    /// Azure's Foundry.
    Foundry,
}

use Upstream::{Converse, Foundry, Invoke, Vertex};

const BEDROCK: &[Upstream] = &[Invoke, Converse];
const CLOUDS: &[Upstream] = &[Invoke, Converse, Vertex];

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It passes.
    Passes,
    /// It goes under another name.
    As(&'static str),
    /// It is left out.
    Left,
}

/// A beta flag at some providers.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The flag.
    pub name: &'static str,
    /// Where.
    pub at: &'static [Upstream],
    /// What becomes of it.
    pub fate: Fate,
    /// Why.
    pub reason: &'static str,
}

/// A field that some providers refuse.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Where it stands in a Messages body; `[]` is every element.
    pub path: &'static str,
    /// Who refuses it.
    pub at: &'static [Upstream],
    /// The flag with which it is taken all the same.
    pub unless: Option<&'static str>,
    /// The flag that says the same there.
    pub instead: Option<&'static str>,
    /// Why.
    pub reason: &'static str,
}

const fn passes(name: &'static str) -> Flag {
    Flag {
        name,
        at: BEDROCK,
        fate: Fate::Passes,
        reason: "Bedrock is reported to take it; not checked against its manual",
    }
}

const fn left(name: &'static str, at: &'static [Upstream], reason: &'static str) -> Flag {
    Flag { name, at, fate: Fate::Left, reason }
}

const NO_SERVICE: &str = "the service behind it (files, skills, code, connectors) is Anthropic's own";
const FOR_ANTHROPIC: &str = "it is for Anthropic's own endpoint and is refused elsewhere";

/// Every flag of which something is known.
pub const FLAGS: &[Flag] = &[
    passes("computer-use-2024-10-22"),
    passes("computer-use-2025-01-24"),
    passes("computer-use-2025-11-24"),
    passes("token-efficient-tools-2025-02-19"),
    passes("interleaved-thinking-2025-05-14"),
    passes("fine-grained-tool-streaming-2025-05-14"),
    passes("output-128k-2025-02-19"),
    passes("dev-full-thinking-2025-05-14"),
    passes("context-1m-2025-08-07"),
    passes("context-management-2025-06-27"),
    passes("compact-2026-01-12"),
    passes("effort-2025-11-24"),
    passes("tool-search-tool-2025-10-19"),
    passes("tool-examples-2025-10-29"),
    Flag {
        name: "thinking-binding-controls-2026-08-01",
        at: BEDROCK,
        fate: Fate::Passes,
        reason: "Bedrock's manual has it, with `thinking.block_binding`",
    },
    Flag {
        name: "advanced-tool-use-2025-11-20",
        at: CLOUDS,
        fate: Fate::As("tool-search-tool-2025-10-19"),
        reason: "the clouds know the part of it that searches tools, under this name",
    },
    left("files-api-2025-04-14", CLOUDS, NO_SERVICE),
    left("skills-2025-10-02", CLOUDS, NO_SERVICE),
    left("code-execution-2025-05-22", CLOUDS, NO_SERVICE),
    left("code-execution-2025-08-25", CLOUDS, NO_SERVICE),
    left("mcp-client-2025-04-04", CLOUDS, NO_SERVICE),
    left("mcp-client-2025-11-20", CLOUDS, NO_SERVICE),
    left("prompt-caching-scope-2026-01-05", &[Invoke, Converse, Vertex, Foundry], FOR_ANTHROPIC),
    left("fast-mode-2026-02-01", &[Invoke, Converse, Vertex, Foundry], FOR_ANTHROPIC),
    left("oauth-2025-04-20", &[Invoke, Converse, Vertex, Foundry], FOR_ANTHROPIC),
    left("thinking-token-count-2026-05-13", BEDROCK, "Bedrock refuses flags that it does not know"),
    left("claude-code-20250219", BEDROCK, "it names the client, and Bedrock refuses flags that it does not know"),
];

const SCOPE: &str = "a cache's scope is told to Anthropic only; elsewhere it is an extra input";

const fn scope(path: &'static str) -> Field {
    Field { path, at: &[Invoke, Converse, Vertex, Foundry], unless: None, instead: None, reason: SCOPE }
}

const fn service(path: &'static str) -> Field {
    Field {
        path,
        at: CLOUDS,
        unless: None,
        instead: None,
        reason: "it belongs to a service that the clouds do not have",
    }
}

/// Every field of which something is known.
pub const FIELDS: &[Field] = &[
    Field {
        path: "context_management",
        at: BEDROCK,
        unless: Some("context-management-2025-06-27"),
        instead: None,
        reason: "without its flag it is an extra input",
    },
    Field {
        path: "thinking.block_binding",
        at: BEDROCK,
        unless: Some("thinking-binding-controls-2026-08-01"),
        instead: None,
        reason: "without its flag it is an extra input",
    },
    Field {
        path: "tools[].eager_input_streaming",
        at: CLOUDS,
        unless: None,
        instead: Some("fine-grained-tool-streaming-2025-05-14"),
        reason: "the clouds take no such field at a tool and have a flag for the whole request",
    },
    scope("cache_control.scope"),
    scope("system[].cache_control.scope"),
    scope("tools[].cache_control.scope"),
    scope("messages[].content[].cache_control.scope"),
    scope("messages[].content[].content[].cache_control.scope"),
    service("container"),
    service("mcp_servers"),
    service("fallbacks"),
    service("inference_geo"),
    service("service_tier"),
    service("speed"),
];

/// The flags that go to an upstream, each once, and those that do not, with the reason.
#[must_use]
pub fn flags<'a>(
    upstream: Upstream,
    wanted: impl IntoIterator<Item = &'a str>,
) -> (Vec<String>, Vec<(String, &'static str)>) {
    let (mut kept, mut refused) = (Vec::<String>::new(), Vec::new());
    for name in wanted.into_iter().map(str::trim).filter(|name| !name.is_empty()) {
        let known = FLAGS.iter().find(|flag| flag.name == name && flag.at.contains(&upstream));
        let unknown = "Bedrock refuses flags that it does not know";
        let name = match known.map(|flag| (flag.fate, flag.reason)) {
            Some((Fate::Left, reason)) => {
                refused.push((name.to_owned(), reason));
                continue;
            }
            Some((Fate::As(other), _)) => other,
            Some((Fate::Passes, _)) => name,
            None if BEDROCK.contains(&upstream) => {
                refused.push((name.to_owned(), unknown));
                continue;
            }
            None => name,
        };
        if !kept.iter().any(|known| known == name) {
            kept.push(name.to_owned());
        }
    }
    (kept, refused)
}

/// The fields that an upstream refuses when these flags go with the request.
pub fn fields(upstream: Upstream, flags: &[String]) -> impl Iterator<Item = &'static Field> {
    let has = |flag: &str| flags.iter().any(|known| known == flag);
    let refused = move |field: &&Field| field.at.contains(&upstream) && !field.unless.is_some_and(has);
    FIELDS.iter().filter(refused).collect::<Vec<_>>().into_iter()
}
