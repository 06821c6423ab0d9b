//! What HTTP and TCP promise still holds through a pair of sidecars with mutual TLS between them.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Frame;
use outrigger_tests::client::{self, Answer, Client, empty, fed, full, read_until, talk};
use outrigger_tests::eventually;
use outrigger_tests::origin::{AFTER_EOF, Afterwards, Failure, Origin, ScriptedOrigin, SeenBody, TcpEcho};
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{PATIENCE, Sidecar, Town, ask, inbound, logged, meshed, service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[path = "mesh_http/manners.rs"]
mod manners;
#[path = "mesh_http/reasons.rs"]
mod reasons;

/// Both versions, each of which is kept from end to end.
const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];
/// Any port on loopback.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// A writer that gets no further for this long has been held up.
const HELD_UP: Duration = Duration::from_millis(500);
/// More than the buffers of every socket and proxy on the way, in bytes.
const MORE_THAN_BUFFERS: usize = 128 * 1024 * 1024;

/// Two sidecars in front of one server.
struct Pair {
    /// Where clients dial.
    entrance: SocketAddr,
    /// Where the server's sidecar is dialled.
    inbound: SocketAddr,
    web: Sidecar,
    files: Sidecar,
    _town: Town,
}

impl Pair {
    async fn to(server: SocketAddr) -> Self {
        Self::speaking("http", server).await
    }

    async fn speaking(protocol: &str, server: SocketAddr) -> Self {
        let subnet = Subnet::claim();
        let address = subnet.address(2, 9080);
        let yaml = service("files", protocol) + &meshed("files-1", "files", address);
        let town = Town::start(subnet, &yaml).await.unwrap();
        let files = town.sidecar("files", &[inbound(address, server)]).await.unwrap();
        let (web, entrance) = town.dialling(1, "files").await.unwrap();
        Self { entrance, inbound: address, web, files, _town: town }
    }

    async fn client(&self, version: Version) -> Client {
        Client::connect(self.entrance, version).await.unwrap()
    }

    /// Sends a head as it is, after which the connection has to be closed.
    async fn talk(&self, head: &str) -> String {
        talk(self.entrance, head.as_bytes()).await.unwrap()
    }
}

async fn origin() -> Origin {
    Origin::start("files", ANY).await.unwrap()
}

/// Bytes without a short period, so that what is lost or comes twice shows.
fn pattern(length: usize) -> Bytes {
    (0..length)
        .map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap_or_default())
        .collect::<Vec<_>>()
        .into()
}

#[tokio::test]
async fn bodies_of_every_size_and_framing_come_back_whole() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for version in VERSIONS {
        let mut client = pair.client(version).await;
        for size in [1, 64 * 1024, 10 * 1024 * 1024] {
            let sent = pattern(size);
            let known = client.send(Request::post("/echo").body(full(sent.clone())).unwrap()).await.unwrap();
            assert!(known.body == sent, "{version:?}, {size} bytes of known length: {}", known.body.len());
            assert_eq!(known.header("content-length"), size.to_string(), "{version:?}");
            let (feed, body) = fed();
            let request = Request::post("/echo").body(body).unwrap();
            let feeding = async {
                for part in sent.chunks(50_000) {
                    feed.send(Ok(Frame::data(Bytes::copy_from_slice(part)))).await.unwrap();
                }
                drop(feed);
            };
            let (chunked, ()) = tokio::join!(client.send(request), feeding);
            assert!(chunked.unwrap().body == sent, "{version:?}, {size} bytes of unknown length");
        }
    }
    assert!(origin.seen().iter().all(|seen| seen.body == SeenBody::Streamed));
    assert_eq!(origin.seen().iter().filter(|seen| seen.version == Version::HTTP_2).count(), 6);
}

