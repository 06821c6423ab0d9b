//! The closed loop: every connection asks again as soon as it is answered, for as long as there is time.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::PATIENCE;
use super::tally::{Phase, Tally};
use crate::poll::{self, Poll, Ready};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// One connection of a load, or one after the other in the same place.
pub(super) trait Lane {
    /// Connects and asks for the first time.
    fn begin(&mut self, ground: &mut Ground, tally: &mut Tally<'_>) -> Result<()>;
    /// Something came: takes it, and asks again while there is time.
    fn ready(&mut self, ready: Ready, ground: &mut Ground, tally: &mut Tally<'_>) -> Result<Next>;
    /// Whether an answer is still to come.
    fn waits(&self) -> bool;
}

/// What comes next on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for the next event.
    Wait,
    /// There is more as soon as the others have had their turn.
    Again,
}

/// What all lanes stand on.
pub(super) struct Ground {
    pub(super) poll: Poll,
    pub(super) buffer: Box<[u8]>,
    sources: Sources,
}

/// The addresses that connections of a load that makes many come from: each address has ports of its own, so that
/// those that the kernel still keeps closed (TIME-WAIT) are not in the way. They are closed as ordinary clients do it,
/// without a reset.
#[derive(Debug)]
pub(super) struct Sources {
    next: u8,
}

impl Sources {
    /// Each process begins somewhere else.
    fn new() -> Self {
        let [.., low] = std::process::id().to_be_bytes();
        Self { next: low }
    }

    /// Where the next connection comes from; `None` when the kernel has to choose, off the loopback interface.
    fn next(&mut self, to: SocketAddr) -> Option<SocketAddr> {
        let loopback = to.is_ipv4() && to.ip().is_loopback();
        self.next = self.next.wrapping_add(1);
        loopback.then(|| SocketAddr::from(([127, 200, self.next, 1], 0)))
    }
}

impl Ground {
    pub(super) fn new() -> Result<Self> {
        let poll = Poll::new().context("nothing can be waited for")?;
        Ok(Self { poll, buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), sources: Sources::new() })
    }

    /// A connection that lives as long as the load.
    pub(super) fn connect(&self, to: SocketAddr, token: usize) -> Result<TcpStream> {
        self.watch(poll::connect(to, None).with_context(|| format!("cannot connect to {to}"))?, token)
    }

    /// One of many connections.
    pub(super) fn connect_fresh(&mut self, to: SocketAddr, token: usize) -> Result<TcpStream> {
        let from = self.sources.next(to);
        self.watch(poll::connect(to, from).with_context(|| format!("cannot connect to {to}"))?, token)
    }

    fn watch(&self, socket: std::os::fd::OwnedFd, token: usize) -> Result<TcpStream> {
        self.poll.add(&socket, token)?;
        Ok(socket.into())
    }
}

/// Runs until the measured time is over and every answer is there.
pub(super) fn run<L: Lane>(mut lanes: Vec<L>, tally: &mut Tally<'_>) -> Result<()> {
    let mut ground = Ground::new()?;
    for lane in &mut lanes {
        lane.begin(&mut ground, tally)?;
    }
    let mut again = Vec::new();
    loop {
        let now = Instant::now();
        if tally.tick(now)? == Phase::Over {
            let waiting = lanes.iter().filter(|lane| lane.waits()).count();
            if waiting == 0 {
                return Ok(());
            }
            if now >= tally.end() + PATIENCE {
                bail!("nothing came on {waiting} of {} connections within {PATIENCE:?}", lanes.len());
            }
        }
        let timeout = if again.is_empty() { tally.until_next(now, PATIENCE) } else { Duration::ZERO };
        let count = ground.poll.wait(Some(timeout)).context("nothing can be waited for")?;
        for token in std::mem::take(&mut again) {
            let ready = Ready { token, ended: false };
            go_on(&mut lanes, ready, (&mut ground, tally), &mut again)?;
        }
        for index in 0..count {
            let ready = ground.poll.ready(index);
            go_on(&mut lanes, ready, (&mut ground, tally), &mut again)?;
        }
    }
}

fn go_on<L: Lane>(
    lanes: &mut [L],
    ready: Ready,
    (ground, tally): (&mut Ground, &mut Tally<'_>),
    again: &mut Vec<usize>,
) -> Result<()> {
    if lanes[ready.token].ready(ready, ground, tally)? == Next::Again && !again.contains(&ready.token) {
        again.push(ready.token);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_many_and_only_for_loopback() {
        let mut sources = Sources::new();
        let to = "127.0.0.1:80".parse().unwrap();
        let seen: std::collections::BTreeSet<_> = (0..256).filter_map(|_| sources.next(to)).collect();
        assert_eq!(seen.len(), 256);
        assert_eq!(sources.next("192.0.2.1:80".parse().unwrap()), None);
    }
}
