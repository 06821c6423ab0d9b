//! Heads and bodies of HTTP/1.1 in pieces of every size.

use super::*;

/// Feeds `text` whole, cut in two at every place, and byte by byte: it must come to the same.
fn every_cut(text: &[u8], body_bytes: usize) -> Result<usize> {
    let whole = Answers::new(body_bytes).feed(text);
    let pieces = (0..=text.len()).map(|at| vec![&text[..at], &text[at..]]).chain([text.chunks(1).collect()]);
    for pieces in pieces {
        let mut answers = Answers::new(body_bytes);
        let cut = pieces.iter().map(|piece| answers.feed(piece)).sum::<Result<usize>>();
        assert_eq!(
            cut.ok(),
            whole.as_ref().ok().copied(),
            "{:?} in {pieces:?}",
            String::from_utf8_lossy(text)
        );
    }
    whole
}

#[test]
fn good_answers_are_counted_however_they_are_cut() {
    let plain = b"HTTP/1.1 200 OK\r\nContent-Length:5\r\ncookie: x\r\n\r\nhello".as_slice();
    let none = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".as_slice();
    let chunked =
        b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhe\r\n003\r\nllo\r\n0\r\nx: y\r\n\r\n".as_slice();
    assert_eq!(every_cut(plain, 5).unwrap(), 1);
    assert_eq!(every_cut(none, 0).unwrap(), 1);
    assert_eq!(every_cut(chunked, 5).unwrap(), 1);
    assert_eq!(every_cut(&[plain, chunked, plain].concat(), 5).unwrap(), 3);
    assert_eq!(every_cut(&plain[..plain.len() - 1], 5).unwrap(), 0);
    assert_eq!(every_cut(&chunked[..chunked.len() - 1], 5).unwrap(), 0);
    assert_eq!(every_cut(&answer(100), 100).unwrap(), 1);
}

#[test]
fn anything_else_is_an_error_that_says_what() {
    for (text, body_bytes, expected) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\nx-outrigger-reason: no_endpoint\r\n\r\n",
            5,
            "503 Service Unavailable (no_endpoint)",
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 5, "HTTP/1.0 200 OK"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhell", 5, "4 bytes instead of 5"),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", 5, "a length of \"x\""),
        ("HTTP/1.1 200 OK\r\nserver: y\r\n\r\n", 5, "does not say how long"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 5, "twice"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 5, "gzip"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n",
            5,
            "2 bytes instead of 5",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n", 5, "no digit"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n", 5, "no digit"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhel\r\n", 5, "broken"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffff\r\n", 5, "more than"),
        ("SSH-2.0-OpenSSH\r\n\r\n", 5, "SSH-2.0-OpenSSH"),
    ] {
        let error = format!("{:#}", every_cut(text.as_bytes(), body_bytes).expect_err(text));
        assert!(error.contains(expected), "{text:?} says {error:?}");
    }
}

#[test]
fn a_head_without_end_is_an_error() {
    let mut answers = Answers::new(1);
    let mut fed = (0..2 * MAX_HEAD_BYTES / 1024).map(|_| answers.feed(&[b'x'; 1024]));
    assert!(fed.any(|fed| fed.is_err()));
}

#[test]
fn what_is_thrown_away_counts() {
    let text = answer(1000);
    let mut answers = Answers::new(1000);
    assert_eq!((answers.discardable(), answers.in_answer()), (0, false));
    assert_eq!(answers.feed(&text[..text.len() - 900]).unwrap(), 0);
    assert_eq!((answers.discardable(), answers.in_answer()), (900, true));
    assert_eq!(answers.discarded(899), 0);
    assert_eq!(answers.discarded(1), 1);
    assert_eq!((answers.discardable(), answers.in_answer()), (0, false));
}

#[test]
fn requests_are_counted_however_they_are_cut() {
    let text = [request("/items/17", "origin.bench"), request("/", "x")].concat();
    for at in 0..=text.len() {
        let mut requests = Requests::default();
        assert_eq!(requests.feed(&text[..at]) + requests.feed(&text[at..]), 2, "cut at {at}");
    }
    let mut requests = Requests::default();
    assert_eq!(text.iter().map(|byte| requests.feed(&[*byte])).sum::<usize>(), 2);
    assert_eq!(requests.feed(b"GET / HTTP/1.1\r\n\r\r\n\n\r\n"), 0);
    assert_eq!(requests.feed(b"\r\n\r"), 1);
    assert_eq!(requests.feed(b"\n"), 0);
}
