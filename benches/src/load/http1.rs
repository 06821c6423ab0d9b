//! A load over HTTP/1.1, one request at a time on a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::RecvFlags;

use super::closed::{Ground, Lane, Next};
use super::tally::Tally;
use super::{Args, Way};
use crate::poll::{Ready, now};
use crate::wire::http1::{Answers, request};

/// Bytes read while a head is expected: a head and a small body. What follows is only counted.
const HEAD_BYTES: usize = 4096;

/// What is asked, of whom, and what comes back.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) target: SocketAddr,
    request: Rc<[u8]>,
    pub(super) body_bytes: usize,
}

/// One connection.
pub(super) struct Asker {
    stream: TcpStream,
    answers: Answers,
    /// When what is not answered yet was asked.
    asked: Option<Instant>,
    /// How much of the request is not sent yet.
    unsent: usize,
}

/// One place of the closed loop.
pub(super) struct Http1Lane {
    token: usize,
    question: Question,
    way: Way,
    asker: Option<Asker>,
}

impl Question {
    pub(super) fn new(args: &Args) -> Self {
        let request = request(&args.path, &args.host).into();
        Self { target: args.target, request, body_bytes: args.body_bytes }
    }
}

impl Asker {
    pub(super) fn new(stream: TcpStream, question: &Question) -> Self {
        Self { stream, answers: Answers::new(question.body_bytes), asked: None, unsent: 0 }
    }

    /// Whether an answer is still to come.
    pub(super) fn waits(&self) -> bool {
        self.asked.is_some()
    }

    /// Asks; the time it takes counts from `asked` on.
    pub(super) fn ask(&mut self, question: &Question, asked: Instant) -> Result<()> {
        self.asked = Some(asked);
        self.unsent = question.request.len();
        self.send(question)
    }

    /// Takes what came; when that was an answer, says when it was asked for.
    pub(super) fn ready(
        &mut self,
        ready: Ready,
        question: &Question,
        buffer: &mut [u8],
    ) -> Result<Option<Instant>> {
        if self.unsent > 0 {
            self.send(question)?;
        }
        let mut ended = 0;
        loop {
            let discardable = self.answers.discardable().min(buffer.len());
            let room = if discardable > 0 { discardable } else { HEAD_BYTES };
            let Some(count) = self.read(&mut buffer[..room], discardable > 0)? else { break };
            ensure!(count > 0, "the connection was closed{}", self.where_it_was());
            ended += if discardable > 0 {
                self.answers.discarded(count)
            } else {
                self.answers.feed(&buffer[..count])?
            };
            // One answer is all that can come; before it is whole, less than there was room for is all there is.
            if ended > 0 || count < room && !ready.ended {
                break;
            }
        }
        match ended {
            0 => Ok(None),
            1 if !self.answers.in_answer() => Ok(Some(self.asked.take().context("an answer came unasked")?)),
            _ => bail!("more came than one answer"),
        }
    }

    fn read(&self, buffer: &mut [u8], discard: bool) -> Result<Option<usize>> {
        let read = if discard {
            // On TCP this throws the bytes away without copying them.
            rustix::net::recv(&self.stream, buffer, RecvFlags::TRUNC)
                .map(|(_, count)| count)
                .map_err(Into::into)
        } else {
            (&self.stream).read(buffer)
        };
        now(read).with_context(|| format!("the connection broke{}", self.where_it_was()))
    }

    fn send(&mut self, question: &Question) -> Result<()> {
        let rest = &question.request[question.request.len() - self.unsent..];
        let written = now((&self.stream).write(rest)).context("a request cannot be sent")?;
        self.unsent -= written.unwrap_or(0);
        Ok(())
    }

    fn where_it_was(&self) -> &'static str {
        match (self.asked, self.answers.in_answer()) {
            (Some(_), false) => " before an answer came",
            (_, true) => " in an answer",
            (None, false) => " between two requests",
        }
    }
}

/// The places of a load.
pub(super) fn lanes(args: &Args) -> Result<Vec<Http1Lane>> {
    let question = Question::new(args);
    let lane = |token| Http1Lane { token, question: question.clone(), way: args.way, asker: None };
    Ok((0..args.connections).map(lane).collect())
}

impl Http1Lane {
    /// Asks on a connection of its own, which replaces the last.
    fn ask_fresh(&mut self, ground: &mut Ground) -> Result<()> {
        let asked = Instant::now();
        // A client that wants no more closes first.
        self.asker = None;
        let stream = ground.connect_fresh(self.question.target, self.token)?;
        self.asker.insert(Asker::new(stream, &self.question)).ask(&self.question, asked)
    }
}

impl Lane for Http1Lane {
    fn begin(&mut self, ground: &mut Ground, _: &mut Tally<'_>) -> Result<()> {
        if self.way == Way::Fresh {
            return self.ask_fresh(ground);
        }
        let stream = ground.connect(self.question.target, self.token)?;
        self.asker.insert(Asker::new(stream, &self.question)).ask(&self.question, Instant::now())
    }

    fn ready(&mut self, ready: Ready, ground: &mut Ground, tally: &mut Tally<'_>) -> Result<Next> {
        let Some(asker) = &mut self.asker else { return Ok(Next::Wait) };
        let Some(asked) = asker.ready(ready, &self.question, &mut ground.buffer)? else {
            return Ok(Next::Wait);
        };
        let now = Instant::now();
        tally.answered(asked, now, self.question.body_bytes);
        if now >= tally.end() {
            self.asker = None;
        } else if self.way == Way::Fresh {
            self.ask_fresh(ground)?;
        } else {
            asker.ask(&self.question, now)?;
        }
        Ok(Next::Wait)
    }

    fn waits(&self) -> bool {
        self.asker.as_ref().is_some_and(Asker::waits)
    }
}
