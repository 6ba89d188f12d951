//! Searching file contents for a pattern that an agent made up.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use globset::GlobBuilder;
use regex::bytes::RegexBuilder;
use rustix::fs::{FileType, ResolveFlags};
use stockade_api::guest::Reply;

use crate::{
    Boot,
    files::{self, MAX_DEPTH, Trouble},
};

/// The longest pattern or glob, in bytes.
pub const MAX_PATTERN: usize = 4_096;
/// A pattern's compiled size, in bytes.
const MAX_COMPILED: usize = 4 << 20;
/// The most lines that one search gives.
pub const MAX_MATCHES: u32 = 2_000;
/// The most text that one search gives, in bytes.
pub const MAX_FOUND: usize = 512 * 1024;
/// A line is cut here, in bytes.
pub const MAX_LINE: usize = 500;
/// Larger files are passed by, in bytes; the answer says that it is not whole.
pub const MAX_SEARCHED_FILE: u64 = 16 << 20;
/// How long a search may take.
pub const MAX_TIME: Duration = Duration::from_secs(20);

/// Lines of files below a folder that match.
pub fn search(boot: &Boot, pattern: &str, path: &str, glob: Option<&str>, max: u32) -> Result<Reply, Trouble> {
    let bad = |what: String| Trouble::new("bad_pattern", what);
    if pattern.len() > MAX_PATTERN || glob.is_some_and(|glob| glob.len() > MAX_PATTERN) {
        return Err(bad(format!("a pattern is longer than {MAX_PATTERN} bytes")));
    }
    let regex = RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|error| bad(error.to_string()))?;
    let glob = glob
        .map(|glob| {
            // A glob without a slash means the name, wherever the file is.
            let whole = if glob.contains('/') { glob.to_owned() } else { format!("**/{glob}") };
            GlobBuilder::new(&whole).literal_separator(true).build().map(|glob| glob.compile_matcher())
        })
        .transpose()
        .map_err(|error| bad(error.to_string()))?;
    let path = files::checked(path)?;
    let root = files::root(boot)?;
    let mut found = Found {
        text: String::new(),
        left: max.clamp(1, MAX_MATCHES),
        end: Instant::now() + MAX_TIME,
        passed_by: false,
    };
    let mut look = |path: &str, links: ResolveFlags| {
        found.in_file(
            &regex,
            path,
            files::open_regular(root.as_fd(), path, links).ok().map(|(file, size, _)| (file, size)),
        )
    };
    let whole = if files::is_file(root.as_fd(), path) {
        look(path, ResolveFlags::empty())
    } else {
        files::walk(root.as_fd(), path, MAX_DEPTH, &mut |path, kind| {
            kind != FileType::RegularFile
                || glob.as_ref().is_some_and(|glob| !glob.is_match(path))
                || look(path, ResolveFlags::NO_SYMLINKS)
        })?
    };
    Ok(Reply::Text { text: found.text, truncated: !whole || found.passed_by })
}

struct Found {
    text: String,
    left: u32,
    end: Instant,
    passed_by: bool,
}

impl Found {
    /// Whether to go on after this file.
    fn in_file(&mut self, regex: &regex::bytes::Regex, path: &str, file: Option<(std::fs::File, u64)>) -> bool {
        let Some((file, size)) = file else { return true };
        if size > MAX_SEARCHED_FILE {
            self.passed_by = true;
            return true;
        }
        let mut reader = BufReader::new(file.take(MAX_SEARCHED_FILE));
        if reader.fill_buf().is_ok_and(|start| start.contains(&0)) {
            return true;
        }
        let mut line = Vec::new();
        for number in 1u64.. {
            line.clear();
            if Instant::now() > self.end {
                return false;
            }
            match reader.read_until(b'\n', &mut line) {
                Ok(1..) => {}
                _ => return true,
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if !regex.is_match(text) {
                continue;
            }
            let shown = text.get(..MAX_LINE).unwrap_or(text);
            if self.left == 0 || self.text.len() + path.len() + shown.len() + 32 > MAX_FOUND {
                return false;
            }
            self.left -= 1;
            let cut = if shown.len() < text.len() { " […]" } else { "" };
            let _ = writeln!(self.text, "{path}:{number}:{}{cut}", String::from_utf8_lossy(shown));
        }
        true
    }
}
