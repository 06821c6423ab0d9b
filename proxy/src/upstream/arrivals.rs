//! Waiting, within one worker, for something to come back to a pool. Telling costs nothing while nobody waits.

use std::cell::Cell;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Who waits, and how they are told.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    waiting: Cell<usize>,
    told: Notify,
}

/// One who waits.
pub(super) struct Arrival<'a> {
    arrivals: &'a Arrivals,
    told: Notified<'a>,
}

/// Gives the count back.
struct Waiter<'a>(&'a Cell<usize>);

impl Arrivals {
    /// Wakes one of those who wait: one thing has come, and if that one is gone meanwhile the next is woken.
    pub(super) fn tell(&self) {
        if self.somebody_waits() {
            self.told.notify_one();
        }
    }

    pub(super) fn somebody_waits(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Resolves at the next arrival after this call. Count of waiters and what arrives are of one thread, so nothing is
    /// missed between looking and waiting as long as nothing is awaited in between.
    pub(super) fn next(&self) -> Arrival<'_> {
        Arrival { arrivals: self, told: self.told.notified() }
    }
}

impl Arrival<'_> {
    pub(super) async fn wait(self) {
        self.arrivals.waiting.set(self.arrivals.waiting.get() + 1);
        let _waiter = Waiter(&self.arrivals.waiting);
        self.told.await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