#[tokio::test]
async fn a_reader_that_pauses_holds_up_the_writer_and_loses_nothing() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for version in VERSIONS {
        let mut client = pair.client(version).await;
        let (feed, body) = fed();
        let response = client.open(Request::post("/echo").body(body).unwrap()).await.unwrap();
        let chunk = pattern(256 * 1024);
        let mut sent = 0;
        while let Ok(fed) = tokio::time::timeout(HELD_UP, feed.send(Ok(Frame::data(chunk.clone())))).await {
            fed.unwrap();
            sent += chunk.len();
            assert!(sent < MORE_THAN_BUFFERS, "{version:?}: nobody holds up the writer");
        }
        let (read, ()) = tokio::join!(client::collect(response), async {
            feed.send(Ok(Frame::data(chunk.clone()))).await.unwrap();
            drop(feed);
        });
        let read = read.unwrap().body;
        assert_eq!(read.len(), sent + chunk.len(), "{version:?}");
        assert!(
            read.chunks(chunk.len()).all(|part| part == chunk),
            "{version:?}: bytes were lost or swapped"
        );
    }
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for version in VERSIONS {
        let mut client = pair.client(version).await;
        for (method, status) in [
            (Method::HEAD, StatusCode::OK),
            (Method::GET, StatusCode::NO_CONTENT),
            (Method::GET, StatusCode::NOT_MODIFIED),
            (Method::DELETE, StatusCode::NO_CONTENT),
        ] {
            origin.fail_next(1, Failure::Status(status));
            let request = Request::builder().method(&method).uri("/page").body(empty()).unwrap();
            let answer = client.send(request).await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{version:?} {method}");
            let chunked = answer.header("transfer-encoding");
            assert!(chunked.is_empty(), "{version:?} {method} {status}: transfer-encoding: {chunked}");
            let next = client.get("/next").await.unwrap();
            assert_eq!(next.origin(), "files", "{version:?}: after {method} {status}");
        }
        let head = client.send(Request::head("/page").body(empty()).unwrap()).await.unwrap();
        assert_ne!(head.header("content-length"), "", "{version:?}: HEAD says how long the body would be");
    }
}

#[tokio::test]
async fn trailers_arrive_as_trailers() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for version in VERSIONS {
        let mut client = pair.client(version).await;
        let (feed, body) = fed();
        let request =
            Request::post("/echo").header("te", "trailers").header("trailer", "x-sum").body(body).unwrap();
        let (answer, ()) = tokio::join!(client.send(request), async {
            feed.send(Ok(Frame::data("body".into()))).await.unwrap();
            feed.send(Ok(Frame::trailers(HeaderMap::from_iter([(
                "x-sum".parse().unwrap(),
                "7".parse().unwrap(),
            )]))))
            .await
            .unwrap();
            drop(feed);
        });
        let answer = answer.unwrap();
        assert_eq!((answer.body.as_ref(), answer.trailer("x-sum")), (&b"body"[..], "7"), "{version:?}");
        assert_eq!(answer.header("x-sum"), "", "{version:?}: a trailer is no header");
    }
}

#[tokio::test]
async fn a_grpc_call_streams_both_ways_and_ends_with_its_status() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    let mut client = pair.client(Version::HTTP_2).await;
    let (feed, body) = fed();
    let request = Request::post("/shop.Files/Follow")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut response = client.open(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    for message in [&b"\0\0\0\0\x03one"[..], b"\0\0\0\0\x03two"] {
        feed.send(Ok(Frame::data(Bytes::from_static(message)))).await.unwrap();
        // The answer to each message comes while the call is open: nothing waits for its end.
        let mut echoed = BytesMut::new();
        while echoed.len() < message.len() {
            echoed.extend_from_slice(response.frame().await.unwrap().unwrap().data_ref().unwrap());
        }
        assert_eq!(echoed, message);
    }
    drop(feed);
    let end = client::collect(response).await.unwrap();
    assert_eq!((end.body.len(), end.trailer("grpc-status")), (0, "0"));
    for sidecar in [&pair.web, &pair.files] {
        let line = logged(sidecar, "/shop.Files/Follow").await.unwrap();
        assert_eq!(
            (&line["grpc_status"], &line["protocol"], &line["security"]),
            (&0.into(), &"http2".into(), &"mtls".into())
        );
    }
    assert_eq!(origin.seen()[0].headers["te"], "trailers", "gRPC servers insist on it");
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways_and_half_closes() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    let mut stream = TcpStream::connect(pair.entrance).await.unwrap();
    let head =
        "GET /chat HTTP/1.1\r\nhost: files\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(format!("{head}early").as_bytes()).await.unwrap();
    let said = read_until(&mut stream, "early").await.unwrap().to_lowercase();
    assert!(said.starts_with("http/1.1 101 ") && said.contains("\r\nupgrade: websocket\r\n"), "{said}");
    let sent = pattern(1024 * 1024);
    let (mut from, mut to) = stream.split();
    let mut received = Vec::new();
    let (_, read) = tokio::join!(
        async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        },
        from.read_to_end(&mut received)
    );
    read.unwrap();
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
}

