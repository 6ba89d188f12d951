//! What a push would change: commits, paths, contents, sizes; and the rules for paths.
//!
//! A pack shows what is new. What it does not show is told apart: without the trees that the server has, an entry whose object is
//! not in the pack is either unchanged or an old object under a new name, and a deletion cannot be seen. [`Known`] is where
//! a caller who has those trees gives them; [`PathRules::unproven`] says what happens without. It refuses trees that repeat
//! themselves beyond any use, as bombs do.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use super::ObjectId;
use super::object::{Commit, Entry, EntryKind};
use super::pack::{Object, ObjectKind, Pack, PackError, Shelf};

/// The most entries of trees that are looked at.
pub const MAX_ENTRIES: usize = 5_000_000;
/// The most changed paths.
pub const MAX_CHANGES: usize = 500_000;
/// The longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 4_096;
/// The most directories within each other.
pub const MAX_DEPTH: usize = 512;
/// The most paths that are told of one content.
pub const MAX_PATHS_OF_ONE: usize = 16;
/// The most globs of the rules.
pub const MAX_GLOBS: usize = 1_000;

/// What is known of the repository beside the pack.
pub trait Known {
    /// A commit that the server has.
    fn commit(&self, id: &ObjectId) -> Option<Commit>;
    /// A tree that the server has.
    fn tree(&self, id: &ObjectId) -> Option<Vec<Entry>>;
}

/// Nothing is known beside the pack.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Known for Nothing {
    fn commit(&self, _: &ObjectId) -> Option<Commit> {
        None
    }

    fn tree(&self, _: &ObjectId) -> Option<Vec<Entry>> {
        None
    }
}

/// Paths that a push may not touch. A glob without a slash means a name anywhere; what it names is forbidden with all below it; case makes no difference.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    set: GlobSet,
    said: Vec<String>,
}

/// A glob that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{glob}` is no glob for paths: {reason}; write for example .github/workflows or *.pem")]
pub struct GlobError {
    glob: String,
    reason: String,
}

impl Globs {
    /// Reads globs.
    ///
    /// # Errors
    /// The first that does not read, or when there are too many.
    pub fn parse<'a>(globs: impl IntoIterator<Item = &'a str>) -> Result<Self, GlobError> {
        let mut builder = GlobSetBuilder::new();
        let mut said = Vec::new();
        for glob in globs {
            let wrong = |reason: String| GlobError { glob: super::shown(glob.as_bytes()), reason };
            let plain = glob.trim_start_matches('/').trim_end_matches('/');
            if plain.is_empty() || said.len() >= MAX_GLOBS {
                return Err(wrong(format!("it is empty, or there are more than {MAX_GLOBS}")));
            }
            let anywhere = if glob.contains('/') { plain.to_owned() } else { format!("**/{plain}") };
            for spelled in [anywhere.clone(), format!("{anywhere}/**")] {
                let built = GlobBuilder::new(&spelled)
                    .literal_separator(true)
                    .case_insensitive(true)
                    .backslash_escape(true)
                    .build();
                builder.add(built.map_err(|error| wrong(error.kind().to_string()))?);
            }
            said.push(glob.to_owned());
        }
        let set =
            builder.build().map_err(|error| GlobError { glob: String::new(), reason: error.kind().to_string() })?;
        Ok(Self { set, said })
    }

    /// The glob that means this path.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<&str> {
        let matched = self.set.matches_candidate(&Candidate::from_bytes(path));
        // Each glob stands twice in the set: itself, and all below it.
        matched.first().and_then(|at| self.said.get(at / 2)).map(String::as_str)
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }
}

/// What a push may contain.
#[derive(Debug, Clone)]
pub struct PathRules {
    /// Paths that may not be touched.
    pub forbidden: Globs,
    /// The largest content of a file, in bytes.
    pub largest_blob: u64,
    /// The largest pack, in bytes.
    pub largest_pack: u64,
    /// Symbolic links may be pushed.
    pub symlinks: bool,
    /// Submodules may be pushed.
    pub submodules: bool,
    /// What is not shown to be unchanged may be pushed: the pack's own trees are then believed, and a file that the
    /// server has may come to stand at a forbidden path.
    pub unproven: bool,
}

impl Default for PathRules {
    fn default() -> Self {
        Self {
            forbidden: Globs::default(),
            largest_blob: 10 << 20,
            largest_pack: 100 << 20,
            symlinks: true,
            submodules: true,
            unproven: true,
        }
    }
}

