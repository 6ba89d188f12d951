//! Commits and trees, as far as deciding needs them: parents, trees, entries and their names.
//!
//! It refuses trees that are not as git writes them, and names that mean something else to a file system than to git
//! (`..`, `.git` in every spelling that git itself refuses, control bytes): whoever checks them out would be the victim.

use super::{Format, ObjectId};

/// The most parents of a commit.
pub const MAX_PARENTS: usize = 1_000;
/// The longest name of an entry, in bytes.
pub const MAX_NAME_BYTES: usize = 4_096;

/// Why a commit or tree is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The commit does not begin with its tree and parents.
    #[error("the commit does not begin with a tree, its parents, an author and a committer")]
    Commit,
    /// Too many parents.
    #[error("the commit has more than {MAX_PARENTS} parents")]
    Parents,
    /// The tree does not read.
    #[error("the tree does not read as entries of a mode, a name and an object")]
    Tree,
    /// The entries are not in git's order, or one stands twice.
    #[error("the tree's entry `{0}` is out of order or stands twice")]
    Order(String),
    /// A mode that git does not have.
    #[error("the entry `{name}` has the mode {mode:o}, which git does not have")]
    Mode {
        /// The name.
        name: String,
        /// The mode.
        mode: u32,
    },
    /// A name that means something else.
    #[error("the entry `{name}` is refused: {rule}")]
    Name {
        /// The name, so that it can be shown.
        name: String,
        /// Why.
        rule: &'static str,
    },
}

/// What a commit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents in their order.
    pub parents: Vec<ObjectId>,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that can be run.
    Executable,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Tree,
    /// A submodule: a commit of another repository.
    Submodule,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Its name: one part of a path, without control bytes.
    pub name: Vec<u8>,
    /// The object.
    pub id: ObjectId,
}

/// Reads the head of a commit.
///
/// # Errors
/// When it does not begin as commits do.
pub fn read_commit(format: Format, content: &[u8]) -> Result<Commit, ObjectError> {
    let mut lines = content.split(|byte| *byte == b'\n');
    let id =
        |line: Option<&[u8]>, word: &[u8]| line.and_then(|line| ObjectId::from_hex(format, line.strip_prefix(word)?));
    let tree = id(lines.next(), b"tree ").ok_or(ObjectError::Commit)?;
    let mut parents = Vec::new();
    for line in lines {
        if line.starts_with(b"author ") {
            return Ok(Commit { tree, parents });
        }
        if parents.len() >= MAX_PARENTS {
            return Err(ObjectError::Parents);
        }
        parents.push(id(Some(line), b"parent ").ok_or(ObjectError::Commit)?);
    }
    Err(ObjectError::Commit)
}

/// Reads a tree: `mode SP name NUL id`, again and again.
///
/// # Errors
/// When it is not as git writes trees, or has a name that is refused.
pub fn read_tree(format: Format, content: &[u8]) -> Result<Vec<Entry>, ObjectError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let space = rest.iter().take(8).position(|byte| *byte == b' ').ok_or(ObjectError::Tree)?;
        let (digits, after) = rest.split_at_checked(space).ok_or(ObjectError::Tree)?;
        let after = after.get(1..).unwrap_or_default();
        let nul = after.iter().position(|byte| *byte == 0).ok_or(ObjectError::Tree)?;
        let (name, after) = after.split_at_checked(nul).ok_or(ObjectError::Tree)?;
        let (id, after) =
            after.get(1..).and_then(|after| after.split_at_checked(format.bytes())).ok_or(ObjectError::Tree)?;
        rest = after;
        if digits.is_empty() {
            return Err(ObjectError::Tree);
        }
        let mode = digits
            .iter()
            .try_fold(0u32, |mode, byte| matches!(byte, b'0'..=b'7').then(|| mode << 3 | u32::from(byte - b'0')));
        let mode = mode.ok_or(ObjectError::Tree)?;
        let kind = match mode {
            // 100664 is what git wrote in its first months.
            0o100_644 | 0o100_664 => EntryKind::File,
            0o100_755 => EntryKind::Executable,
            0o120_000 => EntryKind::Symlink,
            0o40_000 => EntryKind::Tree,
            0o160_000 => EntryKind::Submodule,
            mode => return Err(ObjectError::Mode { name: super::shown(name), mode }),
        };
        check_name(name, kind).map_err(|rule| ObjectError::Name { name: super::shown(name), rule })?;
        let entry = Entry { kind, name: name.to_vec(), id: ObjectId::from_bytes(format, id).ok_or(ObjectError::Tree)? };
        if entries.last().is_some_and(|last| order(last) >= order(&entry)) {
            return Err(ObjectError::Order(super::shown(name)));
        }
        entries.push(entry);
    }
    // A file `a` and a directory `a` have other names between them; git refuses both at once.
    let mut names: Vec<&[u8]> = entries.iter().map(|entry| entry.name.as_slice()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find_map(|pair| pair.first().filter(|first| Some(*first) == pair.get(1))) {
        return Err(ObjectError::Order(super::shown(twice)));
    }
    Ok(entries)
}

/// Git sorts directories as if their names ended with a slash.
fn order(entry: &Entry) -> Vec<u8> {
    let mut name = entry.name.clone();
    if entry.kind == EntryKind::Tree {
        name.push(b'/');
    }
    name
}

