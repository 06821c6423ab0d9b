//! How the path of a request may be read, by whoever reads it behind us.
//!
//! A path is what stands before `?`. One without `%`, `;`, `\`, `//` and `/.` can be read in one way: as it is. Any other
//! may be read in several, because servers differ; each of these is decided in every way it may go:
//!
//! * percent encoding is taken off once, or until nothing changes (at most [`MAX_ROUNDS`] times);
//! * an encoded slash separates segments, or stays what it is; so does a backslash, encoded or not;
//! * parameters (`;…` of a segment) are dropped, or kept;
//! * empty segments are merged, or kept;
//! * an encoded `?` or `#` ends the path, or belongs to it;
//! * dot segments are removed, never above the root, or kept.
//!
//! Some paths cannot be read safely at all. No Allow that asks for a path matches them, and every such Deny does:
//!
//! * percent encoding that is none, more of it than [`MAX_ROUNDS`] rounds, or one that hides control characters or bytes that
//!   are not UTF-8;
//! * dot segments beside any other of these tricks, or some encoded and some not: what they remove depends on the order of
//!   two readings;
//! * any of these tricks in a path of more than [`MAX_BYTES`] bytes;
//! * what does not begin with a slash: `*` of OPTIONS.
//!
//! The application gets the path as it was sent.

use std::borrow::Cow;

/// So often percent encoding is taken off.
pub const MAX_ROUNDS: usize = 4;

/// The longest path of which several readings are made, in bytes.
pub const MAX_BYTES: usize = 4096;

/// Every way in which a path may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readings<'p> {
    /// As it is.
    One(&'p [u8]),
    /// In each of these ways; at least one, each different.
    Several(Vec<Vec<u8>>),
    /// Nobody can tell.
    Unreadable,
}

/// What makes readings differ. Those of the first four that a path has double its readings.
#[derive(Debug, Clone, Copy, Default)]
struct Tricks {
    encoded_slashes: bool,
    backslashes: bool,
    parameters: bool,
    empty_segments: bool,
    ends: bool,
    rounds: bool,
    dots: bool,
}

/// One way to read what was decoded.
#[derive(Debug, Clone, Copy)]
struct Way(u8);

/// A decoded byte that a reader may take for a separator, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Byte {
    Plain(u8),
    EncodedSlash,
    /// Of `?` or `#`.
    EncodedEnd(u8),
}

impl<'p> Readings<'p> {
    /// The readings of a path as it was sent; a query may follow it.
    pub fn of(path: &'p str) -> Self {
        let end = path.bytes().position(|byte| byte == b'?').unwrap_or(path.len());
        let path = if end == 0 { &b"/"[..] } else { &path.as_bytes()[..end] };
        if path[0] != b'/' {
            return Self::Unreadable;
        }
        if !has_tricks(path) {
            return Self::One(path);
        }
        if path.len() > MAX_BYTES {
            return Self::Unreadable;
        }
        several(path).map_or(Self::Unreadable, Self::Several)
    }
}

fn has_tricks(path: &[u8]) -> bool {
    let mut before = 0;
    for byte in path {
        match byte {
            b'%' | b';' | b'\\' => return true,
            b'/' | b'.' if before == b'/' => return true,
            _ => before = *byte,
        }
    }
    false
}

/// `None` is unreadable.
fn several(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let once = decode_once(path)?;
    let fully = decode_fully(&once)?;
    let tricks = Tricks::of(path, &once, &fully);
    if tricks.dots {
        return with_dots(path, &tricks, &fully);
    }
    let mut readings = Vec::new();
    for way in (0..Way::COUNT).map(Way).filter(|way| way.differs(&tricks)) {
        let decoded = if way.decodes_fully() { &fully } else { &once };
        let reading = way.read(decoded);
        if !readings.contains(&reading) {
            readings.push(reading);
        }
    }
    Some(readings)
}

/// Dot segments that are all plain, or all encoded, and nothing else: they are removed or kept.
fn with_dots(path: &[u8], tricks: &Tricks, fully: &[Byte]) -> Option<Vec<Vec<u8>>> {
    let text: Vec<u8> = fully.iter().map(|byte| byte.separating()).collect();
    let alone = !tricks.beside_dots();
    let plain = segments(path).filter(|segment| is_dots(segment)).count();
    let all = segments(&text).filter(|segment| is_dots(segment)).count();
    if !alone || (plain > 0 && plain < all) {
        return None;
    }
    Some(vec![without_dots(&text), text])
}

impl Tricks {
    fn of(path: &[u8], once: &[Byte], fully: &[Byte]) -> Self {
        let text: Vec<u8> = fully.iter().map(|byte| byte.separating()).collect();
        // Up to an encoded end and beyond it, without parameters: each may show what the other hides.
        let cut = Way(Way::KEEP_EMPTY).read(fully);
        let bare = Way(Way::KEEP_EMPTY | Way::LITERAL_END).read(fully);
        let has_empty = |text: &&[u8]| text.windows(2).any(|pair| pair == b"//");
        let has_dots = |text: &&[u8]| segments(text).map(without_parameters).any(is_dots);
        Self {
            encoded_slashes: fully.contains(&Byte::EncodedSlash),
            backslashes: fully.contains(&Byte::Plain(b'\\')),
            parameters: text.contains(&b';'),
            empty_segments: [&text[..], &cut, &bare].iter().any(has_empty),
            ends: fully.iter().any(|byte| matches!(byte, Byte::EncodedEnd(_))),
            rounds: once != fully,
            dots: [&text[..], path, &cut, &bare].iter().any(has_dots),
        }
    }