/// Why a push is refused for what it contains.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pack itself.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A path that may not be touched.
    #[error("{path} may not be pushed (commit {commit}): the rule {glob} forbids it")]
    Path {
        /// The path, so that it can be shown.
        path: String,
        /// In which commit.
        commit: ObjectId,
        /// The rule.
        glob: String,
    },
    /// A path of which it is not shown that it is unchanged.
    #[error("{path} may have been changed (commit {commit}) and may be forbidden: nothing shows that it was not")]
    Unproven {
        /// The path, so that it can be shown.
        path: String,
        /// In which commit.
        commit: ObjectId,
    },
    /// A kind of entry that may not be pushed.
    #[error("{path} is a {kind} (commit {commit}): no rule grants those")]
    Kind {
        /// The path, so that it can be shown.
        path: String,
        /// What it is.
        kind: &'static str,
        /// In which commit.
        commit: ObjectId,
    },
    /// A content is too large.
    #[error("the content {id} has {size} bytes, above the {limit} that may be pushed")]
    Blob {
        /// Which.
        id: ObjectId,
        /// How large.
        size: u64,
        /// What may be.
        limit: u64,
    },
    /// The pack is too large.
    #[error("the push has {size} bytes, above the {limit} that may be pushed")]
    Large {
        /// How large.
        size: u64,
        /// What may be.
        limit: u64,
    },
    /// The trees are a bomb, or their paths are beyond any use.
    #[error("the pushed trees have more {0} than are looked at")]
    Trees(&'static str),
    /// Whoever looked into the contents found something.
    #[error("{what} stands in {place}: it may not be pushed")]
    Found {
        /// What was found, in words.
        what: String,
        /// Where, so that it can be shown.
        place: String,
    },
}

/// How sure a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sight {
    /// It is new, or differs from all that is known to have been there.
    Changed,
    /// It is gone.
    Gone,
    /// It may be unchanged, or an old object that came to stand here.
    Possible,
}

/// One changed path. A [`EntryKind::Tree`] is a directory that could not be looked into.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathChange {
    /// The path, its parts with `/` between them. Empty for the whole tree of a commit, if that could not be looked into.
    pub path: Vec<u8>,
    /// What it is, or was.
    pub kind: EntryKind,
    /// How sure that is.
    pub sight: Sight,
}

/// What a push would change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Review {
    /// The new commits, by name.
    pub commits: BTreeSet<ObjectId>,
    /// The changed paths of all of them.
    pub changes: BTreeSet<PathChange>,
    /// How many contents are new.
    pub blobs: usize,
    /// The largest of them.
    pub largest: Option<Object>,
    /// All of them together, in bytes.
    pub blob_bytes: u64,
    /// The pack, in bytes.
    pub pack_bytes: u64,
    /// Objects of a thin pack that could not be looked at.
    pub unknown: usize,
}

impl Review {
    /// The changed paths that are of this kind.
    pub fn of_kind(&self, kind: EntryKind) -> impl Iterator<Item = &PathChange> {
        self.changes.iter().filter(move |change| change.kind == kind && change.sight != Sight::Gone)
    }
}

/// One new content, for whoever looks for what may not leave: a file, or what a commit or tag says.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What it is, its name, its size.
    pub object: Object,
    /// Where it stands in the new commits: the first [`MAX_PATHS_OF_ONE`]; none for commits, tags and what no commit names.
    pub paths: &'a [Vec<u8>],
    /// All its bytes.
    pub content: &'a [u8],
}

impl Seen<'_> {
    /// Where it stands, as it can be shown.
    #[must_use]
    pub fn place(&self) -> String {
        match self.paths.first() {
            Some(path) => super::shown(path),
            None => format!("the {} {}", self.object.kind.as_str(), self.object.id),
        }
    }
}

