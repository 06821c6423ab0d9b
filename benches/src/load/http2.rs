//! A load over HTTP/2: so many requests at a time on each connection, sent together whenever there are some to send.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use foldhash::fast::FixedState;

use super::closed::{Ground, Lane, Next};
use super::tally::Tally;
use super::{Args, Way};
use crate::poll::{Life, Ready, flush, read_all};
use crate::wire::http2::{Event, Frames, Link, Template, fields};

/// The first stream: odd numbers are the client's (RFC 9113, section 5.1.1).
const FIRST: u32 = 1;

/// One connection.
pub(super) struct Http2Lane {
    token: usize,
    target: SocketAddr,
    request: Template,
    /// DATA of a request.
    message_bytes: usize,
    body_bytes: usize,
    /// Requests at a time.
    wanted: usize,
    stream: Option<TcpStream>,
    frames: Frames,
    link: Link,
    calls: Calls,
    /// The next stream to be opened.
    next: u32,
}

/// Requests without an answer yet, by their stream.
#[derive(Debug, Default)]
struct Calls(HashMap<u32, Call, FixedState>);

#[derive(Debug)]
struct Call {
    asked: Instant,
    /// Whether the answer has begun.
    begun: bool,
    bytes: usize,
}

/// The connections of a load.
pub(super) fn lanes(args: &Args) -> Result<Vec<Http2Lane>> {
    let (request, message_bytes) = match args.way {
        Way::Grpc => (fields::call(&args.path, &args.host, args.body_bytes), args.body_bytes),
        _ => (fields::get(&args.path, &args.host), 0),
    };
    let lane = |token| Http2Lane {
        token,
        target: args.target,
        request: request.clone(),
        message_bytes,
        body_bytes: args.body_bytes,
        wanted: args.streams,
        stream: None,
        frames: Frames::default(),
        link: Link::client(),
        calls: Calls::default(),
        next: FIRST,
    };
    Ok((0..args.connections).map(lane).collect())
}

impl Calls {
    /// Takes an event; when it ends a stream, says when that was opened.
    fn take(&mut self, event: &Event<'_>, body_bytes: usize) -> Result<Option<Instant>> {
        let (stream, end) = match *event {
            Event::Headers { stream, end, .. } | Event::Data { stream, end, .. } => (stream, end),
            Event::Reset { stream, code } => bail!("stream {stream} was reset with code {code}"),
            Event::GoAway { code } => bail!("the connection was ended with code {code}"),
            Event::Room => return Ok(None),
        };
        let call = self.0.get_mut(&stream).with_context(|| format!("stream {stream} is not ours"))?;
        match event {
            Event::Data { bytes, .. } => call.bytes += bytes.len(),
            Event::Headers { block, .. } if !call.begun => {
                ensure!(fields::is_ok(block), "the answer begins with {}, not with status 200", hex(block));
                call.begun = true;
            }
            // Trailers.
            _ => ensure!(end, "stream {stream} has a second head"),
        }
        if !end {
            return Ok(None);
        }
        ensure!(
            call.begun && call.bytes == body_bytes,
            "the answer has {} bytes instead of {body_bytes}",
            call.bytes
        );
        Ok(self.0.remove(&stream).map(|call| call.asked))
    }
}

impl Http2Lane {
    /// Opens as many streams as are missing, and sends what there is to send.
    fn fill(&mut self, tally: &Tally<'_>) -> Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let now = Instant::now();
        // Once at least, however short the run is.
        if self.link.settled() && (now < tally.end() || self.next == FIRST) {
            let allowed = self.link.max_streams();
            ensure!(
                self.wanted <= allowed as usize,
                "{allowed} streams at a time are allowed, of {} that are wanted",
                self.wanted
            );
            while self.calls.0.len() < self.wanted && self.link.reserve(self.message_bytes)? {
                self.request.write(&mut self.link.out, self.next);
                self.calls.0.insert(self.next, Call { asked: now, begun: false, bytes: 0 });
                self.next += 2;
            }
        }
        flush(stream, &mut self.link.out).context("requests cannot be sent")
    }
}

impl Lane for Http2Lane {
    fn begin(&mut self, ground: &mut Ground, tally: &mut Tally<'_>) -> Result<()> {
        self.stream = Some(ground.connect(self.target, self.token)?);
        self.fill(tally)
    }

    fn ready(&mut self, ready: Ready, ground: &mut Ground, tally: &mut Tally<'_>) -> Result<Next> {
        let Self { stream: Some(stream), frames, link, calls, body_bytes, .. } = self else {
            return Ok(Next::Wait);
        };
        let life = read_all(stream, ready.ended, &mut ground.buffer, |bytes| {
            let now = Instant::now();
            frames.feed(bytes, |frame| {
                let Some(event) = link.take(frame)? else { return Ok(()) };
                if let Some(asked) = calls.take(&event, *body_bytes)? {
                    tally.answered(asked, now, *body_bytes);
                }
                Ok(())
            })
        })?;
        ensure!(life == Life::Open, "the connection was closed with {} streams open", calls.0.len());
        self.fill(tally)?;
        Ok(Next::Wait)
    }

    /// A connection that has asked nothing yet waits for the other end's settings.
    fn waits(&self) -> bool {
        !self.calls.0.is_empty() || self.next == FIRST
    }
}

/// The beginning of a block, to be looked up.
fn hex(block: &[u8]) -> String {
    block.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
