//! Files of the workspace. Every path is held below it by the kernel (`openat2` with `RESOLVE_BENEATH`), so that
//! no link the workload makes leads out, however it races.

use std::{
    fs::File,
    io::{self, BufRead, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use stockade_api::guest::Reply;

use crate::{Boot, Intent};

/// The longest path, in bytes.
pub const MAX_PATH: usize = 4_096;
/// The most text that one read gives, in bytes: however escaped, it fits into one frame.
pub const MAX_TEXT: usize = 1 << 20;
/// The largest file that is read line by line, in bytes.
pub const MAX_READ_FILE: u64 = 1 << 30;
/// The largest file that can be edited, in bytes.
pub const MAX_EDIT_FILE: u64 = 8 << 20;
/// The most entries that one listing gives.
pub const MAX_ENTRIES: usize = 10_000;
/// How deep a listing or a search goes.
pub const MAX_DEPTH: u32 = 64;
/// Beginnings of the names under which new content waits for its place. Left over after a crash; removed at start.
const WAITING: &str = ".stockade-new-";

/// Why it could not be done, in the words of [`Reply::Error`].
#[derive(Debug)]
pub struct Trouble {
    /// The stable word.
    pub code: &'static str,
    /// The sentence.
    pub message: String,
}

impl Trouble {
    /// Puts it in words.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::new("io", error.to_string())
    }
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<Trouble> for Reply {
    fn from(trouble: Trouble) -> Self {
        Self::Error { code: trouble.code.to_owned(), message: trouble.message }
    }
}

fn about(path: &str, error: Errno) -> Trouble {
    match error {
        Errno::NOENT | Errno::NOTDIR => Trouble::new("not_found", format!("there is no `{path}`")),
        Errno::XDEV | Errno::LOOP => {
            Trouble::new("outside", format!("`{path}` leads out of the workspace by a symbolic link"))
        }
        Errno::ISDIR => Trouble::new("not_text", format!("`{path}` is a folder")),
        Errno::NOSPC | Errno::DQUOT => Trouble::new("io", format!("`{path}`: the environment's disk is full")),
        error => Trouble::new("io", format!("`{path}`: {}", io::Error::from(error))),
    }
}

/// Refuses what is not a plain path below the workspace. An empty one becomes `.`.
pub fn checked(path: &str) -> Result<&str, Trouble> {
    let outside = |why: &str| Err(Trouble::new("outside", format!("`{}` {why}", path.escape_debug())));
    if path.len() > MAX_PATH {
        return Err(Trouble::new("bad_request", format!("a path of {} bytes is more than {MAX_PATH}", path.len())));
    }
    if path.starts_with('/') {
        return outside("begins with a slash: paths are relative to the workspace");
    }
    if path.split('/').any(|part| part == "..") {
        return outside("holds `..`: paths stay below the workspace");
    }
    if path.contains('\0') {
        return outside("holds a zero byte");
    }
    Ok(if path.is_empty() { "." } else { path })
}

pub(crate) fn root(boot: &Boot) -> Result<OwnedFd, Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, &boot.workspace, flags, Mode::empty())?)
}

pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    more: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | more;
    // The kernel gives up with AGAIN when something was renamed while it looked; a workload may do that for ever.
    for _ in 0..16 {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// A folder below the workspace, to be in.
pub fn open_folder(boot: &Boot, path: &str) -> Result<OwnedFd, Trouble> {
    let path = checked(path)?;
    open_beneath(root(boot)?.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())
        .map_err(|error| about(path, error))
}

/// A regular file, never a pipe or a device that would hold us up.
pub(crate) fn open_regular(root: BorrowedFd<'_>, path: &str, more: ResolveFlags) -> Result<(File, u64, Mode), Trouble> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open_beneath(root, path, flags, more).map_err(|error| about(path, error))?;
    let facts = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Err(Trouble::new("not_text", format!("`{path}` is not a regular file")));
    }
    Ok((fd.into(), u64::try_from(facts.st_size).unwrap_or(0), Mode::from_raw_mode(facts.st_mode & 0o777)))
}

