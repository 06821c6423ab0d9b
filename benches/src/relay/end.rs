//! One end of a relayed connection: bytes in, bytes out, in cleartext or inside TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context, Result};
use rustls::Connection;

use crate::poll::{flush, now};

/// A socket, and what stands between it and cleartext.
pub(super) struct End {
    stream: TcpStream,
    layer: Layer,
    /// Whether nothing more is to be sent, as soon as all is sent that waits.
    ending: bool,
    /// Whether the other side has been told so.
    ended: bool,
}

enum Layer {
    /// With what could not be sent yet.
    Plain(Vec<u8>),
    Tls(Box<Tls>),
}

struct Tls {
    connection: Connection,
    /// Cleartext of what was received last.
    received: Vec<u8>,
}

/// What was received.
pub(super) enum Received<'a> {
    /// Nothing for now.
    Nothing,
    /// Cleartext, perhaps none of it yet; `more` says that there may be more at once.
    Bytes { bytes: &'a [u8], more: bool },
    /// The last of it: nothing comes any more.
    Last(&'a [u8]),
}

impl End {
    /// In cleartext.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { stream, layer: Layer::Plain(Vec::new()), ending: false, ended: false }
    }

    /// Inside TLS; its handshake goes on while bytes are received and sent.
    pub(super) fn tls(stream: TcpStream, mut connection: Connection) -> Self {
        // What is sent is bounded by whoever sends: nothing is taken from the other end while anything waits here.
        connection.set_buffer_limit(None);
        let tls = Tls { connection, received: Vec::new() };
        Self { stream, layer: Layer::Tls(Box::new(tls)), ending: false, ended: false }
    }

    /// Whether the other end must wait with what it has for this one.
    pub(super) fn is_full(&self) -> bool {
        match &self.layer {
            Layer::Plain(out) => !out.is_empty(),
            Layer::Tls(tls) => tls.connection.wants_write() || tls.connection.is_handshaking(),
        }
    }

    /// Whether there is a handshake that is not over.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(&self.layer, Layer::Tls(tls) if tls.connection.is_handshaking())
    }

    /// Whether everything has been sent and the end of it been said.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Receives once.
    pub(super) fn receive<'a>(&'a mut self, buffer: &'a mut [u8]) -> Result<Received<'a>> {
        let Some(count) = now(self.stream.read(buffer)).context("nothing can be received")? else {
            return Ok(Received::Nothing);
        };
        let more = count == buffer.len();
        let bytes = &buffer[..count];
        match &mut self.layer {
            Layer::Plain(_) if count == 0 => Ok(Received::Last(&[])),
            Layer::Plain(_) => Ok(Received::Bytes { bytes, more }),
            Layer::Tls(tls) => {
                let closed = tls.open(bytes)? || count == 0;
                Ok(if closed {
                    Received::Last(&tls.received)
                } else {
                    Received::Bytes { bytes: &tls.received, more }
                })
            }
        }
    }

    /// Sends as much as goes; the rest waits, and [`End::is_full`] says so.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.layer {
            Layer::Plain(out) if out.is_empty() => {
                let sent = now(self.stream.write(bytes)).context("nothing can be sent")?.unwrap_or(0);
                out.extend_from_slice(&bytes[sent..]);
            }
            Layer::Plain(out) => out.extend_from_slice(bytes),
            Layer::Tls(tls) => {
                tls.connection.writer().write_all(bytes).context("nothing can be encrypted")?
            }
        }
        self.flush()
    }

    /// Sends nothing more after what waits.
    pub(super) fn end(&mut self) -> Result<()> {
        if !self.ending {
            self.ending = true;
            if let Layer::Tls(tls) = &mut self.layer {
                tls.connection.send_close_notify();
            }
        }
        self.flush()
    }

    /// Sends what waits, as far as it goes.
    pub(super) fn flush(&mut self) -> Result<()> {
        let empty = match &mut self.layer {
            Layer::Plain(out) => {
                flush(&self.stream, out).context("nothing can be sent")?;
                out.is_empty()
            }
            Layer::Tls(tls) => {
                while tls.connection.wants_write() {
                    let sent =
                        now(tls.connection.write_tls(&mut self.stream)).context("nothing can be sent")?;
                    if sent.is_none() {
                        break;
                    }
                }
                !tls.connection.wants_write()
            }
        };
        if self.ending && !self.ended && empty {
            self.ended = true;
            // Who is gone already need not be told.
            let told = self.stream.shutdown(Shutdown::Write);
            told.or_else(|error| (error.kind() == io::ErrorKind::NotConnected).then_some(()).ok_or(error))?;
        }
        Ok(())
    }
}

impl Tls {
    /// Decrypts what came to `received`; says whether the other side has closed.
    fn open(&mut self, mut bytes: &[u8]) -> Result<bool> {
        self.received.clear();
        let mut closed = false;
        while !bytes.is_empty() && !closed {
            self.connection.read_tls(&mut bytes).context("nothing can be received")?;
            let state = self.connection.process_new_packets().context("TLS cannot go on")?;
            closed = state.peer_has_closed();
            let before = self.received.len();
            self.received.resize(before + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut self.received[before..])?;
        }
        Ok(closed)
    }
}