    fn beside_dots(&self) -> bool {
        self.encoded_slashes
            || self.backslashes
            || self.parameters
            || self.empty_segments
            || self.ends
            || self.rounds
    }
}

impl Way {
    const LITERAL_SLASH: u8 = 1;
    const LITERAL_BACKSLASH: u8 = 1 << 1;
    const KEEP_PARAMETERS: u8 = 1 << 2;
    const KEEP_EMPTY: u8 = 1 << 3;
    const LITERAL_END: u8 = 1 << 4;
    const ONCE: u8 = 1 << 5;
    const COUNT: u8 = 1 << 6;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn decodes_fully(self) -> bool {
        !self.has(Self::ONCE)
    }

    /// Whether this way is another one than that without some of its choices: those that a path gives no cause for.
    fn differs(self, tricks: &Tricks) -> bool {
        let caused = [
            (Self::LITERAL_SLASH, tricks.encoded_slashes),
            (Self::LITERAL_BACKSLASH, tricks.backslashes),
            (Self::KEEP_PARAMETERS, tricks.parameters),
            (Self::KEEP_EMPTY, tricks.empty_segments),
            (Self::LITERAL_END, tricks.ends),
            (Self::ONCE, tricks.rounds),
        ];
        caused.into_iter().all(|(flag, caused)| caused || !self.has(flag))
    }

    fn read(self, decoded: &[Byte]) -> Vec<u8> {
        let mut read = Vec::with_capacity(decoded.len());
        for byte in decoded {
            match byte {
                Byte::EncodedSlash if self.has(Self::LITERAL_SLASH) => read.extend_from_slice(b"%2f"),
                Byte::Plain(b'\\') if !self.has(Self::LITERAL_BACKSLASH) => read.push(b'/'),
                Byte::EncodedEnd(_) if !self.has(Self::LITERAL_END) => break,
                Byte::EncodedSlash => read.push(b'/'),
                Byte::Plain(byte) | Byte::EncodedEnd(byte) => read.push(*byte),
            }
        }
        if !self.has(Self::KEEP_PARAMETERS) && read.contains(&b';') {
            read = segments(&read).map(without_parameters).collect::<Vec<_>>().join(&b'/');
        }
        if !self.has(Self::KEEP_EMPTY) {
            read.dedup_by(|next, before| *next == b'/' && *before == b'/');
        }
        read
    }
}

impl Byte {
    /// As the reader that separates most.
    fn separating(self) -> u8 {
        match self {
            Self::EncodedSlash | Self::Plain(b'\\') => b'/',
            Self::Plain(byte) | Self::EncodedEnd(byte) => byte,
        }
    }

    fn decoded(value: u8) -> Self {
        match value {
            b'/' => Self::EncodedSlash,
            b'?' | b'#' => Self::EncodedEnd(value),
            _ => Self::Plain(value),
        }
    }
}

/// `None` when an encoding is none, or hides what no path has.
fn decode_once(path: &[u8]) -> Option<Vec<Byte>> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            decoded.push(Byte::Plain(*first));
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        decoded.push(Byte::decoded(hex(*digits)?));
        rest = after;
    }
    is_text(&decoded).then_some(decoded)
}

/// What is left when percent encoding is taken off again and again; `None` when it does not end in time.
fn decode_fully(once: &[Byte]) -> Option<Vec<Byte>> {
    let mut decoded = once.to_vec();
    for _ in 1..MAX_ROUNDS {
        let Some(next) = decode_again(&decoded) else { return Some(decoded) };
        if !is_text(&next) {
            return None;
        }
        decoded = next;
    }
    decode_again(&decoded).is_none().then_some(decoded)
}

/// One more round, in which what is no encoding stays what it is. `None` when there is nothing to take off.
fn decode_again(bytes: &[Byte]) -> Option<Vec<Byte>> {
    let (mut decoded, mut found, mut rest) = (Vec::with_capacity(bytes.len()), false, bytes);
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (Byte::Plain(b'%'), [Byte::Plain(high), Byte::Plain(low), after @ ..])
                if hex([*high, *low]).is_some() =>
            {
                decoded.extend(hex([*high, *low]).map(Byte::decoded));
                found = true;
                rest = after;
            }
            _ => decoded.push(*first),
        }
    }
    found.then_some(decoded)
}

fn hex([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Whether it is UTF-8 without control characters.
fn is_text(decoded: &[Byte]) -> bool {
    let bytes: Vec<u8> = decoded.iter().map(|byte| byte.separating()).collect();
    std::str::from_utf8(&bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

fn without_parameters(segment: &[u8]) -> &[u8] {
    segment.split(|byte| *byte == b';').next().unwrap_or_default()
}

fn is_dots(segment: &[u8]) -> bool {
    segment == b"." || segment == b".."
}

/// Without dot segments (RFC 3986, section 5.2.4).
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_dots = false;
    for segment in segments(path).skip(1) {
        ends_in_dots = is_dots(segment);
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    if ends_in_dots {
        kept.push(b"");
    }
    let mut joined = vec![b'/'];
    joined.extend(kept.join(&b'/'));
    joined
}

/// A reading without regard to the case of ASCII letters; `buffer` holds what is not longer.
pub(super) fn folded<'b>(reading: &'b [u8], buffer: &'b mut [u8]) -> Cow<'b, [u8]> {
    if !reading.iter().any(u8::is_ascii_uppercase) {
        return Cow::Borrowed(reading);
    }
    match buffer.get_mut(..reading.len()) {
        Some(room) => {
            room.copy_from_slice(reading);
            room.make_ascii_lowercase();
            Cow::Borrowed(room)
        }
        None => Cow::Owned(reading.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests;
