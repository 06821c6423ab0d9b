//! HTTP/2 (RFC 9113) as far as two ends need it that know each other: frames, settings, pings, windows, and blocks of
//! fields that are prepared once.
//!
//! What is sent uses no dynamic table, so a block means the same for ever (RFC 7541, section 6.2.2); what is received
//! is not decoded: of an answer only its first field is looked at, which is its status.

use anyhow::{Context, Result, bail, ensure};

pub(crate) use frame::{Frame, Frames, Template};

pub(crate) mod fields;
mod frame;

/// What a client sends first (section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The window of a connection and of a stream that nobody said anything about (section 6.9.2).
const DEFAULT_WINDOW_BYTES: u32 = 65_535;
/// The window that we give each stream: more than any answer.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The window that we give a connection; it is filled up again when half of it is used.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
/// Streams at once that an origin lets a proxy open: as many as the whole load has.
pub(crate) const MAX_STREAMS: u32 = 1024;
/// A block of fields that is longer is none of ours.
const MAX_BLOCK_BYTES: usize = 64 * 1024;

/// Kinds of frames (section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

/// Flags of frames. ACK is END_STREAM on frames that belong to no stream.
pub(crate) mod flag {
    pub(super) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(super) const PADDED: u8 = 0x8;
    pub(super) const PRIORITY: u8 = 0x20;
}

/// Settings (section 6.5.2).
mod setting {
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// What one end of a connection knows of the other, and what it owes it.
#[derive(Debug)]
pub(crate) struct Link {
    /// Frames to be sent, ours and the owner's.
    pub(crate) out: Vec<u8>,
    /// How much DATA the connection may still be sent.
    send_window: i64,
    /// How much DATA each new stream may be sent.
    stream_window: i64,
    max_streams: u32,
    /// Whether the other end has said its settings.
    settled: bool,
    /// DATA received that the other end has not been given back.
    received: u32,
    /// HEADERS whose block goes on in the next frame.
    held: Option<Held>,
    /// The last block that went on over several frames, while its owner looks at it.
    finished: Vec<u8>,
}

#[derive(Debug)]
struct Held {
    stream: u32,
    end: bool,
    block: Vec<u8>,
}

/// What the owner of a connection has to know.
#[derive(Debug, PartialEq)]
pub(crate) enum Event<'a> {
    /// A whole block of fields.
    Headers { stream: u32, block: &'a [u8], end: bool },
    /// Some of a body, without padding.
    Data { stream: u32, bytes: &'a [u8], end: bool },
    /// The other end gave up a stream.
    Reset { stream: u32, code: u32 },
    /// The other end wants no more streams.
    GoAway { code: u32 },
    /// There is more room for DATA, or the other end is settled now.
    Room,
}

impl Link {
    /// The end that asks.
    pub(crate) fn client() -> Self {
        let mut link = Self::new();
        link.out.extend_from_slice(PREFACE);
        link.settings(&[(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES)]);
        link
    }

    /// The end that answers; its owner has to take the preface off what it reads.
    pub(crate) fn server() -> Self {
        let mut link = Self::new();
        link.settings(&[
            (setting::MAX_CONCURRENT_STREAMS, MAX_STREAMS),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
        ]);
        link
    }

    fn new() -> Self {
        Self {
            out: Vec::new(),
            send_window: i64::from(DEFAULT_WINDOW_BYTES),
            stream_window: i64::from(DEFAULT_WINDOW_BYTES),
            max_streams: u32::MAX,
            settled: false,
            received: 0,
            held: None,
            finished: Vec::new(),
        }
    }

    /// Says our settings, and opens the window of the connection.
    fn settings(&mut self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes()))
            .collect();
        frame::write(&mut self.out, (kind::SETTINGS, 0, 0), &payload);
        let more = CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES;
        frame::write(&mut self.out, (kind::WINDOW_UPDATE, 0, 0), &more.to_be_bytes());
    }

    /// Whether the other end has said what it takes.
    pub(crate) fn settled(&self) -> bool {
        self.settled
    }

    /// How many streams the other end lets us open at once.
    pub(crate) fn max_streams(&self) -> u32 {
        self.max_streams
    }

