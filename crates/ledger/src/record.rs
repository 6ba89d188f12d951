//! Records: what the ledger says, and the bytes in which it says it.
//!
//! A record is JSON in canonical form (RFC 8785). Its hash covers exactly these bytes, and only these bytes are
//! accepted back: [`Record::parse`] refuses any other spelling of the same record, so that one record has one hash.
//!
//! *Invariant:* nothing here is content. What people, models and tools said stands only in the digests of
//! sealed bytes ([`ContentRef`]).

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stockade_domain::{
    Action, ContentRef, ContextValue, Decision, Deed, Nanos, Principal, Resource, Timestamp, Usage,
    ids::{ApprovalId, ProjectId, RecordId, RunId, RunnerId, ServerId},
};

use crate::{
    canonical::{self, wide},
    tree::leaf_hash,
};

/// The longest record, in canonical bytes. A longer one is neither written nor read.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// One record of one producer's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Whose ledger it stands in.
    pub producer: Producer,
    /// Its number there, from 0 without gaps.
    pub seq: u64,
    /// When it was written, by the producer's clock.
    pub at: Timestamp,
    /// Its name.
    pub id: RecordId,
    /// The run it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The project it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// What it says.
    pub body: Body,
}

/// Who keeps a ledger: a runner or a server, as the text of its identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Producer {
    /// A runner.
    Runner(RunnerId),
    /// A server.
    Server(ServerId),
}

/// A text that names no producer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a producer: the identifier of a runner (`rnr_…`) or of a server (`srv_…`)")]
pub struct ProducerError;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case", deny_unknown_fields)]
pub enum Body {
    /// A deed is allowed and begins now. Exactly one [`Body::Close`] follows, sooner or later.
    Open {
        /// The deed.
        deed: DeedFacts,
        /// Why it is allowed.
        decision: Decision,
        /// What belongs to it, sealed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        contents: Vec<ContentRef>,
    },
    /// A deed was refused. Nothing follows.
    Refused {
        /// The deed.
        deed: DeedFacts,
        /// Why.
        decision: Decision,
        /// What belongs to it, sealed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        contents: Vec<ContentRef>,
    },
    /// A deed waits for a person. If the answer is yes, a [`Body::Open`] follows whose decision names the approval.
    Asked {
        /// The deed.
        deed: DeedFacts,
        /// Why a person must say yes.
        decision: Decision,
        /// What the person is asked.
        approval: ApprovalId,
        /// What belongs to it, sealed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        contents: Vec<ContentRef>,
    },
    /// A deed that was opened has ended.
    Close {
        /// The opening record.
        of: RecordId,
        /// How it ended.
        outcome: Outcome,
        /// What it used, if it was a model call.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "wide_usage")]
        usage: Option<Usage>,
        /// What it cost, if it cost.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "wide_cost")]
        cost: Option<Nanos>,
        /// What else is to be said of it. Mechanism only, never content.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        facts: BTreeMap<String, ContextValue>,
        /// What came of it, sealed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        contents: Vec<ContentRef>,
    },
    /// Something worth remembering that is no deed.
    Note {
        /// A stable word, for example `run.key_destroyed`.
        code: String,
        /// Mechanism only, never content.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        facts: BTreeMap<String, ContextValue>,
        /// What belongs to it, sealed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        contents: Vec<ContentRef>,
    },
}

/// A deed as a record tells it: the content part of its context is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeedFacts {
    /// Who.
    pub principal: Principal,
    /// What.
    pub action: Action,
    /// To which thing.
    pub resource: Resource,
    /// The public circumstances.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, ContextValue>,
}

/// How a deed ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// In one word.
    pub status: Status,
    /// A stable word that says more, for example `timed_out` or an HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// How a deed ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should.
    Ok,
    /// Badly.
    Error,
    /// Nobody knows: a crash came between.
    Unknown,
    /// Somebody stopped it.
    Cancelled,
}

