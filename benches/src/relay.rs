//! The floor: copies bytes between two connections and looks at none of them, so it costs what the kernel costs and,
//! in a pair, what mutual TLS costs. What comes in with one read goes out with one write.
//!
//! Its TLS is that of the mesh (algorithms, certificates, verification), so that a sidecar is compared with a relay
//! that does the same work below HTTP.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use outrigger_base::lifecycle::ready;
use serde_json::json;

use crate::poll::{self, Poll, Ready};

use self::end::{End, Received};
use self::joint::Joint;

mod end;
mod joint;

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// How often one direction is copied before the other connections have their turn.
const COPIES_IN_A_ROW: usize = 8;
/// Connections relayed at once.
const MAX_CONNECTIONS: usize = 16_384;
/// The token of the listener; those of connections come behind it, two each.
const LISTENER: usize = 0;

/// What a relay is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
    /// Where the bytes go
    #[arg(long)]
    to: SocketAddr,
    /// On which side it speaks mutual TLS; on none unless given
    #[arg(long, value_enum, requires = "data")]
    tls: Option<Side>,
    /// Where the root is kept that signs the certificates of a pair
    #[arg(long)]
    data: Option<PathBuf>,
    /// Written when it listens
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

/// A side of a relay.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Side {
    /// Towards whom we dial.
    Upstream,
    /// Towards who dials us.
    Downstream,
}

/// Relays until it is killed.
pub(crate) fn serve(args: &Args) -> Result<()> {
    let joint = Joint::build(args.tls, args.data.as_deref())?;
    let listener = poll::listen(args.listen).with_context(|| format!("cannot listen at {}", args.listen))?;
    let address = poll::local_address(&listener)?;
    let mut relay = Relay::new(listener, args.to, joint)?;
    ready::write(args.ready_file.as_deref(), None, &json!({ "listen": address }))?;
    loop {
        relay.turn(None)?;
    }
}

/// All connections of a relay.
struct Relay {
    poll: Poll,
    listener: OwnedFd,
    to: SocketAddr,
    joint: Joint,
    pairs: Vec<Option<Pair>>,
    /// Places that are free.
    free: Vec<usize>,
    /// Who has more to copy.
    again: Vec<usize>,
    buffer: Box<[u8]>,
}

/// Two connections that belong together: downstream and upstream.
struct Pair {
    ends: [End; 2],
    /// From which end nothing comes any more.
    over: [bool; 2],
    /// From which end something may have come that could not be taken yet.
    waiting: [bool; 2],
    /// Which end is not told of again, because it has said its last.
    hung_up: [bool; 2],
}

impl Relay {
    fn new(listener: OwnedFd, to: SocketAddr, joint: Joint) -> Result<Self> {
        let poll = Poll::new().context("nothing can be waited for")?;
        poll.add(&listener, LISTENER)?;
        let (pairs, free, again) = (Vec::new(), Vec::new(), Vec::new());
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Self { poll, listener, to, joint, pairs, free, again, buffer })
    }

    /// Waits for something to come, and copies it.
    fn turn(&mut self, timeout: Option<Duration>) -> Result<()> {
        let timeout = if self.again.is_empty() { timeout } else { Some(Duration::ZERO) };
        let again = std::mem::take(&mut self.again);
        let count = self.poll.wait(timeout).context("nothing can be waited for")?;
        for index in 0..count {
            let ready = self.poll.ready(index);
            match ready.token.checked_sub(LISTENER + 1) {
                Some(place) => self.go_on(place / 2, Some((place % 2, ready))),
                None => self.accept()?,
            }
        }
        again.into_iter().for_each(|place| self.go_on(place, None));
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        while let Some(downstream) = poll::accept(&self.listener).context("no connection can be accepted")? {
            let upstream =
                poll::connect(self.to, None).with_context(|| format!("cannot connect to {}", self.to))?;
            let place = self.free.pop().unwrap_or(self.pairs.len());
            if place == self.pairs.len() {
                if place == MAX_CONNECTIONS {
                    bail!("there are more than {MAX_CONNECTIONS} connections");
                }
                self.pairs.push(None);
            }
            let token = LISTENER + 1 + 2 * place;
            self.poll.add(&downstream, token)?;
            self.poll.add(&upstream, token + 1)?;
            let (downstream, upstream) = (TcpStream::from(downstream), TcpStream::from(upstream));
            let ends = self.joint.ends(downstream, (upstream, self.to))?;
            self.pairs[place] =
                Some(Pair { ends, over: [false; 2], waiting: [false; 2], hung_up: [false; 2] });
        }
        Ok(())
    }

    fn go_on(&mut self, place: usize, ready: Option<(usize, Ready)>) {
        // What is told of a connection that has just been closed comes too late.
        let Some(Some(pair)) = self.pairs.get_mut(place) else { return };
        let step = pair.go_on(ready, &mut self.buffer).unwrap_or_else(|error| {
            // The load counts a lost connection as an error; here is told why.
            if !is_hang_up(&error) {
                eprintln!("relay to {}: {error:#}", self.to);
            }
            Step::Close
        });
        match step {
            Step::Wait => {}
            Step::Again => self.again.push(place),
            Step::Close => {
                self.pairs[place] = None;
                self.free.push(place);
            }
        }
    }
}

/// What comes next on a connection.
enum Step {
    Wait,
    Again,
    Close,
}

impl Pair {
    /// Copies what can be copied. `ready` says which end was told of; nobody is when there was more than one turn's.
    fn go_on(&mut self, ready: Option<(usize, Ready)>, buffer: &mut [u8]) -> Result<Step> {
        if let Some((end, ready)) = ready {
            self.waiting[end] = true;
            self.hung_up[end] |= ready.ended;
            // An event also says that there is room again.
            self.ends[end].flush()?;
        }
        for from in 0..2 {
            if self.waiting[from] && !self.over[from] {
                self.copy(from, buffer)?;
            }
        }
        let is_over = |from: usize| self.over[from] && self.ends[1 - from].has_ended();
        Ok(if is_over(0) && is_over(1) {
            Step::Close
        } else if (0..2).any(|from| self.waiting[from] && !self.over[from] && !self.ends[1 - from].is_full())
        {
            Step::Again
        } else {
            Step::Wait
        })
    }

    /// Copies from one end to the other, until nothing comes, nothing more can be sent, or it is others' turn.
    fn copy(&mut self, from: usize, buffer: &mut [u8]) -> Result<()> {
        let [downstream, upstream] = &mut self.ends;
        let (source, sink) = if from == 0 { (downstream, upstream) } else { (upstream, downstream) };
        for _ in 0..COPIES_IN_A_ROW {
            // A handshake needs what comes whether or not the other end has room.
            if sink.is_full() && !source.is_handshaking() {
                return Ok(());
            }
            match source.receive(buffer)? {
                Received::Nothing => {
                    self.waiting[from] = false;
                    return Ok(());
                }
                Received::Bytes { bytes, more } => {
                    if !bytes.is_empty() {
                        sink.send(bytes)?;
                    }
                    source.flush()?;
                    if !more && !self.hung_up[from] {
                        self.waiting[from] = false;
                        return Ok(());
                    }
                }
                Received::Last(bytes) => {
                    if !bytes.is_empty() {
                        sink.send(bytes)?;
                    }
                    self.over[from] = true;
                    return sink.end();
                }
            }
        }
        Ok(())
    }
}

/// Somebody has gone without saying so, as the load may at the end of a run.
fn is_hang_up(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset))
}

#[cfg(test)]
mod tests;
