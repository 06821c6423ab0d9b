//! Deadlines of one worker's requests: almost all are taken back before they are due, so that setting one and taking it
//! back is what has to be cheap. They ring at most [`GRANULARITY`] late.
//!
//! A tokio timer costs about a thousand instructions from its arming to its end. Here a deadline is an entry in a slab; one
//! task sleeps until the earliest that was ever set, looks at all, and sleeps until the earliest of those that are left.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How late a deadline may ring, and how often, at most, all are looked at.
const GRANULARITY: Duration = Duration::from_millis(2);

/// The deadlines of one worker. Their task runs as long as one of them is there.
#[derive(Debug, Clone, Default)]
pub struct Alarms(Rc<State>);

#[derive(Debug, Default)]
struct State {
    entries: RefCell<Slab<Entry>>,
    /// No entry is due before; `None` while nobody looks.
    next_look: Cell<Option<Instant>>,
    sooner: Notify,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    /// `None` once it has rung.
    waker: Option<Waker>,
}

/// The time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

/// One deadline. Set when it is first waited for, taken back when dropped.
#[derive(Debug)]
pub struct Alarm {
    state: Rc<State>,
    at: Instant,
    entry: Option<usize>,
}

impl Alarms {
    /// A deadline that is not set yet.
    pub fn at(&self, at: Instant) -> Alarm {
        Alarm { state: self.0.clone(), at, entry: None }
    }

    /// Waits for a future, but not longer than until `at`.
    ///
    /// # Errors
    /// [`Late`]: the time was over first.
    pub async fn until<F: Future>(&self, at: Instant, future: F) -> Result<F::Output, Late> {
        let (mut future, mut alarm) = (pin!(future), self.at(at));
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => alarm.poll(cx).map(|()| Err(Late)),
        })
        .await
    }
}

impl Alarm {
    /// Ready when the time is over.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut entries = self.state.entries.borrow_mut();
        match self.entry.map(|key| &mut entries[key].waker) {
            Some(None) => return Poll::Ready(()),
            Some(Some(waker)) => waker.clone_from(cx.waker()),
            None => {
                let entry = Entry { at: self.at, waker: Some(cx.waker().clone()) };
                self.entry = Some(entries.insert(entry));
                drop(entries);
                self.state.look_at(self.at);
            }
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(key) = self.entry {
            self.state.entries.borrow_mut().remove(key);
        }
    }
}

impl State {
    /// Sees to it that somebody looks at that time.
    fn look_at(self: &Rc<Self>, at: Instant) {
        match self.next_look.get() {
            Some(next) if next <= at => {}
            Some(_) => {
                self.next_look.set(Some(at));
                self.sooner.notify_one();
            }
            None => {
                self.next_look.set(Some(at));
                tokio::task::spawn_local(Self::look(Rc::downgrade(self)));
            }
        }
    }

    /// Rings what is due, as long as there is anything. Ends with the worker.
    async fn look(state: Weak<Self>) {
        let mut last_look = Instant::now();
        while let Some(alive) = state.upgrade() {
            let Some(next) = alive.next_look.get() else { return };
            let at = next.max(last_look + GRANULARITY);
            tokio::select! {
                biased;
                () = alive.sooner.notified() => continue,
                () = sleep_until(at) => {}
            }
            last_look = Instant::now();
            alive.next_look.set(alive.ring(last_look));
        }
    }

    /// Wakes whose time is over; the earliest of the others.
    fn ring(&self, now: Instant) -> Option<Instant> {
        let mut earliest = None;
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            if entry.at > now {
                earliest = Some(earliest.map_or(entry.at, |at: Instant| at.min(entry.at)));
            } else if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
        earliest
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::LocalSet;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// How late each deadline rang, in the order of `after`.
    async fn ring_all(alarms: &Alarms, after: &[u64]) -> Vec<Duration> {
        let start = Instant::now();
        let ringing = after.iter().map(|ms| async move {
            let late = alarms.until(start + MS(*ms), pending::<()>()).await;
            assert_eq!(late, Err(Late));
            start.elapsed() - MS(*ms)
        });
        futures_util::future::join_all(ringing).await
    }

    #[tokio::test(start_paused = true)]
    async fn each_rings_in_time_whatever_was_set_before() {
        LocalSet::new()
            .run_until(async {
                let alarms = Alarms::default();
                for late in ring_all(&alarms, &[5_000, 10, 11, 700, 10, 60_000, 1]).await {
                    assert!(late <= 2 * GRANULARITY, "{late:?} late");
                }
                assert!(alarms.0.entries.borrow().is_empty());
                // The task has ended and begins anew.
                assert!(ring_all(&alarms, &[3]).await[0] <= 2 * GRANULARITY);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_in_time_leaves_nothing_behind() {
        LocalSet::new()
            .run_until(async {
                let alarms = Alarms::default();
                let end = Instant::now() + MS(50);
                assert_eq!(alarms.until(end, async { 7 }).await, Ok(7));
                assert_eq!(alarms.0.next_look.get(), None, "nothing was ever set");
                let slow = async {
                    tokio::time::sleep(MS(40)).await;
                    7
                };
                assert_eq!(alarms.until(end, slow).await, Ok(7));
                assert!(alarms.0.entries.borrow().is_empty());
                tokio::time::sleep(MS(100)).await;
                assert_eq!(alarms.0.next_look.get(), None, "nobody looks any more");
            })
            .await;
    }
}
