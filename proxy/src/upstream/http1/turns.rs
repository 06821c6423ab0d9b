//! Who sends when: requests of one worker that are ready at the same time first read, then write.
//!
//! A byte that is sent wakes whoever waits for it on another core. When a worker sends as soon as it has something, its peers
//! wake, find one message and sleep again, for each message; when it first reads all that has come and then sends all of
//! it, they find many. That is worth more than a fifth of the CPU of a small request (benches/NOTES.md).

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

/// Counts the requests of one worker that wait for a response head.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Turns(Cell<usize>);

/// One of them.
pub(super) struct Waiting<'a>(&'a Cell<usize>);

impl Turns {
    pub(super) fn join(&self) -> Waiting<'_> {
        self.0.set(self.0.get() + 1);
        Waiting(&self.0)
    }
}

impl Waiting<'_> {
    /// Lets the tasks that are ready now run before this one goes on. Does not wait when nobody else has a request.
    pub(super) async fn after_others(&self) {
        let mut had_turn = self.0.get() <= 1;
        poll_fn(|cx| {
            if had_turn {
                return Poll::Ready(());
            }
            had_turn = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, yield_now};

    use super::*;

    #[tokio::test]
    async fn whoever_is_ready_reads_before_anybody_writes() {
        let (turns, told) = (Rc::new(Turns::default()), Rc::new(RefCell::new(Vec::new())));
        let tasks = LocalSet::new();
        for name in ["a", "b", "c"] {
            let (turns, told) = (turns.clone(), told.clone());
            tasks.spawn_local(async move {
                let waiting = turns.join();
                // So that all have joined.
                yield_now().await;
                told.borrow_mut().push(format!("{name} reads"));
                waiting.after_others().await;
                told.borrow_mut().push(format!("{name} writes"));
            });
        }
        tasks.await;
        let told = told.borrow();
        assert!(told[..3].iter().all(|line| line.ends_with("reads")), "{told:?}");
        assert_eq!(turns.0.get(), 0);
    }

    #[tokio::test]
    async fn who_is_alone_does_not_wait() {
        let turns = Turns::default();
        let waiting = turns.join();
        let after_others = std::pin::pin!(waiting.after_others());
        assert!(futures_util::poll!(after_others).is_ready());
    }
}
