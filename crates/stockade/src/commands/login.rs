//! Signing in: an access token is proven against the server and kept in the user's own configuration, where every other command
//! finds it. It refuses a token as an argument: other people of the machine could read it there.

use std::io::{IsTerminal as _, Read as _, Write as _};

use secrecy::{ExposeSecret as _, SecretString};
use stockade_api::{client::Client, http::Me};

use super::Context;
use crate::{
    failure::{Failure, Outcome},
    home::Login,
};

/// The longest token that is read, in bytes.
const MAX_TOKEN: u64 = 4_096;

/// `stockade login`
pub async fn login(context: &Context, server: Option<String>) -> Outcome {
    let url = server.or_else(|| context.home.url(&context.global)).ok_or_else(|| {
        Failure::user("no_server", "which server?", "name it: `stockade login --server https://stockade.example`")
    })?;
    let token = match &context.global.token_file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::user(
                    "token_file",
                    format!("the access token in {} cannot be read: {error}", file.display()),
                    "name a file that you can read with --token-file FILE, or leave it out and be asked",
                )
            })?;
            SecretString::from(text.trim().to_owned())
        }
        None => ask(&url)?,
    };
    if token.expose_secret().is_empty() {
        return Err(Failure::user("no_token", "there was no token", "an admin makes one for you"));
    }
    if goes_in_the_clear(&url) {
        context
            .output
            .remark(&format!("{url} is not https: whoever is on the way can read your token and what it opens"));
    }
    let me: Me = Client::new(&url, Some(token.clone()))?.me().await?;
    let kept = Login::keep(&url, &token)?;
    context.output.show(&me, |me| {
        let roles: Vec<&str> = me.roles.iter().map(|role| role.as_str()).collect();
        format!("signed in at {url} as {} ({}); the token is in {}", me.name, roles.join(", "), kept.display())
    })
}

/// `stockade logout`
pub fn logout(context: &Context) -> Outcome {
    let said = match Login::forget()? {
        Some(login) => format!("signed out of {}; the token is removed here, an admin can end it for good", login.url),
        None => "nobody is signed in here".to_owned(),
    };
    context.output.show(&serde_json::json!({ "message": said }), |_| said.clone())
}

/// Whether what is sent there leaves this machine unencrypted.
fn goes_in_the_clear(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let here = ["localhost", "127.", "[::1]"];
    !here.iter().any(|here| host.starts_with(here))
}

/// From a prompt that shows nothing of it, or from standard input.
fn ask(url: &str) -> Outcome<SecretString> {
    let mut text = String::new();
    if !std::io::stdin().is_terminal() {
        std::io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text)?;
        return Ok(SecretString::from(text.trim().to_owned()));
    }
    write!(std::io::stderr().lock(), "Access token for {url}: ")?;
    let hidden = Hidden::begin()?;
    let read = std::io::stdin().read_line(&mut text);
    drop(hidden);
    writeln!(std::io::stderr().lock())?;
    read?;
    Ok(SecretString::from(text.trim().to_owned()))
}

/// The terminal shows nothing of what is typed until this is dropped.
struct Hidden;

impl Hidden {
    fn begin() -> Outcome<Self> {
        if stty("-echo") {
            return Ok(Self);
        }
        Err(Failure::config(
            "no_prompt",
            "this terminal cannot be told to hide what is typed",
            "give the token on standard input: `stockade login --server URL < FILE`",
        ))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        stty("echo");
    }
}

fn stty(word: &str) -> bool {
    let run = std::process::Command::new("stty").arg(word).stdin(std::process::Stdio::inherit()).status();
    run.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_to_other_machines_is_in_the_clear() {
        for here in ["https://x.example", "http://127.0.0.1:7080", "http://localhost", "http://[::1]:1/"] {
            assert!(!goes_in_the_clear(here), "{here}");
        }
        assert!(goes_in_the_clear("http://stockade.example:7080") && goes_in_the_clear("http://10.0.0.5"));
    }
}
