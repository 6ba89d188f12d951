//! Presets: rules for public registries and forges, shown and put to use.

use std::fs;

use serde::Serialize;
use stockade_api::http::PutPolicy;
use stockade_server::offline::{self, Preset, PresetUse};

use super::{Context, policy, projects};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::table,
};

/// A preset in a list.
#[derive(Serialize)]
struct Listed {
    name: String,
    about: String,
    tools: Vec<String>,
    hosts: Vec<String>,
}

pub async fn main(context: &Context, command: args::Preset) -> Outcome {
    match command {
        args::Preset::List => {
            let all = offline::presets().map(|name| {
                let Preset { name, about, tools, hosts, .. } = offline::preset(name)?;
                Ok(Listed { name, about, tools, hosts })
            });
            context.output.show(&all.collect::<Outcome<Vec<_>>>()?, |all| {
                let rows = all.iter().map(|one| [one.name.clone(), one.tools.join(", "), one.about.clone()]);
                table(["name", "for", "permits reading"], rows)
            })
        }
        args::Preset::Show { name } => context.output.show(&offline::preset(&name)?, |preset| preset.text.clone()),
        args::Preset::Add(add) => add_preset(context, add).await,
    }
}

async fn add_preset(context: &Context, add: args::PresetAdd) -> Outcome {
    let args::PresetAdd { name, ask, mirror, projects: words, levels, id, bundle } = add;
    let mut projects = Vec::new();
    for word in &words {
        projects.push(projects::find(&context.client()?, word).await?.id.to_string());
    }
    let preset = PresetUse { name, id, ask, mirror, projects, levels };
    if let Some(file) = bundle {
        let Some(text) = checked(context, &policy::read(&file)?, &preset)? else { return Err(Failure::No) };
        fs::write(&file, text).map_err(|error| {
            let hint = "look at who may write it, or copy it elsewhere";
            Failure::user("bundle_file", format!("{}: {error}", file.display()), hint)
        })?;
        return context.output.show(&serde_json::json!({ "added": preset.name, "bundle": file }), |_| {
            format!("{} uses {}; `stockade policy apply {0}` puts it into force", file.display(), preset.name)
        });
    }
    let client = context.client()?;
    let old = client.policy().await?;
    let Some(text) = checked(context, &old.text, &preset)? else { return Err(Failure::No) };
    let policy = client.put_policy(&PutPolicy { text, replaces: Some(old.number) }).await?;
    context.output.show(&policy, |policy| format!("bundle {} is in force and uses {}", policy.number, preset.name))
}

/// The bundle with the preset; nothing if it would not load, which is said then.
fn checked(context: &Context, text: &str, preset: &PresetUse) -> Outcome<Option<String>> {
    match offline::with_preset(text, preset) {
        Ok(text) => Ok(Some(text)),
        Err(problems) => match policy::report(context, &problems, false) {
            Ok(()) | Err(Failure::No) => Ok(None),
            Err(other) => Err(other),
        },
    }
}
