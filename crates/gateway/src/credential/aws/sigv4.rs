//! AWS Signature Version 4 in the `authorization` header.
//!
//! The path is brought into one spelling before it is signed (every segment percent-encoded once) and sent like that: a
//! service that compares what it received and one that decodes it first compute the same. In the canonical request it is
//! encoded once more, as every service but S3 wants it: `v1:0` is sent as `v1%3A0` and signed as `v1%253A0`.

use std::fmt::Write;

use aws_lc_rs::{digest, hmac};
use http::{HeaderName, HeaderValue, Uri, header, request::Parts, uri::PathAndQuery};
use jiff::tz::TimeZone;
use secrecy::{ExposeSecret, SecretString};
use stockade_domain::Timestamp;

use crate::credential::CredentialError;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// An access key.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) id: String,
    // `SecretString` shows itself as `[REDACTED]`.
    pub(crate) secret: SecretString,
    pub(crate) session: Option<SecretString>,
}

/// For what a signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) region: String,
    pub(crate) service: String,
}

/// Signs a request: sets `host`, `x-amz-date`, `x-amz-security-token` and `authorization`, and brings the path into its
/// one spelling.
pub(crate) fn sign(
    parts: &mut Parts,
    body: &[u8],
    keys: &Keys,
    scope: &Scope,
    now: Timestamp,
) -> Result<(), CredentialError> {
    let wrong = CredentialError::Request;
    let moment = jiff::Timestamp::from_microsecond(now.0).map_err(|_| wrong("the time is none"))?;
    let moment = moment.to_zoned(TimeZone::UTC);
    let stamp = moment.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = stamp.get(..8).unwrap_or_default().to_owned();

    let path = respell(parts.uri.path());
    let query = parts.uri.query().map(str::to_owned);
    parts.uri = with_path(&parts.uri, &path, query.as_deref())?;
    let host = host(&parts.uri).ok_or(wrong("its address has no host"))?;

    let headers = &mut parts.headers;
    headers.remove(header::AUTHORIZATION);
    headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| wrong("its host is none"))?);
    headers.insert(DATE, HeaderValue::try_from(&stamp).map_err(|_| wrong("the time is none"))?);
    headers.remove(TOKEN);
    if let Some(session) = &keys.session {
        let mut value = HeaderValue::try_from(session.expose_secret())
            .map_err(|_| wrong("the session token is no header value"))?;
        value.set_sensitive(true);
        headers.insert(TOKEN, value);
    }

    // Everything that the service acts on. The rest may be changed on the way.
    let signs = |name: &HeaderName| {
        *name == header::HOST || *name == header::CONTENT_TYPE || name.as_str().starts_with("x-amz")
    };
    let mut names: Vec<&HeaderName> = headers.keys().filter(|name| signs(name)).collect();
    names.sort_unstable_by_key(|name| name.as_str());
    let mut canonical = format!("{}\n{}\n{}\n", parts.method, encode(&path, true), canonical_query(query.as_deref()));
    for name in &names {
        let values: Option<Vec<String>> =
            headers.get_all(*name).iter().map(|value| value.to_str().ok().map(squeeze)).collect();
        let values = values.ok_or(wrong("a header that is to be signed is not plain text"))?;
        let _ = writeln!(canonical, "{name}:{}", values.join(","));
    }
    let signed: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let signed = signed.join(";");
    let _ = write!(canonical, "\n{signed}\n{}", hash(body));

    let within = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{within}\n{}", hash(canonical.as_bytes()));
    let signature = hex(signing_key(keys, &day, scope, text.as_bytes()).as_ref());
    let value =
        format!("AWS4-HMAC-SHA256 Credential={}/{within}, SignedHeaders={signed}, Signature={signature}", keys.id);
    let mut value = HeaderValue::try_from(value).map_err(|_| wrong("the access key's id is no header value"))?;
    value.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, value);
    Ok(())
}

