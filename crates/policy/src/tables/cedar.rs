//! Writing a table out as Cedar.
//!
//! It owns the one place where a text becomes Cedar's syntax ([`quoted`], [`pattern`]), and what a restriction means where the
//! circumstance is not given: a policy that permits does not match then, a policy that forbids does.

/// A text as Cedar's literal.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// A pattern of `like`: the text in the middle is literal, before and after stand wildcards or nothing.
pub(super) fn pattern(before: &str, text: &str, after: &str) -> String {
    format!("\"{before}{}{after}\"", escaped(text).replace('*', "\\*"))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            ' '..='~' => out.push(letter),
            other => out.push_str(&format!("\\u{{{:x}}}", u32::from(other))),
        }
    }
    out
}

/// Something that must be so about a circumstance.
#[derive(Debug, Clone)]
pub(super) struct Restriction {
    /// The condition that it is given at all.
    given: String,
    is: String,
}

impl Restriction {
    /// About a circumstance of the deed.
    pub(super) fn circumstance(name: &str, is: String) -> Self {
        Self { given: format!("context has {name}"), is }
    }

    /// About an attribute of the resource that it need not have.
    pub(super) fn attribute(name: &str, is: String) -> Self {
        Self { given: format!("resource has {name}"), is }
    }
}

/// A policy that is being written.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    forbids: bool,
    text: String,
}

impl Writing {
    pub(super) fn permit(action: &str, kind: &str) -> Self {
        Self {
            forbids: false,
            text: format!("permit(principal is Agent, action == Action::\"{action}\", resource is {kind})"),
        }
    }

    pub(super) fn forbid(action: &str, kind: &str) -> Self {
        Self {
            forbids: true,
            text: format!("forbid(principal is Agent, action == Action::\"{action}\", resource is {kind})"),
        }
    }

    /// Only when.
    pub(super) fn when(mut self, condition: &str) -> Self {
        self.text.push_str(&format!("\nwhen {{ {condition} }}"));
        self
    }

    /// Not when.
    pub(super) fn unless(mut self, condition: &str) -> Self {
        self.text.push_str(&format!("\nunless {{ {condition} }}"));
        self
    }

    /// Only within these bounds. What is not known is outside of them for a permission, and inside for a prohibition.
    pub(super) fn within<'a>(self, restrictions: impl IntoIterator<Item = &'a Restriction>) -> Self {
        restrictions.into_iter().fold(self, |writing, Restriction { given, is }| {
            if writing.forbids {
                // Several alternatives stand in parentheses already.
                let not = if is.starts_with('(') { format!("!{is}") } else { format!("!({is})") };
                writing.unless(&format!("{given} && {not}"))
            } else {
                writing.when(&format!("{given} && {is}"))
            }
        })
    }

    /// The policy.
    pub(super) fn done(self) -> String {
        format!("{};", self.text)
    }
}
