//! The rules, and what they say about something that was found.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use stockade_domain::ids::ProjectId;

use super::detect::{ClassId, ClassSet, Detectors};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word for it, in bundles and records.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|known| known.as_str()).collect();
                    format!("`{}` is no {}: there are {}", word.escape_debug(), $what, known.join(", "))
                })
            }
        }
    };
}

words! {
    /// What is done about a finding; the later, the stronger.
    ContentAction, "action", {
        /// Noted in the record of the call.
        Report = "report",
        /// Taken out; the model gets a reference in its place.
        Redact = "redact",
        /// A person is asked before the request goes out. An answer cannot wait, so there it is a block.
        Ask = "ask",
        /// Refused.
        Block = "block",
    }
}

words! {
    /// Which way content goes.
    Direction, "direction", {
        /// To the model.
        Request = "request",
        /// From the model.
        Response = "response",
    }
}

words! {
    /// What content is part of.
    Place, "place", {
        /// What people, agents and models write, and documents that they hand over.
        Text = "text",
        /// What a model hands to a tool.
        ToolArgument = "tool_argument",
        /// What a tool hands to the model.
        ToolResult = "tool_result",
        /// What a model thinks.
        Reasoning = "reasoning",
        /// Instructions, and the descriptions of tools.
        System = "system",
    }
}

impl Place {
    const fn index(self) -> usize {
        self as usize
    }
}

/// A rule about content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRule {
    /// Its id.
    pub id: String,
    /// What it says, for people.
    pub title: String,
    /// What it does.
    pub action: ContentAction,
    pub(super) classes: ClassSet,
    pub(super) directions: Vec<Direction>,
    pub(super) places: Vec<Place>,
    /// Nothing means all, as below.
    pub(super) projects: Vec<ProjectId>,
    pub(super) providers: Vec<String>,
    pub(super) models: Vec<String>,
}

/// Which call it is about.
#[derive(Debug, Clone, Copy)]
pub struct ContentScope<'a> {
    /// The project that pays for it.
    pub project: ProjectId,
    /// The provider's name in the configuration.
    pub provider: &'a str,
    /// The model's name in the configuration.
    pub model: &'a str,
}

impl ContentRule {
    fn applies(&self, scope: &ContentScope<'_>, direction: Direction) -> bool {
        let named = |names: &[String], name: &str| {
            names.is_empty()
                || names.iter().any(|known| match known.strip_suffix('*') {
                    Some(head) => name.starts_with(head),
                    None => known == name,
                })
        };
        self.directions.contains(&direction)
            && (self.projects.is_empty() || self.projects.contains(&scope.project))
            && named(&self.providers, scope.provider)
            && named(&self.models, scope.model)
    }
}

/// An example as a bundle has it.
#[derive(Debug, Clone)]
pub(super) struct ContentExample {
    pub name: String,
    pub line: usize,
    pub text: String,
    pub direction: Direction,
    pub place: Place,
    pub scope: (ProjectId, String, String),
    /// Nothing if nothing may be found.
    pub expect: Option<ContentAction>,
    pub by: Option<String>,
}

/// How an example came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentExampleResult {
    /// Its name.
    pub name: String,
    /// The line of the bundle's text on which it begins, from 1.
    pub line: usize,
    /// What the author expects; nothing if nothing should be found.
    pub expect: Option<ContentAction>,
    /// What happens.
    pub action: Option<ContentAction>,
    /// The rule that decided.
    pub by: Option<String>,
    /// The classes that were found.
    pub classes: Vec<String>,
    /// Whether that is what is expected.
    pub holds: bool,
}

/// All content rules of a bundle.
#[derive(Debug, Default)]
pub struct ContentSet {
    pub(super) detectors: Detectors,
    pub(super) rules: Vec<ContentRule>,
    pub(super) examples: Vec<ContentExample>,
}

impl ContentSet {
    /// All rules, in the bundle's order.
    #[must_use]
    pub fn rules(&self) -> &[ContentRule] {
        &self.rules
    }

