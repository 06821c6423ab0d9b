//! Where the authority is kept, and that a change there is taken over while the control plane runs.
//!
//! What is good takes the place of what is in use, whole; what is bad is said once, and what is in use stays.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::ca::Authority;
use crate::ca::files::{Files, FilesError};
use crate::ca::kept;
use crate::ca::root::Root;
use crate::ca::rotation::Journal;
use crate::ca::secret::{RootSecret, SecretError};
use crate::ca::store::{Store, StoreError};

/// How often the data directory is looked at.
const DATA_INTERVAL: Duration = Duration::from_secs(1);
/// How often files of others are looked at.
const FILES_INTERVAL: Duration = Duration::from_secs(2);
/// How often the Secret is looked at: a root is exchanged once in years.
pub(super) const SECRET_INTERVAL: Duration = Duration::from_secs(30);
/// How often while it changes.
const SECRET_BUSY_INTERVAL: Duration = Duration::from_secs(5);

/// Where the authority is kept.
#[derive(Clone)]
pub enum Place {
    /// In the data directory, by us.
    Data(PathBuf),
    /// In a Secret that all replicas share.
    Secret(Box<RootSecret>),
    /// In files, by somebody else.
    Files(Files),
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// In the data directory.
    #[error(transparent)]
    Data(#[from] StoreError),
    /// In the Secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// In files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The thread that read it is gone.
    #[error("the authority could not be read: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// An authority, and the rotation that is under way.
pub struct Opened {
    /// What signs.
    pub root: Root,
    /// How far it is.
    pub journal: Option<Journal>,
}

impl Place {
    /// The word for it in the JSON API.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Data(_) => "data",
            Self::Secret(_) => "secret",
            Self::Files(_) => "files",
        }
    }

    /// Reads the authority; makes one where it is ours and there is none. Waits for an API that is away.
    pub async fn open(&self, now: SystemTime) -> Result<Opened, PlaceError> {
        match self {
            Self::Data(dir) => {
                let dir = dir.clone();
                let open = move || kept::open(&Store::open(&dir)?, now).map(drop);
                tokio::task::spawn_blocking(open).await??;
            }
            Self::Secret(secret) => drop(secret.open(now).await?),
            Self::Files(_) => {}
        }
        self.look(now).await
    }

    /// Looks again and again and has `authority` sign with what is there; never ends by itself.
    pub async fn follow(self, authority: Arc<Authority>) {
        let (mut said, mut told) = (String::new(), String::new());
        loop {
            sleep(self.interval(&authority, !said.is_empty())).await;
            let line = match self.look(SystemTime::now()).await {
                Ok(opened) => {
                    self.take(opened, &authority);
                    String::new()
                }
                // That the API is away or refuses is said by those who watch it.
                Err(PlaceError::Secret(SecretError::Refused(_))) => continue,
                Err(error) => error.to_string(),
            };
            // What is seen once may be half of a change.
            if !line.is_empty() && line == said && line != told {
                tracing::error!("{line}; the authority in use stays until the control plane is restarted");
                told.clone_from(&line);
            }
            if line.is_empty() {
                told.clear();
            }
            said = line;
        }
    }

    fn interval(&self, authority: &Authority, is_broken: bool) -> Duration {
        match self {
            Self::Data(_) => DATA_INTERVAL,
            Self::Files(_) => FILES_INTERVAL,
            Self::Secret(_) if is_broken || authority.rotation().is_some() => SECRET_BUSY_INTERVAL,
            Self::Secret(_) => SECRET_INTERVAL,
        }
    }

    async fn look(&self, now: SystemTime) -> Result<Opened, PlaceError> {
        match self {
            Self::Data(dir) => {
                let dir = dir.clone();
                let look = move || kept::look(&Store::open(&dir)?, now);
                let (root, journal) = tokio::task::spawn_blocking(look).await??;
                Ok(Opened { root, journal })
            }
            Self::Secret(secret) => {
                let (root, journal) = secret.look(now).await?;
                Ok(Opened { root, journal })
            }
            Self::Files(files) => {
                let files = files.clone();
                let read = move || files.authority(&files.read()?, now);
                Ok(Opened { root: tokio::task::spawn_blocking(read).await??, journal: None })
            }
        }
    }

