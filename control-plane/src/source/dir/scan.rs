//! Which configuration files a directory holds right now, without reading them.
//!
//! Symlinks are followed, so that a mounted ConfigMap (`reviews.yaml -> ..data/reviews.yaml`) is read through its
//! links while its hidden folders are not read a second time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most files that are read below one directory.
pub const MAX_FILES: usize = 10_000;
/// How many folders below the directory are entered.
pub const MAX_DEPTH: usize = 16;
/// The most entries of any name that are looked at, in all folders together.
const MAX_ENTRIES: usize = 10 * MAX_FILES;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Files in path order, which is the order in which they count.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Files and folders that could not be looked at, and why: what was read there before is kept.
    pub(super) faults: BTreeMap<PathBuf, String>,
    /// What else is worth saying, by path.
    pub(super) notes: BTreeMap<PathBuf, String>,
    entries: usize,
    is_full: bool,
    above: BTreeSet<(u64, u64)>,
}

/// A file with an equal stamp has not been changed, as far as its metadata tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    pub(super) size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// What tells one directory from another that takes its place.
    pub(super) fn root(directory: &Path) -> Option<(u64, u64)> {
        let metadata = fs::metadata(directory).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Scan {
    /// Walks a directory.
    pub(super) fn of(directory: &Path) -> Self {
        let mut scan = Self::default();
        match fs::metadata(directory) {
            Ok(metadata) => scan.folder(directory, &metadata, 0),
            Err(error) => scan.fault(directory, &error),
        }
        scan
    }

    /// Whether a file lies at or below something that could not be looked at.
    pub(super) fn is_hidden_by_fault(&self, file: &Path) -> bool {
        file.ancestors().any(|path| self.faults.contains_key(path))
    }

    fn folder(&mut self, folder: &Path, metadata: &Metadata, depth: usize) {
        let id = (metadata.dev(), metadata.ino());
        if depth > MAX_DEPTH {
            self.faults
                .insert(folder.into(), format!("more than {MAX_DEPTH} folders deep; move its files up"));
        } else if !self.above.insert(id) {
            self.faults
                .insert(folder.into(), "a symlink to a folder that holds it; remove the link".to_owned());
        } else {
            self.entries(folder, depth);
            self.above.remove(&id);
        }
    }

    fn entries(&mut self, folder: &Path, depth: usize) {
        let read = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let mut paths: Vec<PathBuf> = match read {
            Ok(paths) => paths,
            Err(error) => return self.fault(folder, &error),
        };
        paths.sort_unstable();
        for path in paths {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                self.faults
                    .insert(folder.into(), format!("more than {MAX_ENTRIES} entries; the rest is not read"));
                return;
            }
            if !is_hidden(&path) {
                self.entry(path, depth);
            }
        }
    }

    fn entry(&mut self, path: PathBuf, depth: usize) {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => self.folder(&path, &metadata, depth + 1),
            Ok(metadata) if metadata.is_file() && is_configuration(&path) => self.file(path, &metadata),
            Ok(_) => {}
            // Gone between listing and looking: gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {}
            Err(error) if is_configuration(&path) => self.fault(&path, &error),
            Err(_) => {}
        }
    }

    fn file(&mut self, path: PathBuf, metadata: &Metadata) {
        if self.files.len() >= MAX_FILES {
            if !self.is_full {
                let why = format!("more than {MAX_FILES} files; this one and those behind it are not read");
                self.notes.insert(path, why);
                self.is_full = true;
            }
            return;
        }
        self.files.insert(path, Stamp::from(metadata));
    }

    fn fault(&mut self, path: &Path, error: &io::Error) {
        self.faults.insert(path.into(), format!("cannot be read: {error}"));
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Whether a file is one of ours by its name.
fn is_configuration(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(scan: &Scan, root: &Path) -> Vec<String> {
        let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        scan.files.keys().map(relative).collect()
    }

    #[test]
    fn files_are_found_by_name_in_path_order() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("b/c")).unwrap();
        fs::create_dir(root.path().join(".hidden")).unwrap();
        for file in ["z.yaml", "a.json", "b/c/x.yml", "b/note.txt", ".swp.yaml", ".hidden/x.yaml", "yaml"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        let scan = Scan::of(root.path());
        assert_eq!(names(&scan, root.path()), ["a.json", "b/c/x.yml", "z.yaml"]);
        assert!(scan.faults.is_empty());
    }

    #[test]
    fn a_mounted_config_map_is_read_once_through_its_links() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("..2026_1")).unwrap();
        fs::write(root.path().join("..2026_1/a.yaml"), "").unwrap();
        symlink("..2026_1", root.path().join("..data")).unwrap();
        symlink("..data/a.yaml", root.path().join("a.yaml")).unwrap();
        let before = Scan::of(root.path());
        assert_eq!(names(&before, root.path()), ["a.yaml"]);
        fs::create_dir(root.path().join("..2026_2")).unwrap();
        fs::write(root.path().join("..2026_2/a.yaml"), "").unwrap();
        symlink("..2026_2", root.path().join("..new")).unwrap();
        fs::rename(root.path().join("..new"), root.path().join("..data")).unwrap();
        let after = Scan::of(root.path());
        assert_ne!(before.files, after.files, "the swap of ..data was not seen");
    }

    #[test]
    fn loops_depth_and_dead_links_end_in_a_fault_that_says_why() {
        let root = tempfile::tempdir().unwrap();
        symlink(".", root.path().join("loop")).unwrap();
        symlink("nothing.yaml", root.path().join("dead.yaml")).unwrap();
        let deep = (0..=MAX_DEPTH).fold(root.path().join("deep"), |path, _| path.join("d"));
        fs::create_dir_all(&deep).unwrap();
        let scan = Scan::of(root.path());
        let faults: Vec<_> = scan.faults.values().map(|fault| fault.split(';').next().unwrap()).collect();
        assert_eq!(
            faults,
            [
                "cannot be read: No such file or directory (os error 2)",
                "more than 16 folders deep",
                "a symlink to a folder that holds it"
            ]
        );
        assert!(scan.is_hidden_by_fault(&root.path().join("loop/a.yaml")));
        assert!(!scan.is_hidden_by_fault(&root.path().join("a.yaml")));
    }
}
