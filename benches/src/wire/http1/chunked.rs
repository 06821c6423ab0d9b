//! The chunked transfer coding (RFC 9112, section 7.1), counted and not kept.

use anyhow::{Result, bail, ensure};

/// A chunk that is longer is none of ours: 2^32 bytes.
const MAX_CHUNK_BYTES: usize = 1 << 32;

/// Counts the bytes of a body that comes in chunks, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    at: At,
    bytes: usize,
}

/// Where in the coding we are.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum At {
    /// Before the first digit of a size.
    #[default]
    Begin,
    Size(usize),
    /// Behind the size, where extensions may be.
    Extension(usize),
    /// The line feed after a size.
    SizeEnd(usize),
    Data(usize),
    DataReturn,
    DataEnd,
    /// At the beginning of a line after the last chunk.
    Trailer,
    /// In a trailer field.
    Field,
    /// The line feed that ends all.
    LastEnd,
    Over,
}

impl Chunked {
    /// Reads on; returns what follows the body.
    pub(super) fn feed<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8]> {
        while self.at != At::Over {
            let Some((&byte, rest)) = bytes.split_first() else { break };
            if let At::Data(left) = self.at {
                let taken = left.min(bytes.len());
                self.bytes += taken;
                self.at = if taken == left { At::DataReturn } else { At::Data(left - taken) };
                bytes = &bytes[taken..];
                continue;
            }
            self.at = self.at.next(byte)?;
            bytes = rest;
        }
        Ok(bytes)
    }

    /// How long the body was, when it is over.
    pub(super) fn ended(&self) -> Option<usize> {
        (self.at == At::Over).then_some(self.bytes)
    }
}

impl At {
    /// Where one byte leads, outside of data.
    fn next(self, byte: u8) -> Result<Self> {
        Ok(match (self, byte) {
            (Self::Size(size), b'\r') | (Self::Extension(size), b'\r') => Self::SizeEnd(size),
            (Self::Size(size), b';' | b' ' | b'\t') | (Self::Extension(size), _) => Self::Extension(size),
            (Self::Begin, _) => Self::Size(digit(0, byte)?),
            (Self::Size(size), _) => Self::Size(digit(size, byte)?),
            (Self::SizeEnd(0), b'\n') => Self::Trailer,
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataReturn, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::Begin,
            (Self::Trailer, b'\r') => Self::LastEnd,
            (Self::LastEnd, b'\n') => Self::Over,
            (Self::Field, b'\n') => Self::Trailer,
            (Self::Trailer | Self::Field, _) => Self::Field,
            (at, byte) => bail!("a chunk is broken: {byte:#04x} at {at:?}"),
        })
    }
}

fn digit(size: usize, byte: u8) -> Result<usize> {
    let Some(digit) = (byte as char).to_digit(16) else { bail!("{byte:#04x} is no digit of a chunk's size") };
    // A hexadecimal digit fits anywhere.
    let size = size * 16 + digit as usize;
    ensure!(size <= MAX_CHUNK_BYTES, "a chunk has more than {MAX_CHUNK_BYTES} bytes");
    Ok(size)
}
