//! Paths of requests and the rules about them.
//!
//! [`NormalPath`] is what a rule is held against: percent-encoded unreserved characters are written out, hexadecimal
//! digits are large, dot segments are gone (RFC 3986 §5.2.4 and §6.2.2, also in their `%2e` spelling). Two slashes stay
//! two and match nothing but themselves. It refuses what origins resolve differently and where a rule would therefore
//! hold for another path than the one that is served: backslashes, encoded backslashes, NUL and controls, dot
//! segments with parameters (`..;`), and percent signs that encode nothing.
//!
//! An encoded slash between two names (`/@acme%2Fx`) stays as it is: the policy judges such a path in every reading
//! ([`stockade_policy::MAX_ENCODED_SLASHES`]). Anywhere else it is refused: beside another slash, at an end, beside a dot segment, in a path that
//! has dot segments elsewhere. Rules that are held against paths here ([`PathRule`]) have none, so what is below them in the spelling of the
//! request is below them in every reading.
//!
//! It does not decode twice: `%252e` is the text `%2e` to everybody who follows the standard. The query is no part of
//! a path.

/// The longest path, in bytes.
pub const MAX_PATH: usize = 64 * 1024;

/// In the spelling of [`NormalPath`].
pub(crate) const ENCODED_SLASH: &str = "%2F";

/// Why no rule can be held against a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// More than [`MAX_PATH`].
    #[error("the path is longer than 64 KiB")]
    TooLong,
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NoSlash,
    /// `\` or `%5c`.
    #[error("the path has a backslash, which some servers take for a slash")]
    Backslash,
    /// `%2f` that stands elsewhere than between two names, or too often.
    #[error("the path has encoded slashes (%2f) that servers read in more ways than are judged")]
    EncodedSlash,
    /// `%00`, a control, or one of them encoded.
    #[error("the path has a control character")]
    Control,
    /// Bytes outside ASCII, spaces, `?` and `#`.
    #[error("the path has a character that is to be percent-encoded")]
    Character,
    /// A percent sign without two hexadecimal digits.
    #[error("a percent sign in the path encodes nothing")]
    Percent,
    /// `/..;x/`
    #[error("the path has a dot segment with parameters, which servers read in two ways")]
    DotParameters,
}

/// A path in the spelling that rules are held against.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NormalPath {
    text: String,
    moved: bool,
}

impl NormalPath {
    /// Reads a path without its query.
    ///
    /// # Errors
    /// What servers read in two ways is refused.
    pub fn read(path: &str) -> Result<Self, PathError> {
        if path.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        let rest = path.strip_prefix('/').ok_or(PathError::NoSlash)?;
        let (mut kept, mut moved, mut encoded) = (Vec::new(), false, false);
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            let segment = written_out(segment)?;
            encoded |= segment.contains(ENCODED_SLASH);
            let last = segments.peek().is_none();
            let before = segment.split_once(';').map(|(before, _)| before);
            if matches!(before, Some("." | "..")) {
                return Err(PathError::DotParameters);
            }
            if segment == "." || segment == ".." {
                moved = true;
                if segment == ".." {
                    kept.pop();
                }
                // A path that ends so names a directory.
                if last {
                    kept.push(String::new());
                }
                continue;
            }
            kept.push(segment);
        }
        let text = format!("/{}", kept.join("/"));
        // Which segment a dot segment takes away is another one in each reading.
        if encoded && moved || stockade_policy::encoded_slashes(&text).is_err() {
            return Err(PathError::EncodedSlash);
        }
        Ok(Self { text, moved })
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether dot segments were taken out. Then an origin that does not resolve them would serve another path than
    /// the one a rule was held against, and this spelling is to be sent instead of the client's. All other spellings
    /// of a normal path are equivalent, and the client's goes on untouched.
    pub fn moved(&self) -> bool {
        self.moved
    }
}