/// Whether a name is one plain part of a path on every system.
///
/// # Errors
/// Why it is not.
pub fn check_name(name: &[u8], kind: EntryKind) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err("it is empty or too long");
    }
    if matches!(name, b"." | b"..") {
        return Err("it means another directory");
    }
    if name.contains(&b'/') {
        return Err("it has a slash");
    }
    if name.iter().any(|byte| byte.is_ascii_control()) {
        return Err("it has a control byte");
    }
    // To Windows a backslash is a slash: each part is looked at.
    for part in name.split(|byte| *byte == b'\\') {
        let folded = folded(part);
        if folded == b".git" || is_ntfs(part, b".git") || is_ntfs(part, b"git~1") {
            return Err("it is, on some system, git's own directory");
        }
        if part.len() != name.len() && matches!(part, b".." | b".") {
            return Err("it means, on some system, another directory");
        }
        let modules = folded == b".gitmodules" || is_ntfs(part, b".gitmodules") || is_ntfs(part, b"gitmod~1");
        if modules && !matches!(kind, EntryKind::File | EntryKind::Executable) {
            return Err("it is, on some system, git's list of submodules, which is a file");
        }
    }
    Ok(())
}

/// Small letters, without the characters that HFS+ does not see.
fn folded(name: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(name) else { return name.to_ascii_lowercase() };
    let seen = |character: &char| !matches!(u32::from(*character), 0x200c..=0x200f | 0x202a..=0x202e | 0x206a..=0x206f | 0xfeff);
    text.chars().filter(seen).collect::<String>().to_ascii_lowercase().into_bytes()
}

/// NTFS leaves out dots and spaces at the end, and what follows a colon is a stream of the same file.
fn is_ntfs(name: &[u8], plain: &[u8]) -> bool {
    let before = name.split(|byte| *byte == b':').next().unwrap_or_default();
    let kept = before.iter().rposition(|byte| !matches!(byte, b' ' | b'.')).map_or(0, |last| last + 1);
    before.get(..kept).is_some_and(|name| name.eq_ignore_ascii_case(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tree(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (mode, name) in entries {
            out.extend_from_slice(mode.as_bytes());
            out.push(b' ');
            out.extend_from_slice(name);
            out.push(0);
            out.extend_from_slice(&[1; 20]);
        }
        out
    }

    #[test]
    fn git_s_own_directory_is_refused_in_every_spelling() {
        for name in [
            ".git",
            ".GIT",
            ".gIt",
            ".git ",
            ".git.",
            ".git . ",
            "git~1",
            "GIT~1",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".gi\u{202e}t",
            "a\\.git",
            ".git\\hooks",
            "..\\a",
            "..",
            ".",
            "",
            "a/b",
            "a\nb",
            "a\u{7f}",
        ] {
            assert!(check_name(name.as_bytes(), EntryKind::File).is_err(), "{name:?}");
        }
        for name in [".github", ".gitignore", ".gitmodules", "git", "a.git", "..a", "a..", "git~2", ".gitx", "ünï"] {
            assert_eq!(check_name(name.as_bytes(), EntryKind::File), Ok(()), "{name}");
        }
        assert!(check_name(b".gitmodules", EntryKind::Symlink).is_err());
        assert!(check_name(b"GITMOD~1", EntryKind::Symlink).is_err());
    }

    #[test]
    fn trees_that_git_would_not_write_are_refused() {
        let read = |entries: &[(&str, &[u8])]| read_tree(Format::Sha1, &tree(entries));
        assert_eq!(
            read(&[("100644", b"a"), ("40000", b"b"), ("120000", b"c"), ("160000", b"d"), ("100755", b"e")])
                .expect("reads")
                .len(),
            5
        );
        assert!(matches!(read(&[("100644", b"b"), ("100644", b"a")]), Err(ObjectError::Order(_))));
        assert!(matches!(read(&[("100644", b"a"), ("100644", b"a")]), Err(ObjectError::Order(_))));
        assert!(matches!(read(&[("100644", b"a"), ("100644", b"a.b"), ("40000", b"a")]), Err(ObjectError::Order(_))));
        assert!(matches!(read(&[("104755", b"a")]), Err(ObjectError::Mode { .. })));
        assert!(matches!(read(&[("20666", b"a")]), Err(ObjectError::Mode { .. })));
        assert!(matches!(read(&[("", b"a")]), Err(ObjectError::Tree)));
        let whole = tree(&[("100644", b"a")]);
        assert!((1..whole.len()).all(|end| read_tree(Format::Sha1, &whole[..end]).is_err()));
    }

    #[test]
    fn commits_say_their_parents() {
        let a = "1".repeat(40);
        let text = format!("tree {a}\nparent {a}\nparent {a}\nauthor x\ncommitter y\n\nparent {a}\n");
        assert_eq!(read_commit(Format::Sha1, text.as_bytes()).expect("reads").parents.len(), 2);
        for text in [
            format!("tree {a}\n"),
            format!("parent {a}\n"),
            format!("tree {a}\nx\nauthor"),
            "tree 1\nauthor x".to_owned(),
            String::new(),
        ] {
            assert!(read_commit(Format::Sha1, text.as_bytes()).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_tree(Format::Sha256, &bytes);
            let _ = read_commit(Format::Sha1, &bytes);
        }
    }
}