#[tokio::test]
async fn bytes_behind_an_upgrade_wait_until_it_is_granted() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let pair = Pair::to(listener.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(pair.entrance).await.unwrap();
    let head = "GET /chat HTTP/1.1\r\nhost: files\r\nconnection: upgrade\r\nupgrade: chat/2\r\n\r\n";
    client.write_all(format!("{head}early").as_bytes()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let asked = read_until(&mut server, "\r\n\r\n").await.unwrap();
    assert!(asked.to_lowercase().contains("\r\nupgrade: chat/2\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\n"), "{asked}");
    let early = tokio::time::timeout(HELD_UP, server.read_u8()).await;
    assert!(early.is_err(), "bytes came before the server had agreed: {early:?}");
    server.write_all(b"HTTP/1.1 101 \r\nconnection: upgrade\r\nupgrade: chat/2\r\n\r\nhello").await.unwrap();
    assert_eq!(read_until(&mut server, "early").await.unwrap(), "early");
    assert!(read_until(&mut client, "hello").await.unwrap().starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn connect_opens_a_tunnel() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    let mut stream = TcpStream::connect(pair.entrance).await.unwrap();
    stream
        .write_all(b"CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\nearly")
        .await
        .unwrap();
    let said = read_until(&mut stream, "early").await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    stream.write_all(b"more").await.unwrap();
    assert_eq!(read_until(&mut stream, "more").await.unwrap(), "more");
    assert_eq!(origin.seen()[0].uri, "db.example:5432");
    let refused = pair.talk("CONNECT db.example HTTP/1.1\r\nhost: db.example\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 400 "), "a tunnel to no port: {refused}");
}

#[tokio::test]
async fn opaque_bytes_keep_each_direction_open_until_its_writer_ends() {
    let echo = TcpEcho::start(ANY, b"220 ready\n").await.unwrap();
    let pair = Pair::speaking("tcp", echo.address()).await;
    let mut stream = TcpStream::connect(pair.entrance).await.unwrap();
    // The server speaks first, and nothing has been sent to it.
    assert_eq!(read_until(&mut stream, "ready\n").await.unwrap(), "220 ready\n");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [b"GET / HTTP/1.1\r\n\r\n", AFTER_EOF].concat(), "what the server says after our end");

    let listener = TcpListener::bind(ANY).await.unwrap();
    let pair = Pair::speaking("tcp", listener.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(pair.entrance).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"goodbye").await.unwrap();
    server.shutdown().await.unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "goodbye");
    client.write_all(b", and still here").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello, and still here", "what the client says after the server's end");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_found_out_without_a_declaration() {
    let echo = TcpEcho::start(ANY, b"220 ready\n").await.unwrap();
    let subnet = Subnet::claim();
    let address = subnet.address(2, 9080);
    // No appProtocol, and a name that says nothing.
    let detected = service("files", "x").replace(", appProtocol: x", "");
    let town = Town::start(subnet, &(detected + &meshed("files-1", "files", address))).await.unwrap();
    let _files = town.sidecar("files", &[inbound(address, echo.address())]).await.unwrap();
    let (_web, entrance) = town.dialling(1, "files").await.unwrap();
    let mut stream = TcpStream::connect(entrance).await.unwrap();
    assert_eq!(read_until(&mut stream, "ready\n").await.unwrap(), "220 ready\n");
}

#[tokio::test]
async fn an_answer_that_is_cut_never_looks_complete() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for version in VERSIONS {
        origin.fail_next(1, Failure::CutBody);
        // The end may overtake the head, which leaves time for an answer of the sidecar's own.
        let answer = pair.client(version).await.get("/cut").await;
        let is_told = |answer: Answer| answer.status == 503 && answer.reason() == "upstream_reset";
        assert!(answer.map_or(true, is_told), "{version:?}");
    }
    for sidecar in [&pair.web, &pair.files] {
        assert_eq!(logged(sidecar, "/cut").await.unwrap()["reason"], "upstream_reset");
    }
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (answer, ending) in [
        (format!("{head}5\r\nhello\r\n"), "no last chunk"),
        (format!("{head}5\r\nhel"), "in a chunk"),
        (format!("{head}5\r\nhello\r\n0\r\n"), "no end of the trailers"),
        (format!("{head}5\r\nhello\r\nzz\r\n"), "rubbish for a chunk size"),
    ] {
        let origin = ScriptedOrigin::start(ANY, answer.as_bytes(), Afterwards::Close).await.unwrap();
        let pair = Pair::to(origin.address()).await;
        // What is read and cut in one piece is told before there is a head: that answer does not end a connection by itself.
        let said = pair.talk("GET /cut HTTP/1.1\r\nhost: files\r\nconnection: close\r\n\r\n").await;
        // A head that its own end has overtaken never leaves.
        let begins = said.starts_with("HTTP/1.1 200 ") || said.starts_with("HTTP/1.1 50");
        assert!(begins || said.is_empty(), "{ending}: {said}");
        assert!(!said.starts_with("HTTP/1.1 200 ") || !said.ends_with("0\r\n\r\n"), "{ending}: {said}");
        assert!(!said.to_lowercase().contains("content-length: 5\r"), "{ending}: {said}");
    }
}