fn signing_key(keys: &Keys, day: &str, scope: &Scope, text: &[u8]) -> hmac::Tag {
    let mac = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let first = SecretString::from(format!("AWS4{}", keys.secret.expose_secret()));
    let key = mac(first.expose_secret().as_bytes(), day.as_bytes());
    let key = mac(key.as_ref(), scope.region.as_bytes());
    let key = mac(key.as_ref(), scope.service.as_bytes());
    let key = mac(key.as_ref(), b"aws4_request");
    mac(key.as_ref(), text)
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The host as hyper sends it: without the scheme's own port.
fn host(uri: &Uri) -> Option<String> {
    let host = uri.host()?;
    let own = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Some(uri.port_u16().filter(|port| *port != own).map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn with_path(uri: &Uri, path: &str, query: Option<&str>) -> Result<Uri, CredentialError> {
    let wrong = |_| CredentialError::Request("its address is none");
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse::<PathAndQuery>().map_err(wrong)?);
    Uri::from_parts(parts).map_err(|_| CredentialError::Request("its address is none"))
}

/// A path with every segment percent-encoded exactly once.
fn respell(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(|segment| encode_bytes(&decode(segment), false)).collect();
    segments.join("/")
}

fn canonical_query(query: Option<&str>) -> String {
    let one = |text: &str| encode_bytes(&decode(text), false);
    let mut pairs: Vec<(String, String)> = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (one(name), one(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn encode(text: &str, slash: bool) -> String {
    encode_bytes(text.as_bytes(), slash)
}

/// RFC 3986: everything but the unreserved characters, and `/` if it is a path.
fn encode_bytes(bytes: &[u8], slash: bool) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || (slash && *byte == b'/') {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// Percent-decoding; what is no escape stays as it is.
fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = digit(after.first()).zip(digit(after.get(1)));
        if let (b'%', Some((high, low))) = (first, pair) {
            out.push(u8::try_from(high * 16 + low).unwrap_or_default());
            rest = after.get(2..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

/// A header's value without spaces around it, and with one where there were several.
fn squeeze(value: &str) -> String {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// 2015-08-30T12:36:00Z, the moment of the published suite.
    const THEN: Timestamp = Timestamp(1_440_938_160_000_000);

    fn signed(
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        session: Option<&str>,
        service: &str,
    ) -> Parts {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        let keys = Keys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: SecretString::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session: session.map(SecretString::from),
        };
        let scope = Scope { region: "us-east-1".to_owned(), service: service.to_owned() };
        sign(&mut parts, body, &keys, &scope, THEN).unwrap();
        parts
    }

    fn signature(parts: &Parts) -> String {
        let text = parts.headers[header::AUTHORIZATION].to_str().unwrap();
        text.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn the_published_suite() {
        // aws-signing-test-suite, v4: get-vanilla, -query-order-key-case, -query-order-encoded, -with-session-token,
        // post-vanilla.
        let get = |url: &str, session| signature(&signed("GET", url, &[], b"", session, "service"));
        let at = "http://example.amazonaws.com/";
        assert_eq!(get(at, None), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        assert_eq!(
            get(&format!("{at}?Param2=value2&Param1=value1"), None),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
        );
        assert_eq!(
            get(&format!("{at}?Param-3=Value3&Param=Value2&%E1%88%B4=Value1"), None),
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"
        );
        assert_eq!(
            get(at, Some("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267")),
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"
        );
        assert_eq!(
            signature(&signed("POST", at, &[], b"", None, "service")),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
    }

    #[test]
    fn bedrock_as_botocore_signs_it() {
        let host = "https://bedrock-runtime.us-east-1.amazonaws.com";
        let json = ("content-type", "application/json");
        // However the colon of the model's id is spelled, it goes out and is signed alike.
        for colon in [":", "%3A", "%3a"] {
            let url = format!("{host}/model/us.anthropic.claude-sonnet-4-20250514-v1{colon}0/converse");
            let parts = signed("POST", &url, &[json, ("x-other", "1")], b"{\"messages\":[]}", None, "bedrock");
            assert_eq!(parts.uri.path(), "/model/us.anthropic.claude-sonnet-4-20250514-v1%3A0/converse");
            assert_eq!(signature(&parts), "40e0b26f1b49e01d3cb4489d545a017251c1f00bc991acaa05d0e1c46df51ec8");
        }
        let arn = "arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Ainference-profile%2Feu.x-v1%3A0";
        let accept = ("x-amzn-bedrock-accept", "application/json");
        let parts = signed(
            "POST",
            &format!("{host}/model/{arn}/invoke"),
            &[json, accept],
            b"",
            Some("SESSION/token+=="),
            "bedrock",
        );
        assert_eq!(signature(&parts), "5e5c0dd43abe946ab6a3553020cb17daa2f1b4108e186f947324ff807421002c");
        assert!(!format!("{parts:?}").contains("SESSION"));
        let url = "http://127.0.0.1:8443/inference-profiles?type=SYSTEM_DEFINED&maxResults=10&b=a%20b";
        let parts = signed("GET", url, &[], b"", None, "bedrock");
        assert_eq!(signature(&parts), "e57a017675ba69ea747b568f684a7fbf89c7253d5ea79323e56e54a1f3200040");
        assert_eq!(parts.headers[header::HOST], "127.0.0.1:8443");
    }

    #[test]
    fn what_the_client_signed_is_not_kept() {
        let old = [("authorization", "AWS4-HMAC-SHA256 x"), ("x-amz-security-token", "old"), ("x-amz-date", "old")];
        let parts = signed("GET", "http://example.amazonaws.com/", &old, b"", None, "service");
        assert_eq!(signature(&parts), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        assert!(!parts.headers.contains_key(TOKEN));
    }
}
