//! The policy.

use std::{fs, path::Path};

use stockade_api::{
    domain::{
        Action, Context as Circumstances, Deed, Principal, Resource, ResourceKind, Role,
        ids::{RunId, UserId},
    },
    http::{CheckPolicy, ExplainDeed, ExplainedPolicy, Explanation, PolicyProblem, PolicyReport, PutPolicy, Question},
};
use stockade_server::offline;

use super::{Context, parse, presets, projects, time};
use crate::{
    args,
    failure::{Failure, Outcome},
    output::table,
};

/// The largest bundle that is read, in bytes. The policy itself has a lower bound of its own.
const MAX_BUNDLE: u64 = 4 * 1024 * 1024;

pub async fn main(context: &Context, command: args::Policy) -> Outcome {
    match command {
        args::Policy::Check { file } => report(context, &offline::check_policy(&read(&file)?), false),
        args::Policy::Test { file: Some(file) } => report(context, &offline::test_policy(&read(&file)?), true),
        args::Policy::Test { file: None } => {
            report(context, &context.client()?.test_policy(&CheckPolicy { text: None }).await?, true)
        }
        args::Policy::Show { cedar: true } => {
            let policy = context.client()?.policy().await?;
            context.output.show(&offline::written_out(&policy.text)?, |policies| {
                let one = |policy: &ExplainedPolicy| format!("// {}: {}\n{}\n", policy.id, policy.title, policy.text);
                policies.iter().map(one).collect::<Vec<_>>().join("\n")
            })
        }
        args::Policy::Preset(command) => presets::main(context, command).await,
        args::Policy::Show { cedar: false } => {
            let policy = context.client()?.policy().await?;
            context.output.show(&policy, |policy| {
                format!("# bundle {}, in force since {} UTC\n{}", policy.number, time(policy.created_at), policy.text)
            })
        }
        args::Policy::Explain(explain) => {
            let explanation = match &explain.bundle {
                Some(file) => offline::explain_policy(&read(file)?, &deed(None, &explain).await?)?,
                None => {
                    let client = context.client()?;
                    let deed = deed(Some(&client), &explain).await?;
                    client.explain(&ExplainDeed { deed }).await?
                }
            };
            context.output.show(&explanation, show)
        }
        args::Policy::Apply { file } => {
            let client = context.client()?;
            let replaces = client.policy().await?.number;
            let policy = client.put_policy(&PutPolicy { text: read(&file)?, replaces: Some(replaces) }).await?;
            context.output.show(&policy, |policy| format!("bundle {} is in force", policy.number))
        }
    }
}

pub(super) fn read(file: &Path) -> Outcome<String> {
    let wrong = |why: String| {
        Failure::user(
            "bundle_file",
            format!("{}: {why}", file.display()),
            "`stockade policy show` prints one to begin with",
        )
    };
    let size = fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > MAX_BUNDLE {
        return Err(wrong(format!("is larger than {MAX_BUNDLE} bytes")));
    }
    fs::read_to_string(file).map_err(|error| wrong(error.to_string()))
}

pub(super) fn report(context: &Context, report: &PolicyReport, examples: bool) -> Outcome {
    context.output.show(report, |report| {
        let mut lines: Vec<String> = report.problems.iter().map(|found| problem("error", found)).collect();
        lines.extend(report.warnings.iter().map(|found| problem("warning", found)));
        if examples || !report.ok {
            let rows = report.examples.iter().filter(|example| examples || !example.ok).map(|example| {
                let verdict = if example.ok { "holds" } else { "FAILS" };
                [verdict.to_owned(), example.name.clone(), example.expected.to_string(), example.actual.to_string()]
            });
            let content = report.content_examples.iter().filter(|example| examples || !example.ok).map(|example| {
                let verdict = if example.ok { "holds" } else { "FAILS" };
                [verdict.to_owned(), example.name.clone(), example.expected.clone(), example.actual.clone()]
            });
            lines.push(table(["verdict", "example", "expected", "is"], rows.chain(content)));
        }
        lines.push(format!(
            "{}: {} policies, {} content rules, {} examples",
            if report.ok { "the bundle loads" } else { "the bundle does NOT load" },
            report.policies,
            report.content_rules,
            report.examples.len() + report.content_examples.len()
        ));
        lines.join("\n")
    })?;
    if report.ok { Ok(()) } else { Err(Failure::No) }
}

