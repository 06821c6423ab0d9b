//! Heads by tables: what is written, what is read, where bodies end, and what is refused.

use http::Request;

use super::*;

fn written(request: http::request::Builder, framing: Framing) -> String {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let mut bytes = b"kept ".to_vec();
    write_request(&parts, framing, &mut bytes);
    String::from_utf8(bytes).unwrap().strip_prefix("kept ").unwrap().to_owned()
}

#[test]
fn a_request_head_says_what_is_sent() {
    let get = || Request::get("/a?b=c").header("host", "reviews").header("a", "1").header("a", "2");
    assert_eq!(
        written(get(), Framing::Bodyless),
        "GET /a?b=c HTTP/1.1\r\nhost: reviews\r\na: 1\r\na: 2\r\n\r\n"
    );
    for (request, framing, target, last) in [
        (Request::get("/"), Framing::Bodyless, "GET /", ""),
        (
            Request::get("/").header("content-length", "7"),
            Framing::Bodyless,
            "GET /",
            "content-length: 0\r\n",
        ),
        (Request::post("/"), Framing::Bodyless, "POST /", "content-length: 0\r\n"),
        (
            Request::put("/").header("content-length", "7"),
            Framing::Length(9),
            "PUT /",
            "content-length: 9\r\n",
        ),
        (
            Request::post("/").header("transfer-encoding", "gzip"),
            Framing::Length(9),
            "POST /",
            "content-length: 9\r\n",
        ),
        (
            Request::post("/").header("content-length", "1"),
            Framing::Chunked,
            "POST /",
            "transfer-encoding: chunked\r\n",
        ),
        (Request::options("*"), Framing::Bodyless, "OPTIONS *", ""),
        (Request::connect("db.shop:5432"), Framing::Bodyless, "CONNECT db.shop:5432", ""),
        (Request::get("http://reviews.shop"), Framing::Bodyless, "GET /", ""),
    ] {
        assert_eq!(written(request, framing), format!("{target} HTTP/1.1\r\n{last}\r\n"));
    }
}

fn read(bytes: &[u8], method: Method) -> Result<Option<(Head, Bytes)>, HeadError> {
    let mut bytes = Bytes::copy_from_slice(bytes);
    Ok(read_response(&mut bytes, &method)?.map(|head| (head, bytes)))
}

fn head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
}

#[test]
fn a_response_head_is_taken_once_it_is_complete() {
    let bytes = b"HTTP/1.1 201 Created\r\nA: b\r\na:  c \r\ncontent-length: 3\r\n\r\nxyzHTTP";
    for end in 0..bytes.len() - 7 {
        assert!(read(&bytes[..end], Method::GET).unwrap().is_none(), "{end} bytes");
    }
    let (head, left) = read(bytes, Method::GET).unwrap().unwrap();
    assert_eq!((head.response.status(), head.response.version()), (StatusCode::CREATED, Version::HTTP_11));
    let values: Vec<_> = head.response.headers().get_all("a").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!(values, [b"b", b"c"]);
    assert!(head.persistent && matches!(head.body, Decoder::Exact(3)));
    assert_eq!(&left[..], b"xyzHTTP");
    assert!(head.response.extensions().is_empty());
}

#[test]
fn another_reason_phrase_goes_on() {
    let (head, _) = read(b"HTTP/1.1 200 Fine\r\ncontent-length: 0\r\n\r\n", Method::GET).unwrap().unwrap();
    assert_eq!(head.response.extensions().get::<ReasonPhrase>().unwrap().as_bytes(), b"Fine");
}

