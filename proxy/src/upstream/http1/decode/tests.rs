//! Bodies in pieces of every size: complete, cut, malformed.

use super::*;

/// Feeds `bytes` in pieces of `size`; the data, the trailers, and what is left behind the body.
fn decode(decoder: Decoder, bytes: &[u8], size: usize) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), DecodeError> {
    let (mut decoder, mut read, mut data) = (decoder, Bytes::new(), Vec::new());
    let mut pieces = bytes.chunks(size);
    loop {
        match decoder.decode(&mut read)? {
            Decoded::Data(piece) => data.extend_from_slice(&piece),
            Decoded::Partial => match pieces.next() {
                Some(piece) => read = [&read[..], piece].concat().into(),
                None => {
                    decoder.close()?;
                }
            },
            end => {
                let trailers =
                    if let Decoded::Trailers(trailers) = end { trailers } else { HeaderMap::new() };
                let left = [&read[..], &pieces.collect::<Vec<_>>().concat()].concat();
                return Ok((data, trailers, left));
            }
        }
    }
}

/// A decoder, what comes, the data in it, and what is left behind it.
type Row = (fn() -> Decoder, &'static [u8], &'static [u8], &'static [u8]);

#[test]
fn a_body_ends_where_it_says_however_its_bytes_come() {
    let rows: [Row; 7] = [
        (|| Decoder::exact(5), b"hello", b"hello", b""),
        (|| Decoder::exact(5), b"helloHTTP/1.1", b"hello", b"HTTP/1.1"),
        (|| Decoder::exact(0), b"next", b"", b"next"),
        (|| Decoder::UntilClose, b"all of it", b"all of it", b""),
        (Decoder::chunked, b"5\r\nhello\r\n0\r\n\r\nnext", b"hello", b"next"),
        (Decoder::chunked, b"5;a=\"b\"\r\nhello\r\nA \r\n0123456789\r\n000\r\n\r\n", b"hello0123456789", b""),
        (|| Decoder::Switched, b"other protocol", b"", b"other protocol"),
    ];
    for (decoder, bytes, data, left) in rows {
        for size in 1..=bytes.len() {
            let (found, trailers, behind) = decode(decoder(), bytes, size).unwrap();
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!((&found[..], &behind[..]), (data, left), "{shown:?} in pieces of {size}");
            assert!(trailers.is_empty());
        }
    }
}

#[test]
fn trailers_end_a_chunked_body() {
    let bytes = b"1\r\nx\r\n0\r\ngrpc-status: 0\r\nconnection: close\r\nA: b\r\n\r\nnext";
    for size in 1..=bytes.len() {
        let (data, trailers, left) = decode(Decoder::chunked(), bytes, size).unwrap();
        assert_eq!((&data[..], &left[..]), (&b"x"[..], &b"next"[..]));
        assert_eq!((trailers["grpc-status"].as_bytes(), trailers["a"].as_bytes()), (&b"0"[..], &b"b"[..]));
        assert_eq!(trailers.len(), 2, "what frames a message does not come behind it");
    }
}

#[test]
fn what_ends_early_is_cut() {
    for (decoder, bytes) in [
        (Decoder::exact(5), &b"hell"[..]),
        (Decoder::chunked(), b""),
        (Decoder::chunked(), b"5"),
        (Decoder::chunked(), b"5\r\nhell"),
        (Decoder::chunked(), b"5\r\nhello\r\n"),
        (Decoder::chunked(), b"5\r\nhello\r\n0\r\n"),
        (Decoder::chunked(), b"0\r\na: b\r\n"),
    ] {
        assert_eq!(decode(decoder, bytes, 3).unwrap_err(), DecodeError::Cut, "{bytes:?}");
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let long = [b"1;", &[b'x'; MAX_CHUNK_LINE_BYTES][..], b"\r\n"].concat();
    let many: Vec<u8> = (0..6).flat_map(|_| [b"1;", &[b'x'; 4000][..], b"\r\ny\r\n"].concat()).collect();
    let trailers = [&b"0\r\n"[..], &[b'x'; MAX_HEAD_BYTES], b"xx"].concat();
    for (bytes, error) in [
        (&b"\r\n"[..], DecodeError::Chunk),
        (b"g\r\n", DecodeError::Chunk),
        (b"-1\r\nx", DecodeError::Chunk),
        (b"+1\r\nx", DecodeError::Chunk),
        (b" 1\r\nx", DecodeError::Chunk),
        (b"0x1\r\nx", DecodeError::Chunk),
        (b"1\nx\r\n", DecodeError::Chunk),
        (b"1\r\r\nx\r\n", DecodeError::Chunk),
        (b"1 1\r\nx\r\n", DecodeError::Chunk),
        (b"1\r\nxy\r\n", DecodeError::Chunk),
        (b"1\r\nx\n", DecodeError::Chunk),
        (b"10000000000000000\r\n", DecodeError::Chunk),
        (&long, DecodeError::Chunk),
        (&many, DecodeError::Extensions),
        (b"0\r\n: nameless\r\n\r\n", DecodeError::Trailers),
        (b"0\r\na b: c\r\n\r\n", DecodeError::Trailers),
        (&trailers, DecodeError::Trailers),
    ] {
        for size in [1.max(bytes.len() / 100), bytes.len()] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
            assert_eq!(decode(Decoder::chunked(), bytes, size).unwrap_err(), error, "{shown:?}");
        }
    }
}

/// Seeds with random changes: never a panic, never more data than bytes.
#[test]
fn rubbish_is_survived() {
    let seeds: [&[u8]; 3] =
        [b"5\r\nhello\r\n0\r\n\r\n", b"1;x\r\ny\r\n0\r\na: b\r\n\r\n", b"ffffffffffffffff\r\n"];
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        if let Ok((data, ..)) = decode(Decoder::chunked(), &bytes, rng.usize(1..=bytes.len())) {
            assert!(data.len() <= bytes.len());
        }
    }
}