/// Reads lines of a file.
pub fn read(boot: &Boot, path: &str, from_line: Option<u64>, max_lines: Option<u64>) -> Result<Reply, Trouble> {
    let path = checked(path)?;
    let (file, size, _) = open_regular(root(boot)?.as_fd(), path, ResolveFlags::empty())?;
    if size > MAX_READ_FILE {
        return Err(Trouble::new("too_large", format!("`{path}` has {size} bytes, more than {MAX_READ_FILE}")));
    }
    let mut lines = io::BufReader::new(file.take(MAX_READ_FILE));
    let not_text = || Trouble::new("not_text", format!("`{path}` is not text"));
    for _ in 1..from_line.unwrap_or(1).max(1) {
        if lines.skip_until(b'\n')? == 0 {
            break;
        }
    }
    let mut text = Vec::new();
    let mut left = max_lines.unwrap_or(u64::MAX);
    let mut truncated = false;
    loop {
        let room = (MAX_TEXT + 1).saturating_sub(text.len());
        if left == 0 {
            truncated = !lines.fill_buf()?.is_empty();
            break;
        }
        if (&mut lines).take(room as u64).read_until(b'\n', &mut text)? == 0 {
            break;
        }
        if text.len() > MAX_TEXT {
            text.truncate(MAX_TEXT);
            // A character that the limit cuts is left out whole.
            let whole = std::str::from_utf8(&text).map_or_else(|error| error.valid_up_to(), str::len);
            if text.len() - whole < 4 {
                text.truncate(whole);
            }
            truncated = true;
            break;
        }
        left -= 1;
    }
    if text.contains(&0) {
        return Err(not_text());
    }
    let text = String::from_utf8(text).map_err(|_| not_text())?;
    Ok(Reply::Text { text, truncated })
}

/// Writes a file whole, making its folders.
pub fn write(boot: &Boot, path: &str, text: &str) -> Result<Reply, Trouble> {
    let path = checked(path)?;
    let root = root(boot)?;
    let (parent, name) = split(path)?;
    let folder = make_folders(root.as_fd(), parent)?;
    replace(root.as_fd(), folder.as_fd(), path, name, text.as_bytes())?;
    Ok(Reply::Done {})
}

/// What an edit would make of a file.
#[derive(Debug)]
pub struct Edited {
    content: Vec<u8>,
    /// How to know it again.
    pub intent: Intent,
}

/// Works out an edit without doing it.
pub fn plan_edit(boot: &Boot, path: &str, old: &str, new: &str) -> Result<Edited, Trouble> {
    let path = checked(path)?;
    if old.is_empty() {
        return Err(Trouble::new("bad_request", "the text to replace is empty"));
    }
    let content = read_whole(boot, path)?;
    let mut found = memfind(&content, old.as_bytes());
    match (found.next(), found.next()) {
        (None, _) => Err(Trouble::new("no_match", format!("`{path}` does not hold the text to replace"))),
        (Some(_), Some(_)) => Err(Trouble::new(
            "many_matches",
            format!("`{path}` holds the text to replace more than once: give more of what surrounds it"),
        )),
        (Some(at), None) => {
            let before = content.get(..at).unwrap_or_default();
            let after = content.get(at + old.len()..).unwrap_or_default();
            let content = [before, new.as_bytes(), after].concat();
            let intent = Intent::Content { length: content.len() as u64, sum: checksum(&content) };
            Ok(Edited { content, intent })
        }
    }
}

/// Puts an edit in its place.
pub fn finish_edit(boot: &Boot, path: &str, edited: &Edited) -> Result<Reply, Trouble> {
    let path = checked(path)?;
    let root = root(boot)?;
    let (parent, name) = split(path)?;
    let folder = open_beneath(root.as_fd(), parent, OFlags::RDONLY | OFlags::DIRECTORY, ResolveFlags::empty())
        .map_err(|error| about(path, error))?;
    replace(root.as_fd(), folder.as_fd(), path, name, &edited.content)?;
    Ok(Reply::Done {})
}

/// Whether a file already has the content that an edit meant to give it.
pub fn already(boot: &Boot, path: &str, intent: &Intent) -> bool {
    let Intent::Content { length, sum } = intent else { return false };
    checked(path)
        .and_then(|path| read_whole(boot, path))
        .is_ok_and(|content| content.len() as u64 == *length && checksum(&content) == *sum)
}

fn read_whole(boot: &Boot, path: &str) -> Result<Vec<u8>, Trouble> {
    let (file, _, _) = open_regular(root(boot)?.as_fd(), path, ResolveFlags::empty())?;
    let mut content = Vec::new();
    file.take(MAX_EDIT_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_EDIT_FILE {
        return Err(Trouble::new("too_large", format!("`{path}` has more than {MAX_EDIT_FILE} bytes")));
    }
    Ok(content)
}

/// Where a text begins, without overlaps counted twice but with overlaps found: `aa` is twice in `aaa`.
fn memfind<'a>(within: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = what.first().copied().unwrap_or(0);
    within
        .iter()
        .enumerate()
        .filter(move |(_, byte)| **byte == first)
        .map(|(at, _)| at)
        .filter(move |at| within.get(*at..).is_some_and(|rest| rest.starts_with(what)))
}

