//! Approvals.

use stockade_api::http::{Approval, ApprovalState, ListApprovals, Page};

use super::{Context, is_unreadable, parse, site, time};
use crate::{
    args,
    failure::Outcome,
    output::{facts, table},
};

pub async fn main(context: &Context, command: args::Approvals) -> Outcome {
    let client = context.client()?;
    match command {
        args::Approvals::List { all, page } => {
            let state = (!all).then_some(ApprovalState::Pending);
            let query = ListApprovals { run: None, state, limit: Some(page.limit), cursor: page.cursor };
            context.output.show(&client.approvals(&query).await?, list)
        }
        args::Approvals::Show { approval } => {
            let approval = client.approval(parse("approval", &approval)?).await?;
            context.output.show(&approval, show)?;
            let Some(content) = approval.content.filter(|_| !context.output.json) else { return Ok(()) };
            let asked = async { Ok(site(&client, approval.run).await?.content(approval.run, &content).await?) }.await;
            match asked {
                Ok(text) => context.output.line(&format!("\n{}", String::from_utf8_lossy(&text))),
                Err(failure) if is_unreadable(&failure) => {
                    context.output.remark("what exactly is asked cannot be read from here: it is sealed to its site");
                    Ok(())
                }
                Err(failure) => Err(failure),
            }
        }
        args::Approvals::Grant { approval } => {
            let approval = client.grant(parse("approval", &approval)?).await?;
            context.output.show(&approval, |approval| format!("granted {} of run {}", approval.id, approval.run))
        }
        args::Approvals::Deny { approval } => {
            let approval = client.deny(parse("approval", &approval)?).await?;
            context.output.show(&approval, |approval| format!("denied {} of run {}", approval.id, approval.run))
        }
    }
}

fn list(page: &Page<Approval>) -> String {
    let rows = page.items.iter().map(|approval| {
        [
            approval.id.to_string(),
            approval.state.as_str().to_owned(),
            format!("{} {}", approval.action, approval.resource),
            approval.policy.clone(),
            time(approval.expires_at),
            approval.run.to_string(),
        ]
    });
    table(["id", "state", "deed", "because", "until (UTC)", "run"], rows)
}

fn show(approval: &Approval) -> String {
    let mut lines = vec![
        ("id", approval.id.to_string()),
        ("state", approval.state.as_str().to_owned()),
        ("deed", format!("{} {}", approval.action, approval.resource)),
        ("because", approval.policy.clone()),
        ("run", approval.run.to_string()),
        ("asked", time(approval.created_at)),
        ("until", format!("{} (then it is a no)", time(approval.expires_at))),
    ];
    if let Some(by) = approval.answered_by {
        lines.push(("answered by", by.to_string()));
    }
    facts(&lines)
}