#[tokio::test]
async fn a_request_that_is_cut_never_looks_complete() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for (cut, version) in (1..).zip(VERSIONS) {
        let mut client = pair.client(version).await;
        let (feed, body) = fed();
        let request = Request::post("/upload").body(body).unwrap();
        let (answer, ()) = tokio::join!(client.send(request), async {
            feed.send(Ok(Frame::data("the beginning".into()))).await.unwrap();
            let arrived = eventually(PATIENCE, async || (origin.arrived() == cut).then_some(()));
            assert!(arrived.await.is_some(), "{version:?}: the head of the request does not arrive");
            feed.send(Err(anyhow::anyhow!("the client is gone"))).await.unwrap();
        });
        assert!(answer.is_err(), "{version:?}: {answer:?}");
    }
    let arrived = eventually(PATIENCE, async || Some(origin.seen()).filter(|seen| seen.len() == 2)).await;
    let arrived = arrived.expect("the origin learns of the end of both requests");
    assert!(arrived.iter().all(|seen| matches!(seen.body, SeenBody::Cut(_))), "{arrived:?}");
    let clusters = ask(&pair.web, "/admin", "/clusters").await.unwrap();
    assert_eq!(
        clusters[0]["endpoints"][0]["requests_failed"], 0,
        "who cuts a request is not the endpoint: {clusters}"
    );
}

#[tokio::test]
async fn answers_that_cannot_be_are_answered_with_502() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 700 Fine\r\ncontent-length: 0\r\n\r\n",
        "220 mail.example ESMTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    ] {
        let origin = ScriptedOrigin::start(ANY, answer.as_bytes(), Afterwards::Listen).await.unwrap();
        let pair = Pair::to(origin.address()).await;
        let got = client::get(pair.entrance, "/odd").await.unwrap();
        assert_eq!((got.status.as_u16(), got.reason()), (502, "upstream_protocol"), "{answer:?}");
        assert_eq!(logged(&pair.files, "/odd").await.unwrap()["reason"], "upstream_protocol", "{answer:?}");
    }
}

#[tokio::test]
async fn fields_of_one_hop_end_there() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: x-private\r\nx-private: secret\r\nkeep-alive: timeout=5\r\n\
                  x-kept: yes\r\nx-outrigger-reason: timeout; hop=me; object=x\r\ncontent-length: 2\r\n\r\nok";
    let origin = ScriptedOrigin::start(ANY, answer.as_bytes(), Afterwards::Listen).await.unwrap();
    let pair = Pair::to(origin.address()).await;
    let mut client = pair.client(Version::HTTP_11).await;
    let request = Request::get("/hop")
        .header("connection", "x-hop, keep-alive, content-length, host")
        .header("x-hop", "secret")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("te", "gzip, trailers")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABkAAQAAP__")
        .header("x-end", "kept");
    let got = client.send(request.body(empty()).unwrap()).await.unwrap();
    assert_eq!((got.header("x-kept"), got.body.as_ref()), ("yes", &b"ok"[..]));
    for field in ["x-private", "keep-alive", "connection", "x-outrigger-reason"] {
        assert_eq!(got.header(field), "", "{field} of the answer is one hop's");
    }
    let heard = origin.heard()[0].to_lowercase();
    for field in ["x-hop:", "keep-alive:", "proxy-connection:", "upgrade:", "http2-settings:", "gzip"] {
        assert!(!heard.contains(field), "{field} of the request is one hop's: {heard}");
    }
    assert!(heard.contains("te: trailers\r\n") && heard.contains("x-end: kept\r\n"), "{heard}");
    assert_eq!(heard.matches("\r\nhost:").count(), 1, "nominating Host does not remove it: {heard}");
}

