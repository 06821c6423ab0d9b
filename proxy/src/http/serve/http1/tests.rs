//! A quiet connection is parked, wakes again, and ends as every other does.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrigger_base::lifecycle::drain::{self, DrainTrigger};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::{advance, timeout};

use super::*;
use crate::http::connection::{Direction, Downstream, DownstreamSecurity, Held, IDLE_TIMEOUT};
use crate::upstream::HttpVersion;
use crate::worker::{Drains, Shared, Worker};
use crate::xds::support;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n";
const QUIET_FOR_LONG: Duration = Duration::from_secs(100);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

/// A connection of a proxy that knows no policy yet and so refuses each request by itself.
fn connection() -> (Rc<Connection>, DrainTrigger) {
    let (shared, _) = support::shared();
    let (trigger, drain) = drain::new(Duration::from_secs(30));
    let drains = Drains { inbound: drain.clone(), outbound: drain.clone() };
    let shared = Shared { drains, ..Arc::into_inner(shared).unwrap() };
    let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let downstream = Downstream {
        peer: ANY,
        local: ANY,
        direction: Direction::Inbound { application: ANY },
        security: DownstreamSecurity::Plaintext,
        held: Held { slot, guard: drain.guard(), in_use: None },
    };
    let worker = Worker::new(0, Arc::new(shared));
    (Connection::new(worker, downstream, HttpVersion::Http1), trigger)
}

/// Serves one end of a stream in memory as a whole connection is; gives the other.
fn served() -> (DuplexStream, DrainTrigger) {
    let (connection, trigger) = connection();
    let (client, stream) = duplex(64 * 1024);
    tokio::task::spawn_local(async move {
        let stream = Clocked::new(stream, &connection);
        serve(&connection, stream).await.unwrap();
    });
    (client, trigger)
}

async fn ask(client: &mut DuplexStream) -> String {
    client.write_all(REQUEST).await.unwrap();
    response(client).await
}

/// One response; what ends it is the reason, which is its body.
async fn response(client: &mut DuplexStream) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\nunauthenticated") {
        text.push(char::from(client.read_u8().await.unwrap()));
    }
    text
}

async fn is_open(client: &mut DuplexStream) -> bool {
    timeout(Duration::from_millis(10), client.read_u8()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_is_parked_soon() {
    let parked = async {
        let (connection, _trigger) = connection();
        let (mut client, stream) = duplex(64 * 1024);
        client.write_all(REQUEST).await.unwrap();
        let begun = Instant::now();
        let served = serve_until_quiet(&connection, Clocked::new(stream, &connection)).await;
        assert!(served.unwrap().expect("the connection is still open").unread.is_empty());
        assert!((QUIET..2 * QUIET).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert!(response(&mut client).await.starts_with("HTTP/1.1 401 "));
    };
    LocalSet::new().run_until(parked).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_quiet_soon_after_its_request_has_ended() {
    let (connection, _trigger) = connection();
    let begun = Instant::now();
    connection.clock.request_began();
    let mut quiet = std::pin::pin!(quiet_or_over(&connection));
    assert!(timeout(Duration::from_millis(10), quiet.as_mut()).await.is_err());
    connection.clock.request_ended();
    connection.clock.flushed();
    assert!(matches!(quiet.await, Interruption::Quiet));
    assert!(begun.elapsed() < 3 * QUIET, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_was_read_but_not_served_is_read_again() {
    let parked = async {
        let (connection, _trigger) = connection();
        let (mut client, stream) = duplex(64 * 1024);
        let quiet = Clocked::new(stream, &connection);

        // A head half of which came with the request before it is not known to the clock.
        let half = REQUEST.split_at(20);
        client.write_all(&[REQUEST, half.0].concat()).await.unwrap();
        let served = serve_until_quiet(&connection, quiet).await;
        let quiet = served.unwrap().expect("the connection is still open");
        assert_eq!(quiet.unread, half.0);
        assert!(response(&mut client).await.starts_with("HTTP/1.1 401 "));
        client.write_all(half.1).await.unwrap();
        let served = serve_until_quiet(&connection, quiet).await;
        assert!(served.unwrap().expect("the connection is still open").unread.is_empty());
        assert!(response(&mut client).await.starts_with("HTTP/1.1 401 "));
    };
    LocalSet::new().run_until(parked).await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_connection_answers_again_and_again() {
    let story = async {
        let (mut client, _trigger) = served();
        for _ in 0..3 {
            assert!(!ask(&mut client).await.contains("connection: close"));
            advance(QUIET_FOR_LONG).await;
            assert!(is_open(&mut client).await);
        }
    };
    LocalSet::new().run_until(story).await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_connection_ends_with_its_client_and_after_an_hour() {
    let story = async {
        let (mut client, trigger) = served();
        ask(&mut client).await;
        advance(QUIET_FOR_LONG).await;
        assert!(is_open(&mut client).await);
        drop(client);
        assert_eq!(trigger.drain_and_wait().await.left, 0);

        let (mut client, _trigger) = served();
        ask(&mut client).await;
        let begun = Instant::now();
        assert!(client.read_u8().await.is_err(), "nothing was asked");
        assert_eq!(begun.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
    };
    LocalSet::new().run_until(story).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_a_parked_connection_bring_one_more_request() {
    let story = async {
        for asks in [true, false] {
            let (mut client, trigger) = served();
            ask(&mut client).await;
            advance(QUIET_FOR_LONG).await;
            assert!(is_open(&mut client).await);
            trigger.start();
            assert!(is_open(&mut client).await);
            if asks {
                assert!(ask(&mut client).await.contains("connection: close\r\n"));
            }
            let begun = Instant::now();
            assert!(client.read_u8().await.is_err(), "nothing was asked");
            assert!(begun.elapsed() <= LAME_DUCK, "{:?}", begun.elapsed());
            assert_eq!(trigger.drain_and_wait().await.left, 0);
        }
    };
    LocalSet::new().run_until(story).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_stops_on_its_way_to_a_parked_connection_ends_it() {
    let story = async {
        let (mut client, _trigger) = served();
        ask(&mut client).await;
        advance(QUIET_FOR_LONG).await;
        client.write_all(b"GET / HT").await.unwrap();
        let begun = Instant::now();
        assert!(client.read_u8().await.is_err(), "nothing was asked");
        assert_eq!(begun.elapsed().as_secs(), HEAD_TIMEOUT.as_secs());
    };
    LocalSet::new().run_until(story).await;
}

#[tokio::test]
async fn a_parked_connection_is_small() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (connection, _trigger) = connection();
    let future = super::super::until_end(connection, stream);
    let size = std::mem::size_of_val(&future);
    println!("{size}");
    assert!(size <= 1024, "{size} bytes");
}
