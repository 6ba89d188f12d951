//! What `metadata.user_id` says of a client's session.

use serde_json::Value;

/// The longest `user_id` that is looked at, in bytes.
const MAX_USER_ID: usize = 4_096;

/// The session in a `user_id`: a JSON text with `session_id` (newer clients) or `user_…_session_…` (older ones). Untrusted.
pub(super) fn session_of(user_id: &str) -> Option<String> {
    if user_id.len() > MAX_USER_ID {
        return None;
    }
    let found = if user_id.starts_with('{') {
        let value: Value = serde_json::from_str(user_id).ok()?;
        value.get("session_id")?.as_str()?.to_owned()
    } else {
        user_id.rsplit_once("_session_")?.1.to_owned()
    };
    Some(found).filter(|session| !session.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_clients_name_their_session() {
        assert_eq!(session_of(r#"{"device_id":"d","session_id":"s-1"}"#).as_deref(), Some("s-1"));
        assert_eq!(session_of("user_1a2b_account_x_session_9-8").as_deref(), Some("9-8"));
        assert_eq!(session_of("somebody"), None);
        assert_eq!(session_of(r#"{"session_id":7}"#), None);
        assert_eq!(session_of("user_session_"), None);
    }
}
