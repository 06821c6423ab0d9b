//! Which files belong to the repository.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Directories that are never part of the repository, for a tree without git.
const FOREIGN_DIRS: [&str; 2] = ["target", ".git"];

/// The files under `root`, relative to it: as git knows them (tracked, or new and not ignored), or, where there is
/// no git, all of them.
pub(super) fn list(root: &Path) -> Result<Vec<String>> {
    if let Some(files) = from_git(root) {
        return Ok(files);
    }
    let mut files = Vec::new();
    walk(root, root, &mut files)?;
    files.sort();
    Ok(files)
}

/// The text of a file; `None` when it is no text, or was deleted and git does not know yet.
pub(super) fn read(root: &Path, file: &str) -> Result<Option<String>> {
    let path = root.join(file);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8(bytes).ok())
}

fn from_git(root: &Path) -> Option<Vec<String>> {
    // A directory above that happens to be a repository knows nothing about this tree.
    if !root.join(".git").exists() {
        return None;
    }
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])
        .current_dir(root);
    let output = git.output().ok().filter(|output| output.status.success())?;
    let names = String::from_utf8(output.stdout).ok()?;
    Some(names.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        let path = entry.path();
        let kind = entry.file_type().with_context(|| format!("cannot look at {}", path.display()))?;
        let is_foreign = FOREIGN_DIRS.iter().any(|foreign| entry.file_name() == *foreign);
        if kind.is_dir() && !is_foreign {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            files.extend(path.strip_prefix(root).ok().and_then(Path::to_str).map(str::to_owned));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_git_is_walked_but_for_what_cargo_built() {
        let root = tempfile::tempdir().unwrap();
        for file in ["Cargo.toml", "proxy/src/lib.rs", "target/debug/build.rs"] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        assert_eq!(list(root.path()).unwrap(), ["Cargo.toml", "proxy/src/lib.rs"]);
    }

    #[test]
    fn what_is_no_text_or_not_there_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("logo.png"), [0x89, 0xff]).unwrap();
        assert_eq!(read(root.path(), "logo.png").unwrap(), None);
        assert_eq!(read(root.path(), "gone.rs").unwrap(), None);
    }
}
