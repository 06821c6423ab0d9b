//! One way of a connection between two sockets of the kernel: as long as much goes at once, it goes through a pipe and
//! never enters this process (splice(2)); otherwise it is copied, which is cheaper for little.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::carriers::{Carriers, Pipe};
use super::copy::{Copying, Step};

/// From so many bytes at once a pipe is cheaper than memory, in bytes.
const SPLICE_FROM_BYTES: usize = 16 * 1024;

/// One way of a connection.
#[derive(Default)]
pub(super) struct Splicing {
    copying: Copying,
    pipe: Option<Pipe>,
    /// How much came last.
    last: usize,
    /// The kernel does not do it with these sockets.
    refused: bool,
}

impl Splicing {
    /// Goes on as far as one reading of the sender carries.
    pub(super) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        carriers: &Carriers,
        from: &mut TcpStream,
        to: &mut TcpStream,
    ) -> Poll<io::Result<Step>> {
        if self.pipe.is_none() && self.wants_pipe() {
            self.pipe = carriers.pipe();
        }
        let Some(pipe) = &mut self.pipe else {
            let step = ready!(self.copying.poll_step(cx, carriers, from, to))?;
            if let Step::Moved(bytes) = step {
                self.last = bytes;
            }
            return Poll::Ready(Ok(step));
        };
        ready!(poll_drain(cx, pipe, to))?;
        let filled = poll_fill(cx, pipe, from);
        match filled {
            Poll::Ready(Ok(0)) => self.copying.end(),
            Poll::Ready(Ok(bytes)) => self.last = bytes,
            Poll::Ready(Err(ref error)) if is_refusal(error) => {
                self.refused = true;
                self.pipe = None;
                return Poll::Ready(Ok(Step::Moved(0)));
            }
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        if !matches!(filled, Poll::Ready(Ok(1..))) {
            self.pipe = None;
        }
        filled.map_ok(Step::Moved)
    }

    fn wants_pipe(&self) -> bool {
        self.last >= SPLICE_FROM_BYTES && !self.refused && self.copying.is_clear()
    }
}

/// Empties the pipe.
fn poll_drain(cx: &mut Context<'_>, pipe: &mut Pipe, to: &TcpStream) -> Poll<io::Result<()>> {
    while pipe.held() > 0 {
        ready!(to.poll_write_ready(cx))?;
        match to.try_io(Interest::WRITABLE, || pipe.drain(to)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            moved => drop(moved?),
        }
    }
    Poll::Ready(Ok(()))
}

/// Fills the pipe, which is empty.
fn poll_fill(cx: &mut Context<'_>, pipe: &mut Pipe, from: &TcpStream) -> Poll<io::Result<usize>> {
    loop {
        ready!(from.poll_read_ready(cx))?;
        match from.try_io(Interest::READABLE, || pipe.fill(from)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            filled => return Poll::Ready(filled),
        }
    }
}

/// What a kernel, or a filter on system calls, says that does not splice.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}
