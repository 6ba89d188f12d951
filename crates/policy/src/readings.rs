//! The readings of a path that has an encoded slash.
//!
//! npm asks for `/@acme%2fx`, forges for `/projects/team%2Fapp`. Some servers take `%2F` for a slash, some for a letter of a name, and nobody outside
//! knows which. Every reading is therefore decided by itself, with each `%2F` as it is and as a slash, and the deed is as free as the least free of
//! them: what one of them forbids is forbidden, and all of them must be permitted.
//!
//! It owns which deeds have such a path, its readings, and how their decisions come together. It refuses nothing itself: what a path may look like is the
//! way out's to say. *Invariant:* a deed is never freer than the deed with any one of its path's readings in the path's place.

use stockade_domain::{Action, Answer, ContextValue, Decision, Deed};

/// How many encoded slashes a path may have. Each doubles the readings.
pub const MAX_ENCODED_SLASHES: usize = 3;

const PATH: &str = "path";
const ENCODED: &str = "%2F";

/// A deed with each reading of its path in the path's place; none if the path has only one.
///
/// # Errors
/// More than [`MAX_ENCODED_SLASHES`]: such a deed is denied.
pub fn of_deed(deed: &Deed) -> Result<Vec<Deed>, String> {
    if !matches!(deed.action, Action::RequestSend | Action::CredentialUse) {
        return Ok(Vec::new());
    }
    let Some(ContextValue::Text(path)) = deed.context.content.get(PATH).or_else(|| deed.context.public.get(PATH))
    else {
        return Ok(Vec::new());
    };
    if !path.contains(ENCODED) && !path.contains("%2f") {
        return Ok(Vec::new());
    }
    let paths = of_path(path)?;
    let read = |path: String| {
        let mut deed = deed.clone();
        for given in [&mut deed.context.content, &mut deed.context.public] {
            if let Some(value) = given.get_mut(PATH) {
                *value = ContextValue::Text(path.clone());
            }
        }
        deed
    };
    Ok(paths.into_iter().map(read).collect())
}

/// Every reading of a path: as it is first, with all slashes last.
///
/// # Errors
/// More than [`MAX_ENCODED_SLASHES`].
pub fn of_path(path: &str) -> Result<Vec<String>, String> {
    let large = path.to_ascii_uppercase();
    let mut pieces = Vec::new();
    let mut begin = 0;
    for (at, encoded) in large.match_indices(ENCODED) {
        pieces.push(path.get(begin..at).unwrap_or_default());
        begin = at + encoded.len();
    }
    pieces.push(path.get(begin..).unwrap_or_default());
    let (first, rest) = pieces.split_first().map_or(("", [].as_slice()), |(first, rest)| (*first, rest));
    if rest.len() > MAX_ENCODED_SLASHES {
        return Err(format!("the path has more than {MAX_ENCODED_SLASHES} encoded slashes (%2F)"));
    }
    let mut all = vec![first.to_owned()];
    for piece in rest {
        let encoded = all.iter().map(|before| format!("{before}{ENCODED}{piece}"));
        let slash = all.iter().map(|before| format!("{before}/{piece}"));
        all = encoded.chain(slash).collect();
    }
    Ok(all)
}

/// Whether each encoded slash of a path stands between two names, and there are few of them: then no reading of it has a dot segment or an empty one
/// that another has not, and none leads above what all of them name.
///
/// # Errors
/// With what is wrong.
pub fn encoded_slashes(path: &str) -> Result<(), &'static str> {
    let named = |name: Option<&str>| {
        let name = name.and_then(|name| name.split(';').next()).unwrap_or_default();
        !matches!(name, "" | "." | "..")
    };
    let parts: Vec<&str> = path.split(ENCODED).collect();
    if parts.len() > MAX_ENCODED_SLASHES + 1 {
        return Err("a path has at most 3 encoded slashes (%2F)");
    }
    let stands = |pair: &[&str]| match pair {
        [before, after] => named(before.rsplit('/').next()) && named(after.split('/').next()),
        _ => true,
    };
    if parts.windows(2).all(stands) { Ok(()) } else { Err("an encoded slash (%2F) stands between two names") }
}

/// One decision of several: the least free, with everything that decided so.
pub fn together(decisions: impl IntoIterator<Item = Decision>) -> Option<Decision> {
    decisions.into_iter().reduce(|mut one, other| {
        if freedom(other.answer) < freedom(one.answer) {
            return other;
        }
        if freedom(other.answer) == freedom(one.answer) {
            one.policies.extend(other.policies);
            one.policies.sort_by(|a, b| a.id.cmp(&b.id));
            one.policies.dedup();
        }
        one
    })
}

const fn freedom(answer: Answer) -> u8 {
    match answer {
        Answer::Deny => 0,
        Answer::Ask => 1,
        Answer::Allow => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoded_slash_is_one_and_is_none() {
        assert_eq!(of_path("/a").unwrap(), ["/a"]);
        assert_eq!(of_path("/npm/@acme%2fx").unwrap(), ["/npm/@acme%2Fx", "/npm/@acme/x"]);
        assert_eq!(of_path("/a%2Fb%2Fc").unwrap(), ["/a%2Fb%2Fc", "/a/b%2Fc", "/a%2Fb/c", "/a/b/c"]);
        assert_eq!(of_path("/%2F\u{fc}%252F").unwrap(), ["/%2F\u{fc}%252F", "//\u{fc}%252F"]);
        assert_eq!(of_path("/a%2Fb%2Fc%2Fd").unwrap().len(), 8);
        assert!(of_path("/a%2Fb%2Fc%2Fd%2Fe").unwrap_err().contains('3'));
    }

    #[test]
    fn an_encoded_slash_stands_between_two_names() {
        for path in ["/a", "/a%2Fb", "/npm/@acme%2Fx/-/x.tgz", "/a%2Fb%2Fc%2Fd", "/a%2Fb;v=1/c", "/a%2F.b"] {
            assert_eq!(encoded_slashes(path), Ok(()), "{path}");
        }
        for path in [
            "/%2Fa",
            "/a%2F",
            "/a%2F/b",
            "/a%2F%2Fb",
            "/a%2F..",
            "/a%2F../b",
            "/..%2Fa",
            "/a/.%2Fb",
            "/a%2F..;x/b",
            "/a%2F;x",
            "/a%2Fb%2Fc%2Fd%2Fe",
        ] {
            assert!(encoded_slashes(path).is_err(), "{path}");
        }
    }
}