/// Holds a pack against the rules, and gives each new content to `look`.
///
/// # Errors
/// The first thing that may not be pushed.
pub fn review<S: Shelf>(
    pack: &mut Pack<S>,
    rules: &PathRules,
    known: &dyn Known,
    look: &mut dyn FnMut(&Seen<'_>) -> ControlFlow<Refusal>,
) -> Result<Review, Refusal> {
    let mut review = Review { pack_bytes: pack.length() as u64, unknown: pack.unknown(), ..Review::default() };
    if review.pack_bytes > rules.largest_pack {
        return Err(Refusal::Large { size: review.pack_bytes, limit: rules.largest_pack });
    }
    let mut new = HashSet::new();
    for object in pack.objects().filter(|object| object.kind == ObjectKind::Blob) {
        if object.size > rules.largest_blob {
            return Err(Refusal::Blob { id: object.id, size: object.size, limit: rules.largest_blob });
        }
        if new.insert(object.id) {
            review.blobs += 1;
            review.blob_bytes += object.size;
        }
        if review.largest.is_none_or(|largest| largest.size < object.size) {
            review.largest = Some(object);
        }
    }
    let mut walker = Walker { pack, rules, known, new, places: HashMap::new(), entries: 0, review };
    let mut commits: Vec<ObjectId> = pack.commits().keys().copied().collect();
    commits.sort_unstable();
    for id in commits {
        walker.commit(id)?;
    }
    let Walker { review, places, .. } = walker;
    let flow = pack.look(&mut |object, content| {
        if object.kind == ObjectKind::Tree {
            return ControlFlow::Continue(());
        }
        let paths = places.get(&object.id).map(Vec::as_slice).unwrap_or_default();
        look(&Seen { object, paths, content })
    })?;
    match flow {
        ControlFlow::Continue(()) => Ok(review),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

struct Walker<'a, S> {
    pack: &'a Pack<S>,
    rules: &'a PathRules,
    known: &'a dyn Known,
    /// The contents that the pack brings.
    new: HashSet<ObjectId>,
    places: HashMap<ObjectId, Vec<Vec<u8>>>,
    entries: usize,
    review: Review,
}

/// A directory to look at: what it is, and what it was in each parent.
struct Directory {
    path: Vec<u8>,
    depth: usize,
    now: Option<ObjectId>,
    /// In each parent that is known; `None` where it was not there.
    before: Vec<Option<ObjectId>>,
    /// There is a parent of which it is not known what was there.
    unsure: bool,
}

impl<S: Shelf> Walker<'_, S> {
    fn commit(&mut self, id: ObjectId) -> Result<(), Refusal> {
        let Some(commit) = self.pack.commits().get(&id) else { return Ok(()) };
        self.review.commits.insert(id);
        let mut before = Vec::new();
        let mut unsure = false;
        for parent in &commit.parents {
            let tree = self.pack.commits().get(parent).map(|commit| commit.tree);
            match tree.or_else(|| self.known.commit(parent).map(|commit| commit.tree)) {
                Some(tree) => before.push(Some(tree)),
                None => unsure = true,
            }
        }
        if before.contains(&Some(commit.tree)) {
            return Ok(());
        }
        let mut open = vec![Directory { path: Vec::new(), depth: 0, now: Some(commit.tree), before, unsure }];
        while let Some(directory) = open.pop() {
            self.directory(id, directory, &mut open)?;
        }
        Ok(())
    }

    fn tree(&self, id: &ObjectId) -> Option<Vec<Entry>> {
        self.pack.trees().get(id).cloned().or_else(|| self.known.tree(id))
    }

    fn directory(&mut self, commit: ObjectId, directory: Directory, open: &mut Vec<Directory>) -> Result<(), Refusal> {
        let Directory { path, depth, now, before, mut unsure } = directory;
        if depth > MAX_DEPTH {
            return Err(Refusal::Trees("directories within each other"));
        }
        let now = match now {
            None => Vec::new(),
            Some(id) => match self.tree(&id) {
                Some(entries) => entries,
                None => {
                    return self.record(
                        commit,
                        path,
                        EntryKind::Tree,
                        if unsure { Sight::Possible } else { Sight::Changed },
                        id,
                    );
                }
            },
        };
        let mut bases: Vec<HashMap<Vec<u8>, Entry>> = Vec::new();
        for id in before {
            match id.map(|id| self.tree(&id)) {
                None => bases.push(HashMap::new()),
                Some(Some(entries)) => {
                    bases.push(entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect())
                }
                Some(None) => unsure = true,
            }
        }
        self.entries += now.len() + bases.iter().map(HashMap::len).sum::<usize>() + 1;
        if self.entries > MAX_ENTRIES {
            return Err(Refusal::Trees("entries"));
        }
        let was_tree = |base: &HashMap<Vec<u8>, Entry>, name: &[u8]| {
            base.get(name).filter(|entry| entry.kind == EntryKind::Tree).map(|entry| entry.id)
        };
        for entry in &now {
            if bases
                .iter()
                .any(|base| base.get(&entry.name).is_some_and(|old| old.id == entry.id && old.kind == entry.kind))
            {
                continue;
            }
            let here = join(&path, &entry.name)?;
            let brought = match entry.kind {
                EntryKind::Tree => self.pack.trees().contains_key(&entry.id),
                EntryKind::Submodule => false,
                _ => self.new.contains(&entry.id),
            };
            if unsure && !brought {
                self.record(commit, here, entry.kind, Sight::Possible, entry.id)?;
                continue;
            }
            let before: Vec<_> = bases.iter().map(|base| was_tree(base, &entry.name)).collect();
            if entry.kind == EntryKind::Tree {
                // A file that made room for the directory is gone.
                let files =
                    bases.iter().filter_map(|base| base.get(&entry.name)).find(|old| old.kind != EntryKind::Tree);
                if let Some(file) = files.filter(|_| !unsure && before.iter().all(Option::is_none)) {
                    self.record(commit, here.clone(), file.kind, Sight::Gone, file.id)?;
                }
                open.push(Directory { path: here, depth: depth + 1, now: Some(entry.id), before, unsure });
            } else {
                if !unsure && !before.is_empty() && before.iter().all(Option::is_some) {
                    open.push(Directory { path: here.clone(), depth: depth + 1, now: None, before, unsure });
                }
                self.record(commit, here, entry.kind, Sight::Changed, entry.id)?;
            }
        }
        // What is gone from all parents is gone; what one of them did not have either came from there.
        let Some((first, others)) = bases.split_first().filter(|_| !unsure) else { return Ok(()) };
        let names: HashSet<&[u8]> = now.iter().map(|entry| entry.name.as_slice()).collect();
        for (name, old) in first {
            if names.contains(name.as_slice()) || !others.iter().all(|base| base.contains_key(name)) {
                continue;
            }
            let here = join(&path, name)?;
            if old.kind == EntryKind::Tree {
                let before = bases.iter().map(|base| was_tree(base, name)).collect();
                open.push(Directory { path: here, depth: depth + 1, now: None, before, unsure });
            } else {
                self.record(commit, here, old.kind, Sight::Gone, old.id)?;
            }
        }
        Ok(())
    }

    fn record(
        &mut self,
        commit: ObjectId,
        path: Vec<u8>,
        kind: EntryKind,
        sight: Sight,
        id: ObjectId,
    ) -> Result<(), Refusal> {
        let shown = || if path.is_empty() { "the whole tree".to_owned() } else { super::shown(&path) };
        // A directory that cannot be looked into may hold anything.
        let unseen = kind == EntryKind::Tree;
        if sight == Sight::Possible || unseen {
            let may = !self.rules.forbidden.is_empty() && (unseen || self.rules.forbidden.find(&path).is_some());
            if may && !self.rules.unproven {
                return Err(Refusal::Unproven { path: shown(), commit });
            }
        }
        if sight != Sight::Possible {
            if let Some(glob) = self.rules.forbidden.find(&path) {
                return Err(Refusal::Path { path: shown(), commit, glob: glob.to_owned() });
            }
            let refused = match kind {
                EntryKind::Symlink if !self.rules.symlinks => Some("symbolic link"),
                EntryKind::Submodule if !self.rules.submodules => Some("submodule"),
                _ => None,
            };
            if let Some(kind) = refused.filter(|_| sight == Sight::Changed) {
                return Err(Refusal::Kind { path: shown(), kind, commit });
            }
            if sight == Sight::Changed && self.new.contains(&id) {
                let places = self.places.entry(id).or_default();
                if places.len() < MAX_PATHS_OF_ONE && !places.contains(&path) {
                    places.push(path.clone());
                }
            }
        }
        self.review.changes.insert(PathChange { path, kind, sight });
        if self.review.changes.len() > MAX_CHANGES {
            return Err(Refusal::Trees("changed paths"));
        }
        Ok(())
    }
}

fn join(path: &[u8], name: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut joined = path.to_vec();
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    if joined.len() > MAX_PATH_BYTES { Err(Refusal::Trees("bytes in one path")) } else { Ok(joined) }
}
