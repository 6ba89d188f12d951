//! Saying things: tables for people, JSON for programs, and nothing that a terminal could take for a command.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::Outcome;

/// How to say things.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON value on standard output, and nothing else.
    pub json: bool,
}

impl Output {
    /// A value for programs, or what `people` makes of it.
    pub fn show<T: Serialize>(self, value: &T, people: impl FnOnce(&T) -> String) -> Outcome {
        if self.json { self.json(value) } else { self.line(&people(value)) }
    }

    /// A JSON value on a line.
    pub fn json<T: Serialize>(self, value: &T) -> Outcome {
        let text = serde_json::to_string(value).map_err(io::Error::from)?;
        self.line_raw(&text)
    }

    /// A line or several for people. Whatever could move their cursor or change their terminal is shown instead of done.
    pub fn line(self, text: &str) -> Outcome {
        self.line_raw(&printable(text))
    }

    fn line_raw(self, text: &str) -> Outcome {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        Ok(())
    }

    /// A remark for people beside the answer; on standard error.
    pub fn remark(self, text: &str) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "{}", printable(text));
        }
    }
}

/// Whether somebody looks.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The text with control characters (but line ends and tabs) and the characters that turn writing around made visible.
/// What models, tools and repositories said may contain escape sequences.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '\n' | '\t' => vec![c],
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                c.escape_unicode().collect()
            }
            c => vec![c],
        })
        .collect()
}

/// Columns, aligned. Cells are made printable and single-lined.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines: Vec<[String; N]> = vec![head.map(|word| word.to_uppercase())];
    lines.extend(rows.into_iter().map(|row| row.map(|cell| printable(&cell).replace(['\n', '\t'], " "))));
    if lines.len() == 1 {
        return "nothing".to_owned();
    }
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; N]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Name and value, one a line, aligned.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:<width$}  {value}");
    facts.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_is_shown_and_not_done() {
        assert_eq!(printable("a\u{1b}[2Jb\r\u{202e}c"), "a\\u{1b}[2Jb\\u{d}\\u{202e}c");
        assert_eq!(printable("a\n\tb é"), "a\n\tb é");
    }

    #[test]
    fn columns_are_aligned() {
        let text =
            table(["id", "state"], [["run_1".to_owned(), "working\nx".to_owned()], ["r".to_owned(), "ok".to_owned()]]);
        assert_eq!(text, "ID     STATE\nrun_1  working x\nr      ok");
        assert_eq!(table(["id"], []), "nothing");
    }
}
