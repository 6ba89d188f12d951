//! Tests of the conversions from and to this dialect.

mod answers;
mod requests;

use crate::{Dialect, Target, neutral::any::Can};

/// What this dialect can say.
const CAN: Can = Can {
    dialect: Dialect::Gemini,
    model: "gemini-3.1-pro-preview",
    marks: false,
    unsigned: false,
    redacted: false,
    signed_calls: true,
    documents: true,
    strict: false,
};

const TARGET: Target = Target { max_output: 65_536, reasoning: true };

/// Words of this dialect, for tests with anything at all.
const WORDS: &[&str] = &[
    "contents",
    "role",
    "user",
    "model",
    "parts",
    "text",
    "thought",
    "thoughtSignature",
    "inlineData",
    "inline_data",
    "mimeType",
    "image/png",
    "data",
    "fileData",
    "fileUri",
    "functionCall",
    "id",
    "name",
    "args",
    "functionResponse",
    "response",
    "output",
    "error",
    "systemInstruction",
    "tools",
    "functionDeclarations",
    "parameters",
    "parametersJsonSchema",
    "googleSearch",
    "toolConfig",
    "functionCallingConfig",
    "mode",
    "ANY",
    "allowedFunctionNames",
    "generationConfig",
    "maxOutputTokens",
    "candidateCount",
    "thinkingConfig",
    "thinkingBudget",
    "thinkingLevel",
    "includeThoughts",
    "responseMimeType",
    "application/json",
    "responseSchema",
    "cachedContent",
    "candidates",
    "content",
    "finishReason",
    "STOP",
    "usageMetadata",
    "promptTokenCount",
    "candidatesTokenCount",
    "promptFeedback",
    "blockReason",
    "index",
    "code",
    "message",
    "status",
];
