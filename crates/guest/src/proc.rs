//! Which processes descend from which, as `/proc` tells it.

use std::{collections::HashMap, fs};

/// Every process below one, not itself and not those that are dead already.
pub fn descendants(of: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<(i32, bool)>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        if let Some((parent, dead)) = parent_of(&stat) {
            children.entry(parent).or_default().push((pid, dead));
        }
    }
    let mut found = Vec::new();
    let mut next = vec![of];
    while let Some(parent) = next.pop() {
        for (pid, dead) in children.remove(&parent).unwrap_or_default() {
            next.push(pid);
            if !dead {
                found.push(pid);
            }
        }
    }
    found
}

/// The parent of a process; nothing if it is gone.
pub fn parent(of: i32) -> Option<i32> {
    Some(parent_of(&fs::read(format!("/proc/{of}/stat")).ok()?)?.0)
}

/// The parent in a `stat`, and whether the process is dead.
fn parent_of(stat: &[u8]) -> Option<(i32, bool)> {
    // The name in parentheses is the process's own to choose and may hold anything.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    Some((fields.next()?.parse().ok()?, dead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_hide_the_parent() {
        assert_eq!(parent_of(b"12 (x) Z 1 (y) S 34 12 12"), Some((34, false)));
        assert_eq!(parent_of(b"12 (\xff\xfe) Z 7 12 12"), Some((7, true)));
        assert_eq!(parent_of(b"12 ("), None);
    }
}