/// FNV-1a: tells two contents apart that differ by accident. Nobody gains by making two alike.
fn checksum(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn split(path: &str) -> Result<(&str, &str), Trouble> {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    if name.is_empty() || name == "." {
        return Err(Trouble::new("bad_request", format!("`{path}` names a folder, not a file")));
    }
    Ok((if parent.is_empty() { "." } else { parent }, name))
}

fn make_folders(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let open = |path: &str| open_beneath(root, path, flags, ResolveFlags::empty());
    match open(path) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(|error| about(path, error)),
    }
    let mut folder = open(".")?;
    let mut so_far = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if !so_far.is_empty() {
            so_far.push('/');
        }
        so_far.push_str(part);
        match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(about(&so_far, error)),
        }
        // From the root each time, so that a link in the middle is followed as far as it stays below, and no farther.
        folder = open(&so_far).map_err(|error| about(&so_far, error))?;
    }
    Ok(folder)
}

/// Gives a name new content at once: whoever looks sees the old or the new, never a part.
fn replace(
    root: BorrowedFd<'_>,
    folder: BorrowedFd<'_>,
    path: &str,
    name: &str,
    content: &[u8],
) -> Result<(), Trouble> {
    let mut mode = Mode::from_raw_mode(0o644);
    match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(facts) => match FileType::from_raw_mode(facts.st_mode) {
            FileType::RegularFile => mode = Mode::from_raw_mode(facts.st_mode & 0o777),
            FileType::Symlink => {
                return Err(Trouble::new("bad_request", format!("`{path}` is a symbolic link: name the file itself")));
            }
            FileType::Directory => return Err(Trouble::new("bad_request", format!("`{path}` is a folder"))),
            _ => return Err(Trouble::new("bad_request", format!("`{path}` is not a regular file"))),
        },
        Err(Errno::NOENT) => {}
        Err(error) => return Err(about(path, error)),
    }
    let waiting = format!("{WAITING}{}", crate::sys::fresh_word()?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let written = (|| {
        let fd = rustix::fs::openat(root, &waiting, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(fd);
        file.write_all(content)?;
        rustix::fs::fchmod(&file, mode)?;
        rustix::fs::renameat(root, &waiting, folder, name)?;
        Ok::<_, io::Error>(())
    })();
    written.map_err(|error| {
        let _ = rustix::fs::unlinkat(root, &waiting, rustix::fs::AtFlags::empty());
        Errno::from_io_error(&error).map_or_else(|| error.into(), |error| about(path, error))
    })
}

/// Removes content that waited for its place when an earlier guest died.
pub fn sweep(boot: &Boot) {
    let Ok(root) = root(boot) else { return };
    let Ok(entries) = rustix::fs::Dir::read_from(&root) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_bytes().starts_with(WAITING.as_bytes()) {
            let _ = rustix::fs::unlinkat(&root, entry.file_name(), rustix::fs::AtFlags::empty());
        }
    }
}

/// Walks files below a folder in the order of their names; links are named and not followed, and what version
/// control keeps for itself is named and not entered. `visit` gets a path and whether it is a folder, and says
/// whether to go on.
pub(crate) fn walk(
    root: BorrowedFd<'_>,
    path: &str,
    depth: u32,
    visit: &mut dyn FnMut(&str, FileType) -> bool,
) -> Result<bool, Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let folder = open_beneath(root, path, flags, ResolveFlags::empty()).map_err(|error| about(path, error))?;
    let mut names: Vec<(String, FileType)> = Vec::new();
    for entry in rustix::fs::Dir::read_from(&folder)?.flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." || name.starts_with(WAITING) {
            continue;
        }
        // A folder larger than any listing: enough of it is enough.
        if names.len() > MAX_ENTRIES * 10 {
            break;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => rustix::fs::statat(&folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |facts| FileType::from_raw_mode(facts.st_mode)),
            kind => kind,
        };
        names.push((name.to_owned(), kind));
    }
    drop(folder);
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in names {
        let below = if path == "." { name.clone() } else { format!("{}/{name}", path.trim_end_matches('/')) };
        if !visit(&below, kind) {
            return Ok(false);
        }
        let enter = kind == FileType::Directory && depth > 1 && name != ".git" && below.len() < MAX_PATH;
        // A folder that vanished meanwhile, or may not be entered, is passed by.
        if enter && !walk(root, &below, depth - 1, visit).unwrap_or(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lists files.
pub fn list(boot: &Boot, path: &str, depth: u32) -> Result<Reply, Trouble> {
    let path = checked(path)?;
    let root = root(boot)?;
    let mut text = String::new();
    let mut entries = 0;
    let whole = walk(root.as_fd(), path, depth.clamp(1, MAX_DEPTH), &mut |path, kind| {
        if entries >= MAX_ENTRIES || text.len() + path.len() + 2 > MAX_TEXT {
            return false;
        }
        entries += 1;
        text.push_str(path);
        text.push_str(if kind == FileType::Directory { "/\n" } else { "\n" });
        true
    })?;
    Ok(Reply::Text { text, truncated: !whole })
}

/// Whether a path is a file, for a search that names one.
pub(crate) fn is_file(root: BorrowedFd<'_>, path: &str) -> bool {
    open_regular(root, path, ResolveFlags::empty()).is_ok()
}
