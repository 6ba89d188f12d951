//! The rehearsal provider: a local server that speaks Anthropic's Messages API and plays a cassette instead of asking
//! a model. It is for demonstrations, tests and regressions of policies, and is called what it is everywhere.
//!
//! # A cassette
//!
//! A cassette is a TOML file (or the same structure as JSON). It is asked for as model `rehearsal/NAME`.
//!
//! ```toml
//! name = "fix-the-sum"                      # a-z, 0-9 and -, at most 64
//! description = "What it shows."            # optional
//!
//! [[turn]]                                  # one answer of the model; the first one to the task
//! stop_reason = "tool_use"                  # optional: tool_use if the turn uses a tool, else end_turn
//! usage = { input = 2100, output = 96, cache_read = 0, cache_write = 0 }  # optional: else estimated from the sizes
//! delay_ms = 20                             # optional: the pause before each piece of a stream
//! templates = true                          # optional: false plays {{…}} as it stands
//!
//! [[turn.expect]]                           # optional, any number: what must hold before the turn is played
//! from = "task"                             # task | last_tool_result (this is meant if absent) | last_message
//! contains = "sum"                          # and/or `lacks = "…"`, `matches = "REGEX"`
//!
//! [[turn.capture]]                          # optional, any number: a value for this turn and all later ones
//! name = "line"
//! regex = "line ([0-9]+)"                   # its first group, or the whole match if it has none
//! from = "last_tool_result"
//!
//! [[turn.content]]                          # at least one: what the model says
//! type = "thinking"
//! text = "The test says where."             # `signature` may be given; else one is made
//!
//! [[turn.content]]
//! type = "text"
//! text = "I look at line {{line}}."
//!
//! [[turn.content]]
//! type = "tool_use"
//! name = "read"
//! input = { path = "src/lib.rs" }           # or input_json = '{"path": null}' for what TOML cannot say
//! ```
//!
//! `last_tool_result` is the text of all tool results of the last message that has any, joined by line feeds;
//! `last_message` is all text of the last message; `task` is all text of the first one. `contains` and `lacks` may use
//! captured values too.
//!
//! # Where it stands
//!
//! The provider remembers nothing. Where a conversation stands is counted from the conversation in the request: each
//! answer of the assistant was one turn. If a tool result begins with `[interrupted]`, the turn that asked for it is
//! played again (without its expectations and with the values captured the first time). So a crash of anybody loses nothing.
//!
//! # Departures
//!
//! Whatever departs from the cassette is answered with status 400, `invalid_request_error` and a text like
//! `rehearsal: turn 2 of fix-the-sum expected … but saw …`: an expectation that does not hold, a capture that finds
//! nothing, an earlier answer in the conversation that is not what the cassette played, a tool that the request does
//! not offer, more turns than there are, usage figures that a real provider could not reach with this request.

mod answer;
mod cassette;
mod play;
mod record;
mod server;

pub use cassette::{
    Cassette, CassetteError, MAX_BLOCKS_PER_TURN, MAX_CAPTURES_PER_TURN, MAX_CASSETTE_BYTES, MAX_EXPECTS_PER_TURN,
    MAX_REGEX_BYTES, MAX_TURNS,
};
pub use server::{MAX_REQUEST_BYTES, serve};
