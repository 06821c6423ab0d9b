//! A request body that is read once and sent several times.
//!
//! Whoever it belongs to reads at its own pace; a copy has what was read so far, and is lost when more than
//! [`MAX_WAITING_BYTES`] wait for it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::http::{Body, BodyError};

/// How much may wait for a mirror that is slower than the request. One more piece than this is there at times, and a piece is
/// what one read of a connection brings.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// A body of which others get copies.
#[derive(Debug)]
pub struct Teed {
    inner: Body,
    copies: Vec<Weak<Channel>>,
}

/// The copy of a body, on its way to one mirror.
#[derive(Debug)]
pub struct Copied(Rc<Channel>);

/// Between the one who reads a body and one who gets a copy.
#[derive(Debug)]
pub(in crate::http) struct Channel(RefCell<State>);

#[derive(Debug)]
struct State {
    waiting: VecDeque<Frame<Bytes>>,
    waiting_bytes: usize,
    /// How much is still to be read, where that is known.
    left_bytes: Option<u64>,
    end: Option<End>,
    reader: Option<Waker>,
    /// Whoever wants to know that the copy is lost while its reader is held up.
    watcher: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All of it came.
    Complete,
    /// The request broke off.
    Cut,
    /// The mirror is too slow.
    Lost,
}

impl Channel {
    /// For a body of this length, where it is known.
    pub(super) fn new(length: Option<u64>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(State {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            left_bytes: length,
            end: None,
            reader: None,
            watcher: None,
        })))
    }

    /// Whether the mirror was too slow.
    pub(super) fn is_lost(&self) -> bool {
        self.0.borrow().end == Some(End::Lost)
    }

    /// Waits until the mirror is too slow, which may be for ever.
    pub(super) async fn lost(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            match state.end {
                Some(End::Lost) => Poll::Ready(()),
                _ => {
                    state.watcher = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
    }

    /// Whether the copy was not complete, for whatever reason.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.0.borrow().end, Some(End::Cut | End::Lost))
    }

    fn push(&self, frame: &Frame<Bytes>) {
        let mut state = self.0.borrow_mut();
        if state.end.is_some() {
            return;
        }
        if state.waiting_bytes >= MAX_WAITING_BYTES {
            state.waiting.clear();
            return state.finish(End::Lost);
        }
        if let Some(data) = frame.data_ref() {
            state.waiting_bytes += data.len();
            state.waiting.push_back(Frame::data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            state.waiting.push_back(Frame::trailers(trailers.clone()));
        }
        state.wake();
    }

    fn finish(&self, end: End) {
        self.0.borrow_mut().finish(end);
    }
}

impl State {
    /// The first end counts.
    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake();
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Teed {
    pub(in crate::http) fn new(inner: Body, copies: &[Rc<Channel>]) -> Self {
        Self { inner, copies: copies.iter().map(Rc::downgrade).collect() }
    }

    pub(in crate::http) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                self.each(|copy| copy.push(frame));
                // Who knows the length does not ask for the end.
                if self.inner.is_end_stream() {
                    self.each(|copy| copy.finish(End::Complete));
                }
            }
            Some(Err(_)) => self.each(|copy| copy.finish(End::Cut)),
            None => self.each(|copy| copy.finish(End::Complete)),
        }
        Poll::Ready(polled)
    }

    pub(in crate::http) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn each(&self, mut tell: impl FnMut(&Channel)) {
        self.copies.iter().filter_map(Weak::upgrade).for_each(|copy| tell(&copy));
    }
}

impl Drop for Teed {
    /// A request that ends before its body does has no whole copy.
    fn drop(&mut self) {
        self.each(|copy| copy.finish(End::Cut));
    }
}

impl Copied {
    pub(super) fn of(channel: &Rc<Channel>) -> Self {
        Self(channel.clone())
    }

    pub(in crate::http) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.0.0.borrow_mut();
        if let Some(frame) = state.waiting.pop_front() {
            let length = frame.data_ref().map_or(0, Bytes::len);
            state.waiting_bytes -= length;
            state.left_bytes = state.left_bytes.map(|left| left.saturating_sub(length as u64));
            return Poll::Ready(Some(Ok(frame)));
        }
        match state.end {
            Some(End::Complete) => Poll::Ready(None),
            Some(End::Cut | End::Lost) => Poll::Ready(Some(Err(BodyError::Cut))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(in crate::http) fn is_end_stream(&self) -> bool {
        let state = self.0.0.borrow();
        state.waiting.is_empty() && state.end == Some(End::Complete)
    }

    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        self.0.0.borrow().left_bytes.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests;
