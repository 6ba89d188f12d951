//! Content: what people, models and tools said, always sealed where it rests.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{UnknownWord, deed::words};

/// The SHA-256 of some bytes, shown as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `sha256:` and 64 hexadecimal digits")]
pub struct DigestError;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or(DigestError)?;
        let mut bytes = [0; 32];
        for (slot, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |b: Option<&u8>| match b {
                Some(b @ b'0'..=b'9') => Ok(b - b'0'),
                Some(b @ b'a'..=b'f') => Ok(b - b'a' + 10),
                _ => Err(DigestError),
            };
            *slot = (digit(pair.first())? << 4) | digit(pair.get(1))?;
        }
        Ok(Self(bytes))
    }
}
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

words! {
    /// What a piece of content is.
    ContentKind "content kind" {
        Task "task" "What the person asked for, UTF-8.",
        DeedContext "deed_context" "The content part of a deed's context, JSON.",
        ModelRequest "model_request" "The body sent to a model, as sent.",
        ModelResponse "model_response" "The body that came back, as it came.",
        ToolInput "tool_input" "The input of a tool call, JSON.",
        ToolOutput "tool_output" "The output of a tool call, UTF-8.",
        Transcript "transcript" "One line of the run as the agent loop journalled it, JSON.",
        Question "question" "What a person is asked, UTF-8.",
        Reply "reply" "What a person answered, UTF-8.",
        GateOutput "gate_output" "What a gate printed, UTF-8.",
        Diff "diff" "A change as a unified diff.",
        Redacted "redacted" "What content rules took out of a request or an answer, JSON: references and values.",
        Executions "executions" "What programs were started in an environment, how often and when first and last, JSON.",
        Message "message" "The message of a change, UTF-8.",
    }
}

/// A reference to a sealed piece of content. The digest and length are those of the *sealed* bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRef {
    /// What it is.
    pub kind: ContentKind,
    /// Of the sealed bytes.
    pub digest: Digest,
    /// Of the sealed bytes, in bytes.
    pub len: u64,
}
