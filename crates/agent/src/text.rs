//! Texts that the model is given: how a command's end reads, and how long ones are shortened.

use std::fmt;

/// How a command ended, as the model reads it. `Display` gives the text for `Input::Tool` and `Input::Gates`.
#[derive(Debug, Clone, Copy)]
pub struct Ran<'a> {
    /// Exit status, or 128 + the signal.
    pub status: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether the time-out did.
    pub timed_out: bool,
    /// Standard output.
    pub stdout: &'a str,
    /// Standard error.
    pub stderr: &'a str,
}

impl fmt::Display for Ran<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.timed_out {
            f.write_str("timed out and was killed")?;
        } else if let Some(signal) = self.signal {
            write!(f, "killed by signal {signal}")?;
        } else {
            write!(f, "exit status {}", self.status)?;
        }
        for (name, text) in [("stdout", self.stdout), ("stderr", self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n--- {name}\n{}", text.trim_end_matches('\n'))?;
            }
        }
        Ok(())
    }
}

/// `text` if it has at most `max` bytes; else its beginning (two thirds) and its end, with the number of bytes that were
/// left out between them. Cuts fall on character boundaries; the mark comes on top of `max`.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let head = text.floor_char_boundary(max / 3 * 2);
    let tail = text.ceil_char_boundary(text.len().saturating_sub(max.saturating_sub(head)));
    let (first, last) = (text.get(..head).unwrap_or(""), text.get(tail..).unwrap_or(""));
    format!("{first}\n[… {} bytes left out …]\n{last}", text.len().saturating_sub(first.len() + last.len()))
}
