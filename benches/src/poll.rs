//! Waiting for many sockets on one thread: what load, origin and relay stand on.
//!
//! They share a core with each other or are the floor that proxies are compared with, so a request must cost them little
//! more than its system calls. Edges, not levels: a socket is told once when something comes, and whoever is told
//! reads until it had less than it asked for. An event may come for nothing; reading then finds nothing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Events taken from the kernel at once; more come with the next call.
const EVENTS_AT_ONCE: usize = 128;
/// Connections that wait in the kernel until they are accepted.
const BACKLOG: i32 = 4096;

/// What is waited for.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Box<[Event; EVENTS_AT_ONCE]>,
}

/// Something that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Of whom, as it was given to `add`.
    pub(crate) token: usize,
    /// Whether the other end has ended, so that reading has to go on until it says so.
    pub(crate) ended: bool,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        let none = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Box::new([none; EVENTS_AT_ONCE]) })
    }

    /// Tells of every edge of a socket, until it is closed.
    pub(crate) fn add(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        // A usize is no longer than a u64.
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), flags)?)
    }

    /// Waits until something comes or the time is over; says how many came, for [`Poll::ready`].
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        // Rounded up to what the kernel counts in: nobody is woken before the time is over.
        let millis = timeout.map(|timeout| timeout.as_nanos().div_ceil(1_000_000).min(60_000) as i64);
        let timeout =
            millis.map(|millis| Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 });
        match epoll::wait(&self.epoll, &mut self.events[..], timeout.as_ref()) {
            Ok(count) => Ok(count),
            Err(Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// One of those that came.
    pub(crate) fn ready(&self, index: usize) -> Ready {
        let Event { flags, data } = self.events[index];
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        // It was a usize.
        Ready { token: data.u64() as usize, ended }
    }
}

/// Listens with a queue that takes a whole load at once. What it accepts sends at once: the kernel hands that down.
pub(crate) fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The address somebody listens at.
pub(crate) fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?)
}

/// The next connection; `None` when none waits.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(socket) => Ok(Some(socket)),
        // Whoever dialled has gone again.
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Begins to connect, from an address of our own choice if there is one. On the loopback interface the connection is
/// there when this returns, or refused when it is first used; anywhere else writing has to wait for it.
pub(crate) fn connect(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<OwnedFd> {
    let socket = socket(to)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(from) = from {
        rustix::net::bind(&socket, &from)?;
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

/// What came of a read or a write that does not wait: the count, or `None` when it would have to.
pub(crate) fn now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether a connection is still there after reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Open,
    /// The other end has said that nothing more comes.
    Over,
}

/// Reads what has come, a buffer at a time.
pub(crate) fn read_all(
    mut stream: &TcpStream,
    ended: bool,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Life> {
    loop {
        let Some(count) = now(stream.read(buffer))? else { return Ok(Life::Open) };
        if count == 0 {
            return Ok(Life::Over);
        }
        each(&buffer[..count])?;
        // Less than there was room for is all there was.
        if count < buffer.len() && !ended {
            return Ok(Life::Open);
        }
    }
}

/// Writes what goes of `out`, and leaves the rest in it.
pub(crate) fn flush(mut stream: &TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let written = now(stream.write(out))?.unwrap_or(0);
    out.drain(..written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// Waits until `token` is told of.
    fn told(poll: &mut Poll, token: usize) -> Ready {
        loop {
            let count = poll.wait(Some(Duration::from_secs(5))).unwrap();
            assert!(count > 0, "{token} is never told of");
            if let Some(ready) = (0..count).map(|i| poll.ready(i)).find(|ready| ready.token == token) {
                return ready;
            }
        }
    }

    #[test]
    fn a_connection_is_told_of_when_something_comes_and_when_it_ends() {
        let mut poll = Poll::new().unwrap();
        let listener = listen(ANY).unwrap();
        poll.add(&listener, 7).unwrap();
        let from = SocketAddr::from(([127, 3, 2, 1], 0));
        let mut client = TcpStream::from(connect(local_address(&listener).unwrap(), Some(from)).unwrap());
        told(&mut poll, 7);
        let mut served = TcpStream::from(accept(&listener).unwrap().unwrap());
        assert_eq!(served.peer_addr().unwrap().ip(), from.ip());
        assert!(served.nodelay().unwrap() && client.nodelay().unwrap());
        assert!(accept(&listener).unwrap().is_none());

        poll.add(&served, 8).unwrap();
        client.write_all(b"ping").unwrap();
        let mut buffer = [0; 8];
        loop {
            assert!(!told(&mut poll, 8).ended);
            match now(served.read(&mut buffer)).unwrap() {
                Some(count) => break assert_eq!(&buffer[..count], b"ping"),
                None => continue,
            }
        }
        drop(client);
        assert!(told(&mut poll, 8).ended);
        assert_eq!(now(served.read(&mut buffer)).unwrap(), Some(0));
    }

    #[test]
    fn waiting_ends_with_its_time() {
        let begun = std::time::Instant::now();
        assert_eq!(Poll::new().unwrap().wait(Some(Duration::from_micros(1500))).unwrap(), 0);
        assert!(begun.elapsed() >= Duration::from_micros(1500));
    }

    #[test]
    fn nobody_at_the_address_is_seen_at_first_use() {
        let listener = listen(ANY).unwrap();
        let address = local_address(&listener).unwrap();
        drop(listener);
        let refused = connect(address, None).and_then(|socket| TcpStream::from(socket).write(b"ping"));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
