//! Frames of HTTP/2 in pieces of every size.

use super::fields::{answer, call, get, is_ok, reply};
use super::*;

/// What came of some bytes, owned.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Headers(u32, Vec<u8>, bool),
    Data(u32, usize, bool),
    Reset(u32, u32),
    GoAway(u32),
    Room,
}

fn seen(event: Event<'_>) -> Seen {
    match event {
        Event::Headers { stream, block, end } => Seen::Headers(stream, block.to_vec(), end),
        Event::Data { stream, bytes, end } => Seen::Data(stream, bytes.len(), end),
        Event::Reset { stream, code } => Seen::Reset(stream, code),
        Event::GoAway { code } => Seen::GoAway(code),
        Event::Room => Seen::Room,
    }
}

/// Feeds pieces to a new client; what it saw and what it wants to send.
fn feed(pieces: &[&[u8]]) -> Result<(Vec<Seen>, Vec<u8>)> {
    let (mut frames, mut link, mut all) = (Frames::default(), Link::client(), Vec::new());
    link.out.clear();
    for piece in pieces {
        frames.feed(piece, |frame| {
            all.extend(link.take(frame)?.map(seen));
            Ok(())
        })?;
    }
    Ok((all, link.out))
}

/// The same whole, cut in two at every place, and byte by byte.
fn every_cut(bytes: &[u8]) -> Result<(Vec<Seen>, Vec<u8>)> {
    let whole = feed(&[bytes]);
    let pieces =
        (0..=bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]).chain([bytes.chunks(1).collect()]);
    for pieces in pieces {
        assert_eq!(feed(&pieces).ok(), whole.as_ref().ok().cloned(), "{pieces:?}");
    }
    whole
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, (kind, flags, stream), payload);
    bytes
}

#[test]
fn frames_become_events_however_they_are_cut() {
    let block = b"\x88rest".to_vec();
    let end = flag::END_STREAM | flag::END_HEADERS;
    for (bytes, expected) in [
        (frame(kind::HEADERS, end, 3, &block), vec![Seen::Headers(3, block.clone(), true)]),
        (
            frame(kind::HEADERS, flag::END_HEADERS | flag::PADDED, 3, b"\x02\x88rest..").to_vec(),
            vec![Seen::Headers(3, block.clone(), false)],
        ),
        (
            frame(
                kind::HEADERS,
                flag::END_HEADERS | flag::PADDED | flag::PRIORITY,
                3,
                b"\x01\0\0\0\x01\x10\x88rest.",
            ),
            vec![Seen::Headers(3, block.clone(), false)],
        ),
        (
            [
                frame(kind::HEADERS, flag::END_STREAM, 5, b"\x88r"),
                frame(kind::CONTINUATION, 0, 5, b"es"),
                frame(kind::CONTINUATION, flag::END_HEADERS, 5, b"t"),
            ]
            .concat(),
            vec![Seen::Headers(5, block.clone(), true)],
        ),
        (frame(kind::DATA, flag::END_STREAM, 7, b"hello"), vec![Seen::Data(7, 5, true)]),
        (frame(kind::DATA, flag::PADDED, 7, b"\x03hello..."), vec![Seen::Data(7, 5, false)]),
        (frame(kind::DATA, flag::END_STREAM, 7, b""), vec![Seen::Data(7, 0, true)]),
        (frame(kind::RST_STREAM, 0, 9, &[0, 0, 0, 8]), vec![Seen::Reset(9, 8)]),
        (frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 2, b'x']), vec![Seen::GoAway(2)]),
        (frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]), vec![Seen::Room]),
        (frame(kind::WINDOW_UPDATE, 0, 3, &[0, 0, 1, 0]), vec![]),
        (frame(kind::SETTINGS, flag::ACK, 0, &[]), vec![]),
        (frame(kind::PING, flag::ACK, 0, b"8 bytes."), vec![]),
        (frame(0x42, 0, 1, b"what nobody knows"), vec![]),
    ] {
        assert_eq!(every_cut(&bytes).unwrap(), (expected, Vec::new()), "{bytes:?}");
    }
}

#[test]
fn settings_and_pings_are_acknowledged() {
    let (_, out) = every_cut(&frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])).unwrap();
    assert_eq!(out, frame(kind::SETTINGS, flag::ACK, 0, &[]));
    let (_, out) = every_cut(&frame(kind::PING, 0, 0, b"8 bytes.")).unwrap();
    assert_eq!(out, frame(kind::PING, flag::ACK, 0, b"8 bytes."));
}

