//! Which headers cross the gateway: all but those of one connection, credentials and cookies.

use http::{HeaderMap, HeaderName, header};

/// Headers of one connection: RFC 9110, section 7.6.1, and what is commonly treated alike.
const OF_ONE_CONNECTION: [&str; 8] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"];

/// What a client shows to us and nobody else, or what is made anew.
const OF_THE_CLIENT: [&str; 16] = [
    "host",
    "content-length",
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-goog-user-project",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-stockade-session",
    "cookie",
    "proxy-authorization",
    "forwarded",
    "x-forwarded-for",
    "accept-encoding",
];

/// What a provider shows to us and nobody else.
const OF_THE_PROVIDER: [&str; 2] = ["set-cookie", "proxy-authenticate"];

/// The client's headers, as they go to the provider.
pub(crate) fn outgoing(client: &HeaderMap) -> HeaderMap {
    crossing(client, &OF_THE_CLIENT)
}

/// The provider's headers, as they go to the client.
pub(crate) fn returning(provider: &HeaderMap) -> HeaderMap {
    crossing(provider, &OF_THE_PROVIDER)
}

fn crossing(from: &HeaderMap, kept_back: &[&str]) -> HeaderMap {
    let named: Vec<HeaderName> = from
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let stays = |name: &HeaderName| {
        OF_ONE_CONNECTION.contains(&name.as_str()) || kept_back.contains(&name.as_str()) || named.contains(name)
    };
    from.iter().filter(|(name, _)| !stays(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// All names and values together, in bytes.
pub(crate) fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn credentials_and_connection_headers_stay_here() {
        let client = map(&[
            ("authorization", "Bearer run-token"),
            ("x-api-key", "run-token"),
            ("cookie", "a=b"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("accept-encoding", "gzip"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "one"),
            ("anthropic-beta", "two"),
            ("x-unknown", "kept"),
        ]);
        let expected = map(&[
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "one"),
            ("anthropic-beta", "two"),
            ("x-unknown", "kept"),
        ]);
        assert_eq!(outgoing(&client), expected);
        let provider = map(&[("set-cookie", "x"), ("request-id", "r"), ("content-length", "5"), ("content-type", "t")]);
        let expected = map(&[("request-id", "r"), ("content-length", "5"), ("content-type", "t")]);
        assert_eq!(returning(&provider), expected);
    }
}
