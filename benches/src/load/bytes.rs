//! Loads that look at no bytes: as many as come, and a few there and back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::net::RecvFlags;

use super::Args;
use super::closed::{Ground, Lane, Next};
use super::tally::Tally;
use crate::origin::talk::BULK_BYTE;
use crate::poll::{Ready, now};

/// What an echo is asked.
const PING: &[u8] = b"outrigger-bench\n";
/// How often one connection is read before the others have their turn.
const READS_IN_A_ROW: usize = 4;

/// One connection that takes what comes.
pub(super) struct BulkLane {
    token: usize,
    target: SocketAddr,
    stream: Option<TcpStream>,
    /// Whether the byte is sent that makes the origin begin.
    asked: bool,
    /// Whether anything came in the measured time and before it.
    came: bool,
}

/// One place where connections follow each other.
pub(super) struct EchoLane {
    token: usize,
    target: SocketAddr,
    stream: Option<TcpStream>,
    asked: Instant,
    unsent: usize,
    /// How much has come back.
    back: usize,
}

/// Connections that take what comes.
pub(super) fn bulk(args: &Args) -> Result<Vec<BulkLane>> {
    let lane = |token| BulkLane { token, target: args.target, stream: None, asked: false, came: false };
    Ok((0..args.connections).map(lane).collect())
}

/// Places where connections follow each other.
pub(super) fn echo(args: &Args) -> Result<Vec<EchoLane>> {
    let (target, asked) = (args.target, Instant::now());
    let lane = |token| EchoLane { token, target, stream: None, asked, unsent: 0, back: 0 };
    Ok((0..args.connections).map(lane).collect())
}

impl BulkLane {
    /// Asks, if that has not been done.
    fn ask(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if !self.asked {
            self.asked = now(stream.write(&[BULK_BYTE])).context("nothing can be sent")?.is_some();
        }
        Ok(())
    }
}

impl Lane for BulkLane {
    fn begin(&mut self, ground: &mut Ground, _: &mut Tally<'_>) -> Result<()> {
        self.stream = Some(ground.connect(self.target, self.token)?);
        self.ask()
    }

    fn ready(&mut self, _: Ready, ground: &mut Ground, tally: &mut Tally<'_>) -> Result<Next> {
        self.ask()?;
        let Some(stream) = &mut self.stream else { return Ok(Next::Wait) };
        for _ in 0..READS_IN_A_ROW {
            let read = if self.came {
                // On TCP this throws the bytes away without copying them.
                rustix::net::recv(&*stream, &mut ground.buffer[..], RecvFlags::TRUNC)
                    .map(|(_, count)| count)
                    .map_err(Into::into)
            } else {
                stream.read(&mut ground.buffer)
            };
            let Some(count) = now(read).context("the connection broke")? else { return Ok(Next::Wait) };
            ensure!(count > 0, "the connection was closed");
            // The first bytes show whose they are.
            let right = self.came || ground.buffer[..count].iter().all(|byte| *byte == BULK_BYTE);
            ensure!(right, "what came is not what the origin sends");
            self.came = true;
            tally.received(Instant::now(), count);
        }
        Ok(if Instant::now() < tally.end() { Next::Again } else { Next::Wait })
    }

    fn waits(&self) -> bool {
        !self.came
    }
}

impl EchoLane {
    /// Asks on a connection of its own, which replaces the last.
    fn ask(&mut self, ground: &mut Ground) -> Result<()> {
        self.asked = Instant::now();
        (self.unsent, self.back) = (PING.len(), 0);
        // A client that wants no more closes first.
        self.stream = None;
        self.stream = Some(ground.connect_fresh(self.target, self.token)?);
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if self.unsent > 0 {
            let written =
                now(stream.write(&PING[PING.len() - self.unsent..])).context("nothing can be sent")?;
            self.unsent -= written.unwrap_or(0);
        }
        Ok(())
    }
}

impl Lane for EchoLane {
    fn begin(&mut self, ground: &mut Ground, _: &mut Tally<'_>) -> Result<()> {
        self.ask(ground)
    }

    fn ready(&mut self, _: Ready, ground: &mut Ground, tally: &mut Tally<'_>) -> Result<Next> {
        self.send()?;
        let Some(stream) = &mut self.stream else { return Ok(Next::Wait) };
        let buffer = &mut ground.buffer[..PING.len() + 1];
        let Some(count) = now(stream.read(buffer)).context("the connection broke")? else {
            return Ok(Next::Wait);
        };
        ensure!(count > 0, "the connection was closed before all came back");
        ensure!(PING[self.back..].starts_with(&buffer[..count]), "what came back is not what was sent");
        self.back += count;
        if self.back < PING.len() {
            return Ok(Next::Again);
        }
        let now = Instant::now();
        tally.answered(self.asked, now, PING.len());
        if now < tally.end() {
            self.ask(ground)?;
        } else {
            self.stream = None;
        }
        Ok(Next::Wait)
    }

    fn waits(&self) -> bool {
        self.stream.is_some()
    }
}
