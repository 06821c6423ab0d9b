//! The admin server as its clients see it: answers, limits, and the end.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::lifecycle::drain::{self, DrainTrigger, Drained};
use crate::telemetry::metrics::Registry;

struct Server {
    address: SocketAddr,
    trigger: DrainTrigger,
    task: JoinHandle<()>,
}

async fn start(router: Router) -> Server {
    let listener = bind("127.0.0.1:0".parse().unwrap(), "--admin").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, drain) = drain::new(Duration::from_secs(30));
    Server { address, trigger, task: tokio::spawn(serve(listener, router, drain)) }
}

async fn send(address: SocketAddr, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// All that comes until the server closes.
async fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn fetch(address: SocketAddr, path: &str, header: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{header}\r\n");
    answer(send(address, &head).await).await
}

#[tokio::test]
async fn metrics_come_in_the_format_asked_for() {
    let server = start(metrics_router(Registry::new(), None)).await;
    let plain = fetch(server.address, "/metrics", "").await;
    assert!(
        plain.starts_with("HTTP/1.1 200 OK\r\n") && plain.contains("text/plain; version=0.0.4"),
        "{plain}"
    );
    assert!(plain.contains("outrigger_build_info{version="), "{plain}");
    let open = fetch(server.address, "/metrics", "accept: application/openmetrics-text\r\n").await;
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.contains("# EOF"), "{open}");
}

#[tokio::test]
async fn metrics_of_the_application_follow_ours() {
    let application = ApplicationMetrics::new(async || "app_up 1\n".to_owned());
    let server = start(metrics_router(Registry::new(), Some(application))).await;
    let text = fetch(server.address, "/metrics", "accept: application/openmetrics-text\r\n").await;
    assert!(text.contains("text/plain; version=0.0.4") && !text.contains("# EOF"), "{text}");
    assert!(text.contains("outrigger_build_info{") && text.contains("\napp_up 1\n"), "{text}");
}

#[tokio::test]
async fn readiness_says_what_it_waits_for() {
    let (set, readiness) = watch::channel(Readiness::Waiting("a certificate".into()));
    let server = start(health_router(readiness)).await;
    let live = fetch(server.address, "/healthz/live", "").await;
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    for (state, status, line) in [
        (Readiness::Waiting("a certificate".into()), "503", "waiting for a certificate"),
        (Readiness::Ready, "200", "ready"),
        (Readiness::Unfit("the certificate has expired".into()), "503", "the certificate has expired"),
        (Readiness::Draining, "503", "draining"),
    ] {
        set.send_replace(state);
        let text = fetch(server.address, "/healthz/ready", "").await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
        assert!(text.ends_with(&format!("\r\n\r\n{line}\n")), "{text}");
    }
}

#[tokio::test]
async fn a_drain_finishes_the_answer_and_closes_idle_connections() {
    let (finish, finished) = oneshot::channel::<()>();
    let (begun, begin) = oneshot::channel::<()>();
    let once = Arc::new(std::sync::Mutex::new(Some((begun, finished))));
    let slow = async move || {
        let (begun, finished) = once.lock().unwrap().take().unwrap();
        begun.send(()).unwrap();
        finished.await.unwrap();
        "done"
    };
    let server = start(Router::new().route("/slow", axum::routing::get(slow))).await;
    let mut idle = send(server.address, "GET /none HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 404");
    let busy = send(server.address, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    begin.await.unwrap();
    let drained = tokio::spawn(server.trigger.drain_and_wait());
    answer(idle).await;
    assert!(!drained.is_finished());
    finish.send(()).unwrap();
    assert!(answer(busy).await.ends_with("done"));
    assert_eq!(drained.await.unwrap(), Drained { left: 0 });
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off() {
    let server = start(Router::new()).await;
    let stream = send(server.address, "GET / HTTP/1.1\r\nhost:").await;
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    answer(stream).await;
    assert!(
        begin.elapsed() >= HEADER_TIMEOUT && begin.elapsed() < CLOSE_TIMEOUT * 3,
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    // Each request says that it has begun and stays until it is let go: what began is what was accepted.
    let (begun, mut begin) = mpsc::channel(2 * MAX_CONNECTIONS);
    let (_let_go, stay) = watch::channel(());
    let hold = async move || {
        begun.send(()).await.unwrap();
        stay.clone().changed().await.unwrap();
    };
    let server = start(Router::new().route("/", axum::routing::get(hold))).await;
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 1 {
        open.push(send(server.address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await);
    }
    for _ in 0..MAX_CONNECTIONS {
        begin.recv().await.unwrap();
    }
    // The clock moves by itself only when nothing else is left to do.
    tokio::time::pause();
    let one_more = timeout(HEADER_TIMEOUT / 2, begin.recv()).await;
    assert!(one_more.is_err(), "a connection beyond the bound was served");
    open.remove(0);
    begin.recv().await.unwrap();
}

#[tokio::test]
async fn a_port_that_cannot_be_had_is_explained() {
    let taken = bind("127.0.0.1:0".parse().unwrap(), "--admin").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address, "--admin").await.unwrap_err().to_string();
    let expected = format!(
        "address {address} is in use; stop the other process or choose another with --admin addr:port (0 picks a free port)"
    );
    assert_eq!(error, expected);
    let error = bind("192.0.2.1:0".parse().unwrap(), "--metrics").await.unwrap_err().to_string();
    assert!(error.contains("is not one of this machine") && error.contains("--metrics"), "{error}");
}

#[tokio::test]
async fn a_fleet_that_comes_back_at_once_waits_to_be_accepted() {
    // More than the 128 that a listener has room for unless it asks for more, with nobody accepting.
    const FLEET: usize = 300;
    let listener = bind("127.0.0.1:0".parse().unwrap(), "--xds").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut fleet = Vec::new();
    for number in 0..FLEET {
        // What is refused is tried again by the kernel after a second.
        let stream = timeout(Duration::from_millis(900), TcpStream::connect(address)).await;
        fleet.push(stream.unwrap_or_else(|_| panic!("connection {number} found no room")).unwrap());
    }
}
