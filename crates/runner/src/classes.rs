//! The site's classes of environments.
//!
//! It owns which there are and what a name comes to. It refuses names that nobody declared, with those that there are.

use stockade_domain::{EnvironmentClass, MAX_CLASSES};
use stockade_sandbox::Class;

use crate::RunnerError;

/// All of them, the one that is used where nobody names one first. Never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes(Vec<EnvironmentClass>);

/// Nobody declared it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this runner has no environment class `{name}`: there are {there}; declare it as [[class]] in stockade.toml, or name another"
)]
pub struct UnknownClass {
    /// What was named.
    pub name: String,
    /// The names that there are.
    pub there: String,
}

impl Classes {
    /// Checked.
    ///
    /// # Errors
    /// [`RunnerError::Config`] says what is wrong.
    pub fn new(classes: Vec<EnvironmentClass>) -> Result<Self, RunnerError> {
        let wrong = |what: String, hint: &str| Err(RunnerError::Config { what, hint: hint.to_owned() });
        if classes.is_empty() || classes.len() > MAX_CLASSES {
            let what = format!("there are {} environment classes", classes.len());
            return wrong(what, &format!("declare 1 to {MAX_CLASSES} of them"));
        }
        for (at, class) in classes.iter().enumerate() {
            let name = class.name.escape_debug();
            if let Some(why) = class.wrong() {
                return wrong(format!("the class `{name}`: {why}"), "docs/classes.md has every word and its bounds");
            }
            if classes.iter().skip(at + 1).any(|other| other.name == class.name) {
                return wrong(format!("there are two classes `{name}`"), "give one of them another name");
            }
        }
        Ok(Self(classes))
    }

    /// All of them.
    pub fn all(&self) -> &[EnvironmentClass] {
        &self.0
    }

    /// The one of that name; the first if nobody named one.
    pub fn resolve(&self, name: Option<&str>) -> Result<&EnvironmentClass, UnknownClass> {
        let found = match name {
            Some(name) => self.0.iter().find(|class| class.name == name),
            None => self.0.first(),
        };
        found.ok_or_else(|| UnknownClass {
            name: name.unwrap_or_default().escape_debug().to_string(),
            there: self.0.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// What a driver has to hold.
pub const fn limits(class: &EnvironmentClass) -> Class {
    Class {
        memory_bytes: class.memory_bytes,
        processes: class.processes,
        cpu_millis: class.cpu_millis,
        disk_bytes: class.disk_bytes,
        open_files: class.open_files,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_those_that_there_are() {
        let classes = Classes::new(EnvironmentClass::shipped()).unwrap();
        assert_eq!(classes.resolve(None).unwrap().name, "standard");
        assert_eq!(classes.resolve(Some("large")).unwrap().cpu_millis, 4_000);
        let error = classes.resolve(Some("hu\u{1b}ge")).unwrap_err().to_string();
        assert!(error.contains("standard, small, large") && !error.contains('\u{1b}'), "{error}");
        for wrong in [
            vec![],
            vec![EnvironmentClass::standard(); 2],
            vec![EnvironmentClass { processes: 1, ..EnvironmentClass::standard() }],
        ] {
            assert!(matches!(Classes::new(wrong), Err(RunnerError::Config { .. })));
        }
    }
}