    /// Takes so much of the window of the connection, if it is there.
    ///
    /// # Errors
    /// A whole body does not fit into the window of a stream: such bodies are not ours to send.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<bool> {
        let bytes = i64::try_from(bytes)?;
        ensure!(
            bytes <= self.stream_window,
            "the other end takes {} bytes on a stream, a body has {bytes}",
            self.stream_window
        );
        let fits = bytes <= self.send_window;
        if fits {
            self.send_window -= bytes;
        }
        Ok(fits)
    }

    /// Does with a frame what is ours to do, and tells what is the owner's.
    pub(crate) fn take<'a>(&'a mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>> {
        if self.held.is_some() {
            return self.continued(frame);
        }
        let Frame { kind, flags, stream, payload } = frame;
        match kind {
            kind::DATA => self.data(frame).map(Some),
            kind::HEADERS => self.headers(frame),
            kind::RST_STREAM => Ok(Some(Event::Reset { stream, code: word(payload)? })),
            kind::GOAWAY => Ok(Some(Event::GoAway { code: word(payload.get(4..).unwrap_or_default())? })),
            kind::SETTINGS if flags & flag::ACK == 0 => self.take_settings(payload).map(Some),
            kind::PING if flags & flag::ACK == 0 => {
                frame::write(&mut self.out, (kind::PING, flag::ACK, 0), payload);
                Ok(None)
            }
            // Every body fits into the first window of its stream, so only the connection's matters.
            kind::WINDOW_UPDATE if stream == 0 => {
                self.send_window += i64::from(word(payload)?);
                Ok(Some(Event::Room))
            }
            kind::PUSH_PROMISE | kind::CONTINUATION => bail!("a frame of kind {kind} came where none may be"),
            // Acknowledgements, priorities, windows of streams, and kinds that nobody knows (section 4.1).
            _ => Ok(None),
        }
    }

    fn data<'a>(&mut self, frame: Frame<'a>) -> Result<Event<'a>> {
        // Padding counts too (section 6.9.1); a frame has far fewer bytes than 2^32.
        self.received += frame.payload.len() as u32;
        if self.received >= CONNECTION_WINDOW_BYTES / 2 {
            frame::write(&mut self.out, (kind::WINDOW_UPDATE, 0, 0), &self.received.to_be_bytes());
            self.received = 0;
        }
        let end = frame.flags & flag::END_STREAM != 0;
        Ok(Event::Data { stream: frame.stream, bytes: unpadded(frame)?, end })
    }

    fn headers<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>> {
        let Frame { flags, stream, .. } = frame;
        let mut block = unpadded(frame)?;
        if flags & flag::PRIORITY != 0 {
            block = block.get(5..).context("HEADERS have no room for their priority")?;
        }
        let end = flags & flag::END_STREAM != 0;
        if flags & flag::END_HEADERS != 0 {
            return Ok(Some(Event::Headers { stream, block, end }));
        }
        self.held = Some(Held { stream, end, block: block.to_vec() });
        Ok(None)
    }

    /// The rest of a block: nothing may come between (section 6.10).
    fn continued<'a>(&'a mut self, frame: Frame<'_>) -> Result<Option<Event<'a>>> {
        let held = self.held.as_mut().context("no block goes on")?;
        let expected = frame.kind == kind::CONTINUATION && frame.stream == held.stream;
        ensure!(expected, "a frame of kind {} came inside a block of fields", frame.kind);
        held.block.extend_from_slice(frame.payload);
        ensure!(
            held.block.len() <= MAX_BLOCK_BYTES,
            "a block of fields has more than {MAX_BLOCK_BYTES} bytes"
        );
        if frame.flags & flag::END_HEADERS == 0 {
            return Ok(None);
        }
        let Some(Held { stream, end, block }) = self.held.take() else { return Ok(None) };
        self.finished = block;
        Ok(Some(Event::Headers { stream, block: &self.finished, end }))
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<Event<'static>> {
        ensure!(payload.len().is_multiple_of(6), "SETTINGS have {} bytes", payload.len());
        for setting in payload.chunks_exact(6) {
            let value = word(&setting[2..])?;
            match u16::from_be_bytes([setting[0], setting[1]]) {
                setting::INITIAL_WINDOW_SIZE => self.stream_window = i64::from(value),
                setting::MAX_CONCURRENT_STREAMS => self.max_streams = value,
                _ => {}
            }
        }
        self.settled = true;
        frame::write(&mut self.out, (kind::SETTINGS, flag::ACK, 0), &[]);
        Ok(Event::Room)
    }
}

/// The payload without padding (section 6.1).
fn unpadded(frame: Frame<'_>) -> Result<&[u8]> {
    if frame.flags & flag::PADDED == 0 {
        return Ok(frame.payload);
    }
    let (&padding, rest) = frame.payload.split_first().context("a padded frame is empty")?;
    let end =
        rest.len().checked_sub(usize::from(padding)).context("a frame has more padding than payload")?;
    Ok(&rest[..end])
}

fn word(payload: &[u8]) -> Result<u32> {
    let bytes = payload.first_chunk().context("a frame is too short")?;
    Ok(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests;
