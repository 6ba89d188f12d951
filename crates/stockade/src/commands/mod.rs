//! What the command line does, one file per resource: words in, one call, words out.

use std::str::FromStr;

use stockade_api::{
    client::{Client, SiteClient},
    domain::ids::RunId,
    error::Fault,
};

use crate::{
    args::Global,
    failure::{Failure, Outcome},
    home::Home,
    output::Output,
};

pub mod approvals;
pub mod audit;
pub mod budget;
pub mod calls;
pub mod classes;
pub mod connect;
pub mod connections;
pub mod doctor;
pub mod environments;
pub mod executions;
pub mod groups;
pub mod learn;
pub mod login;
pub mod people;
pub mod policy;
pub mod presets;
pub mod projects;
pub mod provider;
pub mod rehearsal;
pub mod run;
pub mod runners;
pub mod runs;
pub mod token;
pub mod transcript;
pub mod up;
pub mod watch;
pub mod words;

/// What every command that talks to an installation has at hand.
#[derive(Debug)]
pub struct Context {
    pub global: Global,
    pub home: Home,
    pub output: Output,
}

impl Context {
    pub fn new(global: Global) -> Outcome<Self> {
        Ok(Self { home: Home::find(&global)?, output: Output { json: global.json }, global })
    }

    pub fn client(&self) -> Outcome<Client> {
        self.home.client(&self.global)
    }
}

/// Reads an identifier, a number, a word; says what is wrong with it.
pub fn parse<T: FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Outcome<T> {
    text.parse().map_err(|error: T::Err| {
        // Words of ours say themselves what they are and what to write; identifiers do not.
        let said = error.to_string();
        if said.contains(&format!("`{text}`")) {
            return Failure::user("bad_argument", said, "`--help` of the command says what may stand there");
        }
        let hint = match what {
            "period" => "write total, day, week or month".to_owned(),
            "amount of dollars" => "write for example 5 or 0.25".to_owned(),
            _ => format!("write a {what} as the lists show it"),
        };
        Failure::user("bad_argument", format!("`{text}` is no {what}: {said}"), hint)
    })
}

/// A client of the site's listener for one run, or the reason why its content cannot be read from here.
pub async fn site(client: &Client, run: RunId) -> Outcome<SiteClient> {
    Ok(SiteClient::new(&client.ticket(run).await?)?)
}

/// Whether an error means that the content is not for us or out of reach: a list or a show goes on without it.
pub fn is_unreadable(failure: &Failure) -> bool {
    matches!(failure, Failure::Error(error) if matches!(error.fault, Fault::Refused | Fault::Outside | Fault::User))
}

/// `-` reads the text from standard input.
pub fn text_or_stdin(text: &str) -> Outcome<String> {
    /// The longest text that is read, in bytes.
    const MAX_TEXT: u64 = 256 * 1024;
    let text = if text == "-" {
        let mut read = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(std::io::stdin().lock(), MAX_TEXT + 1), &mut read)?;
        read
    } else {
        text.to_owned()
    };
    if text.len() as u64 > MAX_TEXT {
        return Err(Failure::user(
            "too_long",
            format!("the text is longer than {MAX_TEXT} bytes"),
            "say it shorter, and leave the details in a file of the repository",
        ));
    }
    if text.trim().is_empty() {
        return Err(Failure::user("empty", "the text is empty", "say what you want done"));
    }
    Ok(text)
}

/// Makes a folder with everything above it, for its owner alone.
pub fn private_dir(folder: &std::path::Path) -> Outcome {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        Failure::config(
            "folder",
            format!("the folder {} cannot be made: {error}", folder.display()),
            "look at the owner and rights of the folder above it",
        )
    })
}

/// Asks back before something that cannot be undone.
pub fn confirm(context: &Context, yes: bool, question: &str) -> Outcome {
    use std::io::IsTerminal as _;
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || context.output.json {
        return Err(Failure::user(
            "not_confirmed",
            format!("{question} This cannot be undone"),
            "repeat it with --yes",
        ));
    }
    context.output.remark(&format!("{question} This cannot be undone. Write `yes` to go on:"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::user("not_confirmed", "nothing was done", "answer `yes`"))
    }
}

/// A time as people read it, in UTC, to the second.
pub fn time(at: stockade_api::domain::Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0)
        .map_or_else(|_| at.0.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}
