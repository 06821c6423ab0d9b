//! What an origin says on one connection, in each of its languages.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::rc::Rc;

use anyhow::{Result, ensure};

use super::step;
use crate::poll::{flush, now, read_all};
use crate::wire::http1::Requests;
use crate::wire::http2::{Event, Frames, Link, MAX_STREAMS, PREFACE, Template};

/// Bytes written at once where bytes are the work.
const BULK_BYTES: usize = 64 * 1024;
/// What these bytes are.
pub(crate) const BULK_BYTE: u8 = b'x';
/// How often one connection writes before the others have their turn.
const WRITES_IN_A_ROW: usize = 8;
/// What an echo keeps for somebody who does not read.
const MAX_ECHO_BYTES: usize = 64 * 1024;

/// One language.
pub(crate) trait Talk {
    /// Something came on the stream; `ended` says that nothing follows it.
    fn ready(&mut self, stream: &TcpStream, ended: bool, buffer: &mut [u8]) -> Result<Step>;
}

/// What comes next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for the next event.
    Wait,
    /// There is more to say as soon as the others have had their turn.
    Again,
    Close,
}

/// Answers requests in order.
pub(crate) struct Http1 {
    requests: Requests,
    answer: Rc<[u8]>,
    /// Answers that are not sent yet, and how much of the first of them is.
    owed: usize,
    sent: usize,
}

impl Http1 {
    pub(crate) fn new(answer: Rc<[u8]>) -> Self {
        Self { requests: Requests::default(), answer, owed: 0, sent: 0 }
    }
}

impl Talk for Http1 {
    fn ready(&mut self, mut stream: &TcpStream, ended: bool, buffer: &mut [u8]) -> Result<Step> {
        let life = read_all(stream, ended, buffer, |bytes| {
            self.owed += self.requests.feed(bytes);
            Ok(())
        })?;
        while self.owed > 0 {
            let rest = &self.answer[self.sent..];
            let Some(written) = now(stream.write(rest))? else { break };
            if written < rest.len() {
                self.sent += written;
                break;
            }
            self.sent = 0;
            self.owed -= 1;
        }
        Ok(step(life))
    }
}

/// Answers streams as they end.
pub(crate) struct Http2 {
    /// How much of the preface has come.
    preface: usize,
    frames: Frames,
    link: Link,
    /// Streams that wait for an answer.
    asked: VecDeque<u32>,
    answer: Rc<Template>,
    body_bytes: usize,
}

impl Http2 {
    pub(crate) fn new(answer: Rc<Template>, body_bytes: usize) -> Self {
        let (frames, link) = (Frames::default(), Link::server());
        Self { preface: 0, frames, link, asked: VecDeque::new(), answer, body_bytes }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        if self.preface < PREFACE.len() {
            let (begin, rest) = bytes.split_at(bytes.len().min(PREFACE.len() - self.preface));
            ensure!(PREFACE[self.preface..].starts_with(begin), "what asks speaks no HTTP/2");
            self.preface += begin.len();
            bytes = rest;
        }
        let Self { frames, link, asked, .. } = self;
        frames.feed(bytes, |frame| {
            match link.take(frame)? {
                Some(Event::Headers { stream, end: true, .. } | Event::Data { stream, end: true, .. }) => {
                    asked.push_back(stream);
                }
                Some(Event::Reset { stream, .. }) => asked.retain(|waiting| *waiting != stream),
                _ => {}
            }
            ensure!(asked.len() <= MAX_STREAMS as usize, "there are more than {MAX_STREAMS} streams");
            Ok(())
        })
    }
}

impl Talk for Http2 {
    fn ready(&mut self, stream: &TcpStream, ended: bool, buffer: &mut [u8]) -> Result<Step> {
        let life = read_all(stream, ended, buffer, |bytes| self.read(bytes))?;
        while let Some(&asked) = self.asked.front() {
            if !self.link.reserve(self.body_bytes)? {
                break;
            }
            self.answer.write(&mut self.link.out, asked);
            self.asked.pop_front();
        }
        flush(stream, &mut self.link.out)?;
        Ok(step(life))
    }
}

/// Sends as fast as it can, once it was sent anything.
pub(crate) struct Bulk {
    asked: bool,
    bytes: Rc<[u8]>,
}

impl Bulk {
    /// What is sent each time, over and over.
    pub(crate) fn prepare() -> Rc<[u8]> {
        vec![BULK_BYTE; BULK_BYTES].into()
    }

    pub(crate) fn new(bytes: Rc<[u8]>) -> Self {
        Self { asked: false, bytes }
    }
}

impl Talk for Bulk {
    fn ready(&mut self, mut stream: &TcpStream, ended: bool, buffer: &mut [u8]) -> Result<Step> {
        let life = read_all(stream, ended, buffer, |_| {
            self.asked = true;
            Ok(())
        })?;
        let step = step(life);
        if !self.asked || step == Step::Close {
            return Ok(step);
        }
        for _ in 0..WRITES_IN_A_ROW {
            // What does not go whole has filled the socket: an event tells when there is room.
            if now(stream.write(&self.bytes))? != Some(self.bytes.len()) {
                return Ok(Step::Wait);
            }
        }
        Ok(Step::Again)
    }
}

/// Says what it is told.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    out: Vec<u8>,
}

impl Talk for Echo {
    fn ready(&mut self, stream: &TcpStream, ended: bool, buffer: &mut [u8]) -> Result<Step> {
        let life = read_all(stream, ended, buffer, |bytes| {
            self.out.extend_from_slice(bytes);
            ensure!(self.out.len() <= MAX_ECHO_BYTES, "more than {MAX_ECHO_BYTES} bytes wait to be read");
            Ok(())
        })?;
        flush(stream, &mut self.out)?;
        Ok(step(life))
    }
}
