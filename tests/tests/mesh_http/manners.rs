//! What clients and servers are used to, and easily break when something stands between them.

use std::time::Duration;

use http::{Method, Request, StatusCode, Version};
use outrigger_tests::client::{self, Client, empty, read_until, talk};
use outrigger_tests::eventually;
use outrigger_tests::origin::{Afterwards, Origin, ScriptedOrigin, SeenBody};
use outrigger_tests::town::{PATIENCE, ask};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{ANY, Pair, VERSIONS, origin};

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    let mut stream = TcpStream::connect(pair.entrance).await.unwrap();
    let head = "POST /upload HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hello").await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(origin.seen()[0].body, SeenBody::Complete("hello".into()));
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    let one = |path: &str, last: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n{last}\r\n");
    let post = "POST /two HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
    let said = pair.talk(&[&one("/one", ""), post, &one("/three", "connection: close\r\n")].concat()).await;
    let places = ["/one", "/two", "/three"].map(|path| said.find(&format!("\"target\":\"{path}\"")));
    assert!(places.is_sorted() && places[0].is_some(), "{said}");
}

#[tokio::test]
async fn an_http_1_0_client_gets_what_it_understands() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for head in [
        "GET /stream?chunks=3&bytes=4 HTTP/1.0\r\n\r\n",
        "GET /stream?chunks=3&bytes=4 HTTP/1.0\r\nhost: a\r\n\r\n",
    ] {
        let said = pair.talk(head).await;
        assert!(said.starts_with("HTTP/1.") && said.contains(" 200 OK\r\n"), "{said}");
        assert!(
            said.ends_with("\r\n\r\nxxxxxxxxxxxx"),
            "not chunked, and ended by the end of the connection: {said}"
        );
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_arrives_whole() {
    let origin =
        ScriptedOrigin::start(ANY, b"HTTP/1.1 200 OK\r\n\r\nuntil the end", Afterwards::Close).await.unwrap();
    let pair = Pair::to(origin.address()).await;
    for _ in 0..2 {
        let answer = client::get(pair.entrance, "/").await.unwrap();
        assert_eq!((answer.status, answer.body.as_ref()), (StatusCode::OK, &b"until the end"[..]));
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for version in VERSIONS {
        for path in ["/stream?chunks=100000&bytes=1000&pause_ms=1", "/never"] {
            origin.delay(if path == "/never" { Duration::from_secs(300) } else { Duration::ZERO });
            let mut client = Client::connect(pair.entrance, version).await.unwrap();
            let before = origin.arrived();
            let request = Request::get(path).body(empty()).unwrap();
            let asking = tokio::spawn(async move { client.send(request).await });
            let arrived = eventually(PATIENCE, async || (origin.arrived() > before).then_some(())).await;
            assert!(arrived.is_some(), "{version:?} {path}");
            asking.abort();
            let freed = eventually(PATIENCE, async || {
                let clusters = ask(&pair.web, "/admin", "/clusters").await.ok()?;
                let pending = &clusters[0]["endpoints"][0]["pending"];
                (*pending == 0 && clusters[0]["limits"]["requests"]["current"] == 0).then_some(())
            });
            assert!(freed.await.is_some(), "{version:?} {path}: the request is still counted");
        }
    }
    origin.delay(Duration::ZERO);
    assert_eq!(client::get(pair.entrance, "/").await.unwrap().status, 200);
}

#[tokio::test]
async fn connect_opens_a_tunnel_in_http_2_too() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    let mut client = Client::connect(pair.entrance, Version::HTTP_2).await.unwrap();
    let request = Request::builder().method(Method::CONNECT).uri("db.example:5432").body(empty()).unwrap();
    let mut response = client.open(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut tunnel = hyper_util::rt::TokioIo::new(upgraded);
    tunnel.write_all(b"through").await.unwrap();
    let mut back = [0; 7];
    tokio::io::AsyncReadExt::read_exact(&mut tunnel, &mut back).await.unwrap();
    assert_eq!(&back, b"through");
}

#[tokio::test]
async fn an_application_that_is_down_is_told_of_by_its_own_sidecar() {
    let origin = origin().await;
    let address = origin.address();
    let pair = Pair::to(address).await;
    assert_eq!(client::get(pair.entrance, "/").await.unwrap().status, 200);
    drop(origin);
    let down = eventually(PATIENCE, async || {
        let answer = client::get(pair.entrance, "/").await.ok()?;
        (answer.status == 503).then_some(answer)
    });
    let said = down.await.expect("the application is down").header("x-outrigger-reason").to_owned();
    assert_eq!(said, "connect_failed; hop=files; object=Workload/shop/files");
    let _again = Origin::start("again", address).await.unwrap();
    let up = eventually(PATIENCE, async || {
        let answer = client::get(pair.entrance, "/").await.ok()?;
        (answer.origin() == "again").then_some(())
    });
    assert!(up.await.is_some(), "the application is up again");
}

#[tokio::test]
async fn rubbish_harms_nobody() {
    let origin = origin().await;
    let pair = Pair::to(origin.address()).await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        &[0; 2000],
        b"\r\n\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish that is no frame at all",
    ] {
        for address in [pair.entrance, pair.inbound] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            drop(stream);
        }
    }
    let said = talk(pair.entrance, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish that is no frame at all")
        .await
        .unwrap();
    assert!(!said.contains("HTTP/1"), "{said}");
    for version in VERSIONS {
        let mut client = Client::connect(pair.entrance, version).await.unwrap();
        assert_eq!(client.get("/after").await.unwrap().status, 200);
    }
    assert_eq!(origin.arrived(), 2, "{:?}", origin.seen());
}
