//! What somebody wants to do.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Principal,
    ids::{ProjectId, RunId},
};

/// One thing that one principal wants to do to one resource. Everything governed is first put into this form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// Who.
    pub principal: Principal,
    /// What.
    pub action: Action,
    /// To which thing.
    pub resource: Resource,
    /// Under which circumstances.
    #[serde(default)]
    pub context: Context,
}

/// A word that is not in the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no {what}")]
pub struct UnknownWord {
    /// What was wanted: `action` or `resource kind`.
    pub what: &'static str,
    /// What was found.
    pub word: String,
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident $what:literal { $($variant:ident $word:literal $doc:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $(#[doc = $doc] #[serde(rename = $word)] $variant,)*
        }
        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word, as in records, policies and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord { what: $what, word: text.to_owned() }),
                }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What can be done. The word is also the name of the action in policies (`Action::"task.start"`).
    Action "action" {
        TokenCreate "token.create" "Make an access token, on the organization; or a token for the gateway, on a project.",
        TokenRead "token.read" "See tokens for the gateway, never the token itself. On the organization (a list).",
        TokenRevoke "token.revoke" "End a token for the gateway. On its run.",
        ProjectCreate "project.create" "Add a project. On the organization.",
        ProjectRead "project.read" "See projects. On a project or the organization (a list).",
        ProjectUpdate "project.update" "Change a project's settings. On a project.",
        TaskStart "task.start" "Ask for something: makes a task and its first run. On a project.",
        RunRead "run.read" "See runs and their events, without content. On a run or the organization (a list).",
        RunCancel "run.cancel" "End a run early. On a run.",
        RunResume "run.resume" "Try a failed or expired run again from where it stopped. On a run.",
        RunErase "run.erase" "Destroy the key of a run's content. On a run.",
        InputGive "input.give" "Answer a question of the agent. On a run.",
        ApprovalRead "approval.read" "See approvals. On an approval or the organization (a list).",
        ApprovalAnswer "approval.answer" "Say yes or no to a waiting deed. On an approval.",
        EnvironmentRead "environment.read" "See environments. On an environment or the organization (a list).",
        EnvironmentDelete "environment.delete" "Delete an environment with what is in it. On an environment.",
        EnvironmentExec "environment.exec" "Run a command in an environment as a person. On an environment.",
        PolicyRead "policy.read" "See policies and ask for explanations. On the policy.",
        PolicyWrite "policy.write" "Put a new bundle into force. On the policy.",
        BudgetRead "budget.read" "See budgets. On a budget or the organization (a list).",
        BudgetSet "budget.set" "Set a limit. On a budget.",
        GroupRead "group.read" "See groups and who is in them. On the organization.",
        GroupWrite "group.write" "Make a group, add and remove people. On the organization.",
        CallRead "call.read" "See model calls, without content. On a run or the organization (a list).",
        ConnectionRead "connection.read" "See connections of environments, without content. On a run or the organization (a list).",
        RecordRead "record.read" "Read and export the ledger. On the organization.",
        ContentRead "content.read" "Read the content of a run in plain text. On a run.",
        RunnerEnroll "runner.enroll" "Make a token by which a runner may enrol. On the organization.",
        RunnerRead "runner.read" "See runners. On the organization.",
        ModelCall "model.call" "Call a model. On a model.",
        ToolCall "tool.call" "Use a tool of the agent loop. On a tool.",
        ChangeOpen "change.open" "Push the work to the project's repository as a branch. On a change.",
        ConnectionOpen "connection.open" "Open a connection out of an environment. On a host.",
        RequestSend "request.send" "Send an inspected request on a connection. On a host.",
        CredentialUse "credential.use" "Put a credential into a request on its way out. On a credential.",
        GitFetch "git.fetch" "Read from a git repository. On a repository.",
        GitPush "git.push" "Change one ref of a git repository. On a repository.",
    }
}

words! {
    /// What kinds of things deeds are done to. Also the entity type in policies, in camel case.
    ResourceKind "resource kind" {
        Organization "organization" "The tenant.",
        Project "project" "A project.",
        Run "run" "A run.",
        Approval "approval" "An approval.",
        Environment "environment" "An environment.",
        Policy "policy" "The organization's policy.",
        Budget "budget" "A budget.",
        Model "model" "A model that people may ask for by name.",
        Tool "tool" "A tool of the agent loop.",
        Change "change" "A branch with a commit that leaves the environment; its id is the run's.",
        Host "host" "A host on the network; its id is its name, or its address.",
        Credential "credential" "A credential of the site that is put into requests; its id is its name.",
        Repository "repository" "A git repository on the network; its id is host and path: `forge.example/team/app`.",
    }
}

/// The thing that a deed is done to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resource {
    /// What kind of thing.
    pub kind: ResourceKind,
    /// Its identifier, or its name for models and tools.
    pub id: String,
    /// The project it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// The run it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

impl Resource {
    /// A resource that belongs to no project and no run.
    pub fn new(kind: ResourceKind, id: impl ToString) -> Self {
        Self { kind, id: id.to_string(), project: None, run: None }
    }

    /// The same within a project.
    #[must_use]
    pub const fn in_project(mut self, project: ProjectId) -> Self {
        self.project = Some(project);
        self
    }

    /// The same within a run.
    #[must_use]
    pub const fn in_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }
}

/// The circumstances of a deed. A policy sees all of it. *Invariant:* `content` holds what came from
/// people, models or repositories (a command, a path) and never enters a record or leaves the site in
/// plain text; `public` is mechanism (a level, a size) and does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Context {
    /// What may stand in a record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub public: BTreeMap<String, ContextValue>,
    /// What may only stand in sealed content.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub content: BTreeMap<String, ContextValue>,
}

impl Context {
    /// With one more public circumstance.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<ContextValue>) -> Self {
        self.public.insert(name.to_owned(), value.into());
        self
    }

    /// With one more circumstance that is content.
    #[must_use]
    pub fn with_content(mut self, name: &str, value: impl Into<ContextValue>) -> Self {
        self.content.insert(name.to_owned(), value.into());
        self
    }
}

/// A value that policies can compare.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ContextValue {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Long(i64),
    /// A text.
    Text(String),
    /// A set of texts.
    Set(Vec<String>),
}

impl From<bool> for ContextValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<i64> for ContextValue {
    fn from(value: i64) -> Self {
        Self::Long(value)
    }
}
impl From<&str> for ContextValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for ContextValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
