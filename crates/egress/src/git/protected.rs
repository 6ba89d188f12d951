//! Which paths are protected.
//!
//! One list for all ways by which work leaves an environment: changes that the runner pushes and pushes of the environment's own git.
//! A policy is told whether one of these paths is touched (`protected_paths`), never which.

/// Files and folders whose change a policy may want a person for: what runs in other people's machinery or on their desks
/// without being asked, who must look at changes, and what tells the next agent what to do.
pub const PROTECTED: [&str; 22] = [
    ".github/",
    ".gitlab-ci.yml",
    ".gitea/",
    ".forgejo/",
    ".ci/",
    ".circleci/",
    ".buildkite/",
    ".woodpecker/",
    ".woodpecker.yml",
    ".drone.yml",
    ".travis.yml",
    "bitbucket-pipelines.yml",
    "Jenkinsfile",
    "azure-pipelines.yml",
    ".vscode/",
    ".devcontainer/",
    ".husky/",
    ".envrc",
    ".pre-commit-config.yaml",
    "CODEOWNERS",
    ".gitmodules",
    "AGENTS.md",
];

/// Whether a path is one of [`PROTECTED`]: a file anywhere, a folder at the top. `path` has `/` between its parts.
#[must_use]
pub fn is_protected(path: &str) -> bool {
    PROTECTED.iter().any(|p| match p.strip_suffix('/') {
        // The folder's own name too: it may have become a link to another.
        Some(folder) => path == folder || path.starts_with(p),
        None => path == *p || path.ends_with(&format!("/{p}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_anywhere_and_folders_at_the_top_are_protected() {
        for path in [".github", ".github/workflows/x.yml", "CODEOWNERS", "docs/CODEOWNERS", "a/b/.gitmodules"] {
            assert!(is_protected(path), "{path}");
        }
        for path in ["src/.github/x", "xCODEOWNERS", ".githubx", "README.md", ""] {
            assert!(!is_protected(path), "{path}");
        }
    }
}
