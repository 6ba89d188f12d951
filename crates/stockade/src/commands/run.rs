//! Asking for something: the text is sealed here, before it leaves this process.

use std::{collections::BTreeMap, fs};

use stockade_api::{
    domain::{Harness, Level, ids::ProjectId},
    http::{PreparedTask, Run, StartTask, TaskLimits},
};
use stockade_runner::offline;

use super::{Context, parse, projects, text_or_stdin, watch};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::is_terminal,
};

/// The model that is asked for when nobody says which: a name of the shipped table.
const DEFAULT_MODEL: &str = "claude-sonnet-5-5";

pub async fn main(context: &Context, run: args::Run) -> Outcome {
    let text = text_or_stdin(&run.task)?;
    let budget = run.budget.as_deref().map(|text| parse("amount of dollars", text)).transpose()?;
    let level: Option<Level> = run.level.map(|level| parse("autonomy level", &level.to_string())).transpose()?;
    let max_time_ms = run.max_time.as_deref().map(duration_ms).transpose()?;
    let approval_timeout_ms = run.approval_timeout.as_deref().map(duration_ms).transpose()?;
    let client = context.client()?;
    let project = projects::find_or_add(context, &client, &run.project, level).await?;

    let prepared = client.prepare_task(project.id).await?;
    know_site(context, project.id, &prepared)?;
    let sealed = offline::seal_task(&prepared.site_public_key, prepared.run, &text)?;
    let harness: Harness = run.agent.as_deref().map(|word| parse("agent", word)).transpose()?.unwrap_or_default();
    let body = StartTask {
        harness,
        project: project.id,
        task: prepared.task,
        run: prepared.run,
        site: prepared.site,
        wrapped_key: sealed.wrapped_key,
        content: sealed.content,
        sealed: sealed.sealed,
        model: run.model.unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
        class: run.class,
        level,
        budget,
        limits: TaskLimits { max_turns: run.max_turns, max_time_ms, max_tokens: None, approval_timeout_ms },
    };
    let started = client.start_task(&body).await?;
    let watching = run.watch || (!run.detach && is_terminal() && !context.output.json);
    if watching {
        context.output.remark(&format!("run {} of project {}", started.id, started.project_name));
        watch::follow(context, &client, started.id).await
    } else {
        context.output.show(&started, |run: &Run| run.id.to_string())
    }
}

/// The first key that a site showed us is the one we go on believing: a server that swaps it later, to read what we
/// seal, is found out here. The file holds public keys only.
pub fn know_site(context: &Context, project: ProjectId, prepared: &PreparedTask) -> Outcome {
    context.home.make()?;
    let file = context.home.path().join("known-sites.json");
    let mut known: BTreeMap<String, String> = match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::config(
                "known_sites",
                format!("{} cannot be read: {error}", file.display()),
                "repair it, or remove it to trust anew",
            )
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    // By the project too: a server that makes up a site for its own key would not be found out by the site's name.
    let (names, key) = ([prepared.site.to_string(), project.to_string()], &prepared.site_public_key);
    if let Some(changed) = changed(&known, &names, key) {
        return Err(Failure::config(
            "site_key_changed",
            format!(
                "the site's key for {changed} is not the one it was before: somebody may want to read what you seal"
            ),
            format!("ask whoever runs the site; if the change is meant, remove its line from {}", file.display()),
        ));
    }
    let before = known.len();
    known.extend(names.map(|name| (name, key.clone())));
    if known.len() > before {
        let fresh = file.with_extension("json.new");
        fs::write(&fresh, serde_json::to_vec_pretty(&known).map_err(std::io::Error::from)?)?;
        fs::rename(fresh, file)?;
    }
    Ok(())
}

/// The first of these names under which another key is known.
fn changed<'a>(known: &BTreeMap<String, String>, names: &'a [String], key: &str) -> Option<&'a String> {
    names.iter().find(|name| known.get(*name).is_some_and(|before| before != key))
}

/// `90s`, `30m`, `2h`, `1d`, in milliseconds.
pub fn duration_ms(text: &str) -> Outcome<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit_ms: Option<u64> = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let ms = number.parse::<u64>().ok().zip(unit_ms).and_then(|(number, unit)| number.checked_mul(unit));
    ms.ok_or_else(|| {
        Failure::user("duration", format!("`{text}` is no duration"), "write for example 90s, 30m, 2h or 1d")
    })
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, changed, duration_ms};

    #[test]
    fn another_key_is_found_out_under_a_new_site_too() {
        let known = BTreeMap::from([("sit_1".to_owned(), "a".to_owned()), ("prj_1".to_owned(), "a".to_owned())]);
        let names = |site: &str, project: &str| [site.to_owned(), project.to_owned()];
        assert_eq!(changed(&known, &names("sit_1", "prj_2"), "a"), None);
        assert_eq!(changed(&known, &names("sit_9", "prj_9"), "b"), None);
        assert_eq!(changed(&known, &names("sit_1", "prj_2"), "b").unwrap(), "sit_1");
        assert_eq!(changed(&known, &names("sit_9", "prj_1"), "b").unwrap(), "prj_1");
    }

    #[test]
    fn a_duration_is_read_or_explained() {
        assert_eq!(duration_ms("90s").unwrap(), 90_000);
        assert_eq!(duration_ms("2d").unwrap(), 172_800_000);
        for wrong in ["", "5", "m", "-1m", "1.5h", "99999999999999999999d", "213503982335d"] {
            assert!(duration_ms(wrong).is_err(), "{wrong}");
        }
    }
}
