//! What no single literal and alphabet describe: private keys, passwords in addresses, values beside a keyword.
//!
//! Each function looks at one place of a text and says what is there ([`There`]), and whether bytes that have not come yet
//! could change it. Text may still be escaped (a key inside JSON inside JSON), so `\n` counts as a line's end and `\"` as a quote.

use std::ops::Range;

use super::checks::{bits, placeholder, plausible};

/// What stands at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum There {
    /// Nothing, whatever follows.
    Nothing,
    /// Something, whatever follows.
    Found(Range<usize>),
    /// What follows decides; it would begin here.
    Open(usize),
}

/// The longest private key that is waited for, in bytes.
pub const MAX_KEY_BYTES: usize = 16 * 1024;
/// How far behind a keyword its value may begin.
pub const MAX_GAP_BYTES: usize = 24;
/// The longest value beside a keyword, the longest user, the longest password in an address.
pub const MAX_VALUE_BYTES: usize = 128;

/// A private key in PEM: `at` is where `-----BEGIN ` stands.
pub fn private_key(text: &[u8], at: usize, last: bool) -> There {
    let open = |found| if last { found } else { There::Open(at) };
    let label_from = at + BEGIN.len();
    let rest = text.get(label_from..).unwrap_or_default();
    let label_len = rest.iter().take(48).take_while(|byte| byte.is_ascii_uppercase() || **byte == b' ').count();
    let (label, after) = rest.split_at_checked(label_len).unwrap_or_default();
    if after.is_empty() {
        return open(There::Nothing);
    }
    if !(label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK")) {
        return There::Nothing;
    }
    // What comes between the two lines, and how much of it is key.
    let body_from = label_from + label_len;
    let (mut end, mut letters, mut dashes) = (body_from, 0_usize, 0_usize);
    let mut ended = false;
    for (n, byte) in text.iter().enumerate().skip(body_from).take(MAX_KEY_BYTES) {
        match byte {
            b'-' => {
                dashes += 1;
                if dashes == 5 && letters > 0 {
                    ended = true;
                    end = n + 1;
                    break;
                }
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' | b'=' => {
                letters += 1;
                dashes = 0;
            }
            b' ' | b'\t' | b'\r' | b'\n' | b'\\' | b':' | b',' | b'.' | b'"' | b'\'' | b'>' | b'(' | b')' | b'@' => {
                dashes = 0;
            }
            _ => {
                ended = true;
                end = n;
                break;
            }
        }
        end = n + 1;
    }
    let body = text.get(body_from..end).unwrap_or_default();
    if !ended && end - body_from < MAX_KEY_BYTES {
        return open(key(body, letters, at, end));
    }
    // The line that ends it, if it is there: `-----END RSA PRIVATE KEY-----`.
    if dashes == 5 && text.get(end - 1) == Some(&b'-') {
        let tail = text.get(end..).unwrap_or_default();
        let line =
            tail.iter().take(60).take_while(|byte| byte.is_ascii_uppercase() || matches!(byte, b' ' | b'-')).count();
        if line == tail.len() && line < 60 && !tail.ends_with(b"-----") {
            return open(key(body, letters, at, end + line));
        }
        let line = tail.get(..line).unwrap_or_default();
        if line.starts_with(b"END ") {
            let len = line.windows(5).position(|part| part == b"-----").map_or(line.len(), |at| at + 5);
            return key(body, letters, at, end + len);
        }
    }
    key(body, letters, at, end)
}

/// `-----BEGIN `.
pub const BEGIN: &[u8] = b"-----BEGIN ";

fn key(body: &[u8], letters: usize, from: usize, to: usize) -> There {
    // The shortest key there is (Ed25519 in PKCS 8) has 64 letters.
    if letters < 60 || bits(body) < 4.0 || placeholder_body(body) { There::Nothing } else { There::Found(from..to) }
}

fn placeholder_body(body: &[u8]) -> bool {
    [&b"..."[..], b"EXAMPLE", b"example"].iter().any(|word| body.windows(word.len()).any(|part| part == *word))
}

/// Whether a private key at `at` stands in a service account's JSON.
pub fn in_service_account(text: &[u8], at: usize) -> bool {
    let before = text.get(at.saturating_sub(200)..at).unwrap_or_default();
    before.windows(14).any(|part| part == b"private_key_id")
}

