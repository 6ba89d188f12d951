//! Reading the head of a git bundle that came out of an environment, so that its pack can be given to
//! `git index-pack --strict` without believing anything else in it.

use super::git::GitError;

/// The longest head, in bytes: ours has two lines.
pub const MAX_HEAD: usize = 4_096;

/// What the head of a bundle says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The one commit it brings.
    pub commit: String,
    /// Where the pack begins, in bytes.
    pub pack_at: usize,
}

/// Whether a text is an object name of SHA-1 or SHA-256.
pub fn is_object_name(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Reads the head of a bundle (gitformat-bundle, versions 2 and 3) that brings exactly one reference. Public for fuzzing.
pub fn head(bytes: &[u8]) -> Result<Head, GitError> {
    let hostile = |why: &str| GitError::Hostile(format!("its bundle {why}"));
    let window = bytes.get(..bytes.len().min(MAX_HEAD)).unwrap_or_default();
    let end = window.windows(2).position(|pair| pair == b"\n\n").ok_or_else(|| hostile("has no head"))?;
    let text = window.get(..end).and_then(|head| std::str::from_utf8(head).ok());
    let mut lines = text.ok_or_else(|| hostile("has a head that is no text"))?.lines();
    match lines.next() {
        Some("# v2 git bundle" | "# v3 git bundle") => {}
        _ => return Err(hostile("is of no known version")),
    }
    let mut commit = None;
    for line in lines {
        if line.starts_with('@') {
            if line.starts_with("@object-format=") {
                continue;
            }
            return Err(hostile("needs a capability that is not used here"));
        }
        if line.starts_with('-') {
            continue;
        }
        let name =
            line.split(' ').next().filter(|name| is_object_name(name)).ok_or_else(|| hostile("has a bad line"))?;
        if commit.replace(name.to_owned()).is_some() {
            return Err(hostile("brings more than one reference"));
        }
    }
    let commit = commit.ok_or_else(|| hostile("brings no reference"))?;
    Ok(Head { commit, pack_at: end + 2 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_head_of_a_bundle_is_read() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let bytes = format!("# v2 git bundle\n-{b} base\n{a} refs/stockade/out\n\nPACK…");
        let head = head(bytes.as_bytes()).unwrap();
        assert_eq!(head.commit, a);
        assert!(bytes.as_bytes()[head.pack_at..].starts_with(b"PACK"));
    }

    #[test]
    fn other_heads_are_refused() {
        let a = "a".repeat(40);
        for wrong in [
            String::new(),
            "# v2 git bundle\n\nPACK".to_owned(),
            format!("# v1 git bundle\n{a} x\n\nPACK"),
            format!("# v2 git bundle\n{a} x\n{a} y\n\nPACK"),
            "# v2 git bundle\n--upload-pack=x y\n\nPACK".to_owned(),
            format!("# v3 git bundle\n@filter=blob:none\n{a} x\n\nPACK"),
            format!("# v2 git bundle\n{a} x\n{}\n\nPACK", "y".repeat(MAX_HEAD)),
        ] {
            assert!(head(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bundle_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), lines in "(# v2 git bundle\n)?[-a-f0-9 \n@]{0,200}") {
            let _ = head(&bytes);
            let _ = head(lines.as_bytes());
        }
    }
}