impl std::fmt::Display for NormalPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A segment with nothing encoded that need not be.
fn written_out(segment: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let encoded = byte == b'%';
        let byte = match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit().ok_or(PathError::Percent)?, digit().ok_or(PathError::Percent)?);
                u8::try_from(high << 4 | low).map_err(|_| PathError::Percent)?
            }
            byte => byte,
        };
        match byte {
            b'\\' => return Err(PathError::Backslash),
            b'/' if encoded => out.push_str(ENCODED_SLASH),
            0..=31 | 127 => return Err(PathError::Control),
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(char::from(byte)),
            _ if encoded => out.push_str(&format!("%{byte:02X}")),
            b' ' | b'?' | b'#' | 128.. => return Err(PathError::Character),
            _ => out.push(char::from(byte)),
        }
    }
    Ok(out)
}

/// Which paths a rule means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathRule {
    /// This path and no other.
    Exact(NormalPath),
    /// This path and what is below it: `/a` means `/a` and `/a/b`, not `/ab`. With a slash at the end, `/a/` means
    /// what is below and not `/a` itself; `/` means everything.
    Below(NormalPath),
}

impl PathRule {
    /// A rule about one path.
    ///
    /// # Errors
    /// See [`NormalPath::read`]; encoded slashes are refused.
    pub fn exact(path: &str) -> Result<Self, PathError> {
        Self::path(path).map(Self::Exact)
    }

    /// A rule about a path and what is below.
    ///
    /// # Errors
    /// See [`NormalPath::read`]; encoded slashes are refused.
    pub fn below(path: &str) -> Result<Self, PathError> {
        Self::path(path).map(Self::Below)
    }

    fn path(path: &str) -> Result<NormalPath, PathError> {
        let path = NormalPath::read(path)?;
        if path.text.contains(ENCODED_SLASH) { Err(PathError::EncodedSlash) } else { Ok(path) }
    }

