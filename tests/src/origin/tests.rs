//! The origin, asked by a bare hyper client.

use anyhow::Result;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A free port of the loopback address.
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// An origin, a client connection to it, and the task that drives the connection.
struct Setup {
    origin: Origin,
    client: Client,
    _driver: JoinSet<()>,
}

enum Client {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

async fn setup(version: Version) -> Setup {
    let origin = Origin::start("reviews-v1", ANYWHERE).await.unwrap();
    let stream = TokioIo::new(TcpStream::connect(origin.address()).await.unwrap());
    let mut driver = JoinSet::new();
    let client = if version == Version::HTTP_2 {
        let (client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        driver.spawn(async move { drop(connection.await) });
        Client::Http2(client)
    } else {
        let (client, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        driver.spawn(async move { drop(connection.with_upgrades().await) });
        Client::Http1(client)
    };
    Setup { origin, client, _driver: driver }
}

impl Setup {
    async fn send(&mut self, request: Request<&'static str>) -> Result<Response<Incoming>> {
        let request = request.map(|body| Full::from(body.as_bytes()));
        Ok(match &mut self.client {
            Client::Http1(client) => client.send_request(request).await?,
            Client::Http2(client) => client.send_request(request).await?,
        })
    }

    /// The whole body of the answer to a GET of `target`.
    async fn get(&mut self, target: &str) -> Result<Bytes> {
        let target = format!("http://{}{target}", self.origin.address());
        let response = self.send(Request::get(target).body("")?).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }
}

#[tokio::test]
async fn it_tells_what_it_saw_over_both_versions() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut setup = setup(version).await;
        let request = Request::post(format!("http://{}/books?page=2", setup.origin.address()))
            .header("x-user", "jonah")
            .body("hello");
        let response = setup.send(request.unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(told["origin"], "reviews-v1");
        assert_eq!(told["method"], "POST");
        assert_eq!(told["version"], format!("{version:?}"));
        assert_eq!(told["body"], "hello");
        assert!(
            told["headers"].as_array().unwrap().contains(&serde_json::json!(["x-user", "jonah"])),
            "{told}"
        );

        assert_eq!(setup.origin.arrived(), 1);
        let seen = &setup.origin.seen()[0];
        assert_eq!(seen.uri.path_and_query().unwrap(), "/books?page=2");
        assert_eq!(seen.version, version);
        assert_eq!(seen.body, SeenBody::Complete("hello".into()));
    }
}

#[tokio::test]
async fn it_fails_as_often_as_it_is_told() {
    let mut setup = setup(Version::HTTP_2).await;
    setup.origin.fail_next(1, Failure::Status(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(setup.get("/").await.unwrap(), "503 Service Unavailable");
    setup.origin.fail_next(2, Failure::Reset);
    assert!(setup.get("/").await.is_err());
    assert!(setup.get("/").await.is_err());
    setup.origin.fail_next(1, Failure::CutBody);
    assert!(setup.get("/").await.is_err());
    assert!(setup.get("/").await.is_ok());
    assert_eq!(setup.origin.arrived(), 5);
}

#[tokio::test]
async fn a_cut_body_is_no_complete_body_over_http1_either() {
    let mut setup = setup(Version::HTTP_11).await;
    setup.origin.fail_next(1, Failure::CutBody);
    assert!(setup.get("/").await.is_err());
}

#[tokio::test]
async fn a_request_that_breaks_off_is_seen_as_cut() {
    let origin = Origin::start("reviews-v1", ANYWHERE).await.unwrap();
    let mut stream = TcpStream::connect(origin.address()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    stream.shutdown().await.unwrap();
    let seen = crate::eventually(Duration::from_secs(10), async || origin.seen().pop()).await.unwrap();
    assert_eq!(seen.body, SeenBody::Cut("half".into()));
}

#[tokio::test]
async fn a_stream_has_the_asked_size() {
    let mut setup = setup(Version::HTTP_11).await;
    assert_eq!(setup.get("/stream?chunks=3&bytes=7&pause_ms=1").await.unwrap().len(), 21);
}

#[tokio::test]
async fn grpc_messages_come_back_with_a_status() {
    let mut setup = setup(Version::HTTP_2).await;
    let request = Request::post(format!("http://{}/shop.Reviews/List", setup.origin.address()))
        .header("content-type", "application/grpc")
        .body("\0\0\0\0\x02hi");
    let body = setup.send(request.unwrap()).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "\0\0\0\0\x02hi");
}

#[tokio::test]
async fn an_upgraded_connection_echoes_bytes() {
    let mut setup = setup(Version::HTTP_11).await;
    let request =
        Request::get("/chat").header("host", "a").header("connection", "upgrade").header("upgrade", "x");
    let response = setup.send(request.body("").unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"ahoy").await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ahoy");
}

#[tokio::test]
async fn a_dropped_origin_refuses_connections() {
    let Setup { origin, client: _client, .. } = setup(Version::HTTP_11).await;
    let address = origin.address();
    drop(origin);
    let refused =
        crate::eventually(Duration::from_secs(10), async || TcpStream::connect(address).await.err());
    assert!(refused.await.is_some());
}

#[tokio::test]
async fn tcp_echo_greets_echoes_and_survives_a_half_close() {
    let echo = TcpEcho::start(ANYWHERE, b"220 ready\r\n").await.unwrap();
    let mut stream = TcpStream::connect(echo.address()).await.unwrap();
    stream.write_all(b"ahoy").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [b"220 ready\r\nahoy", AFTER_EOF].concat());
}
