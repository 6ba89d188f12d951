//! The way through a corporate proxy: `CONNECT` (RFC 9110 §9.3.6), with a credential if it wants one.
//!
//! It owns the request, the reading of the answer and what it means. It refuses to read more of an answer than its head, and to
//! follow one elsewhere. *Invariant:* what comes after the head is the other side's, to the byte; the credential is in no error and no log.

use std::{io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::name::Host;

/// The longest head of an answer, in bytes.
pub const MAX_ANSWER: usize = 16 * 1024;

/// What a proxy is shown (RFC 7617).
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name: no colon, nothing but graphic characters and spaces.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// Why a proxy gave no way. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It does not speak as it should, or is gone.
    #[error("the proxy was lost while it was asked for a way")]
    Lost(#[source] io::Error),
    /// It said nothing for too long.
    #[error("the proxy did not answer in {} s", .0.as_secs())]
    Silent(Duration),
    /// It wants a credential, or another one.
    #[error("the proxy wants a credential ({0}): check the user and the password that are configured for it")]
    Credential(String),
    /// It does not let this host through.
    #[error("the proxy refuses with status {0}: ask whoever runs it to let this host through")]
    Refused(u16),
    /// It could not reach the host.
    #[error("the proxy cannot reach the host (status {0})")]
    Unreachable(u16),
    /// What came is no answer.
    #[error("what answers there is no proxy: {0}")]
    Strange(&'static str),
}

/// Asks a proxy for a way to a host. Afterwards the stream is that way.
///
/// # Errors
/// [`ProxyError`]; the stream is of no use then.
pub async fn ask<S>(
    stream: &mut S,
    host: &Host,
    port: u16,
    account: Option<&Account>,
    patience: Duration,
) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let asked = async {
        stream.write_all(&request(host, port, account)).await.map_err(ProxyError::Lost)?;
        stream.flush().await.map_err(ProxyError::Lost)?;
        understood(&head(stream).await?)
    };
    tokio::time::timeout(patience, asked).await.unwrap_or(Err(ProxyError::Silent(patience)))
}

fn request(host: &Host, port: u16, account: Option<&Account>) -> Zeroizing<Vec<u8>> {
    let authority = match host {
        Host::Address(std::net::IpAddr::V6(address)) => format!("[{address}]:{port}"),
        other => format!("{other}:{port}"),
    };
    let mut head = Zeroizing::new(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes());
    if let Some(account) = account {
        let pair = Zeroizing::new(format!("{}:{}", account.user, account.password.expose_secret()));
        let shown = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        head.extend_from_slice(b"Proxy-Authorization: Basic ");
        head.extend_from_slice(shown.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The head of the answer, and not a byte more: what follows is the other side's.
async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, ProxyError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_ANSWER {
            return Err(ProxyError::Strange("its answer has no end"));
        }
        // A byte at a time: a few hundred for a connection, of which the kernel has them all.
        head.push(stream.read_u8().await.map_err(ProxyError::Lost)?);
        let known = b"HTTP/1.".iter().zip(&head).all(|(wanted, seen)| wanted == seen);
        if !known {
            return Err(ProxyError::Strange("its answer is none of HTTP/1"));
        }
    }
    Ok(head)
}

fn understood(head: &[u8]) -> Result<(), ProxyError> {
    // `HTTP/1.1 200 …`: nine bytes, then three digits, then a space or the end of the line.
    let digits = head.get(9..12).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let apart = head.get(8) == Some(&b' ') && matches!(head.get(12), Some(b' ' | b'\r'));
    let status: Option<u16> =
        digits.filter(|_| apart).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match status {
        // Any 2xx is a way, and has no body (RFC 9110 §9.3.6).
        Some(200..=299) => Ok(()),
        // 401 is none of a proxy's (RFC 9110 §15.5.2), and what some say of a wrong password.
        Some(401 | 407) => Err(ProxyError::Credential(schemes(head))),
        Some(status @ (502..=504)) => Err(ProxyError::Unreachable(status)),
        Some(status @ 300..=599) => Err(ProxyError::Refused(status)),
        _ => Err(ProxyError::Strange("its answer has no status")),
    }
}

/// Which schemes it takes, in its own words, as far as they are some.
fn schemes(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let wanted = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let scheme: String = value.trim_start().chars().take_while(char::is_ascii_alphanumeric).take(32).collect();
        (["proxy-authenticate", "www-authenticate"].iter().any(|known| name.eq_ignore_ascii_case(known))
            && !scheme.is_empty())
        .then_some(scheme)
    });
    let wanted: Vec<String> = wanted.take(8).collect();
    if wanted.is_empty() { "it does not say of which kind".to_owned() } else { wanted.join(", ") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::duplex;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Asks a proxy that answers so; what it heard, what came of it, and what follows on the way.
    async fn asked(host: &str, account: Option<&Account>, answer: &[u8]) -> (String, Result<(), ProxyError>, Vec<u8>) {
        let (mut ours, mut theirs) = duplex(64 * 1024);
        let host = Host::parse(host).unwrap();
        let proxy = async {
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n\r\n") {
                heard.push(theirs.read_u8().await.unwrap());
            }
            theirs.write_all(answer).await.unwrap();
            theirs.shutdown().await.unwrap();
            String::from_utf8(heard).unwrap()
        };
        let (came, heard) = tokio::join!(ask(&mut ours, &host, 443, account, PATIENCE), proxy);
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        (heard, came, rest)
    }

    #[tokio::test]
    async fn a_way_is_asked_for_and_what_follows_is_the_other_sides() {
        let (heard, came, rest) =
            asked("registry.example", None, b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nSSH-2.0-x\r\n")
                .await;
        assert_eq!(heard, "CONNECT registry.example:443 HTTP/1.1\r\nHost: registry.example:443\r\n\r\n");
        came.unwrap();
        assert_eq!(rest, b"SSH-2.0-x\r\n");
        let (heard, came, _) = asked("[2606:4700::1111]", None, b"HTTP/1.0 200 OK\r\n\r\n").await;
        assert!(heard.starts_with("CONNECT [2606:4700::1111]:443 ") && came.is_ok(), "{heard}");
    }

    #[tokio::test]
    async fn a_credential_is_shown_to_the_proxy_and_to_nobody_else() {
        let account = Account { user: "ada".to_owned(), password: SecretString::from("open:sesame") };
        let answer =
            b"HTTP/1.1 407 no\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: Basic realm=\"x\"\r\n\r\n";
        let (heard, came, _) = asked("a.example", Some(&account), answer).await;
        assert!(heard.contains("\r\nProxy-Authorization: Basic YWRhOm9wZW46c2VzYW1l\r\n"), "{heard}");
        let error = came.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the proxy wants a credential (Negotiate, Basic): check the user and the password that are configured for it"
        );
        assert!(!format!("{error:?} {account:?}").contains("sesame"));
    }

    #[tokio::test]
    async fn what_a_proxy_says_is_told_apart() {
        for (answer, told) in [
            (&b"HTTP/1.1 403 Forbidden\r\n\r\n<html>"[..], "refuses with status 403"),
            (b"HTTP/1.1 502 x\r\n\r\n", "cannot reach the host (status 502)"),
            (b"HTTP/1.1 302 x\r\nLocation: http://evil.example/\r\n\r\n", "refuses with status 302"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "no status"),
            (b"HTTP/1.1 2000 x\r\n\r\n", "no status"),
            (b"SSH-2.0-OpenSSH_9\r\n", "none of HTTP/1"),
            (b"HTTP/2 200\r\n\r\n", "none of HTTP/1"),
            (b"HTTP/1.1 200 OK\r\n", "was lost"),
            (b"", "was lost"),
        ] {
            let (_, came, _) = asked("a.example", None, answer).await;
            let error = came.unwrap_err().to_string();
            assert!(error.contains(told), "{}: {error}", String::from_utf8_lossy(answer));
        }
        let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &b"X: y\r\n".repeat(MAX_ANSWER)[..]].concat();
        let (mut ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(&endless).await.unwrap();
        let host = Host::parse("a.example").unwrap();
        let error = ask(&mut ours, &host, 1, None, PATIENCE).await.unwrap_err();
        assert!(matches!(error, ProxyError::Strange("its answer has no end")), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_proxy_is_given_up() {
        let (mut ours, _theirs) = duplex(1024);
        let host = Host::parse("a.example").unwrap();
        let error = ask(&mut ours, &host, 1, None, PATIENCE).await.unwrap_err();
        assert_eq!(error.to_string(), "the proxy did not answer in 5 s");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_fall(answer: Vec<u8>) {
            let _ = understood(&answer);
            prop_assert!(schemes(&answer).len() <= 8 * 34);
        }
    }
}