fn problem(word: &str, problem: &PolicyProblem) -> String {
    let place = [
        problem.line.map(|line| format!("line {line}")),
        problem.policy.as_ref().map(|policy| format!("policy {policy}")),
        problem.example.as_ref().map(|example| format!("example {example}")),
    ];
    let place: Vec<String> = place.into_iter().flatten().collect();
    format!("{word}: {}{}{}", place.join(", "), if place.is_empty() { "" } else { ": " }, problem.message)
}

/// The deed that the words describe. Identifiers that nobody gave are made of zeros: no policy should care.
async fn deed(client: Option<&stockade_api::client::Client>, explain: &args::Explain) -> Outcome<Deed> {
    let action: Action = parse("action", &explain.action)?;
    let (kind, id) = explain.resource.split_once(':').unwrap_or((explain.resource.as_str(), ""));
    let kind: ResourceKind = parse("resource kind", kind)?;
    let mut resource = Resource::new(kind, id);
    if kind == ResourceKind::Project
        && let Some(client) = client
    {
        resource.id = projects::find(client, id).await?.id.to_string();
    }
    let nobody = UserId::from_bytes([0; 16]);
    let principal = match (explain.principal.as_str(), client) {
        ("agent", _) => Principal::Agent { run: RunId::from_bytes([0; 16]), owner: nobody },
        ("me", Some(client)) => {
            let me = client.me().await?;
            Principal::User { id: me.user, roles: me.roles }
        }
        (word, _) => match Role::ALL.into_iter().find(|role| role.as_str() == word) {
            Some(role) => Principal::User { id: nobody, roles: vec![role] },
            None => {
                return Err(Failure::user(
                    "principal",
                    format!("`{word}` is no principal to ask about"),
                    "write `agent`, `me` (with a server), or a role: admin, developer, approver, auditor",
                ));
            }
        },
    };
    let mut circumstances = Circumstances::default();
    for pair in &explain.with {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Failure::user(
                "circumstance",
                format!("`{pair}` is no NAME=VALUE"),
                "write for example --with level=2",
            ));
        };
        circumstances = match (value.parse::<i64>(), value) {
            (Ok(number), _) => circumstances.with(name, number),
            (_, "true") => circumstances.with(name, true),
            (_, "false") => circumstances.with(name, false),
            _ if name == "command" || name == "path" => circumstances.with_content(name, value),
            _ => circumstances.with(name, value),
        };
    }
    Ok(Deed { principal, action, resource, context: circumstances })
}

fn show(explanation: &Explanation) -> String {
    let question = |text: &str, question: &Question| {
        let mut lines = vec![format!("{text} {}", if question.yes { "yes" } else { "no" })];
        for policy in &question.policies {
            lines.push(format!("  {}: {}", policy.id, policy.title));
            lines.extend(policy.text.lines().map(|line| format!("      {line}")));
        }
        if question.policies.is_empty() {
            lines.push(
                if question.yes { "  (no policy says otherwise)" } else { "  (no policy permits it)" }.to_owned(),
            );
        }
        lines.extend(question.errors.iter().map(|error: &String| format!("  error: {error}")));
        lines.join("\n")
    };
    if let Some(misfit) = &explanation.misfit {
        return format!("deny (bundle {}): the deed makes no sense here: {misfit}", explanation.bundle);
    }
    let passed: Vec<String> =
        explanation.passed_over.iter().map(|policy| format!("  {}: {}", policy.id, policy.title)).collect();
    let passed =
        if passed.is_empty() { String::new() } else { format!("\n\nDid not decide here:\n{}", passed.join("\n")) };
    format!(
        "{} (bundle {})\n\n{}\n\n{}{passed}",
        explanation.answer,
        explanation.bundle,
        question("May it be done?", &explanation.may),
        question("May it be done without asking a person?", &explanation.unattended)
    )
}
