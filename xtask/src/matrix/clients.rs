//! The clients of the matrix: where each comes from, how it is pointed at a provider, and what it speaks.
//!
//! It owns versions, commands and settings. Words in braces are filled in when a cell is tried: `{anthropic}`, `{openai}`,
//! `{gemini}`, `{vertex}`, `{bedrock}` and `{azure}` are addresses, `{key}`, `{model}`, `{home}` and `{work}` what they say,
//! `{node}`, `{package}` and `{python}` stand for what was installed.

/// What the client is told to do.
pub const PROMPT: &str = "The meeting in notes.txt moves to Tuesday. Look at the file, change it, and say so.";

/// Where a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// An npm package with its version.
    Npm(&'static str, &'static str),
    /// A set of Python packages with their versions, and a name for the set.
    Python(&'static str, &'static [&'static str]),
}

/// Node for clients that need a newer one than the machine has.
pub const NODE: Package = Package::Npm("node", "22.23.3");
/// The official SDKs.
pub const SDKS: Package =
    Package::Python("sdks", &["anthropic==2.11.0", "openai==2.54.0", "google-genai==3.4.0", "boto3==1.44.5"]);

/// A client, in one of the ways in which it can be pointed somewhere.
#[derive(Debug)]
pub struct Client {
    /// What it is called in the table.
    pub name: &'static str,
    /// Its version, for the table.
    pub version: &'static str,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where it comes from.
    pub package: Package,
    /// The model that it is told to ask for.
    pub model: &'static str,
    /// What is run.
    pub command: &'static [&'static str],
    /// Its variables.
    pub env: &'static [(&'static str, &'static str)],
    /// Files that it finds.
    pub files: &'static [(&'static str, &'static str)],
    /// What is said to requests without a tool for commands.
    pub aside: Option<&'static str>,
    /// How many turns it takes at least.
    pub turns: usize,
}

/// What a client speaks, with the door that it comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Messages,
    BedrockMessages,
    VertexMessages,
    Chat,
    AzureChat,
    Responses,
    Gemini,
    VertexGemini,
    Converse,
}

impl Dialect {
    /// The provider that speaks the same, in the same envelope.
    pub const fn home(self) -> &'static str {
        match self {
            Self::Messages => "anthropic",
            Self::BedrockMessages => "bedrock",
            Self::VertexMessages => "vertex-claude",
            Self::Chat | Self::Responses => "openai",
            Self::AzureChat => "azure",
            Self::Gemini => "gemini",
            Self::VertexGemini => "vertex-gemini",
            Self::Converse => "bedrock-converse",
        }
    }

    /// Whether the gateway has to write another dialect for this provider.
    pub fn converted(self, provider: &str) -> bool {
        let speak: &[&str] = match self {
            Self::Messages | Self::BedrockMessages | Self::VertexMessages => &["anthropic", "bedrock", "vertex-claude"],
            Self::Chat | Self::AzureChat => &["openai", "openai-compatible", "azure"],
            Self::Responses => &["openai", "azure"],
            Self::Gemini | Self::VertexGemini => &["gemini", "vertex-gemini"],
            Self::Converse => &["bedrock", "bedrock-converse"],
        };
        !speak.contains(&provider)
    }

    /// Whether a provider gets the client's bytes, and whether the client gets the provider's.
    pub fn same(self, provider: &str) -> (bool, bool) {
        let request = match self {
            Self::Chat => ["openai", "openai-compatible"].contains(&provider),
            Self::Gemini | Self::VertexGemini => ["gemini", "vertex-gemini"].contains(&provider),
            Self::Converse => ["bedrock", "bedrock-converse"].contains(&provider),
            // Azure's own envelope has the model in the path.
            Self::AzureChat => false,
            _ => self.home() == provider,
        };
        let answer = match self {
            Self::Messages | Self::VertexMessages => ["anthropic", "vertex-claude"].contains(&provider),
            Self::Chat | Self::AzureChat => ["openai", "openai-compatible", "azure"].contains(&provider),
            Self::Responses => ["openai", "azure"].contains(&provider),
            _ => request,
        };
        (request, answer)
    }
}