    fn take(&self, opened: Opened, authority: &Authority) {
        let is_new = opened.root.certificate() != authority.root().certificate();
        authority.set_rotation(opened.journal);
        match (authority.replace(opened.root), is_new) {
            (true, true) => tracing::warn!("{self} has another authority, which signs from now on"),
            (true, false) => tracing::warn!("{self} has another list of roots, which workloads are told"),
            (false, _) => {}
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(dir) => write!(f, "{}", dir.display()),
            Self::Secret(secret) => write!(f, "{secret}"),
            Self::Files(files) => write!(f, "{files}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Lifetimes;
    use crate::ca::root::MadeRoot;
    use crate::ca::rotation::State;

    fn write(dir: &std::path::Path, made: &MadeRoot, roots: &str) {
        for (file, text) in
            [("tls.crt", made.certificate.as_str()), ("tls.key", &made.key), ("ca.crt", roots)]
        {
            std::fs::write(dir.join(file), text).unwrap();
        }
    }

    async fn authority(place: &Place) -> Arc<Authority> {
        let opened = place.open(SystemTime::now()).await.unwrap();
        let authority = Authority::new(opened.root, Lifetimes::default());
        authority.set_rotation(opened.journal);
        Arc::new(authority)
    }

    /// Kubernetes exchanges a mounted Secret by turning a link to another directory.
    #[tokio::test(start_paused = true)]
    async fn a_mounted_secret_that_is_exchanged_is_taken_over_and_a_broken_one_is_not() {
        let now = SystemTime::now();
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (MadeRoot::new(now).unwrap(), MadeRoot::new(now).unwrap());
        let both = format!("{}{}", one.certificate, two.certificate);
        let turn = |name: &str, made: &MadeRoot, roots: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            write(&dir.path().join(name), made, roots);
            std::os::unix::fs::symlink(name, dir.path().join("..data.new")).unwrap();
            std::fs::rename(dir.path().join("..data.new"), dir.path().join("..data")).unwrap();
        };
        turn("a", &one, &one.certificate);
        let place = Place::Files(Files::of_directory(&dir.path().join("..data")));
        let authority = authority(&place).await;
        let mut changes = authority.bundles();
        let following = tokio::spawn(place.follow(authority.clone()));
        turn("b", &one, &both);
        changes.changed().await.unwrap();
        assert_eq!(
            (authority.root().pem(), authority.root().bundle()),
            (one.certificate.as_str(), both.as_str())
        );
        turn("c", &MadeRoot { key: two.key.clone(), ..one.clone() }, &both);
        tokio::time::sleep(10 * FILES_INTERVAL).await;
        assert_eq!(authority.root().pem(), one.certificate);
        turn("d", &two, &both);
        changes.changed().await.unwrap();
        assert_eq!(authority.root().pem(), two.certificate);
        following.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotation_in_the_data_directory_is_followed_step_by_step() {
        let now = SystemTime::now();
        let home = tempfile::tempdir().unwrap();
        let place = Place::Data(home.path().to_owned());
        let authority = authority(&place).await;
        let first = authority.root().pem().to_owned();
        let mut changes = authority.bundles();
        let following = tokio::spawn(place.follow(authority.clone()));
        let step = |change: &dyn Fn(State) -> State| {
            let store = Store::open(home.path()).unwrap();
            let state = change(kept::read(&store).unwrap().unwrap());
            kept::write(&store, &state).unwrap();
        };
        step(&|state| state.begin(now).unwrap());
        changes.changed().await.unwrap();
        assert_eq!((authority.root().pem(), authority.root().authorities().len()), (first.as_str(), 2));
        assert!(authority.rotation().is_some());
        step(&|state| state.switch(now).unwrap());
        changes.changed().await.unwrap();
        assert_ne!(authority.root().pem(), first);
        step(&|state| state.settle(now).unwrap());
        step(&|state| state.finish(now).unwrap());
        changes.changed().await.unwrap();
        assert_eq!(authority.root().authorities().len(), 1);
        assert!(authority.rotation().is_none());
        following.abort();
    }
}
