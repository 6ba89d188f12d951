//! What a configuration's parser says, without what stands in the file: somebody may have written a key where a word belongs.
//!
//! It keeps the line and the parser's sentence. It refuses to show lines, and every found value that is not plainly a word or a
//! number.

use url::Url;

/// What stands in place of a value.
const HIDDEN: &str = "(not shown: it may be a secret)";
/// The longest found word that is shown, in bytes.
const MAX_WORD: usize = 40;

/// A parser's error about this text: in which line, what is wrong, and what is expected.
#[must_use]
pub fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let said = without_values(error.message());
    match line {
        Some(line) => format!("line {line}: {said}"),
        None => said,
    }
}

/// An address without what may be a secret in it: name, password, query and fragment. Nothing of what is none.
pub(super) fn address(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return HIDDEN.to_owned() };
    if url.host().is_none() || url.set_password(None).is_err() || url.set_username("").is_err() {
        return HIDDEN.to_owned();
    }
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// What was found stands before `, expected`, in quotes or in backticks; what stands after it are our own words, and so is all of a
/// message that begins with them.
fn without_values(message: &str) -> String {
    if message.starts_with("expected") {
        return message.to_owned();
    }
    let (found, expected) = message.split_at(message.find(", expected").unwrap_or(message.len()));
    let quotes = found.find('"').zip(found.rfind('"'));
    let ticks = found.find('`').zip(found.rfind('`'));
    let (begin, end) = match (quotes, ticks) {
        (Some((begin, end)), _) if begin < end => (begin, end),
        (_, Some((begin, end))) if begin < end => (begin, end),
        _ => return message.to_owned(),
    };
    let value = found.get(begin + 1..end).unwrap_or_default();
    if found.as_bytes().get(begin) == Some(&b'`') && is_plain(value) {
        return message.to_owned();
    }
    let (before, after) = (found.get(..begin).unwrap_or_default(), found.get(end + 1..).unwrap_or_default());
    format!("{before}{HIDDEN}{after}{expected}")
}

/// A misspelt word of ours, a number, or a truth: keys have digits or capitals among their letters.
fn is_plain(value: &str) -> bool {
    let is_word = value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'));
    value.len() <= MAX_WORD && (is_word || value.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_is_shown_and_a_value_is_not() {
        let same = |message: &str| assert_eq!(without_values(message), message);
        same("unknown variant `openia`, expected one of `openai`, `azure`");
        same("invalid value: integer `-3`, expected usize");
        same("invalid basic string, expected `\"`");
        same("missing field `input`");
        same("expected where the secret is: `env:NAME`, never the secret itself");
        let hidden = |message: &str| {
            let said = without_values(message);
            assert!(
                said.contains(HIDDEN) && !said.contains("SECRET") && said.ends_with("expected a boolean"),
                "{said}"
            );
        };
        hidden("invalid type: string \"sk-SECRET\", expected a boolean");
        hidden("invalid type: string \"plain\", expected a boolean");
        hidden("invalid type: string \"a \\\" SECRET `x`\", expected a boolean");
        hidden("unknown field `sk-ant-api03-SECRET`, expected a boolean");
        assert!(!without_values("unknown field `SECRET`").contains("SECRET"));
    }

    #[test]
    fn the_line_is_the_files_own() {
        let text = "# one\n[a]\nb = sk-SECRET\n";
        let error = toml::from_str::<toml::Table>(text).unwrap_err();
        let said = toml_error(text, &error);
        assert!(said.starts_with("line 3: ") && !said.contains("SECRET"), "{said}");
    }

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        assert_eq!(address("https://user:SECRET@x.example/v1?key=SECRET#SECRET"), "https://x.example/v1");
        assert_eq!(address("sk-SECRET"), HIDDEN);
        assert_eq!(address("mailto:SECRET@x.example"), HIDDEN);
    }
}
