//! One way of a connection, through memory: read into the worker's buffer, written at once. Only what the receiver does not
//! take is kept, and nothing more is read until it has.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::carriers::Carriers;

/// One way of a connection.
#[derive(Default)]
pub(super) struct Copying {
    /// Read, and not taken by the receiver yet.
    unsent: Box<[u8]>,
    /// How much of `unsent` has been taken.
    taken: usize,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Copying,
    /// The sender failed; its last bytes go out first.
    Failed(io::Error),
    /// The sender has ended; the receiver is to be told.
    Ending,
    Ended,
}

/// What happened on one way of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes were read.
    Moved(usize),
    /// The sender has ended, and the receiver knows.
    Ended,
}

impl Copying {
    /// Goes on as far as one reading of the sender carries.
    pub(super) fn poll_step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        carriers: &Carriers,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<Step>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        ready!(self.poll_unsent(cx, to))?;
        match std::mem::take(&mut self.state) {
            State::Copying => {}
            State::Failed(error) => return Poll::Ready(Err(error)),
            State::Ending => {
                self.state = State::Ending;
                ready!(Pin::new(to).poll_shutdown(cx))?;
                self.state = State::Ended;
                return Poll::Ready(Ok(Step::Ended));
            }
            State::Ended => {
                self.state = State::Ended;
                return Poll::Ready(Ok(Step::Ended));
            }
        }
        let mut scratch = carriers.scratch();
        match self.poll_fill(cx, &mut scratch, from) {
            Poll::Ready(read) => {
                let read = read?;
                self.send(cx, &scratch[..read], to)?;
                Poll::Ready(Ok(Step::Moved(read)))
            }
            Poll::Pending => {
                // Nothing more for now: what a TLS stream holds back goes out.
                ready!(Pin::new(to).poll_flush(cx))?;
                Poll::Pending
            }
        }
    }

    /// Whether everything that was read has been taken.
    pub(super) fn is_clear(&self) -> bool {
        self.unsent.is_empty() && matches!(self.state, State::Copying)
    }

    /// The sender has ended, as was seen elsewhere.
    pub(super) fn end(&mut self) {
        self.state = State::Ending;
    }

    fn poll_unsent<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.taken < self.unsent.len() {
            self.taken += ready!(poll_write(cx, &self.unsent[self.taken..], to))?;
        }
        if !self.unsent.is_empty() {
            (self.unsent, self.taken) = (Box::default(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there, as far as the buffer goes: a TLS stream gives no more than a record at a time.
    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        while buffer.remaining() > 0 {
            let before = buffer.filled().len();
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().len() > before => {}
                Poll::Ready(Ok(())) => {
                    self.state = State::Ending;
                    break;
                }
                Poll::Ready(Err(error)) => {
                    self.state = State::Failed(error);
                    break;
                }
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn send<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: &mut W,
    ) -> io::Result<()> {
        let mut taken = 0;
        while taken < bytes.len() {
            match poll_write(cx, &bytes[taken..], to)? {
                Poll::Ready(more) => taken += more,
                Poll::Pending => {
                    self.unsent = bytes[taken..].into();
                    break;
                }
            }
        }
        Ok(())
    }
}

fn poll_write<W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    bytes: &[u8],
    to: &mut W,
) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        result => Poll::Ready(result),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::super::carriers::SCRATCH_BYTES;
    use super::*;

    #[tokio::test]
    async fn a_slow_receiver_stops_the_reading_and_costs_one_buffer() {
        let carriers = Carriers::default();
        let (mut sender, mut from) = duplex(10 * SCRATCH_BYTES);
        let (mut to, mut receiver) = duplex(1000);
        let bytes: Vec<u8> = (0..2 * SCRATCH_BYTES + 10).map(|i| (i / 7) as u8).collect();
        sender.write_all(&bytes).await.unwrap();
        let mut way = Copying::default();
        assert!(way.is_clear());

        let mut step = |way: &mut Copying| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            way.poll_step(&mut cx, &carriers, &mut from, &mut to)
        };
        assert!(matches!(step(&mut way), Poll::Ready(Ok(Step::Moved(SCRATCH_BYTES)))));
        assert_eq!(way.unsent.len(), SCRATCH_BYTES - 1000);
        assert!(step(&mut way).is_pending());
        assert_eq!(way.unsent.len(), SCRATCH_BYTES - 1000);

        let mut heard = vec![0; bytes.len()];
        let carry = poll_fn(|cx| {
            while let Poll::Ready(step) = way.poll_step(cx, &carriers, &mut from, &mut to) {
                step.unwrap();
            }
            Poll::<()>::Pending
        });
        tokio::select! {
            () = carry => {}
            read = receiver.read_exact(&mut heard) => drop(read.unwrap()),
        }
        assert_eq!(heard, bytes);
        assert!(way.is_clear(), "a way over which nothing goes keeps no buffer");
    }

    /// Some bytes, then an error.
    struct Breaks(Option<&'static [u8]>);

    impl AsyncRead for Breaks {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.take() {
                Some(bytes) => {
                    buf.put_slice(bytes);
                    Poll::Ready(Ok(()))
                }
                None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
    }

    #[tokio::test]
    async fn bytes_before_a_failure_go_out_and_no_end_follows_them() {
        let carriers = Carriers::default();
        let (mut to, mut receiver) = duplex(100);
        let mut from = Breaks(Some(b"half a mess"));
        let mut way = Copying::default();
        let mut steps = Vec::new();
        for _ in 0..2 {
            steps.push(poll_fn(|cx| way.poll_step(cx, &carriers, &mut from, &mut to)).await);
        }
        assert_eq!(*steps[0].as_ref().unwrap(), Step::Moved(11));
        assert_eq!(steps[1].as_ref().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut heard = [0; 11];
        receiver.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"half a mess");
    }
}
