//! A text that comes piece by piece.
//!
//! *Invariant:* what is found, and up to where the text is settled once it has ended, does not depend on the pieces.

use super::{
    CONTEXT_BYTES, ClassSet, Detectors, Hit, LITERALS,
    shapes::{Live, SHIPPED, Shape},
};

/// What is decided of a text so far. Places are counted from the text's beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// What was found since the last time, sorted; all of it ends before `upto`.
    pub hits: Vec<Hit>,
    /// Nothing that begins before here can still be found.
    pub upto: usize,
}

/// One text, watched for some classes.
#[derive(Debug)]
pub struct Tracker {
    classes: ClassSet,
    /// The text from `base` on: a little that is settled, and all that is not.
    text: Vec<u8>,
    base: usize,
    settled: usize,
    shapes: Vec<Followed>,
    /// What shapes found beyond `settled`.
    pending: Vec<Hit>,
}

/// A shape that is followed. Places are counted from the text's beginning.
#[derive(Debug)]
struct Followed {
    which: Which,
    live: Live,
    /// Looked through up to here.
    done: usize,
    /// Nothing had begun here.
    calm: usize,
    seen: usize,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Shipped(usize),
    Custom(usize),
}

impl Which {
    fn shape(self, detectors: &Detectors) -> Option<(&Shape, super::ClassId)> {
        match self {
            Self::Shipped(n) => {
                let shipped = SHIPPED.get(n)?;
                Some((shipped.shape.as_ref()?, *LITERALS.as_ref()?.ids.shipped.get(n)?))
            }
            Self::Custom(n) => detectors.customs.get(n).map(|custom| (&custom.shape, custom.class)),
        }
    }
}

/// How many bytes behind a match its check looks at.
const BEHIND: usize = 2;

impl Tracker {
    /// A text in which these classes are looked for.
    #[must_use]
    pub fn new(detectors: &Detectors, classes: ClassSet) -> Self {
        let shipped = LITERALS.as_ref().map(|literals| literals.ids.shipped.as_slice()).unwrap_or_default();
        let shipped = shipped.iter().enumerate().map(|(n, class)| (Which::Shipped(n), *class));
        let customs = detectors.customs.iter().enumerate().map(|(n, custom)| (Which::Custom(n), custom.class));
        let shapes = shipped.chain(customs).filter(|(_, class)| classes.contains(*class)).filter_map(|(which, _)| {
            let (shape, _) = which.shape(detectors)?;
            Some(Followed { which, live: Live::new(shape), done: 0, calm: 0, seen: 0 })
        });
        Self { classes, text: Vec::new(), base: 0, settled: 0, shapes: shapes.collect(), pending: Vec::new() }
    }

    /// How many bytes are not settled.
    #[must_use]
    pub fn held(&self) -> usize {
        self.end() - self.settled
    }

    /// How long the text is so far.
    #[must_use]
    pub fn end(&self) -> usize {
        self.base + self.text.len()
    }

    /// A part of the text that is not settled, or has just been.
    #[must_use]
    pub fn part(&self, from: usize, to: usize) -> Option<&[u8]> {
        self.text.get(from.checked_sub(self.base)?..to.checked_sub(self.base)?)
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        // What is settled is let go here and not before, so that `part` can still be asked for it.
        let keep = self.settled.saturating_sub(CONTEXT_BYTES);
        if keep > self.base + 4 * CONTEXT_BYTES {
            self.text.drain(..keep - self.base);
            self.base = keep;
        }
        self.text.extend_from_slice(bytes);
    }

    /// Says what is decided. `last` if nothing more comes.
    pub fn settle(&mut self, detectors: &Detectors, last: bool) -> Settled {
        if self.settled == self.end() && self.pending.is_empty() {
            return Settled { hits: Vec::new(), upto: self.settled };
        }
        let mut hits = Vec::new();
        let window = self.settled.saturating_sub(CONTEXT_BYTES).max(self.base);
        let text = self.text.get(window - self.base..).unwrap_or_default();
        let mut upto = window + detectors.literals(text, &self.classes, last, &mut hits);
        for hit in &mut hits {
            hit.start += window;
            hit.end += window;
        }
        upto = upto.min(self.follow(detectors, last));
        hits.extend_from_slice(&self.pending);
        // What ends before here was decided before. What began before and ends behind it had been let go: the rest counts.
        hits.retain(|hit| hit.end > self.settled);
        for hit in &mut hits {
            hit.start = hit.start.max(self.settled);
        }
        hits.sort_unstable();
        hits.dedup();
        // Nothing is settled in the middle of something.
        while let Some(hit) = hits.iter().find(|hit| hit.start < upto && upto < hit.end) {
            upto = hit.start;
        }
        let upto = upto.max(self.settled);
        self.pending.retain(|hit| hit.end > upto);
        hits.retain(|hit| hit.end <= upto);
        self.settled = upto;
        Settled { hits, upto }
    }

    /// Gives up waiting: everything so far counts as settled. What began there is still found as far as it goes on.
    pub fn let_go(&mut self) {
        self.settled = self.end();
        for followed in &mut self.shapes {
            followed.done = followed.done.max(self.settled.saturating_sub(CONTEXT_BYTES)).max(self.base);
        }
    }

    /// Follows the shapes. Returns before which place none of them can begin.
    fn follow(&mut self, detectors: &Detectors, last: bool) -> usize {
        let end = self.end();
        let mut upto = end;
        for followed in &mut self.shapes {
            let Some((shape, class)) = followed.which.shape(detectors) else { continue };
            let fresh = self.text.get(followed.seen - self.base..).unwrap_or_default();
            if let Some(calm) = followed.live.push(shape, fresh) {
                followed.calm = followed.seen + calm;
            }
            followed.seen = end;
            let to = if last { end } else { followed.calm };
            if to > followed.done {
                let text = self.text.as_slice();
                let part = text.get(..to - self.base).unwrap_or(text);
                let mut at = followed.done - self.base;
                let mut done = to;
                while let Some(found) = shape.regex.find_at(part, at) {
                    if !last && found.end() + BEHIND > text.len() {
                        // What stands behind it decides.
                        done = self.base + found.start();
                        break;
                    }
                    at = match (shape.check)(text, found.range()) {
                        Some(range) => {
                            let range = self.base + range.start..self.base + range.end;
                            self.pending.push(super::hit(range.clone(), class));
                            range.end - self.base
                        }
                        None => found.start() + 1,
                    };
                }
                followed.done = done;
            }
            upto = upto.min(followed.done);
        }
        upto
    }
}