    /// What applies to one call, going one way.
    #[must_use]
    pub fn applying(self: &Arc<Self>, scope: &ContentScope<'_>, direction: Direction) -> ContentRules {
        let mut rules = ContentRules {
            set: self.clone(),
            direction,
            applying: Vec::new(),
            wanted: Default::default(),
            enforced: Default::default(),
        };
        for (n, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.applies(scope, direction)) {
            rules.applying.push(n);
            for place in &rule.places {
                join(&mut rules.wanted, *place, &rule.classes);
                if rule.action > ContentAction::Report {
                    join(&mut rules.enforced, *place, &rule.classes);
                }
            }
        }
        rules
    }

    /// Runs the examples.
    #[must_use]
    pub fn test(self: &Arc<Self>) -> Vec<ContentExampleResult> {
        self.examples.iter().map(|example| self.run(example)).collect()
    }

    fn run(self: &Arc<Self>, example: &ContentExample) -> ContentExampleResult {
        let (project, provider, model) = &example.scope;
        let scope = ContentScope { project: *project, provider, model };
        let rules = self.applying(&scope, example.direction);
        let classes = rules.classes(example.place);
        let mut hits = Vec::new();
        self.detectors.scan(example.text.as_bytes(), &classes, &mut hits);
        self.detectors.scan_patterns(example.text.as_bytes(), &classes, &mut hits);
        let decided = hits.iter().filter_map(|hit| rules.decide(hit.class, example.place));
        let strongest = decided.reduce(|a, b| if b.action > a.action { b } else { a });
        let action = strongest.map(|rule| rule.action);
        let mut names: Vec<String> = hits.iter().map(|hit| self.detectors.name(hit.class).to_owned()).collect();
        names.sort();
        names.dedup();
        let by = strongest.map(|rule| rule.id.clone());
        ContentExampleResult {
            name: example.name.clone(),
            line: example.line,
            expect: example.expect,
            holds: action == example.expect && (example.by.is_none() || example.by == by),
            action,
            by,
            classes: names,
        }
    }
}

fn join(sets: &mut [ClassSet; 5], place: Place, classes: &ClassSet) {
    if let Some(set) = sets.get_mut(place.index()) {
        set.join(classes);
    }
}

/// The rules that apply to one call, going one way. Cheap to make and to clone.
#[derive(Debug, Clone)]
pub struct ContentRules {
    set: Arc<ContentSet>,
    direction: Direction,
    applying: Vec<usize>,
    wanted: [ClassSet; 5],
    enforced: [ClassSet; 5],
}

impl ContentRules {
    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wanted.iter().all(ClassSet::is_empty)
    }

    /// Whether anything is done about a finding but reporting it. If so, what cannot be read is refused.
    #[must_use]
    pub fn enforce(&self) -> bool {
        !self.enforced.iter().all(ClassSet::is_empty)
    }

    /// Which way they are about.
    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// What looks.
    #[must_use]
    pub fn detectors(&self) -> &Detectors {
        &self.set.detectors
    }

    /// The classes that are looked for in a place.
    #[must_use]
    pub fn classes(&self, place: Place) -> ClassSet {
        self.wanted.get(place.index()).copied().unwrap_or_default()
    }

    /// The classes about which something is done in a place: a stream waits for these.
    #[must_use]
    pub fn enforced(&self, place: Place) -> ClassSet {
        self.enforced.get(place.index()).copied().unwrap_or_default()
    }

    /// The classes that are looked for in any place.
    #[must_use]
    pub fn all_classes(&self) -> ClassSet {
        let mut all = ClassSet::default();
        self.wanted.iter().for_each(|set| all.join(set));
        all
    }

    /// The rule that decides about a class in a place: the strongest, and of equal ones the first.
    #[must_use]
    pub fn decide(&self, class: ClassId, place: Place) -> Option<&ContentRule> {
        let rules = self.applying.iter().filter_map(|n| self.set.rules.get(*n));
        rules
            .filter(|rule| rule.classes.contains(class) && rule.places.contains(&place))
            .reduce(|a, b| if b.action > a.action { b } else { a })
    }
}
