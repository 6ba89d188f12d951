//! The house rules that a program can see, without compiling anything.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::sh;

/// A file of code longer than this has grown a second subject.
const LONGEST_FILE_LINES: usize = 900;

/// Checks every file that git knows.
pub fn run() -> Result<()> {
    let root = sh::root();
    let listed = sh::output(Command::new("git").current_dir(&root).args(["ls-files", "-co", "--exclude-standard"]))?;
    let mut faults = Vec::new();
    for name in listed.lines() {
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        faults.extend(of_file(name, &text).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    if !faults.is_empty() {
        bail!("the house rules are broken:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

/// What is wrong with one file.
fn of_file(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let rust = Path::new(name).extension().is_some_and(|extension| extension == "rs");
    if rust {
        if !text.starts_with("//!") && !text.starts_with("#!") {
            faults.push("begins without a head that says what it owns and what it refuses".to_owned());
        }
        let lines = text.lines().count();
        if lines > LONGEST_FILE_LINES {
            faults.push(format!("has {lines} lines: give its second subject its own door"));
        }
        // Put together here, or this file would find itself.
        for word in [["#[ign", "ore"].concat(), ["todo", "!("].concat(), ["unimplemented", "!("].concat()] {
            if text.contains(&word) {
                faults.push(format!("contains `{word}`: what is not done does not exist"));
            }
        }
    }
    if text.lines().any(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ")) {
        faults.push("has conflict marks".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::of_file;

    #[test]
    fn a_tidy_file_has_no_faults() {
        assert_eq!(of_file("a.rs", "//! Owns a.\n"), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_named() {
        let ignored = ["#[ign", "ore]\n"].concat();
        assert_eq!(of_file("a.rs", &ignored).len(), 2, "no head, and an ignored test");
        assert_eq!(of_file("a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(of_file("a.rs", &format!("//! Owns a.\n{}", "\n".repeat(1000))).len(), 1);
        assert_eq!(of_file("a.md", "<<<<<<< ours\n").len(), 1);
    }
}