/// Why bytes are no record, or a record cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than [`MAX_RECORD_BYTES`].
    #[error("a record of {len} bytes is too long: at most {MAX_RECORD_BYTES} are allowed")]
    TooLong {
        /// How long it is.
        len: usize,
    },
    /// Not JSON, or not in the shape of a record.
    #[error("these bytes are no record of this version")]
    Malformed(#[source] serde_json::Error),
    /// The same record is spelled in another way.
    #[error("the record is not in canonical form: keys sorted, no spaces, no doubles, nothing unknown")]
    NotCanonical,
}

impl Record {
    /// Its canonical bytes.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        // It cannot fail: all keys are texts and all numbers integers. Were it to fail one day, `null` comes out, which is
        // no record.
        canonical::write(self, &mut out);
        out
    }

    /// Its canonical bytes if they can be read back: within the limit and in the shape of a record.
    pub fn checked_canonical(&self) -> Result<Vec<u8>, RecordError> {
        let bytes = self.canonical();
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong { len: bytes.len() });
        }
        if bytes == b"null" {
            return Err(RecordError::NotCanonical);
        }
        Ok(bytes)
    }

    /// Reads canonical bytes, which may be hostile. Any other spelling than that of [`canonical`](Self::canonical)
    /// is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong { len: bytes.len() });
        }
        let record: Self = serde_json::from_slice(bytes).map_err(RecordError::Malformed)?;
        if record.canonical() != bytes {
            return Err(RecordError::NotCanonical);
        }
        Ok(record)
    }

    /// The hash with which it stands in the tree.
    pub fn leaf(&self) -> stockade_domain::Digest {
        leaf_hash(&self.canonical())
    }

    /// The deed, if it tells of one.
    pub const fn deed(&self) -> Option<&DeedFacts> {
        match &self.body {
            Body::Open { deed, .. } | Body::Refused { deed, .. } | Body::Asked { deed, .. } => Some(deed),
            Body::Close { .. } | Body::Note { .. } => None,
        }
    }

    /// The decision, if it tells of one.
    pub const fn decision(&self) -> Option<&Decision> {
        match &self.body {
            Body::Open { decision, .. } | Body::Refused { decision, .. } | Body::Asked { decision, .. } => {
                Some(decision)
            }
            Body::Close { .. } | Body::Note { .. } => None,
        }
    }

    /// The sealed content it covers.
    pub fn contents(&self) -> &[ContentRef] {
        match &self.body {
            Body::Open { contents, .. }
            | Body::Refused { contents, .. }
            | Body::Asked { contents, .. }
            | Body::Close { contents, .. }
            | Body::Note { contents, .. } => contents,
        }
    }

    /// One line for people and for searching: `model.call model/sonnet by agent run_… allow (bundle 3: title)`.
    pub fn summary(&self) -> String {
        let mut line = match &self.body {
            Body::Open { deed, decision, .. } => format!("{deed} {}", said(decision)),
            Body::Refused { deed, decision, .. } => format!("{deed} {}", said(decision)),
            Body::Asked { deed, decision, approval, .. } => format!("{deed} {} waits for {approval}", said(decision)),
            Body::Close { of, outcome, usage, cost, .. } => {
                let mut line = format!("close {of} {outcome}");
                if let Some(usage) = usage {
                    line.push_str(&format!(" {} tokens", usage.total()));
                }
                if let Some(cost) = cost {
                    line.push_str(&format!(" {cost}"));
                }
                line
            }
            Body::Note { code, facts, .. } => facts
                .iter()
                .fold(format!("note {code}"), |line, (name, value)| format!("{line} {name}={}", shown(value))),
        };
        // What a policy's title or a resource's name contains must not make a second line.
        line.retain(|c| !c.is_control());
        line
    }
}

fn said(decision: &Decision) -> String {
    let approval = decision.approval.map(|id| format!(", {id}")).unwrap_or_default();
    format!("{} (bundle {}: {}{approval})", decision.answer, decision.bundle, decision.title())
}

