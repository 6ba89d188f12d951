//! What a push would do, as far as policy wants to know it: which paths, which secrets, whether it is a fast-forward.
//!
//! It runs beside the runtime. What cannot be known is taken for what would be worse: a path of which nothing shows that it is unchanged counts as changed,
//! and as protected; a reference that is not shown to go forward counts as forced.

use std::{collections::BTreeSet, ops::ControlFlow};

use stockade_policy::content::{
    ContentRules, Place,
    detect::{ClassSet, Detectors},
};

use super::spill::Spill;
use crate::git::{
    object::EntryKind,
    pack::{Pack, Shelf},
    protected::is_protected,
    push::{Change, Push},
    refs,
    review::{Known, Nothing, PathRules, Refusal, Sight, review},
};

/// So many places of what was found are told.
const MAX_PLACES: usize = 5;

/// What policy is told of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) pack_bytes: u64,
    /// Every path that is changed, or may be.
    pub(super) paths: BTreeSet<String>,
    pub(super) protected: bool,
    /// Classes of content.
    pub(super) findings: BTreeSet<String>,
    /// Where the first of them stand.
    pub(super) places: Vec<String>,
    /// The references that are not shown to go forward.
    pub(super) forced: BTreeSet<String>,
}

/// What is looked for in what is pushed.
#[derive(Debug)]
pub(super) struct Wanted {
    rules: ContentRules,
    classes: ClassSet,
}

impl Wanted {
    /// Every secret that is known, and what else the bundle does something about in requests to models: its own patterns and words.
    pub(super) fn new(rules: ContentRules) -> Self {
        let enforced = rules.enforced(Place::Text);
        let mut classes = ClassSet::default();
        for (class, name) in rules.detectors().classes().enumerate() {
            let Ok(class) = u16::try_from(class) else { break };
            let own = name.starts_with("pattern.") || name.starts_with("words.");
            if name.starts_with("secret.") || (own && enforced.contains(class)) {
                classes.insert(class);
            }
        }
        Self { rules, classes }
    }

    fn look(&self, text: &[u8], place: &dyn Fn() -> String, facts: &mut Facts) {
        let detectors: &Detectors = self.rules.detectors();
        let mut hits = Vec::new();
        detectors.scan(text, &self.classes, &mut hits);
        detectors.scan_patterns(text, &self.classes, &mut hits);
        let found: BTreeSet<&str> = hits.iter().map(|hit| detectors.name(hit.class)).collect();
        for class in found {
            if facts.places.len() < MAX_PLACES {
                facts.places.push(format!("{class} in {}", place()));
            }
            facts.findings.insert(class.to_owned());
        }
    }
}

/// Looks at all of a push. `base` is what it builds upon, if the server gave it.
pub(super) fn look(
    push: &Push,
    pack: Option<&mut Pack<Spill>>,
    base: Option<&Pack<Spill>>,
    wanted: &Wanted,
) -> Result<Facts, Refusal> {
    let mut facts = Facts::default();
    for command in &push.commands {
        wanted.look(command.reference.as_bytes(), &|| "the name of a reference".to_owned(), &mut facts);
    }
    let Some(pack) = pack else {
        facts.forced = forced(push, &refs::Unknown);
        return Ok(facts);
    };
    facts.forced = forced(push, pack);
    let known: &dyn Known = base.map_or(&Nothing, |base| base);
    contents(pack, known, wanted, &mut facts)?;
    Ok(facts)
}

fn contents(pack: &mut Pack<impl Shelf>, known: &dyn Known, wanted: &Wanted, facts: &mut Facts) -> Result<(), Refusal> {
    let rules = PathRules { largest_blob: u64::MAX, largest_pack: u64::MAX, ..PathRules::default() };
    let reviewed = review(pack, &rules, known, &mut |seen| {
        wanted.look(seen.content, &|| seen.place(), facts);
        ControlFlow::Continue(())
    })?;
    facts.pack_bytes = reviewed.pack_bytes;
    for change in &reviewed.changes {
        // A directory that nobody could look into may hold anything.
        let unsure = change.sight == Sight::Possible || change.kind == EntryKind::Tree;
        let path = String::from_utf8_lossy(&change.path).into_owned();
        facts.protected |= unsure || is_protected(&path);
        wanted.look(path.as_bytes(), &|| "the name of a file".to_owned(), facts);
        facts.paths.insert(path);
    }
    Ok(())
}

/// A reference that moves, and is not shown to go forward. A tag that moves never is.
fn forced(push: &Push, history: &dyn refs::Ancestry) -> BTreeSet<String> {
    let moves = push.commands.iter().filter(|command| command.change == Change::Update);
    let backward = moves.filter(|command| {
        command.reference.starts_with("refs/tags/") || !refs::follows(history, command.old, command.new)
    });
    backward.map(|command| command.reference.clone()).collect()
}
