//! Finish, then close.
//!
//! Whoever serves holds a [`Drain`] and stops taking new work when it starts; each piece of work (a connection, a
//! request) holds a [`DrainGuard`]. The owner of the [`DrainTrigger`] starts the drain and waits for the guards, but
//! not for ever. One drain can end a process or a single listener. Asking whether a drain has started costs one atomic
//! load, so that it can be asked for each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Makes a drain that waits up to `timeout` for work to be finished.
pub fn new(timeout: Duration) -> (DrainTrigger, Drain) {
    let drain = Drain(Arc::new(Shared::default()));
    (DrainTrigger { drain: drain.clone(), timeout }, drain)
}

/// Starts a drain.
#[derive(Debug)]
pub struct DrainTrigger {
    drain: Drain,
    timeout: Duration,
}

/// Tells when to stop taking new work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain(Arc<Shared>);

/// Held by one piece of work until it is finished.
#[derive(Debug, Clone)]
pub struct DrainGuard {
    _unit: TaskTrackerToken,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// How many pieces of work were not finished in time.
    pub left: usize,
}

#[derive(Debug, Default)]
struct Shared {
    flag: AtomicBool,
    signal: CancellationToken,
    units: TaskTracker,
}

impl DrainTrigger {
    /// Starts the drain without waiting. Doing so again changes nothing.
    pub fn start(&self) {
        self.drain.0.flag.store(true, Ordering::Release);
        self.drain.0.signal.cancel();
        self.drain.0.units.close();
    }

    /// Starts the drain and waits until all work is finished or the timeout has passed.
    pub async fn drain_and_wait(self) -> Drained {
        self.start();
        let units = &self.drain.0.units;
        // On a timeout the count says all there is to say.
        let _ = tokio::time::timeout(self.timeout, units.wait()).await;
        Drained { left: units.len() }
    }
}

impl Drain {
    /// Resolves when the drain starts, at once when it has.
    pub async fn started(&self) {
        self.0.signal.cancelled().await;
    }

    /// Whether the drain has started.
    pub fn is_started(&self) -> bool {
        self.0.flag.load(Ordering::Acquire)
    }

    /// Announces one piece of work. Work that was taken just before the drain started may still be announced.
    pub fn guard(&self) -> DrainGuard {
        DrainGuard { _unit: self.0.units.token() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_last_guard() {
        let (trigger, drain) = new(TIMEOUT);
        let (first, second) = (drain.guard(), drain.guard());
        assert!(!drain.is_started());
        let waiting = tokio::spawn(trigger.drain_and_wait());
        drain.started().await;
        assert!(drain.is_started());
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        assert_eq!(waiting.await.unwrap(), Drained { left: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_at_its_timeout_and_counts_what_is_left() {
        let (trigger, drain) = new(TIMEOUT);
        let _held = (drain.guard(), drain.guard());
        let begin = tokio::time::Instant::now();
        assert_eq!(trigger.drain_and_wait().await, Drained { left: 2 });
        assert_eq!(begin.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_future_gives_its_guard_back() {
        let (trigger, drain) = new(TIMEOUT);
        let guard = drain.guard();
        let work = tokio::spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        work.abort();
        assert_eq!(trigger.drain_and_wait().await, Drained { left: 0 });
    }

    #[tokio::test]
    async fn a_drain_without_work_ends_at_once() {
        let (trigger, drain) = new(TIMEOUT);
        trigger.start();
        drain.started().await;
        assert_eq!(trigger.drain_and_wait().await, Drained { left: 0 });
    }
}
