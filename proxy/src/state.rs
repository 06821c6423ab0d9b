//! The directory in which a proxy keeps what it needs to start while the control plane is away (`--state-dir`).
//!
//! Each file is an envelope around something that its owner understands: whose it is, from when, and a digest. A file that
//! is damaged, too old, of the future, of another workload or of another version is passed over with a line in the log; what
//! is there is used whole or not at all. The digest is against accidents; whoever may write the directory may also make
//! digests, so that nobody else may.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

mod envelope;

pub use envelope::{Owner, Unusable};

use envelope::Envelope;

/// How old what is kept may be when it is used, unless the flag says otherwise.
pub const DEFAULT_MAX_AGE: &str = "24h";
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Of the directory when it is made here.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// What of a mode lets others than the owner write, and what lets them do anything.
const OTHERS_WRITE: u32 = 0o022;
const OTHERS: u32 = 0o077;

/// The directory of one workload.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    owner: Owner,
    max_age: Duration,
}

/// Why a directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It is neither there nor can it be made.
    #[error("--state-dir: cannot use {}: {source}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Others could put something there for us to believe.
    #[error(
        "--state-dir: others may write {path} (mode {mode:04o}), and could give this workload a configuration of theirs; run \
         chmod 700 {path}, or name a directory in it that is not there yet: it is made for this user alone",
        path = path.display()
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// What was kept in a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// What its owner wrote.
    pub content: Vec<u8>,
    /// When it was known to be true.
    pub as_of: SystemTime,
}

impl StateDir {
    /// Opens a directory, and makes it for this user alone when it is not there.
    ///
    /// # Errors
    /// When it cannot be used, or others may write it.
    pub fn open(path: &Path, owner: Owner, max_age: Duration) -> Result<Self, StateDirError> {
        let failed = |source| StateDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(failed)?;
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
        if mode & OTHERS_WRITE != 0 {
            return Err(StateDirError::Writable { path: path.to_owned(), mode });
        }
        Ok(Self { path: path.to_owned(), owner, max_age })
    }

    /// Keeps a file, whole or not at all: it is on the disk before it takes the place of the one before.
    ///
    /// # Errors
    /// When it cannot be written; what was there stays.
    pub fn write(&self, name: &str, kept: &Kept) -> io::Result<()> {
        let bytes = Envelope { owner: &self.owner, as_of: kept.as_of }.seal(&kept.content)?;
        let (path, temporary) = (self.path(name), self.path(&format!(".{name}.new")));
        remove(&temporary)?;
        let mut file = OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.path)?.sync_all()
    }

    /// What was kept, if it can be used; otherwise a line in the log says why not.
    pub fn read(&self, name: &str, now: SystemTime) -> Option<Kept> {
        match self.try_read(name, now) {
            Ok(kept) => Some(kept),
            Err(Unread::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = self.path(name);
                tracing::warn!(path = %path.display(), %error, "what was kept on disk is not used");
                None
            }
        }
    }

    /// Removes a file; whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        remove(&self.path(&format!(".{name}.new")))?;
        remove(&self.path(name))
    }

    /// The whole path of a file, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// How old what is kept may be when it is used.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    fn try_read(&self, name: &str, now: SystemTime) -> Result<Kept, Unread> {
        let file = File::open(self.path(name))?;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(Unread::Mode(mode));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(Unread::TooLarge);
        }
        Ok(envelope::unseal(&bytes, &self.owner, (now, self.max_age))?)
    }
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("its mode {0:04o} lets others read or write it; this proxy writes files of mode 0600 only")]
    Mode(u32),
    #[error("it is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn owner(workload: &str) -> Owner {
        Owner {
            namespace: "shop".to_owned(),
            service_account: "web".to_owned(),
            workload: workload.to_owned(),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn kept() -> Kept {
        let whole_seconds = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Kept { content: b"secret".to_vec(), as_of: whole_seconds }
    }

    #[test]
    fn directory_and_files_belong_to_the_owner_alone_and_what_is_written_is_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("var/state");
        let state = StateDir::open(&path, owner("web-1"), HOUR).unwrap();
        state.write("a", &kept()).unwrap();
        assert_eq!((mode(&path), mode(&state.path("a"))), (0o700, 0o600));
        assert_eq!(state.read("a", kept().as_of + HOUR), Some(kept()));
        assert_eq!(state.read("b", kept().as_of), None);
        assert!(state.remove("a").unwrap() && !state.remove("a").unwrap());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused_with_the_fix() {
        let home = tempfile::tempdir().unwrap();
        for bad in [0o777, 0o1777, 0o770] {
            fs::set_permissions(home.path(), fs::Permissions::from_mode(bad)).unwrap();
            let line = StateDir::open(home.path(), owner("web-1"), HOUR).unwrap_err().to_string();
            assert!(line.contains("chmod 700") && line.contains("--state-dir"), "{line}");
        }
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        StateDir::open(home.path(), owner("web-1"), HOUR).unwrap();
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_another_workloads_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDir::open(home.path(), owner("web-1"), HOUR).unwrap();
        state.write("a", &kept()).unwrap();
        let other = StateDir::open(home.path(), owner("web-2"), HOUR).unwrap();
        assert_eq!(other.read("a", kept().as_of), None);
        fs::set_permissions(state.path("a"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(state.read("a", kept().as_of), None);
    }
}
