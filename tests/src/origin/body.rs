//! Bodies that come in pieces, or break off.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::Sleep;

/// A number of equal chunks, a pause before each.
#[derive(Debug)]
pub(super) struct Chunks {
    pub(super) left: u32,
    pub(super) chunk: Bytes,
    pub(super) pause: Duration,
    pub(super) ending: Ending,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// What comes after the last chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The proper end.
    Clean,
    /// The connection or stream breaks.
    Cut,
}

impl Chunks {
    pub(super) fn new(left: u32, chunk: Bytes, pause: Duration) -> Self {
        Self { left, chunk, pause, ending: Ending::Clean, sleep: None }
    }

    /// The same, without a proper end.
    pub(super) fn cut(self) -> Self {
        Self { ending: Ending::Cut, ..self }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = anyhow::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, anyhow::Error>>> {
        if self.left == 0 {
            let cut = self.ending == Ending::Cut;
            return Poll::Ready(cut.then(|| Err(anyhow::anyhow!("the origin was told to break off"))));
        }
        let pause = self.pause;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}