/// RFC 9112, section 6.3.
#[test]
fn the_head_says_where_the_body_ends() {
    for (method, bytes, body) in [
        (Method::GET, head("content-length: 3\r\n"), "Exact(3)"),
        (Method::GET, head("content-length: 3, 3\r\nContent-Length: 3\r\n"), "Exact(3)"),
        (Method::GET, head("content-length: 0\r\n"), "Ended"),
        (Method::HEAD, head("content-length: 3\r\n"), "Ended"),
        (Method::HEAD, head("transfer-encoding: chunked\r\n"), "Ended"),
        (Method::GET, head("transfer-encoding: chunked\r\n"), "Chunked"),
        (Method::GET, head("transfer-encoding: gzip, Chunked\r\n"), "Chunked"),
        (Method::GET, head("transfer-encoding: chunked\r\ncontent-length: 3\r\n"), "Chunked"),
        (Method::GET, head("transfer-encoding: gzip\r\n"), "UntilClose"),
        (Method::GET, head(""), "UntilClose"),
        (Method::CONNECT, head(""), "Switched"),
        (Method::GET, "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(), "Switched"),
        (Method::GET, "HTTP/1.1 103 Early Hints\r\n\r\n".to_owned(), "Ended"),
        (Method::GET, "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\n".to_owned(), "Ended"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n".to_owned(), "Ended"),
        (Method::CONNECT, "HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\n".to_owned(), "Exact(3)"),
    ] {
        let (head, _) = read(bytes.as_bytes(), method.clone()).unwrap().unwrap();
        let found = format!("{:?}", head.body);
        assert!(found.starts_with(body), "{method} {bytes:?}: {found}");
    }
}

#[test]
fn lengths_that_cannot_be_trusted_are_refused() {
    for fields in [
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: 3, 4\r\n",
        "content-length: \r\n",
        "content-length: +3\r\n",
        "content-length: -3\r\n",
        "content-length: 3x\r\n",
        "content-length: 18446744073709551616\r\n",
    ] {
        assert!(matches!(read(head(fields).as_bytes(), Method::GET), Err(HeadError::Framing)), "{fields:?}");
    }
    let old = b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert!(matches!(read(old, Method::GET), Err(HeadError::Framing)));
}

#[test]
fn a_connection_lasts_unless_somebody_says_otherwise() {
    for (version, connection, lasts) in [
        ("1.1", "", true),
        ("1.1", "connection: close\r\n", false),
        ("1.1", "connection: x, Close\r\n", false),
        ("1.1", "connection: close\r\nconnection: keep-alive\r\n", false),
        ("1.0", "", false),
        ("1.0", "connection: Keep-Alive\r\n", true),
        ("1.0", "connection: keep-alive, close\r\n", false),
    ] {
        let bytes = format!("HTTP/{version} 200 OK\r\ncontent-length: 0\r\n{connection}\r\n");
        let (head, _) = read(bytes.as_bytes(), Method::GET).unwrap().unwrap();
        assert_eq!(head.persistent, lasts, "{bytes:?}");
    }
    let (endless, _) = read(head("").as_bytes(), Method::GET).unwrap().unwrap();
    assert!(!endless.persistent, "its body ends with it");
}

#[test]
fn what_is_no_head_is_refused() {
    let many = head(&"a: b\r\n".repeat(MAX_FIELDS + 1));
    let large = head(&format!("a: {}\r\n", "x".repeat(MAX_HEAD_BYTES)));
    let endless = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(MAX_HEAD_BYTES));
    for bytes in [
        "SSH-2.0-OpenSSH_9\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0\r\n\r\n",
        &many,
        &large,
        &endless,
    ] {
        assert!(read(bytes.as_bytes(), Method::GET).is_err(), "{:?}", &bytes[..bytes.len().min(60)]);
    }
}

/// Seeds with random changes: never a panic, and what is taken was there.
#[test]
fn rubbish_is_survived() {
    let seeds = [head("content-length: 3\r\nconnection: close\r\n"), head("transfer-encoding: chunked\r\n")];
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].clone().into_bytes();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        bytes.truncate(rng.usize(..=bytes.len()));
        if let Ok(Some((_, left))) = read(&bytes, Method::GET) {
            assert!(bytes.ends_with(&left));
        }
    }
}
