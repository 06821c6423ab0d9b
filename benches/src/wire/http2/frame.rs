//! Frames (RFC 9113, section 4.1): cut out of bytes, and written.

use anyhow::{Result, ensure};

/// What is before the payload.
const HEAD_BYTES: usize = 9;
/// The longest payload that we let anybody send, which is what they may if nobody says anything.
const MAX_PAYLOAD_BYTES: usize = 16_384;
/// The bit before the number of a stream means nothing.
const STREAM_BITS: u32 = 0x7fff_ffff;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

/// Cuts frames out of bytes that come in pieces of any size. What comes whole is not copied.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The beginning of a frame whose end has not come yet.
    partial: Vec<u8>,
}

impl Frames {
    /// Hands every frame that ends in these bytes to `each`, in order, until that fails.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        while !self.partial.is_empty() {
            let missing = match total(&self.partial)? {
                Some(total) => total - self.partial.len(),
                None => HEAD_BYTES - self.partial.len(),
            };
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            self.partial.extend_from_slice(taken);
            bytes = rest;
            if total(&self.partial)? == Some(self.partial.len()) {
                each(read(&self.partial))?;
                self.partial.clear();
            } else if bytes.is_empty() {
                return Ok(());
            }
        }
        while let Some(total) = total(bytes)? {
            let Some((frame, rest)) = bytes.split_at_checked(total) else { break };
            each(read(frame))?;
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

/// The length of the frame that begins here, as soon as its head is there.
fn total(bytes: &[u8]) -> Result<Option<usize>> {
    if bytes.len() < HEAD_BYTES {
        return Ok(None);
    }
    let payload = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
    ensure!(
        payload <= MAX_PAYLOAD_BYTES,
        "a frame has {payload} bytes, of {MAX_PAYLOAD_BYTES} that are allowed"
    );
    Ok(Some(HEAD_BYTES + payload))
}

/// Reads one whole frame.
fn read(frame: &[u8]) -> Frame<'_> {
    let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]) & STREAM_BITS;
    Frame { kind: frame[3], flags: frame[4], stream, payload: &frame[HEAD_BYTES..] }
}

/// Writes one frame: its kind, its flags and its stream, and then its payload, which is shorter than
/// [`MAX_PAYLOAD_BYTES`].
pub(super) fn write(out: &mut Vec<u8>, (kind, flags, stream): (u8, u8, u32), payload: &[u8]) {
    debug_assert!(payload.len() <= MAX_PAYLOAD_BYTES);
    // 14 bits of length.
    let [.., b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[0, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Frames of one stream that are written once and used for many.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the number of the stream goes.
    streams: Vec<usize>,
}

impl Template {
    /// From kinds, flags and payloads.
    pub(super) fn new(frames: &[(u8, u8, &[u8])]) -> Self {
        let mut template = Self { bytes: Vec::new(), streams: Vec::new() };
        for &(kind, flags, payload) in frames {
            template.streams.push(template.bytes.len() + 5);
            write(&mut template.bytes, (kind, flags, 0), payload);
        }
        template
    }

    /// Writes the frames for one stream.
    pub(crate) fn write(&self, out: &mut Vec<u8>, stream: u32) {
        let begin = out.len();
        out.extend_from_slice(&self.bytes);
        for at in &self.streams {
            out[begin + at..begin + at + 4].copy_from_slice(&stream.to_be_bytes());
        }
    }
}
