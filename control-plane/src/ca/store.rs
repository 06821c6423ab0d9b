//! The data directory: keys and certificates that must survive a restart.
//!
//! One directory (0700) with small PEM files (keys 0600). Whoever can read a key here can be anyone in the mesh, so a
//! key that others may read is refused rather than used. Opening takes a lock, because the control plane and
//! `outrigger token create` may make the same key at the same moment. This module does not know what the keys are for.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The largest key or certificate that is read from the directory, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// The largest record that is read from the directory, in bytes.
const MAX_STATE_BYTES: u64 = 16 * 1024 * 1024;

const DIRECTORY_MODE: u32 = 0o700;
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;
const LOCK_FILE: &str = ".lock";

/// An open data directory. No other process has it open for as long as this lives; keep it short.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    _lock: File,
}

/// What cannot be done with the data directory, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}; {fix}", path.display())]
pub struct StoreError {
    path: PathBuf,
    what: String,
    fix: String,
}

/// Who may read a file of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Secret,
    Public,
}

impl Store {
    /// Opens the directory, makes it when it is not there, and waits for another process that has it open.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let fix = "choose a directory that this user may write with --data DIR";
        let error = |what: fmt::Arguments<'_>| StoreError::new(dir, what, fix);
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(dir)
            .map_err(|source| error(format_args!("the data directory cannot be made: {source}")))?;
        let metadata = std::fs::metadata(dir)
            .map_err(|source| error(format_args!("the data directory cannot be read: {source}")))?;
        if metadata.mode() & 0o002 != 0 {
            let fix = format!("run chmod 700 {}", dir.display());
            return Err(StoreError::new(dir, format_args!("everybody may write the data directory"), &fix));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(KEY_MODE)
            .open(dir.join(LOCK_FILE))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|source| error(format_args!("the data directory cannot be locked: {source}")))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// The whole path of a file in the directory, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Reads a key. `None` when it is not there; an error when anybody but the owner may read or write it.
    pub fn read_key(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.read(name, Secrecy::Secret)
    }

    /// Reads a certificate. `None` when it is not there.
    pub fn read_certificate(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.read(name, Secrecy::Public)
    }

    /// Reads a record that the control plane keeps. `None` when it is not there; an error when anybody but the owner may
    /// read or write it.
    pub fn read_state(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.read_up_to(MAX_STATE_BYTES, name, Secrecy::Secret)
    }

    /// Writes a record that only the owner may read, whole or not at all.
    pub fn write_state(&self, name: &str, text: &str) -> Result<(), StoreError> {
        self.write(name, text, KEY_MODE)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a key that only the owner may read, whole or not at all.
    pub fn write_key(&self, name: &str, pem: &str) -> Result<(), StoreError> {
        self.write(name, pem, KEY_MODE)
    }

    /// Writes a certificate, whole or not at all.
    pub fn write_certificate(&self, name: &str, pem: &str) -> Result<(), StoreError> {
        self.write(name, pem, CERTIFICATE_MODE)
    }

    /// Takes a file away; nothing when it is not there.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        match std::fs::remove_file(self.path(name)) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(self.error(name, format_args!("cannot be removed: {source}"), "remove it yourself"))
            }
            _ => Ok(()),
        }
    }

    /// An error about a file of the directory.
    pub fn error(&self, name: &str, what: impl fmt::Display, fix: &str) -> StoreError {
        StoreError::new(&self.path(name), format_args!("{what}"), fix)
    }

    fn read(&self, name: &str, secrecy: Secrecy) -> Result<Option<String>, StoreError> {
        self.read_up_to(MAX_FILE_BYTES, name, secrecy)
    }

    fn read_up_to(&self, limit: u64, name: &str, secrecy: Secrecy) -> Result<Option<String>, StoreError> {
        let path = self.path(name);
        let unreadable = |source: std::io::Error| {
            StoreError::new(&path, format_args!("cannot be read: {source}"), "make it readable for this user")
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
        if secrecy == Secrecy::Secret && mode & 0o077 != 0 {
            let what = format_args!("mode {mode:04o} lets others read or change a private key");
            return Err(StoreError::new(&path, what, &format!("run chmod 600 {}", path.display())));
        }
        let mut text = String::new();
        file.take(limit + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > limit {
            let what = format_args!("is larger than {limit} bytes");
            return Err(StoreError::new(&path, what, "restore the file that was here"));
        }
        Ok(Some(text))
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<(), StoreError> {
        let path = self.path(name);
        let temporary = self.path(&format!(".{name}.new"));
        let write = || {
            let _ = std::fs::remove_file(&temporary);
            let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|source| {
            let fix = "free some space or choose another directory with --data DIR";
            StoreError::new(&path, format_args!("cannot be written: {source}"), fix)
        })
    }
}

impl StoreError {
    fn new(path: &Path, what: fmt::Arguments<'_>, fix: &str) -> Self {
        Self { path: path.to_owned(), what: what.to_string(), fix: fix.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_directory_and_its_keys_belong_to_the_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("state/outrigger");
        let store = Store::open(&dir).unwrap();
        store.write_key("root-key.pem", "secret").unwrap();
        assert_eq!((mode(&dir), mode(&store.path("root-key.pem"))), (0o700, 0o600));
        assert_eq!(store.read_key("root-key.pem").unwrap().as_deref(), Some("secret"));
        assert_eq!(store.read_key("other.pem").unwrap(), None);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_fix() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        store.write_key("root-key.pem", "secret").unwrap();
        for bad in [0o640, 0o604, 0o666, 0o620] {
            let path = store.path("root-key.pem");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bad)).unwrap();
            let line = store.read_key("root-key.pem").unwrap_err().to_string();
            assert!(line.contains(&format!("mode {bad:04o}")) && line.contains("chmod 600"), "{line}");
        }
    }

    #[test]
    fn a_directory_that_everybody_may_write_is_refused() {
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let line = Store::open(home.path()).unwrap_err().to_string();
        assert!(line.contains("chmod 700"), "{line}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_names_the_flag() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        let line = Store::open(&file.join("data")).unwrap_err().to_string();
        assert!(line.contains("--data"), "{line}");
    }
}
