//! Requests over streams that take few bytes at a time.

use std::task::Waker;

use http::{Request, header};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;

fn begun(body: Body) -> Out {
    let mut out = Out::default();
    out.begin(&Request::put("/").body(()).unwrap().into_parts().0, body);
    out
}

/// Everything that goes out over a stream that takes `room` bytes at a time, or why it ended.
async fn sent(mut out: Out, room: usize) -> (Result<(), Http1Error>, String) {
    let (mut near, mut far) = duplex(room);
    let sending = async move {
        let sent = std::future::poll_fn(|cx| out.poll(cx, &mut near)).await;
        drop::<DuplexStream>(near);
        sent
    };
    let mut received = String::new();
    let (sent, read) = tokio::join!(sending, far.read_to_string(&mut received));
    read.unwrap();
    (sent, received)
}

#[tokio::test]
async fn a_body_of_known_length_follows_its_head() {
    for room in [1, 7, 4096] {
        let (result, bytes) = sent(begun(Body::Full(Bytes::from_static(b"hello"))), room).await;
        result.unwrap();
        assert_eq!(bytes, "PUT / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello", "{room} bytes at a time");
        let (result, bytes) = sent(begun(Body::Empty), room).await;
        result.unwrap();
        assert_eq!(bytes, "PUT / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_never_looks_complete() {
    let (result, bytes) = sent(begun(Body::Cut), 4096).await;
    assert!(matches!(result, Err(Http1Error::RequestBody(_))), "{result:?}");
    assert!(!bytes.contains("0\r\n\r\n"), "{bytes:?}");
}

/// Chunks are written by hand here, because bodies of unknown length only come from clients.
#[tokio::test]
async fn chunks_and_trailers_end_a_body_of_unknown_length() {
    for room in [1, 7, 4096] {
        let mut out = begun(Body::Empty);
        out.framing = Framing::Chunked;
        out.data(Bytes::from_static(b"hello world, hello")).unwrap();
        let (mut near, mut far) = duplex(room);
        let sending = async move {
            std::future::poll_fn(|cx| out.poll(cx, &mut near)).await.unwrap();
            out.front.clear();
            out.front_sent = 0;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert(header::HOST, "elsewhere".parse().unwrap());
            out.end(Some(trailers)).unwrap();
            std::future::poll_fn(|cx| out.poll(cx, &mut near)).await.unwrap();
        };
        let mut bytes = String::new();
        let (_, read) = tokio::join!(sending, far.read_to_string(&mut bytes));
        read.unwrap();
        let body = bytes.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body, "12\r\nhello world, hello\r\n0\r\ngrpc-status: 0\r\n\r\n", "{room} bytes at a time");
    }
}

#[test]
fn more_or_less_than_was_announced_is_an_error() {
    let mut out = begun(Body::Full(Bytes::from_static(b"hello")));
    assert!(out.end(None).is_err(), "five bytes are missing");
    assert!(out.data(Bytes::from_static(b"hello!")).is_err());
}

#[tokio::test]
async fn what_nobody_took_comes_back_whole() {
    let mut out = begun(Body::Full(Bytes::from_static(b"hello")));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(out.poll_body(&mut cx).is_ready(), "the first frame is held");
    assert!(out.is_fresh());
    let body = out.take_body();
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
}