const CLAUDE: &str = "claude-sonnet-4-6";
const GPT: &str = "gpt-5.2";
const GEMINI: &str = "gemini-3.1-pro-preview";
const AT_BEDROCK: &str = "us.anthropic.claude-sonnet-4-6-v1:0";

/// The agents that work inside environments, and what they run on.
pub const INSIDE: [Package; 5] = [CLAUDE_CODE, CODEX, GEMINI_CLI, OPENCODE, NODE];

const CLAUDE_CODE: Package = Package::Npm("@anthropic-ai/claude-code", "2.1.197");
const CODEX: Package = Package::Npm("@openai/codex", "0.169.0");
const GEMINI_CLI: Package = Package::Npm("@google/gemini-cli", "0.61.0");
const OPENCODE: Package = Package::Npm("opencode-ai", "1.18.33");
const COPILOT: Package = Package::Npm("@github/copilot", "1.0.102");
const AIDER: Package = Package::Python("aider", &["aider-chat==0.86.2"]);

const CLAUDE_COMMAND: &[&str] =
    &["{package}/claude", "-p", PROMPT, "--model", "{model}", "--allowedTools", "Bash", "--output-format", "json"];
const OPENCODE_COMMAND: &[&str] = &["{package}/opencode", "run", "-m", "here/{model}", PROMPT];
const OPENCODE_ENV: &[(&str, &str)] = &[("OPENCODE_DISABLE_MODELS_FETCH", "1"), ("OPENCODE_DISABLE_AUTOUPDATE", "1")];
const COPILOT_COMMAND: &[&str] = &["{package}/copilot", "-p", PROMPT, "--allow-all-tools", "--no-auto-update"];
/// It unpacks 235 MB of itself at its first start: once beside the package, and not in every cell's home.
const COPILOT_UNPACKS: (&str, &str) = ("COPILOT_PKG_CACHE_HOME", "{package}/../../unpacked");

