//! What the machine wants done, and what it wants noticed.

use serde::Serialize;
use serde_json::Value;
use stockade_domain::{FailureCause, Timestamp, ids::CallId};

use crate::Tool;

/// Something the runner shall do. Doing it twice after a crash is the runner's matter: attempts and calls have names.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "want", rename_all = "snake_case")]
pub enum Want {
    /// Ask the model. Answered by `Input::Model` or `Input::ModelFailed`.
    Model {
        /// The turn, from 1.
        turn: u32,
        /// Names the request in the run: from 1, a new one for every answer and every failure.
        attempt: u32,
        /// A Messages request, `stream: true`.
        body: Value,
        /// Not before this moment.
        not_before: Option<Timestamp>,
    },
    /// Have the program inside do the work. Answered by `Input::HarnessEnded`; while it runs, `Input::Called` tells of its model
    /// calls. If something else is wanted while it runs, a limit was reached: it is to be ended.
    Harness {
        /// Names the attempt in the run: from 1, a new one for every end.
        attempt: u32,
        /// What it is told.
        prompt: String,
        /// Not before this moment.
        not_before: Option<Timestamp>,
    },
    /// Carry out these calls: either any number of read-only ones, which may run side by side, or exactly one other. Each
    /// is answered by one `Input::Tool`, in any order. Calls that have been answered are left out, so a runner that
    /// died gets the rest. `Finish` and `Ask` come here too, because they are decided and recorded as every call is; there is
    /// nothing to carry out, the answer is `Ok` with an empty text, and `Want::Gates` or `Want::Person` follows.
    Tools {
        /// Which.
        calls: Vec<ToolUse>,
    },
    /// Run the project's gates. Answered by `Input::Gates`. With no gates configured the answer is `passed`.
    Gates {
        /// From 1; counted anew when a failed run is tried again.
        attempt: u32,
    },
    /// Ask a person. Answered by `Input::Reply`. Time stands still.
    Person {
        /// What.
        question: String,
    },
    /// Open the change. Answered by `Input::ChangeOpened`, `ChangeDenied`, `NoChange` or `Stop`.
    OpenChange {
        /// One line, at most [`MAX_TITLE`](crate::tool::MAX_TITLE) characters.
        title: String,
        /// What the agent says it did; may be empty.
        body: String,
    },
    /// It is over, with a change. Nothing is to be done.
    Finished {
        /// The change's title.
        title: String,
        /// What the agent says it did.
        summary: String,
    },
    /// It is over, without one. Nothing is to be done until a person wants it tried again.
    Failed {
        /// Why.
        cause: FailureCause,
        /// For people.
        text: String,
    },
}

/// One tool call that the model wants.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolUse {
    /// Its name for ever.
    pub call: CallId,
    /// Which tool, with its input.
    pub tool: Tool,
    /// Whether it changes nothing.
    pub read_only: bool,
}

/// Something that people may want to know, said once by the `apply` that made it so. Folding a journal again says it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// A turn begins.
    Turn {
        /// From 1.
        turn: u32,
    },
    /// The context was shortened.
    Compacted {
        /// Tokens before, estimated.
        before_tokens: u64,
        /// Tokens after, estimated.
        after_tokens: u64,
    },
    /// The model will be asked again.
    ModelRetry {
        /// How often it failed in a row.
        failures: u32,
    },
    /// The program inside will be started again.
    HarnessRetry {
        /// How often it failed in a row.
        failures: u32,
    },
    /// The model was reminded that it neither called a tool nor finished.
    Idle,
    /// The model was told that it goes round in circles.
    Repeating,
    /// The model's answer was cut off at the limit of output tokens.
    CutOff,
    /// The model called a tool that does not exist or with input that cannot be read; it was told.
    BadCall {
        /// Which.
        call: CallId,
    },
    /// The provider's message had parts that cannot be sent back; they were left out of the conversation.
    Mended,
}

impl Notice {
    /// The fixed word for run events.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Turn { .. } => "turn",
            Self::Compacted { .. } => "compacted",
            Self::ModelRetry { .. } => "model_retry",
            Self::HarnessRetry { .. } => "harness_retry",
            Self::Idle => "agent_idle",
            Self::Repeating => "agent_repeating",
            Self::CutOff => "model_cut_off",
            Self::BadCall { .. } => "bad_tool_call",
            Self::Mended => "model_message_mended",
        }
    }
}
