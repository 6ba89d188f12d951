//! Groups of people, so that a budget can be theirs.

use stockade_api::{
    client::Client,
    http::{ChangeGroup, CreateGroup, Group},
};

use super::Context;
use crate::{
    args,
    failure::{Failure, Outcome},
    output::table,
};

pub async fn main(context: &Context, command: args::Group) -> Outcome {
    let client = context.client()?;
    let group = match command {
        args::Group::Create { name } => client.create_group(&CreateGroup { name }).await?,
        args::Group::Add { group, user } => change(&client, &group, user, true).await?,
        args::Group::Remove { group, user } => change(&client, &group, user, false).await?,
        args::Group::List => return context.output.show(&client.groups().await?, |page| list(&page.items)),
    };
    context.output.show(&group, |group| list(std::slice::from_ref(group)))
}

async fn change(client: &Client, group: &str, user: String, member: bool) -> Outcome<Group> {
    let group = find(client, group).await?;
    Ok(client.change_group(group.id, &ChangeGroup { user, member }).await?)
}

/// The group of that name or id.
async fn find(client: &Client, word: &str) -> Outcome<Group> {
    let groups = client.groups().await?.items;
    groups.into_iter().find(|group| group.name == word || group.id.to_string() == word).ok_or_else(|| {
        Failure::user("no_group", format!("there is no group `{word}`"), "`stockade group list` shows them")
    })
}

fn list(groups: &[Group]) -> String {
    table(
        ["name", "members", "id"],
        groups.iter().map(|group| {
            let members: Vec<&str> = group.members.iter().map(|member| member.name.as_str()).collect();
            [group.name.clone(), members.join(", "), group.id.to_string()]
        }),
    )
}