/// All of them.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "Claude Code",
        version: "2.1.197",
        dialect: Dialect::Messages,
        package: CLAUDE_CODE,
        model: CLAUDE,
        command: CLAUDE_COMMAND,
        env: &[
            ("ANTHROPIC_BASE_URL", "{anthropic}"),
            ("ANTHROPIC_AUTH_TOKEN", "{key}"),
            ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "{model}"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ],
        files: &[],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Claude Code (Bedrock)",
        version: "2.1.197",
        dialect: Dialect::BedrockMessages,
        package: CLAUDE_CODE,
        model: AT_BEDROCK,
        command: CLAUDE_COMMAND,
        env: &[
            ("CLAUDE_CODE_USE_BEDROCK", "1"),
            ("ANTHROPIC_BEDROCK_BASE_URL", "{bedrock}"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_BEARER_TOKEN_BEDROCK", "{key}"),
            ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "{model}"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ],
        files: &[],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Claude Code (Vertex)",
        version: "2.1.197",
        dialect: Dialect::VertexMessages,
        package: CLAUDE_CODE,
        model: CLAUDE,
        command: CLAUDE_COMMAND,
        env: &[
            ("CLAUDE_CODE_USE_VERTEX", "1"),
            ("CLAUDE_CODE_SKIP_VERTEX_AUTH", "1"),
            ("ANTHROPIC_VERTEX_BASE_URL", "{vertex}/v1"),
            ("ANTHROPIC_VERTEX_PROJECT_ID", "p"),
            ("CLOUD_ML_REGION", "us-east5"),
            ("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer {key}"),
            ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "{model}"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ],
        files: &[],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Codex",
        version: "0.169.0",
        dialect: Dialect::Responses,
        package: CODEX,
        model: GPT,
        command: &[
            "{package}/codex",
            "exec",
            "--json",
            "--skip-git-repo-check",
            "--sandbox",
            "danger-full-access",
            PROMPT,
        ],
        env: &[("HERE_KEY", "{key}")],
        files: &[(
            "{home}/.codex/config.toml",
            "model = \"{model}\"\nmodel_provider = \"here\"\ncheck_for_update_on_startup = false\n\
             model_reasoning_effort = \"low\"\nweb_search = \"disabled\"\n[analytics]\nenabled = false\n[features]\nplugins = false\napps = false\n\
             [model_providers.here]\nname = \"here\"\nbase_url = \"{openai}\"\nenv_key = \"HERE_KEY\"\n\
             wire_api = \"responses\"\n",
        )],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Gemini CLI",
        version: "0.61.0",
        dialect: Dialect::Gemini,
        package: GEMINI_CLI,
        model: GEMINI,
        command: &["{node}", "{package}/gemini", "-p", PROMPT, "-m", "{model}", "--yolo", "--skip-trust"],
        env: &[("GEMINI_API_KEY", "{key}"), ("GOOGLE_GEMINI_BASE_URL", "{gemini}"), ("NO_BROWSER", "1")],
        files: &[(
            "{home}/.gemini/settings.json",
            r#"{"security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": false},
 "general": {"disableAutoUpdate": true, "enableAutoUpdate": false, "enableAutoUpdateNotification": false},
 "telemetry": {"enabled": false}}"#,
        )],
        aside: None,
        turns: 3,
    },
    Client {
        name: "OpenCode (chat)",
        version: "1.18.33",
        dialect: Dialect::Chat,
        package: OPENCODE,
        model: "gpt-4.1",
        command: OPENCODE_COMMAND,
        env: OPENCODE_ENV,
        files: &[(
            "{home}/.config/opencode/opencode.json",
            r#"{"permission": "allow", "autoupdate": false, "provider": {"here": {"npm": "@ai-sdk/openai-compatible",
 "options": {"baseURL": "{openai}", "apiKey": "{key}"}, "models": {"{model}": {}}}}}"#,
        )],
        aside: None,
        turns: 3,
    },
    Client {
        name: "OpenCode (Messages)",
        version: "1.18.33",
        dialect: Dialect::Messages,
        package: OPENCODE,
        model: CLAUDE,
        command: OPENCODE_COMMAND,
        env: OPENCODE_ENV,
        files: &[(
            "{home}/.config/opencode/opencode.json",
            r#"{"permission": "allow", "autoupdate": false, "provider": {"here": {"npm": "@ai-sdk/anthropic",
 "options": {"baseURL": "{anthropic}/v1", "apiKey": "{key}"}, "models": {"{model}": {}}}}}"#,
        )],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Copilot CLI (chat)",
        version: "1.0.102",
        dialect: Dialect::Chat,
        package: COPILOT,
        model: "gpt-4.1",
        command: COPILOT_COMMAND,
        env: &[
            ("COPILOT_PROVIDER_BASE_URL", "{openai}"),
            ("COPILOT_PROVIDER_TYPE", "openai"),
            ("COPILOT_PROVIDER_WIRE_API", "completions"),
            ("COPILOT_PROVIDER_API_KEY", "{key}"),
            ("COPILOT_MODEL", "{model}"),
            ("COPILOT_OFFLINE", "true"),
            COPILOT_UNPACKS,
        ],
        files: &[],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Copilot CLI (responses)",
        version: "1.0.102",
        dialect: Dialect::Responses,
        package: COPILOT,
        model: GPT,
        command: COPILOT_COMMAND,
        env: &[
            ("COPILOT_PROVIDER_BASE_URL", "{openai}"),
            ("COPILOT_PROVIDER_TYPE", "openai"),
            ("COPILOT_PROVIDER_WIRE_API", "responses"),
            ("COPILOT_PROVIDER_API_KEY", "{key}"),
            ("COPILOT_MODEL", "{model}"),
            ("COPILOT_OFFLINE", "true"),
            COPILOT_UNPACKS,
        ],
        files: &[],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Copilot CLI (Messages)",
        version: "1.0.102",
        dialect: Dialect::Messages,
        package: COPILOT,
        // A newer one than the others ask for: of it the client wants more.
        model: "claude-sonnet-5-5",
        command: COPILOT_COMMAND,
        env: &[
            ("COPILOT_PROVIDER_BASE_URL", "{anthropic}"),
            ("COPILOT_PROVIDER_TYPE", "anthropic"),
            ("COPILOT_PROVIDER_API_KEY", "{key}"),
            ("COPILOT_MODEL", "{model}"),
            ("COPILOT_OFFLINE", "true"),
            COPILOT_UNPACKS,
        ],
        files: &[],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Aider",
        version: "0.86.2",
        dialect: Dialect::Chat,
        package: AIDER,
        model: "gpt-4.1",
        command: &[
            "{python}",
            "-m",
            "aider",
            "--model",
            "openai/{model}",
            "--no-git",
            "--yes-always",
            "--no-check-update",
            "--analytics-disable",
            "--no-show-model-warnings",
            "--no-show-release-notes",
            "--no-browser",
            "--edit-format",
            "whole",
            "--no-pretty",
            "--message",
            PROMPT,
            "notes.txt",
        ],
        env: &[("OPENAI_API_KEY", "{key}"), ("OPENAI_API_BASE", "{openai}"), ("LITELLM_LOCAL_MODEL_COST_MAP", "True")],
        files: &[],
        aside: Some("I change the day.\n\nnotes.txt\n```\nThe meeting is on Tuesday.\n```\n"),
        turns: 1,
    },
    Client {
        name: "Python anthropic",
        version: "2.11.0",
        dialect: Dialect::Messages,
        package: SDKS,
        model: CLAUDE,
        command: &["{python}", "{home}/sdk.py", "{anthropic}", "{key}", "{model}", PROMPT],
        env: &[],
        files: &[("{home}/sdk.py", include_str!("sdk/anthropic_messages.py"))],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Python openai (chat)",
        version: "2.54.0",
        dialect: Dialect::Chat,
        package: SDKS,
        model: GPT,
        command: &["{python}", "{home}/sdk.py", "{openai}", "{key}", "{model}", PROMPT],
        env: &[],
        files: &[("{home}/sdk.py", include_str!("sdk/openai_chat.py"))],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Python openai (Azure)",
        version: "2.54.0",
        dialect: Dialect::AzureChat,
        package: SDKS,
        model: GPT,
        command: &["{python}", "{home}/sdk.py", "{azure}", "{key}", "{model}", PROMPT, "azure"],
        env: &[],
        files: &[("{home}/sdk.py", include_str!("sdk/openai_chat.py"))],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Python openai (responses)",
        version: "2.54.0",
        dialect: Dialect::Responses,
        package: SDKS,
        model: GPT,
        command: &["{python}", "{home}/sdk.py", "{openai}", "{key}", "{model}", PROMPT],
        env: &[],
        files: &[("{home}/sdk.py", include_str!("sdk/openai_responses.py"))],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Python google-genai",
        version: "3.4.0",
        dialect: Dialect::Gemini,
        package: SDKS,
        model: GEMINI,
        command: &["{python}", "{home}/sdk.py", "{gemini}", "{key}", "{model}", PROMPT],
        env: &[],
        files: &[("{home}/sdk.py", include_str!("sdk/google_genai.py"))],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Python google-genai (Vertex)",
        version: "3.4.0",
        dialect: Dialect::VertexGemini,
        package: SDKS,
        model: GEMINI,
        command: &["{python}", "{home}/sdk.py", "{vertex}", "{key}", "{model}", PROMPT, "vertex"],
        env: &[],
        files: &[("{home}/sdk.py", include_str!("sdk/google_genai.py"))],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Python boto3 (converse)",
        version: "1.44.5",
        dialect: Dialect::Converse,
        package: SDKS,
        model: AT_BEDROCK,
        command: &["{python}", "{home}/sdk.py", "{bedrock}", "{key}", "{model}", PROMPT, "converse", "{auth}"],
        env: &[],
        files: &[("{home}/sdk.py", include_str!("sdk/boto3_bedrock.py"))],
        aside: None,
        turns: 3,
    },
    Client {
        name: "Python boto3 (invoke)",
        version: "1.44.5",
        dialect: Dialect::BedrockMessages,
        package: SDKS,
        model: AT_BEDROCK,
        command: &["{python}", "{home}/sdk.py", "{bedrock}", "{key}", "{model}", PROMPT, "invoke", "{auth}"],
        env: &[],
        files: &[("{home}/sdk.py", include_str!("sdk/boto3_bedrock.py"))],
        aside: None,
        turns: 3,
    },
];