/// Schemes behind which there is a database or a queue.
const DATABASES: &[&[u8]] = &[
    b"postgres",
    b"postgresql",
    b"mysql",
    b"mariadb",
    b"mongodb",
    b"mongodb+srv",
    b"redis",
    b"rediss",
    b"amqp",
    b"amqps",
    b"mssql",
    b"sqlserver",
    b"clickhouse",
    b"cockroachdb",
    b"oracle",
    b"cassandra",
    b"nats",
    b"kafka",
];

/// A password in an address; `at` is where `://` stands. True with the range if the scheme is a database's.
pub fn url_password(text: &[u8], at: usize, last: bool) -> (There, bool) {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-');
    let scheme = text.get(at.saturating_sub(32)..at).unwrap_or_default();
    let scheme_len = scheme.iter().rev().take_while(|byte| part(byte)).count();
    let mut scheme = scheme.get(scheme.len() - scheme_len..).unwrap_or_default();
    if let Some(driver) = scheme.iter().position(|byte| *byte == b'+').filter(|_| !scheme.starts_with(b"mongodb")) {
        // `postgresql+psycopg://`
        scheme = scheme.get(..driver).unwrap_or_default();
    }
    let database = DATABASES.contains(&scheme);
    if scheme.is_empty() {
        return (There::Nothing, false);
    }
    let named = |byte: &u8| {
        byte.is_ascii_graphic()
            && !matches!(
                byte,
                b':' | b'@'
                    | b'/'
                    | b'"'
                    | b'\''
                    | b'<'
                    | b'>'
                    | b'`'
                    | b'\\'
                    | b'?'
                    | b'#'
                    | b'{'
                    | b'}'
                    | b'$'
                    | b'('
                    | b')'
                    | b'['
                    | b']'
                    | b','
            )
    };
    let secret = |byte: &u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'@' | b'/' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\' | b'{' | b'}' | b' ')
    };
    let user_from = at + 3;
    let rest = text.get(user_from..).unwrap_or_default();
    let user_len = rest.iter().take(MAX_VALUE_BYTES + 1).take_while(|byte| named(byte)).count();
    if rest.get(user_len) != Some(&b':') || user_len > MAX_VALUE_BYTES {
        return (There::Nothing, database);
    }
    let user = rest.get(..user_len).unwrap_or_default();
    let from = user_from + user_len + 1;
    let rest = text.get(from..).unwrap_or_default();
    let len = rest.iter().take(MAX_VALUE_BYTES + 1).take_while(|byte| secret(byte)).count();
    let open = |found| if last { found } else { There::Open(from) };
    if len > MAX_VALUE_BYTES {
        return (There::Nothing, database);
    }
    if len == rest.len() {
        return (open(There::Nothing), database);
    }
    let password = rest.get(..len).unwrap_or_default();
    if rest.get(len) != Some(&b'@') || password.is_empty() {
        return (There::Nothing, database);
    }
    let host_rest = rest.get(len + 1..).unwrap_or_default();
    let host_len = host_rest
        .iter()
        .take(254)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        .count();
    let host = host_rest.get(..host_len).unwrap_or_default();
    let found = if local(host) || worthless(password, user) { There::Nothing } else { There::Found(from..from + len) };
    if host_len == host_rest.len() && host_len < 254 { (open(found), database) } else { (found, database) }
}

/// Hosts of a developer's own machine, of a compose file, and of examples.
fn local(host: &[u8]) -> bool {
    !host.contains(&b'.')
        || host.starts_with(b"127.")
        || host == b"0.0.0.0"
        || [
            &b".local"[..],
            b".internal",
            b".localhost",
            b".test",
            b".invalid",
            b".example",
            b"example.com",
            b"example.org",
            b"example.net",
        ]
        .iter()
        .any(|end| host.ends_with(end))
}

/// Passwords that are none.
fn worthless(password: &[u8], user: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"password",
        b"passwd",
        b"pass",
        b"pwd",
        b"secret",
        b"postgres",
        b"root",
        b"admin",
        b"user",
        b"test",
        b"guest",
    ];
    password.len() < 4
        || password.eq_ignore_ascii_case(user)
        || WORDS.iter().any(|word| password.eq_ignore_ascii_case(word))
        || password.iter().all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.' | b'-'))
        || password.starts_with(b"$")
        || password.starts_with(b"%")
        || placeholder(password)
}

