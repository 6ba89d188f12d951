//! Projects.

use stockade_api::{
    client::Client,
    domain::Level,
    http::{CreateProject, ListProjects, Project},
};

use super::{Context, parse, time};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::{facts, table},
};

pub async fn main(context: &Context, command: args::Project) -> Outcome {
    let client = context.client()?;
    match command {
        args::Project::Add(add) => {
            let level: Level = parse("autonomy level", &add.level.to_string())?;
            let project = client
                .create_project(&CreateProject {
                    name: add.name,
                    repository: absolute(&add.repository),
                    base_branch: add.base_branch.unwrap_or_default(),
                    gates: add.gates,
                    gate_attempts: Some(add.gate_attempts),
                    level: Some(level),
                    class: add.class,
                })
                .await?;
            context.output.show(&project, show)
        }
        args::Project::List => {
            let page = client.projects(&ListProjects { limit: Some(500), ..ListProjects::default() }).await?;
            context.output.show(&page, |page| {
                table(
                    ["name", "level", "gates", "repository", "id"],
                    page.items.iter().map(|project| {
                        [
                            project.name.clone(),
                            project.level.to_string(),
                            project.gates.len().to_string(),
                            project.repository.clone(),
                            project.id.to_string(),
                        ]
                    }),
                )
            })
        }
        args::Project::Show { project } => context.output.show(&find(&client, &project).await?, show),
    }
}

/// The project of that name or id.
pub async fn find(client: &Client, word: &str) -> Outcome<Project> {
    if let Ok(id) = word.parse() {
        return Ok(client.project(id).await?);
    }
    client.project_by_name(word).await?.ok_or_else(|| {
        Failure::user(
            "project_not_found",
            format!("there is no project `{word}`"),
            "`stockade project list` shows all; `stockade project add NAME --repository PATH_OR_URL` adds one",
        )
    })
}

/// The project of that name or id; or, if the word is a path or URL, the project of that repository, made if need be.
/// A new one gets the autonomy level that was asked for.
pub async fn find_or_add(context: &Context, client: &Client, word: &str, level: Option<Level>) -> Outcome<Project> {
    if !is_repository(word) {
        return find(client, word).await;
    }
    let repository = absolute(word);
    let mut query = ListProjects { limit: Some(500), ..ListProjects::default() };
    let mut names = Vec::new();
    loop {
        let page = client.projects(&query).await?;
        for project in page.items {
            if project.repository == repository {
                return Ok(project);
            }
            names.push(project.name);
        }
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    let name = free_name(&repository, &names);
    context.output.remark(&format!("adding {repository} as project `{name}`, without gates"));
    let (base_branch, gates) = (String::new(), Vec::new());
    let body = CreateProject { name, repository, base_branch, gates, gate_attempts: None, level, class: None };
    Ok(client.create_project(&body).await?)
}

/// A path or a URL, rather than a name.
fn is_repository(word: &str) -> bool {
    word.contains('/') || word.contains(':') || word == "." || word == ".."
}

/// A path as the runner will understand it wherever it stands; a URL as it is.
fn absolute(word: &str) -> String {
    if word.contains("://") || (word.contains(':') && !word.starts_with(['/', '.'])) {
        return word.to_owned();
    }
    std::fs::canonicalize(word).map_or_else(|_| word.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// The last part of the repository's name, with a number if that is taken.
fn free_name(repository: &str, taken: &[String]) -> String {
    let last = repository.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let mut name: String = last
        .trim_end_matches(".git")
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' })
        .take(40)
        .collect();
    name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        name.push_str("project");
    }
    let mut candidate = name.clone();
    for number in 2.. {
        if !taken.contains(&candidate) {
            break;
        }
        candidate = format!("{name}-{number}");
    }
    candidate
}

fn show(project: &Project) -> String {
    let gates = if project.gates.is_empty() { "none".to_owned() } else { project.gates.join("; ") };
    let branch = if project.base_branch.is_empty() { "the repository's default" } else { &project.base_branch };
    facts(&[
        ("id", project.id.to_string()),
        ("name", project.name.clone()),
        ("repository", project.repository.clone()),
        ("base branch", branch.to_owned()),
        ("gates", gates),
        ("gate attempts", project.gate_attempts.to_string()),
        ("level", project.level.to_string()),
        ("class", project.class.clone().unwrap_or_else(|| "the site's own".to_owned())),
        ("created", time(project.created_at)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_told_from_a_name() {
        for word in ["./x", "/srv/x", "https://example.org/x.git", "git@example.org:x", "."] {
            assert!(is_repository(word), "{word}");
        }
        assert!(!is_repository("word-count"));
    }

    #[test]
    fn a_name_is_made_that_is_free() {
        assert_eq!(free_name("https://example.org/team/My_App.git", &[]), "my-app");
        assert_eq!(free_name("git@example.org:app", &["app".to_owned(), "app-2".to_owned()]), "app-3");
        assert_eq!(free_name("/", &[]), "project");
    }
}