fn shown(value: &ContextValue) -> String {
    match value {
        ContextValue::Bool(yes) => yes.to_string(),
        ContextValue::Long(n) => n.to_string(),
        ContextValue::Text(text) => text.clone(),
        ContextValue::Set(items) => items.join(","),
    }
}

impl From<&Deed> for DeedFacts {
    fn from(deed: &Deed) -> Self {
        Self {
            principal: deed.principal.clone(),
            action: deed.action,
            resource: deed.resource.clone(),
            context: deed.context.public.clone(),
        }
    }
}

impl DeedFacts {
    /// The run it belongs to: the resource's, or the one the agent works in.
    pub const fn run(&self) -> Option<RunId> {
        match (self.resource.run, &self.principal) {
            (Some(run), _) => Some(run),
            (None, Principal::Agent { run, .. }) => Some(*run),
            _ => None,
        }
    }
}

impl fmt::Display for DeedFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resource, principal) = (&self.resource, &self.principal);
        write!(f, "{} {}/{} by {} {}", self.action, resource.kind, resource.id, principal.kind(), principal.id())
    }
}

impl Status {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Outcome {
    /// It ended like this, and there is no more to say.
    pub const fn new(status: Status) -> Self {
        Self { status, code: None }
    }

    /// It ended like this, for this reason.
    pub fn with_code(status: Status, code: impl Into<String>) -> Self {
        Self { status, code: Some(code.into()) }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status.as_str())?;
        self.code.as_ref().map_or(Ok(()), |code| write!(f, " ({code})"))
    }
}

impl From<RunnerId> for Producer {
    fn from(id: RunnerId) -> Self {
        Self::Runner(id)
    }
}
impl From<ServerId> for Producer {
    fn from(id: ServerId) -> Self {
        Self::Server(id)
    }
}
impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runner(id) => id.fmt(f),
            Self::Server(id) => id.fmt(f),
        }
    }
}
impl FromStr for Producer {
    type Err = ProducerError;
    fn from_str(text: &str) -> Result<Self, ProducerError> {
        let runner = text.parse().map(Self::Runner).ok();
        runner.or_else(|| text.parse().map(Self::Server).ok()).ok_or(ProducerError)
    }
}
impl Serialize for Producer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Producer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a provider claims to have used is not ours to bound: every figure survives, however large.
mod wide_usage {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Usage, wide};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wide {
        #[serde(deserialize_with = "wide::deserialize")]
        input_tokens: u64,
        #[serde(deserialize_with = "wide::deserialize")]
        output_tokens: u64,
        #[serde(deserialize_with = "wide::deserialize")]
        cache_read_tokens: u64,
        #[serde(deserialize_with = "wide::deserialize")]
        cache_write_5m_tokens: u64,
        #[serde(deserialize_with = "wide::deserialize")]
        cache_write_1h_tokens: u64,
    }

    pub fn serialize<S: Serializer>(usage: &Option<Usage>, serializer: S) -> Result<S::Ok, S::Error> {
        usage.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Usage>, D::Error> {
        let wide = Wide::deserialize(deserializer)?;
        Ok(Some(Usage {
            input_tokens: wide.input_tokens,
            output_tokens: wide.output_tokens,
            cache_read_tokens: wide.cache_read_tokens,
            cache_write_5m_tokens: wide.cache_write_5m_tokens,
            cache_write_1h_tokens: wide.cache_write_1h_tokens,
        }))
    }
}

mod wide_cost {
    use super::{Deserializer, Nanos, Serialize, Serializer, wide};

    pub fn serialize<S: Serializer>(cost: &Option<Nanos>, serializer: S) -> Result<S::Ok, S::Error> {
        cost.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Nanos>, D::Error> {
        wide::deserialize(deserializer).map(|nanos| Some(Nanos(nanos)))
    }
}
