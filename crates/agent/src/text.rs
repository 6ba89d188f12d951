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

/// `text` with at most `max` bytes, its middle left out if need be, or a word if it is empty.
pub(crate) fn capped(text: &str, max: usize) -> String {
    if text.trim().is_empty() { "(nothing)".to_owned() } else { shorten(text, max) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_reads_well() {
        let ran = Ran { status: 1, signal: None, timed_out: false, stdout: "a\n\n", stderr: "b" };
        assert_eq!(ran.to_string(), "exit status 1\n--- stdout\na\n--- stderr\nb");
        assert_eq!(Ran { signal: Some(9), stdout: "", stderr: "", ..ran }.to_string(), "killed by signal 9");
        assert_eq!(Ran { timed_out: true, stderr: "", ..ran }.to_string(), "timed out and was killed\n--- stdout\na");
    }

    proptest! {
        #[test]
        fn shortening_keeps_both_ends_and_the_bound(text in "[aé𝄞\n]{0,200}", max in 0usize..120) {
            let short = shorten(&text, max);
            if text.len() <= max {
                prop_assert_eq!(short, text);
            } else {
                let (head, rest) = short.split_once("\n[… ").unwrap();
                let (left_out, tail) = rest.split_once(" bytes left out …]\n").unwrap();
                let left_out: usize = left_out.parse().unwrap();
                prop_assert!(text.starts_with(head) && text.ends_with(tail));
                prop_assert_eq!(head.len() + tail.len() + left_out, text.len());
                prop_assert!(head.len() + tail.len() <= max);
            }
        }
    }
}
