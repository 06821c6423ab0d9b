//! What a worker carries bytes with. Connections of one worker take turns, so one buffer serves them all, and a connection
//! over which nothing goes holds none of it.

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// The most that is read at once, in bytes, and so the most that a direction keeps when its receiver is slow.
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;

/// The most that is moved into a pipe at once, in bytes. A pipe with the kernel's usual 16 places rarely takes more.
pub(super) const SPLICE_BYTES: usize = 256 * 1024;

/// Pipes of a worker, lent or idle. A direction holds one only while bytes go, or wait for a slow receiver, in it.
pub(super) const PIPES_MAX: usize = 32;

/// The means of one worker.
pub(crate) struct Carriers {
    scratch: RefCell<Box<[u8]>>,
    pipes: Rc<Pipes>,
}

#[derive(Default)]
struct Pipes {
    idle: RefCell<Vec<Ends>>,
    lent: Cell<usize>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe on loan: given back when it is dropped, or closed when there is still something in it.
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
    pipes: Rc<Pipes>,
}

impl Default for Carriers {
    fn default() -> Self {
        Self { scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()), pipes: Rc::default() }
    }
}

impl Carriers {
    /// The buffer, for as long as a direction neither waits nor calls another.
    pub(super) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// How many pipes are lent, and how many are idle.
    #[cfg(test)]
    pub(super) fn pipes(&self) -> (usize, usize) {
        (self.pipes.lent.get(), self.pipes.idle.borrow().len())
    }

    /// An empty pipe; `None` when there are too many, or no descriptors.
    pub(super) fn pipe(&self) -> Option<Pipe> {
        let lent = self.pipes.lent.get();
        if lent >= PIPES_MAX {
            return None;
        }
        let idle = self.pipes.idle.borrow_mut().pop();
        let ends = idle.or_else(|| {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            Some(Ends { read, write })
        })?;
        self.pipes.lent.set(lent + 1);
        Some(Pipe { ends: Some(ends), held: 0, pipes: self.pipes.clone() })
    }
}

impl Pipe {
    /// How many bytes are in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Moves what a socket has into the pipe, which must be empty; 0 when the socket has ended.
    pub(super) fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        self.held = move_bytes(from, &ends.write, SPLICE_BYTES)?;
        Ok(self.held)
    }

    /// Moves what is in the pipe to a socket, as far as it takes it.
    pub(super) fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let moved = move_bytes(&ends.read, to, self.held)?;
        self.held -= moved;
        Ok(moved)
    }
}

fn move_bytes(from: impl AsFd, to: impl AsFd, bytes: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        match splice(&from, None, &to, None, bytes, flags) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.pipes.lent.set(self.pipes.lent.get() - 1);
        // What is left in a pipe is for one receiver only.
        let clean = self.ends.take().filter(|_| self.held == 0);
        self.pipes.idle.borrow_mut().extend(clean);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn pipes_have_a_bound_and_come_back() {
        let carriers = Carriers::default();
        let all: Vec<_> = (0..PIPES_MAX).map(|_| carriers.pipe().unwrap()).collect();
        assert!(carriers.pipe().is_none());
        drop(all);
        assert_eq!(carriers.pipes(), (0, PIPES_MAX));
        assert!(carriers.pipe().is_some());
    }

    #[test]
    fn what_was_left_in_a_pipe_never_reaches_another_connection() {
        let carriers = Carriers::default();
        let (mut client, server) = pair();
        client.write_all(b"a secret").unwrap();
        let mut pipe = carriers.pipe().unwrap();
        // The pipe does not block, the socket does: this waits for the bytes.
        server.peek(&mut [0]).unwrap();
        assert_eq!(pipe.fill(&server).unwrap(), 8);
        drop(pipe);
        assert_eq!(carriers.pipes(), (0, 0));

        let (mut client, server) = pair();
        client.write_all(b"mine").unwrap();
        server.peek(&mut [0]).unwrap();
        let mut pipe = carriers.pipe().unwrap();
        pipe.fill(&server).unwrap();
        assert_eq!(pipe.drain(&server).unwrap(), 4);
        drop((pipe, server));
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "mine");
        assert_eq!(carriers.pipes(), (0, 1));
    }
}
