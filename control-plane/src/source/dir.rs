//! Objects from a directory of YAML and JSON files, watched for changes.
//!
//! What is broken never takes anything away: a file that cannot be read or parsed keeps the objects it had, and says
//! so. Events of the operating system only say when to look; what changed is found by comparing, so a lost event costs
//! seconds, not correctness.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::source::{SourceError, Update};

mod events;
mod files;
mod scan;

pub use files::MAX_FILE_BYTES;
pub use scan::{MAX_DEPTH, MAX_FILES};

use events::{Events, Touched};
use files::Files;
use scan::{Scan, Stamp};

/// The directory is looked through after so long even if no event came: for file systems without events.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The same while the directory is not there or cannot be watched.
const LOOK_AGAIN_WHEN_BLIND: Duration = Duration::from_millis(500);

/// Reads a directory and goes on watching it until nobody listens any more.
///
/// The first update is sent as soon as the directory was read, be it empty; further ones when something changed.
/// Bounds: [`MAX_FILES`] files, [`MAX_FILE_BYTES`] each, [`MAX_DEPTH`] folders deep.
///
/// # Errors
///
/// When the directory is not there at the start. That it vanishes later is a problem in an update.
pub async fn watch(directory: &Path, updates: mpsc::Sender<Update>) -> Result<(), SourceError> {
    check(directory)?;
    let mut watcher = Watcher::new(directory);
    let mut touched = Touched::default();
    let mut first = true;
    loop {
        let looked = tokio::task::spawn_blocking(move || watcher.look(&touched)).await;
        let Ok((back, update)) = looked else { return Ok(()) };
        watcher = back;
        let update = update.or_else(|| first.then(Update::default));
        if let Some(update) = update
            && updates.send(update).await.is_err()
        {
            return Ok(());
        }
        first = false;
        touched = tokio::select! {
            touched = watcher.events.next(watcher.patience()) => touched,
            () = updates.closed() => return Ok(()),
        };
    }
}

fn check(directory: &Path) -> Result<(), SourceError> {
    let unreadable = |error: io::Error| SourceError::Unreadable { directory: directory.into(), error };
    if !fs::metadata(directory).map_err(unreadable)?.is_dir() {
        return Err(SourceError::NotADirectory { directory: directory.into() });
    }
    fs::read_dir(directory).map(|_| ()).map_err(unreadable)
}

struct Watcher {
    directory: PathBuf,
    files: Files,
    events: Events,
    root: Option<(u64, u64)>,
    blind: bool,
}

impl Watcher {
    fn new(directory: &Path) -> Self {
        // The watch starts before the first look, so that nothing falls in between.
        let root = Stamp::root(directory);
        let events = Events::of(directory);
        Self { directory: directory.into(), files: Files::default(), events, root, blind: false }
    }

    fn patience(&self) -> Duration {
        if self.blind { LOOK_AGAIN_WHEN_BLIND } else { LOOK_AGAIN }
    }

    fn look(mut self, touched: &Touched) -> (Self, Option<Update>) {
        let root = Stamp::root(&self.directory);
        if root != self.root && root.is_some() {
            // Another directory stands where the watched one was.
            self.events = Events::of(&self.directory);
            self.root = root;
        }
        let mut scan = Scan::of(&self.directory);
        let deaf = self.events.fault();
        self.blind = deaf.is_some() || scan.faults.contains_key(&self.directory);
        if let Some(why) = deaf {
            scan.notes.insert(self.directory.clone(), why);
        }
        let update = self.files.update(&scan, touched);
        (self, update)
    }
}

#[cfg(test)]
mod tests;