#[test]
fn broken_frames_are_errors() {
    for bytes in [
        vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1],
        frame(kind::DATA, flag::PADDED, 1, b""),
        frame(kind::DATA, flag::PADDED, 1, b"\x05hell"),
        frame(kind::HEADERS, flag::END_HEADERS | flag::PRIORITY, 1, b"\0\0\0"),
        frame(kind::RST_STREAM, 0, 1, b"\0"),
        frame(kind::GOAWAY, 0, 0, b"\0\0\0\0"),
        frame(kind::SETTINGS, 0, 0, b"\0\0\0"),
        frame(kind::PUSH_PROMISE, 0, 1, b"\0\0\0\x02"),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, b""),
        [frame(kind::HEADERS, 0, 1, b"\x88"), frame(kind::DATA, 0, 1, b"")].concat(),
        [frame(kind::HEADERS, 0, 1, b"\x88"), frame(kind::CONTINUATION, 0, 3, b"")].concat(),
    ] {
        assert!(every_cut(&bytes).is_err(), "{bytes:?}");
    }
    let mut endless = frame(kind::HEADERS, 0, 1, b"\x88");
    (0..8).for_each(|_| endless.extend(frame(kind::CONTINUATION, 0, 1, &[0; 16_000])));
    assert!(feed(&[&endless]).is_err());
}

/// A generator for tests that want the same noise each time (Marsaglia's xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn noise_is_an_error_or_nothing_and_cuts_make_no_difference() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..noise.next() % 6 {
            let payload: Vec<u8> = (0..noise.next() % 40).map(|_| noise.next() as u8).collect();
            let (kind, flags) = (noise.next() as u8 % 11, noise.next() as u8);
            bytes.extend(frame(kind, flags, noise.next() as u32 % 4, &payload));
        }
        // One byte is not as it was.
        if let Some(at) = (noise.next() as usize).checked_rem(bytes.len()) {
            bytes[at] = noise.next() as u8;
        }
        let at = (noise.next() as usize).checked_rem(bytes.len()).unwrap_or(0);
        assert_eq!(feed(&[&bytes[..at], &bytes[at..]]).ok(), feed(&[&bytes]).ok());
    }
}

#[test]
fn bodies_wait_for_the_window_and_must_fit_a_stream() {
    let mut link = Link::server();
    assert!(link.reserve(60_000).unwrap());
    assert!(!link.reserve(60_000).unwrap());
    let update = frame(kind::WINDOW_UPDATE, 0, 0, &60_000_u32.to_be_bytes());
    Frames::default().feed(&update, |frame| link.take(frame).map(drop)).unwrap();
    assert!(link.reserve(60_000).unwrap());
    let small = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10, 0, 3, 0, 0, 0, 99]);
    Frames::default().feed(&small, |frame| link.take(frame).map(drop)).unwrap();
    assert!(link.reserve(11).is_err());
    assert_eq!((link.settled(), link.max_streams()), (true, 99));
}

#[test]
fn the_connection_window_is_given_back_when_half_is_used() {
    let (mut frames, mut link) = (Frames::default(), Link::client());
    link.out.clear();
    let data = frame(kind::DATA, 0, 1, &[0; 16_384]);
    for _ in 0..CONNECTION_WINDOW_BYTES / 2 / 16_384 {
        assert!(link.out.is_empty());
        frames.feed(&data, |frame| link.take(frame).map(drop)).unwrap();
    }
    let half = CONNECTION_WINDOW_BYTES / 2;
    assert_eq!(link.out, frame(kind::WINDOW_UPDATE, 0, 0, &half.to_be_bytes()));
}

#[test]
fn only_status_200_is_ok() {
    for (block, expected) in [
        (b"\x88".as_slice(), true),
        (b"\x20\x88", true),
        (b"\x3f\xe1\x1f\x88", true),
        (b"\x3f\x80\x80\x01\x20\x88\x82", true),
        (b"", false),
        (b"\x20", false),
        (b"\x3f\xff", false),
        (b"\x89", false),
        (b"\x48\x03503", false),
        (b"\x00\x88", false),
    ] {
        assert_eq!(is_ok(block), expected, "{block:?}");
    }
}

#[test]
fn templates_carry_the_number_of_their_stream() {
    let date = "Sat, 21 Nov 2026 10:00:00 GMT";
    for (template, bodies) in [
        (get("/items/17", "origin.bench"), vec![]),
        (call("/bench.Items/Get", "origin.bench", 133), vec![133]),
        (answer(128, date), vec![128]),
        (reply(133, date), vec![133]),
    ] {
        let mut out = Vec::new();
        template.write(&mut out, 1);
        template.write(&mut out, 0x0102_0305);
        let (events, _) = feed(&[&out]).unwrap();
        let streams: Vec<u32> = events
            .iter()
            .map(|event| match event {
                Seen::Headers(stream, ..) | Seen::Data(stream, ..) => *stream,
                other => panic!("{other:?}"),
            })
            .collect();
        let half = streams.len() / 2;
        assert!(streams[..half].iter().all(|stream| *stream == 1));
        assert!(streams[half..].iter().all(|stream| *stream == 0x0102_0305));
        let ends: Vec<bool> =
            events.iter().map(|e| matches!(e, Seen::Headers(_, _, true) | Seen::Data(_, _, true))).collect();
        assert_eq!(ends.iter().filter(|end| **end).count(), 2, "{events:?}");
        assert!(ends[half - 1] && ends[2 * half - 1]);
        let data: Vec<usize> = events[..half]
            .iter()
            .filter_map(|e| if let Seen::Data(_, n, _) = e { Some(*n) } else { None })
            .collect();
        assert_eq!(data, bodies);
    }
}
