//! From what was refused on the way out to the least that would have let it through.

use std::collections::BTreeMap;

use stockade_api::{
    client::Client,
    domain::{
        Answer,
        ids::{EnvironmentId, ProjectId, RunId},
    },
    http::{Connection, ListConnections},
};
use stockade_server::offline::{Refused, Wanted, learn, rails};

use super::{Context, parse};
use crate::failure::Outcome;

/// The most refusals that are looked at, newest first.
const MAX_REFUSALS: usize = 5_000;
/// The most pushes that are looked at one by one, for what their records say besides.
const MAX_PUSHES: usize = 100;

pub async fn main(context: &Context, client: &Client, of: &str, all_projects: bool) -> Outcome {
    let mut query = ListConnections { decision: Some(Answer::Deny), limit: Some(200), ..ListConnections::default() };
    if of.starts_with("run_") {
        query.run = Some(parse::<RunId>("run", of)?);
    } else {
        query.environment = Some(parse::<EnvironmentId>("environment", of)?);
    }
    let mut found: Vec<Connection> = Vec::new();
    let mut more = false;
    loop {
        let page = client.connections(&query).await?;
        found.extend(page.items);
        more = more || (found.len() >= MAX_REFUSALS && page.next_cursor.is_some());
        match page.next_cursor {
            Some(cursor) if found.len() < MAX_REFUSALS => query.cursor = Some(cursor),
            _ => break,
        }
    }
    let mut pushes = 0;
    let mut refused = Vec::new();
    for connection in &found {
        let mut odd = Vec::new();
        if connection.action == "git.push" {
            pushes += 1;
            // What nobody has looked at counts as what needs a word of its own.
            odd = if pushes > MAX_PUSHES {
                rails(&BTreeMap::new())
            } else {
                rails(&client.connection(connection.id).await?.context)
            };
        }
        refused.extend(read(connection, odd));
    }
    let project = found.iter().find_map(|connection| connection.project).filter(|_| !all_projects);
    let proposal = learn(&refused, project);
    if more {
        context.output.remark(&format!("there were more refusals: the newest {} are looked at", found.len()));
    }
    for left in &proposal.left_out {
        context.output.remark(&format!("not proposed: {} (refused {} times): {}", left.what, left.times, left.why));
    }
    if proposal.text.is_empty() {
        let why = if found.is_empty() { "nothing was refused on the way out" } else { "there is nothing to propose" };
        context.output.remark(why);
        if !context.output.json {
            return Ok(());
        }
    }
    context.output.show(&proposal, |proposal| scope(&proposal.text, project))?;
    context.output.remark(
        "read it, add it to the policy (`stockade policy show > bundle.toml`), and put that into force with \
         `stockade policy apply bundle.toml`",
    );
    Ok(())
}

/// The proposal with a line on top that says for whom it is.
fn scope(text: &str, project: Option<ProjectId>) -> String {
    let whom = project.map_or_else(|| "all projects".to_owned(), |id| format!("the project {id}"));
    format!("# The least that would have let through what was refused, for {whom}.\n\n{}", text.trim_end())
}

/// What was refused, as learning takes it. Nothing for what is no deed.
fn read(connection: &Connection, rails: Vec<String>) -> Option<Refused> {
    let host = connection.host.clone();
    let port = connection.port.unwrap_or(443);
    let repository = connection.repository.clone();
    let wanted = match connection.action.as_str() {
        "connection.open" => {
            let readable = matches!(connection.protocol.as_deref(), Some("tls" | "http1" | "http2"));
            Wanted::Connection { host, port, readable }
        }
        "request.send" => Wanted::Request {
            host,
            port,
            method: connection.method.clone()?,
            // It is content: the server has it only sealed.
            path: None,
            websocket: connection.upgrade.is_some(),
        },
        "git.fetch" => Wanted::Fetch { repository: repository? },
        "git.push" => Wanted::Push { repository: repository?, full: connection.git_ref.clone()?, rails },
        "credential.use" => {
            Wanted::Credential { credential: connection.credential.clone()?, host, method: connection.method.clone() }
        }
        _ => return None,
    };
    let forbidden_by = connection.policy.as_ref().map(|policy| match &connection.title {
        Some(title) => format!("`{policy}` ({title})"),
        None => format!("`{policy}`"),
    });
    Some(Refused { wanted, forbidden_by, times: connection.left_out.saturating_add(1) })
}

#[cfg(test)]
mod tests {
    use stockade_server::offline;

    use super::*;

    /// A refusal as the API tells it.
    fn refusal(action: &str, more: serde_json::Value) -> Connection {
        let mut whole = serde_json::json!({
            "id": "rec_01040g2081040g2081040g2081", "runner": "rnr_01040g2081040g2081040g2081",
            "run": "run_01040g2081040g2081040g2081", "environment": "env_01040g2081040g2081040g2081", "action": action, "host": "",
            "decision": "deny", "status": "refused", "bytes_out": 0, "bytes_in": 0, "left_out": 2, "notable": true,
            "opened_at": 1, "noted_at": 1,
        });
        for (key, value) in more.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn what_the_api_tells_is_what_is_learned_from() {
        let refused: Vec<Refused> = [
            refusal("connection.open", serde_json::json!({ "host": "pypi.org", "port": 443, "protocol": "tls" })),
            refusal("connection.open", serde_json::json!({ "host": "db.example", "port": 5432, "protocol": "other" })),
            refusal("request.send", serde_json::json!({ "host": "api.example", "port": 443, "method": "POST" })),
            refusal(
                "git.fetch",
                serde_json::json!({ "host": "forge.example", "repository": "forge.example/team/app" }),
            ),
            refusal("credential.use", serde_json::json!({ "host": "api.example", "credential": "k", "method": "GET" })),
            refusal(
                "connection.open",
                serde_json::json!({ "host": "evil.example", "port": 443, "policy": "no.open", "title": "Not there" }),
            ),
            refusal("packet_nowhere", serde_json::json!({})),
        ]
        .iter()
        .filter_map(|connection| read(connection, Vec::new()))
        .collect();
        assert_eq!(refused.len(), 6, "what is no deed is nothing to learn from");
        assert!(refused.iter().all(|refused| refused.times == 3), "those without a record of their own count");
        let proposal = learn(&refused, None);
        for part in [
            "use = \"python\"",
            "ports = [5432]",
            "methods = [\"POST\"]",
            "repositories = [\"forge.example/team/app\"]",
        ] {
            assert!(proposal.text.contains(part), "{part}: {}", proposal.text);
        }
        assert_eq!(proposal.left_out.len(), 1);
        assert!(proposal.left_out[0].why.starts_with("`no.open` (Not there) forbids it"), "{proposal:?}");
        assert!(offline::check_policy(&proposal.text).ok);
    }
}
