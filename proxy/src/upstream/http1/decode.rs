//! HTTP/1.1 bodies as they come (RFC 9112, sections 6 and 7): which bytes belong to one, and where it ends. Plain functions
//! of bytes; what they are given may end anywhere.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::head::{self, MAX_FIELDS, MAX_HEAD_BYTES};

/// The longest line that begins a chunk, in bytes.
const MAX_CHUNK_LINE_BYTES: usize = 4 * 1024;
/// What all chunk extensions of a body may come to, in bytes: nobody uses them, so more is an attack.
const MAX_EXTENSION_BYTES: usize = 16 * 1024;

/// Where a body is.
#[derive(Debug)]
pub(super) enum Decoder {
    /// Over, or there is none.
    Ended,
    /// So many bytes are to come.
    Exact(u64),
    /// In chunks.
    Chunked(Chunked),
    /// As much as comes.
    UntilClose,
    /// No body: what follows is another protocol.
    Switched,
}

/// Where a chunked body is.
#[derive(Debug)]
pub(super) struct Chunked {
    stage: Stage,
    extension_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

/// What the bytes so far come to.
#[derive(Debug)]
pub(super) enum Decoded {
    Data(Bytes),
    /// The body is over with these.
    Trailers(HeaderMap),
    /// The body is over.
    End,
    /// More bytes are needed.
    Partial,
}

/// Why a body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The connection ended before the body.
    #[error("the connection ended before the response body did")]
    Cut,
    /// A chunk does not begin or end as it must.
    #[error("a chunk of the response body is malformed")]
    Chunk,
    /// More than `MAX_EXTENSION_BYTES`.
    #[error("the chunk extensions of the response body are too large")]
    Extensions,
    /// The trailers cannot be read or are too large.
    #[error("the trailers of the response are malformed or too large")]
    Trailers,
}

impl Decoder {
    pub(super) fn exact(bytes: u64) -> Self {
        if bytes == 0 { Self::Ended } else { Self::Exact(bytes) }
    }

    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunked { stage: Stage::Size, extension_bytes: 0 })
    }

    /// How many bytes are to come, if that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        match self {
            Self::Ended | Self::Switched => Some(0),
            Self::Exact(bytes) => Some(*bytes),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes what belongs to the body off the front of `read`.
    pub(super) fn decode(&mut self, read: &mut Bytes) -> Result<Decoded, DecodeError> {
        match self {
            Self::Ended | Self::Switched => Ok(Decoded::End),
            _ if read.is_empty() => Ok(Decoded::Partial),
            Self::Exact(remaining) => {
                let data = take(read, *remaining);
                *self = Self::exact(*remaining - data.len() as u64);
                Ok(Decoded::Data(data))
            }
            Self::UntilClose => Ok(Decoded::Data(std::mem::take(read))),
            Self::Chunked(chunked) => {
                let decoded = chunked.decode(read)?;
                if matches!(decoded, Decoded::Trailers(_) | Decoded::End) {
                    *self = Self::Ended;
                }
                Ok(decoded)
            }
        }
    }

    /// The connection has ended.
    pub(super) fn close(&mut self) -> Result<(), DecodeError> {
        match self {
            Self::Ended | Self::Switched | Self::UntilClose => {
                *self = Self::Ended;
                Ok(())
            }
            Self::Exact(_) | Self::Chunked(_) => Err(DecodeError::Cut),
        }
    }
}

fn take(read: &mut Bytes, most: u64) -> Bytes {
    let length = usize::try_from(most).map_or(read.len(), |most| most.min(read.len()));
    if length == read.len() { std::mem::take(read) } else { read.split_to(length) }
}

impl Chunked {
    fn decode(&mut self, read: &mut Bytes) -> Result<Decoded, DecodeError> {
        loop {
            match self.stage {
                Stage::Size => match self.begin_chunk(read)? {
                    Some(0) => self.stage = Stage::Trailers,
                    Some(size) => self.stage = Stage::Data(size),
                    None => return Ok(Decoded::Partial),
                },
                Stage::Data(_) if read.is_empty() => return Ok(Decoded::Partial),
                Stage::Data(remaining) => {
                    let data = take(read, remaining);
                    let left = remaining - data.len() as u64;
                    self.stage = if left == 0 { Stage::DataEnd } else { Stage::Data(left) };
                    return Ok(Decoded::Data(data));
                }
                Stage::DataEnd => {
                    if !b"\r\n".starts_with(&read[..read.len().min(2)]) {
                        return Err(DecodeError::Chunk);
                    }
                    if read.len() < 2 {
                        return Ok(Decoded::Partial);
                    }
                    read.advance(2);
                    self.stage = Stage::Size;
                }
                Stage::Trailers => return trailers(read),
            }
        }
    }

    /// The size of the next chunk, once its line is complete.
    fn begin_chunk(&mut self, read: &mut Bytes) -> Result<Option<u64>, DecodeError> {
        let window = &read[..read.len().min(MAX_CHUNK_LINE_BYTES)];
        let Some(end) = window.iter().position(|b| *b == b'\n') else {
            // What cannot become a line is refused at once rather than waited for.
            let begins_well = window.first().is_none_or(u8::is_ascii_hexdigit);
            return if begins_well && window.len() < MAX_CHUNK_LINE_BYTES {
                Ok(None)
            } else {
                Err(DecodeError::Chunk)
            };
        };
        let line = window[..end].strip_suffix(b"\r").ok_or(DecodeError::Chunk)?;
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        let blank = extension.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        if extension.len() > blank && extension[blank] != b';' || extension.contains(&b'\r') {
            return Err(DecodeError::Chunk);
        }
        self.extension_bytes += extension.len();
        if self.extension_bytes > MAX_EXTENSION_BYTES {
            return Err(DecodeError::Extensions);
        }
        let size = hexadecimal(size).ok_or(DecodeError::Chunk)?;
        read.advance(end + 1);
        Ok(Some(size))
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.is_empty())?;
    u64::from_str_radix(text, 16).ok()
}

fn trailers(read: &mut Bytes) -> Result<Decoded, DecodeError> {
    if read.starts_with(b"\r\n") {
        read.advance(2);
        return Ok(Decoded::End);
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let (length, trailers) = match httparse::parse_headers(read, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) => (length, map(fields)?),
        Ok(httparse::Status::Partial) if read.len() <= MAX_HEAD_BYTES => return Ok(Decoded::Partial),
        _ => return Err(DecodeError::Trailers),
    };
    read.advance(length);
    Ok(Decoded::Trailers(trailers))
}

fn map(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, DecodeError> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| DecodeError::Trailers)?;
        if !head::may_trail(&name) {
            continue;
        }
        let value = HeaderValue::from_bytes(field.value).map_err(|_| DecodeError::Trailers)?;
        map.append(name, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests;
