//! HTTP/1.1 (RFC 9112): the end of requests, for the origin, and answers, for the load.

use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use memchr::{memchr, memmem};

use chunked::Chunked;

mod chunked;

/// What ends a head.
const BLANK_LINE: &[u8; 4] = b"\r\n\r\n";
/// A head that is longer is none of ours.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Counts requests without a body as they come, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// How much of a blank line the last bytes were.
    matched: usize,
}

/// Reads answers as they come, in pieces of any size, and holds them to what they should be.
#[derive(Debug)]
pub(crate) struct Answers {
    body_bytes: usize,
    state: State,
    /// The beginning of a head whose end has not come yet.
    head: Vec<u8>,
}

/// Where in an answer we are.
#[derive(Debug)]
enum State {
    Head,
    Body { left: usize },
    Chunked(Chunked),
}

/// How long a body is.
#[derive(Debug, PartialEq)]
enum Framing {
    Length(usize),
    Chunked,
}

/// A request without a body, as an ordinary client sends it.
pub(crate) fn request(path: &str, host: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: outrigger-benches\r\naccept: */*\r\n\r\n")
        .into_bytes()
}

/// An answer with a body of so many bytes, as an ordinary server sends it.
pub(crate) fn answer(body_bytes: usize) -> Vec<u8> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {body_bytes}\r\ndate: {date}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + body_bytes, b'x');
    answer
}

impl Requests {
    /// How many requests end in these bytes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> usize {
        let mut ended = 0;
        while let Some(&next) = bytes.first() {
            if self.matched == 0 {
                let Some(at) = memchr(b'\r', bytes) else { return ended };
                self.matched = 1;
                bytes = &bytes[at + 1..];
                continue;
            }
            self.matched = match next {
                _ if next == BLANK_LINE[self.matched] => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            bytes = &bytes[1..];
            if self.matched == BLANK_LINE.len() {
                self.matched = 0;
                ended += 1;
            }
        }
        ended
    }
}

impl Answers {
    /// Every answer must have a body of so many bytes.
    pub(crate) fn new(body_bytes: usize) -> Self {
        Self { body_bytes, state: State::Head, head: Vec::new() }
    }

    /// How many answers end in these bytes.
    ///
    /// # Errors
    /// What comes is not an answer with status 200 and a body of the right length.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<usize> {
        let mut ended = 0;
        while !bytes.is_empty() {
            match &mut self.state {
                State::Head => {
                    let Some(rest) = self.take_head(bytes)? else { break };
                    bytes = rest;
                    ended += usize::from(self.at_end());
                }
                State::Body { left } => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    bytes = &bytes[taken..];
                    ended += usize::from(self.at_end());
                }
                State::Chunked(chunked) => {
                    bytes = chunked.feed(bytes)?;
                    let Some(length) = chunked.ended() else { continue };
                    self.check_length(length)?;
                    self.state = State::Head;
                    ended += 1;
                }
            }
        }
        Ok(ended)
    }

    /// How many of the next bytes need only be counted: they can be thrown away unread, and told to `discarded`.
    pub(crate) fn discardable(&self) -> usize {
        if let State::Body { left } = self.state { left } else { 0 }
    }

    /// So many of the discardable bytes came. Says how many answers ended: one or none.
    pub(crate) fn discarded(&mut self, bytes: usize) -> usize {
        if let State::Body { left } = &mut self.state {
            *left = left.saturating_sub(bytes);
        }
        usize::from(self.at_end())
    }

    /// Whether an answer has begun to come and is not over.
    pub(crate) fn in_answer(&self) -> bool {
        !matches!(self.state, State::Head) || !self.head.is_empty()
    }

    /// Goes over to the next answer when nothing is left of this one.
    fn at_end(&mut self) -> bool {
        let ended = matches!(self.state, State::Body { left: 0 });
        if ended {
            self.state = State::Head;
        }
        ended
    }

    /// Looks for the end of the head; returns what follows it.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>> {
        if self.head.is_empty()
            && let Some(at) = memmem::find(bytes, BLANK_LINE)
        {
            let (head, rest) = bytes.split_at(at + BLANK_LINE.len());
            self.begin_body(head)?;
            return Ok(Some(rest));
        }
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let from = before.saturating_sub(BLANK_LINE.len() - 1);
        let Some(at) = memmem::find(&self.head[from..], BLANK_LINE) else {
            ensure!(
                self.head.len() <= MAX_HEAD_BYTES,
                "the head of an answer has more than {MAX_HEAD_BYTES} bytes"
            );
            return Ok(None);
        };
        let end = from + at + BLANK_LINE.len();
        let mut head = std::mem::take(&mut self.head);
        head.truncate(end);
        self.begin_body(&head)?;
        Ok(Some(&bytes[end - before..]))
    }

    fn begin_body(&mut self, head: &[u8]) -> Result<()> {
        self.state = match framing(head)? {
            Framing::Length(left) => {
                self.check_length(left)?;
                State::Body { left }
            }
            Framing::Chunked => State::Chunked(Chunked::default()),
        };
        Ok(())
    }

    fn check_length(&self, length: usize) -> Result<()> {
        ensure!(length == self.body_bytes, "the answer has {length} bytes instead of {}", self.body_bytes);
        Ok(())
    }
}

/// Reads a whole head.
fn framing(head: &[u8]) -> Result<Framing> {
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("the answer was {}", refusal(head));
    }
    let mut framing = None;
    for line in lines(head).skip(1) {
        // Most fields are told from the two by their first letter.
        let found = match line.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => field(line, "content-length").map(|value| length(value).map(Framing::Length)),
            Some(b't') => field(line, "transfer-encoding").map(chunked_only),
            _ => None,
        };
        if let Some(found) = found {
            ensure!(framing.is_none(), "the answer says its length twice");
            framing = Some(found?);
        }
    }
    framing.context("the answer does not say how long it is")
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

/// The value of a line when it is that field.
fn field<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (found, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
}

fn length(value: &[u8]) -> Result<usize> {
    let text = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    text.with_context(|| format!("the answer has a length of {:?}", String::from_utf8_lossy(value)))
}

fn chunked_only(value: &[u8]) -> Result<Framing> {
    ensure!(
        value.eq_ignore_ascii_case(b"chunked"),
        "the answer has the transfer encoding {:?}",
        String::from_utf8_lossy(value)
    );
    Ok(Framing::Chunked)
}

/// The status line of an answer that is not the origin's, and why a sidecar says it is.
fn refusal(head: &[u8]) -> String {
    let mut text = lines(head).next().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
    if let Some(reason) = lines(head).find_map(|line| field(line, "x-outrigger-reason")) {
        text.push_str(&format!(" ({})", String::from_utf8_lossy(reason)));
    }
    text
}

#[cfg(test)]
mod tests;
