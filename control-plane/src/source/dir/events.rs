//! From the operating system's file events to "these paths were touched, and it is quiet now".

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

/// A burst of events is over when nothing came for so long: writers that truncate first are mostly done by then.
const QUIET: Duration = Duration::from_millis(20);
/// A burst that does not end is worked off after so long all the same.
const LONGEST_BURST: Duration = Duration::from_millis(80);
/// The most paths of one burst that are remembered one by one.
const MAX_TOUCHED: usize = 1024;

/// Paths that were touched.
#[derive(Debug, Default)]
pub(super) struct Touched {
    paths: BTreeSet<PathBuf>,
    everything: bool,
}

/// Watches a directory until it is dropped.
pub(super) struct Events {
    pending: Arc<Pending>,
    watcher: Result<RecommendedWatcher, notify::Error>,
}

#[derive(Default)]
struct Pending {
    touched: Mutex<Touched>,
    wake: Notify,
}

impl Touched {
    /// Whether a file has to be read again whatever its metadata says.
    pub(super) fn has(&self, file: &Path) -> bool {
        self.everything || self.paths.contains(file)
    }

    fn add(&mut self, paths: Vec<PathBuf>) {
        self.paths.extend(paths);
        if self.paths.len() > MAX_TOUCHED {
            self.everything = true;
            self.paths.clear();
        }
    }
}

impl Events {
    /// Starts to watch. Where that is not possible, [`Events::fault`] says why and only time wakes the caller.
    pub(super) fn of(directory: &Path) -> Self {
        let pending = Arc::new(Pending::default());
        let sink = pending.clone();
        let watcher = notify::recommended_watcher(move |event| sink.take(event)).and_then(|mut watcher| {
            watcher.watch(directory, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        Self { pending, watcher }
    }

    /// Why changes are only found from time to time.
    pub(super) fn fault(&self) -> Option<String> {
        let error = self.watcher.as_ref().err()?;
        Some(format!(
            "changes are seen late, since the directory cannot be watched: {error}; \
             raise fs.inotify.max_user_watches and max_user_instances if a limit was reached"
        ))
    }

    /// Waits for the next burst and its end, at most for `patience`.
    pub(super) async fn next(&self, patience: Duration) -> Touched {
        if timeout(patience, self.pending.wake.notified()).await.is_ok() {
            let latest = Instant::now() + LONGEST_BURST;
            while Instant::now() < latest {
                let quiet = latest.min(Instant::now() + QUIET);
                if timeout_at(quiet, self.pending.wake.notified()).await.is_err() {
                    break;
                }
            }
        }
        std::mem::take(&mut *self.pending.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Pending {
    fn take(&self, event: notify::Result<Event>) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(event) if !changes_something(&event.kind) => return,
            Ok(event) if event.need_rescan() => touched.everything = true,
            Ok(event) => touched.add(event.paths),
            Err(_) => touched.everything = true,
        }
        drop(touched);
        self.wake.notify_one();
    }
}

/// Reading a file is an event as well, and our own reading must not wake us.
fn changes_something(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_handed_over_once_and_an_endless_one_is_cut() {
        let pending = Arc::new(Pending::default());
        let events = Events { pending: pending.clone(), watcher: Err(notify::Error::generic("no watcher")) };
        let touch = |name: String| pending.take(Ok(Event::new(EventKind::Any).add_path(name.into())));
        touch("a".into());
        touch("b".into());
        let touched = events.next(Duration::from_secs(1)).await;
        assert!(touched.has(Path::new("a")) && touched.has(Path::new("b")) && !touched.has(Path::new("c")));

        let started = Instant::now();
        let writer = async {
            loop {
                touch("a".into());
                tokio::time::sleep(QUIET / 2).await;
            }
        };
        tokio::select! {
            _ = events.next(Duration::from_secs(1)) => {}
            () = writer => {}
        }
        assert_eq!(started.elapsed(), LONGEST_BURST);
        assert!(events.fault().unwrap().contains("no watcher"));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_paths_touch_everything_and_reading_touches_nothing() {
        let events = Events { pending: Arc::default(), watcher: Err(notify::Error::generic("no watcher")) };
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        events.pending.take(Ok(Event::new(opened).add_path("a".into())));
        assert!(!events.next(Duration::from_secs(1)).await.has(Path::new("a")));
        for number in 0..=MAX_TOUCHED {
            events.pending.take(Ok(Event::new(EventKind::Any).add_path(format!("{number}").into())));
        }
        assert!(events.next(Duration::from_secs(1)).await.has(Path::new("never seen")));
    }
}
