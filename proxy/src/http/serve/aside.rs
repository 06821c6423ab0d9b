//! A future that is waited for beside another which is polled far more often: it is polled only when it was woken itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// What is waited for aside. Polled within one task.
pub(super) struct Aside<'a, F> {
    future: Pin<&'a mut F>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken {
    due: AtomicBool,
    /// Whose task waits. Only touched when the future is due.
    task: Mutex<Option<Waker>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.due.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl<'a, F: Future> Aside<'a, F> {
    pub(super) fn new(future: Pin<&'a mut F>) -> Self {
        let woken = Woken { due: AtomicBool::new(true), task: Mutex::default() };
        Self { future, woken: Arc::new(woken) }
    }

    /// As the poll of the future, but at the cost of one load when nothing has woken it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        if !self.woken.due.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        *self.woken.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        let waker = Waker::from(self.woken.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_polled_when_it_was_woken_and_ends_in_time() {
        let polls = Cell::new(0);
        let mut sleep = pin!(tokio::time::sleep(Duration::from_secs(1)));
        let counted = pin!(poll_fn(|cx| {
            polls.set(polls.get() + 1);
            sleep.as_mut().poll(cx)
        }));
        let mut aside = Aside::new(counted);
        let mut turns = 0;
        poll_fn(|cx| {
            turns += 1;
            if turns < 100 {
                cx.waker().wake_by_ref();
            }
            aside.poll(cx)
        })
        .await;
        assert!(turns >= 100, "{turns}");
        assert_eq!(polls.get(), 2, "once to begin, once at its end");
    }
}