    /// Whether the rule means this path. Cases are different letters.
    pub fn matches(&self, path: &NormalPath) -> bool {
        match self {
            Self::Exact(rule) => rule.text == path.text,
            Self::Below(rule) => path
                .text
                .strip_prefix(&rule.text)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rule.text.ends_with('/')),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> Result<String, PathError> {
        NormalPath::read(path).map(|path| path.text)
    }

    #[test]
    fn a_path_has_one_spelling() {
        for (path, text, moved) in [
            ("/", "/", false),
            ("/a/b", "/a/b", false),
            ("/a//b/", "/a//b/", false),
            ("/%61%2D%2d%7e", "/a--~", false),
            ("/%c3%bc", "/%C3%BC", false),
            ("/a%20b%3F%23%25", "/a%20b%3F%23%25", false),
            ("/a%252e%252e/b", "/a%252e%252e/b", false),
            ("/@scope/pkg;v=1,2:3+4!$&'()*=", "/@scope/pkg;v=1,2:3+4!$&'()*=", false),
            ("/@scope%40x", "/@scope%40x", false),
            ("/@scope%2fx/-/x.tgz", "/@scope%2Fx/-/x.tgz", false),
            ("/team%2Fsub%2fapp", "/team%2Fsub%2Fapp", false),
            ("/.../a/.b/..c", "/.../a/.b/..c", false),
            ("/a/./b", "/a/b", true),
            ("/a/../b", "/b", true),
            ("/a/%2e%2E/b", "/b", true),
            ("/a/.%2e/b", "/b", true),
            ("/../../b", "/b", true),
            ("/a/b/..", "/a/", true),
            ("/a/.", "/a/", true),
            ("/..", "/", true),
            ("/a//../b", "/a/b", true),
        ] {
            let read = NormalPath::read(path).unwrap();
            assert_eq!((read.as_str(), read.moved()), (text, moved), "{path}");
        }
    }

    #[test]
    fn n15_what_servers_resolve_differently_is_refused() {
        use PathError::*;
        for (path, why) in [
            ("", NoSlash),
            ("a", NoSlash),
            ("*", NoSlash),
            ("/a\\..\\b", Backslash),
            ("/a%5c..%5Cb", Backslash),
            ("/a%2f..%2Fb", EncodedSlash),
            ("/a/%2f", EncodedSlash),
            ("/a%2f", EncodedSlash),
            ("/a%2f/b", EncodedSlash),
            ("/a%2f%2e%2e", EncodedSlash),
            ("/a%2f..;/b", EncodedSlash),
            ("/a%2fb/../c", EncodedSlash),
            ("/a/../b%2fc", EncodedSlash),
            ("/a%2fb%2fc%2fd%2fe", EncodedSlash),
            ("/a%00", Control),
            ("/a%0d%0a", Control),
            ("/a%7f", Control),
            ("/a\tb", Control),
            ("/a b", Character),
            ("/a?b", Character),
            ("/a#b", Character),
            ("/\u{fc}", Character),
            ("/a%", Percent),
            ("/a%2", Percent),
            ("/a%zz", Percent),
            ("/a%+1", Percent),
            ("/a/..;x=y/b", DotParameters),
            ("/a/%2e%2e;/b", DotParameters),
            ("/a/.;/b", DotParameters),
        ] {
            assert_eq!(normal(path), Err(why), "{path}");
        }
        assert_eq!(normal(&format!("/{}", "a".repeat(MAX_PATH))), Err(TooLong));
    }

    #[test]
    fn n28_a_rule_ends_at_the_border_of_a_segment() {
        let holds = |rule: &PathRule, path: &str| rule.matches(&NormalPath::read(path).unwrap());
        let below = PathRule::below("/a").unwrap();
        for path in ["/a", "/a/", "/a/b", "/%61/b", "/x/../a/b", "/a//b", "/a/b/../c"] {
            assert!(holds(&below, path), "{path}");
        }
        for path in ["/ab", "/", "/A", "//a", "/a/../b", "/a;x", "/a%20", "/b/a"] {
            assert!(!holds(&below, path), "{path}");
        }
        let inside = PathRule::below("/a/").unwrap();
        assert!(holds(&inside, "/a/b") && holds(&inside, "/a/") && !holds(&inside, "/a"));
        let exact = PathRule::exact("/a").unwrap();
        assert!(holds(&exact, "/a") && !holds(&exact, "/a/") && !holds(&exact, "/a/b"));
        for path in ["/a%2fb", "/b%2fa"] {
            assert!(!holds(&below, path) && !holds(&exact, path), "{path}");
            assert!(PathRule::below(path).is_err() && PathRule::exact(path).is_err());
        }
        assert!(holds(&below, "/a/b%2fc"));
        let all = PathRule::below("/").unwrap();
        assert!(holds(&all, "/") && holds(&all, "/x/y") && holds(&all, "//"));
    }

    proptest! {
        #[test]
        fn a_normal_path_is_normal_and_stays_below(path in "/([a-c./;]|%2[eE]|%61|%2f|\\\\|%C3){0,24}") {
            if let Ok(read) = NormalPath::read(&path) {
                let again = NormalPath::read(read.as_str()).unwrap();
                prop_assert_eq!(again.as_str(), read.as_str());
                prop_assert!(!again.moved());
                prop_assert!(read.as_str().split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(PathRule::below("/").unwrap().matches(&read));
                prop_assert!(PathRule::Exact(read.clone()).matches(&again));
                if read.as_str().contains("%2F") {
                    return Ok(());
                }
                let below = NormalPath::read(&format!("{}/x", read.as_str().trim_end_matches('/'))).unwrap();
                prop_assert!(PathRule::below(read.as_str().trim_end_matches('/')).is_ok_and(|rule| rule.matches(&below)) || read.as_str().trim_end_matches('/').is_empty());
            }
        }

        #[test]
        fn what_is_below_a_rule_is_below_it_in_every_reading(path in "/([ab./;]|%2[eEfF]|\\.\\.){0,16}") {
            if let Ok(read) = NormalPath::read(&path) {
                let mut readings = vec![read.as_str().to_owned()];
                while let Some(at) = readings.iter().position(|text| text.contains("%2F")) {
                    let text = readings.remove(at);
                    // A slash, or a letter of a name.
                    readings.extend([text.replacen("%2F", "/", 1), text.replacen("%2F", "~", 1)]);
                }
                for reading in readings {
                    let plain = NormalPath::read(&reading).unwrap();
                    prop_assert!(!plain.moved(), "{} reads as {}", path, reading);
                    for rule in ["/a", "/b/", "/a/b", "/"] {
                        let rule = PathRule::below(rule).unwrap();
                        prop_assert!(!rule.matches(&read) || rule.matches(&plain), "{} reads as {}", path, reading);
                    }
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(path in "\\PC{0,40}") {
            let _ = NormalPath::read(&path);
        }
    }
}