#[tokio::test]
async fn a_host_that_can_be_read_in_two_ways_reaches_nobody() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for head in [
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nHOST: b\r\n\r\n",
        "GET / HTTP/1.1\r\nx: y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a%2fb\r\n\r\n",
        "GET http://user@a/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let said = pair.talk(&format!("{head}{smuggled}")).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{head:?}: {said}");
        assert!(said.contains("x-outrigger-reason: bad_request; hop=web;"), "{head:?}: {said}");
        assert!(said.to_lowercase().contains("connection: close\r\n"), "{head:?}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{head:?}: {said}");
    }
    assert_eq!(origin.arrived(), 0, "{:?}", origin.seen());
    let absolute = pair.talk("GET http://right/x HTTP/1.1\r\nhost: wrong\r\nconnection: close\r\n\r\n").await;
    assert!(absolute.starts_with("HTTP/1.1 200 "), "{absolute}");
    let seen = &origin.seen()[0];
    assert_eq!((&seen.headers["host"], seen.uri.to_string()), (&"right".parse().unwrap(), "/x".to_owned()));
}

#[tokio::test]
async fn a_length_or_chunk_that_can_be_read_in_two_ways_reaches_nobody() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for head in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/3.0\r\nhost: a\r\n\r\n",
    ] {
        let said = pair.talk(&format!("{head}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{head:?}: {said}");
        assert!(said.contains("x-outrigger-reason: bad_request; hop=web;"), "{head:?}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{head:?}: {said}");
    }
    assert_eq!(origin.arrived(), 0, "{:?}", origin.seen());
}

#[tokio::test]
async fn heads_beyond_the_limits_are_answered_with_431() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    let many = |count: usize| (1..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let fits =
        pair.talk(&format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{}\r\n", many(80))).await;
    assert!(fits.starts_with("HTTP/1.1 200 "), "{fits}");
    for fields in [many(101), format!("x: {}\r\n", "y".repeat(70 * 1024))] {
        let said = pair.talk(&format!("GET /large HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).await;
        assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
        assert!(said.contains("x-outrigger-reason: headers_too_large; hop=web;"), "{said}");
    }
    let mut request = Request::get("/large").body(empty()).unwrap();
    for number in 0..101 {
        request
            .headers_mut()
            .insert(http::HeaderName::try_from(format!("x-{number}")).unwrap(), "y".parse().unwrap());
    }
    let mut client = pair.client(Version::HTTP_2).await;
    let answer = client.send(request).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.reason()), (431, "headers_too_large"));
    assert_eq!(client.get("/").await.unwrap().status, 200, "a bad stream does not end the connection");
    assert_eq!(origin.arrived(), 2);
}

#[tokio::test]
async fn a_trace_is_kept_or_started_and_is_the_same_at_both_hops() {
    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    let mut client = pair.client(Version::HTTP_11).await;
    for (path, sent) in [("/kept", Some(GIVEN)), ("/started", None), ("/replaced", Some("00-rubbish"))] {
        let mut request = Request::get(path).body(empty()).unwrap();
        if let Some(sent) = sent {
            request.headers_mut().insert("traceparent", sent.parse().unwrap());
        }
        client.send(request).await.unwrap();
        let seen = origin.seen().into_iter().find(|seen| seen.uri == path).unwrap();
        let arrived = seen.headers["traceparent"].to_str().unwrap().to_owned();
        assert_eq!(arrived == GIVEN, sent == Some(GIVEN), "{path}: {arrived}");
        for sidecar in [&pair.web, &pair.files] {
            let line = logged(sidecar, path).await.unwrap();
            assert_eq!(line["trace_id"], arrived[3..35], "{path}: {line}");
        }
    }
}

#[tokio::test]
async fn a_strict_sidecar_refuses_plaintext_in_the_language_of_the_caller() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    let http = client::get(pair.inbound, "/plain").await.unwrap();
    assert_eq!(
        (http.status.as_u16(), http.header("x-outrigger-reason")),
        (401, "unauthenticated; hop=files; object=Workload/shop/files")
    );
    let call =
        Request::post("/shop.Files/Get").header("content-type", "application/grpc").body(empty()).unwrap();
    let grpc: Answer =
        Client::connect(pair.inbound, Version::HTTP_2).await.unwrap().send(call).await.unwrap();
    assert_eq!(
        (grpc.status.as_u16(), grpc.header("grpc-status"), grpc.reason()),
        (200, "16", "unauthenticated")
    );
    assert_eq!(logged(&pair.files, "/plain").await.unwrap()["reason"], "unauthenticated");
    assert_eq!(origin.arrived(), 0);
}