/// The value behind a keyword that ends at `at`: where it begins, and where its alphabet ends. Nothing if there is none.
fn value_behind(text: &[u8], at: usize, alphabet: fn(u8) -> bool) -> Option<Range<usize>> {
    let mut from = at;
    let mut joined = false;
    while let Some(byte) = text.get(from) {
        match byte {
            b'=' | b':' | b'>' => joined = true,
            b' ' | b'\t' | b'"' | b'\'' | b'`' | b',' | b'(' | b'\n' | b'\r' => {}
            b'\\' => {
                if matches!(text.get(from + 1), Some(b'n' | b'r' | b't')) {
                    from += 1;
                }
            }
            _ => break,
        }
        from += 1;
        if from > at + MAX_GAP_BYTES {
            return None;
        }
    }
    let len = text.get(from..)?.iter().take(MAX_VALUE_BYTES + 1).take_while(|byte| alphabet(**byte)).count();
    (joined && len > 0 && len <= MAX_VALUE_BYTES).then_some(from..from + len)
}

/// What stands behind a keyword that ends at `at`, if `real` says that it is a secret.
pub fn beside(text: &[u8], at: usize, last: bool, alphabet: fn(u8) -> bool, real: fn(&[u8]) -> bool) -> There {
    let Some(range) = value_behind(text, at, alphabet) else { return There::Nothing };
    if range.end == text.len() && !last {
        return There::Open(range.start);
    }
    if text.get(range.clone()).is_some_and(real) { There::Found(range) } else { There::Nothing }
}

/// A value that somebody generated: long, mixed, of high entropy. Only believed beside a keyword.
pub fn generated(value: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| value.iter().any(test);
    value.len() >= 16
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && bits(value) >= 3.5
        && plausible(value)
        && !value.iter().any(|byte| matches!(byte, b'.' | b'('))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_and_what_only_looks_like_one() {
        let body = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v0VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
        let whole = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----");
        let text = format!("{whole}\nand more");
        assert_eq!(private_key(text.as_bytes(), 0, true), There::Found(0..whole.len()));
        let escaped = whole.replace('\n', "\\n");
        let text = format!("{escaped}\\nx\",");
        assert_eq!(private_key(text.as_bytes(), 0, false), There::Found(0..escaped.len()));
        for n in 0..whole.len() {
            let part = whole.get(..n).unwrap();
            assert!(n < 11 || private_key(part.as_bytes(), 0, false) == There::Open(0), "{part}");
        }
        for none in ["-----BEGIN CERTIFICATE-----\nMIIB", "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----"]
        {
            assert_eq!(private_key(none.as_bytes(), 0, true), There::Nothing, "{none}");
        }
    }

    #[test]
    fn passwords_in_addresses() {
        let found = |text: &str| {
            let at = text.find("://").unwrap();
            match url_password(text.as_bytes(), at, true) {
                (There::Found(range), database) => Some((text.get(range).unwrap().to_owned(), database)),
                _ => None,
            }
        };
        assert_eq!(found("postgres://app:Zk3vQ9pL@db.acme.io:5432/x"), Some(("Zk3vQ9pL".into(), true)));
        assert_eq!(found("postgresql+psycopg://app:Zk3vQ9pL@db.acme.io/x"), Some(("Zk3vQ9pL".into(), true)));
        assert_eq!(found("redis://:Zk3vQ9pL@cache.acme.io"), Some(("Zk3vQ9pL".into(), true)));
        assert_eq!(found("https://bot:Zk3vQ9pL@git.acme.io/x.git"), Some(("Zk3vQ9pL".into(), false)));
        for none in [
            "postgres://postgres:postgres@localhost:5432/x",
            "postgres://app:Zk3vQ9pL@db:5432/x",
            "postgres://app:${PASSWORD}@db.acme.io/x",
            "postgres://app:password@db.acme.io/x",
            "https://example.com:8080/a@b.c",
            "https://docs.rs/a",
        ] {
            assert_eq!(found(none), None, "{none}");
        }
    }
}
