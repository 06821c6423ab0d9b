//! The file `tokens.json` of the data directory: what is remembered of tokens, shared by the control plane and
//! `outrigger token`.
//!
//! It is changed under the lock of the directory and replaced whole, so that whoever reads sees one state or the next. A
//! control plane follows it: it looks whether the file is another one before each answer, and each second for the streams
//! that are open. A file that cannot be read does not undo what was known.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::records::{RecordError, Records};
use super::{TokenError, Verified};
use crate::ca::store::{Store, StoreError};

/// The file.
pub(crate) const FILE: &str = "tokens.json";
/// How often the file is looked at for the streams that are open.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is remembered of tokens, as it is on disk.
#[derive(Debug)]
pub struct Book {
    dir: PathBuf,
    known: watch::Sender<Arc<Records>>,
    /// The file that `known` was read from.
    stamp: Mutex<Option<Stamp>>,
}

/// A file is another one when it has another of these: a replaced file has another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

/// Why a change of the records was not made.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The file or its directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change is not possible.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The token proves nothing.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Book {
    /// Reads what is remembered in an open data directory.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        let stamp = Stamp::of(&store.path(FILE));
        let known = watch::Sender::new(Arc::new(read(store)?.unwrap_or_default()));
        Ok(Self { dir: store.dir().to_owned(), known, stamp: Mutex::new(stamp) })
    }

    /// What is remembered, now and whenever it changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Records>> {
        self.known.subscribe()
    }

    /// What is remembered now.
    pub(crate) async fn records(self: &Arc<Self>) -> Arc<Records> {
        if self.is_another_file() {
            let book = self.clone();
            // The lock of the directory may be held for a moment; whoever is cut off here looks again.
            let _ = tokio::task::spawn_blocking(move || book.refresh()).await;
        }
        self.known.borrow().clone()
    }

    /// Follows the file for those who only listen, for ever.
    pub async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.records().await;
        }
    }

    /// Uses a token up, on disk before this returns: a control plane that restarts knows it.
    pub(crate) async fn use_up(self: &Arc<Self>, token: Verified) -> Result<(), BookError> {
        let book = self.clone();
        let used = move || {
            let store = Store::open(&book.dir)?;
            let (records, ()) = change(&store, |records, now| Ok(records.use_up(&token, now)?))?;
            book.replace(records, &store);
            Ok(())
        };
        match tokio::task::spawn_blocking(used).await {
            Ok(used) => used,
            Err(_) => Err(BookError::Token(TokenError::Unrecorded)),
        }
    }

    fn is_another_file(&self) -> bool {
        let stamp = Stamp::of(&self.dir.join(FILE));
        stamp.is_some() && stamp != *self.stamp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again. One that cannot be read is told of once.
    fn refresh(&self) {
        let opened = Store::open(&self.dir);
        match opened.and_then(|store| Ok((read(&store)?, store))) {
            Ok((Some(records), store)) => self.replace(records, &store),
            Ok((None, _)) => {}
            Err(error) => {
                *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = Stamp::of(&self.dir.join(FILE));
                tracing::error!("what is known of tokens stays as it was: {error}");
            }
        }
    }

    /// Takes over what the file holds. The store is open, so that the file is not replaced meanwhile.
    fn replace(&self, records: Records, store: &Store) {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = Stamp::of(&store.path(FILE));
        self.known.send_if_modified(|known| {
            let differs = **known != records;
            if differs {
                *known = Arc::new(records);
            }
            differs
        });
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self { inode: metadata.ino(), length: metadata.len(), changed })
    }
}

/// Reads the records, if there are any.
pub(super) fn read(store: &Store) -> Result<Option<Records>, StoreError> {
    let Some(text) = store.read_state(FILE)? else { return Ok(None) };
    let records = serde_json::from_str::<Records>(&text).map_err(|error| error.to_string());
    let known = records.and_then(|records| records.known_form().map_err(|error| error.to_string()));
    known.map(Some).map_err(|why| {
        let fix =
            "restore the file; without it revoked tokens would count again, and one-use tokens for nothing";
        store.error(FILE, format_args!("is not what is known of tokens: {why}"), fix)
    })
}

/// Changes the records on disk, and gives them with what the change gave. Nothing is written when it failed.
pub(super) fn change<T>(
    store: &Store,
    change: impl FnOnce(&mut Records, u64) -> Result<T, BookError>,
) -> Result<(Records, T), BookError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut records = read(store)?.unwrap_or_default();
    records.forget_expired(now);
    let given = change(&mut records, now)?;
    let text = serde_json::to_string(&records)
        .map_err(|error| store.error(FILE, format_args!("cannot be written: {error}"), "tell us"))?;
    store.write_state(FILE, &text)?;
    Ok((records, given))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Caller;

    fn token(id: &str) -> Verified {
        let caller = Caller { namespace: "shop".to_owned(), service_account: "web".to_owned() };
        Verified { caller, id: id.to_owned(), issued_at: 100, expires_at: u64::MAX, one_use: true }
    }

    fn book(dir: &Path) -> Arc<Book> {
        Arc::new(Book::open(&Store::open(dir).unwrap()).unwrap())
    }

    fn add(dir: &Path, token: &Verified) {
        change(&Store::open(dir).unwrap(), |records, _| Ok(records.add(token)?)).unwrap();
    }

    #[tokio::test]
    async fn what_another_process_writes_is_known_at_the_next_look_and_a_use_survives_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let running = book(home.path());
        let mut heard = running.subscribe();
        assert_eq!(running.records().await.judge(&token("a")), Err(TokenError::Unrecorded));
        add(home.path(), &token("a"));
        assert_eq!(running.records().await.judge(&token("a")), Ok(()));
        assert!(heard.has_changed().unwrap(), "streams hear of it");
        heard.mark_unchanged();
        running.use_up(token("a")).await.unwrap();
        assert!(heard.has_changed().unwrap());
        let replayed = running.use_up(token("a")).await.unwrap_err();
        assert!(matches!(replayed, BookError::Token(TokenError::Used)), "{replayed}");
        assert_eq!(book(home.path()).records().await.judge(&token("a")), Err(TokenError::Used));
    }

    #[tokio::test]
    async fn two_who_use_one_token_at_once_are_told_apart() {
        let home = tempfile::tempdir().unwrap();
        add(home.path(), &token("a"));
        // Two control planes on one directory, say.
        let (one, two) = (book(home.path()), book(home.path()));
        let (first, second) = tokio::join!(one.use_up(token("a")), two.use_up(token("a")));
        assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|ok| **ok).count(), 1);
    }

    #[tokio::test]
    async fn a_broken_file_does_not_undo_what_was_known_and_is_not_started_on() {
        let home = tempfile::tempdir().unwrap();
        add(home.path(), &token("a"));
        let running = book(home.path());
        std::fs::write(home.path().join(FILE), "{\"version\": 1, \"tokens\": ").unwrap();
        assert_eq!(running.records().await.judge(&token("a")), Ok(()));
        let error = Book::open(&Store::open(home.path()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("tokens.json") && error.contains("restore"), "{error}");
    }
}
