//! Probes against applications that answer, refuse, say nothing, or are something else.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower::Service;

use super::*;

/// Answers every connection with this text; the port, and what the first connection said.
async fn application(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 1024];
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                read => heard.extend_from_slice(&buffer[..read]),
            }
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(heard).unwrap()
    });
    (port, heard)
}

async fn asked(probes: &str, path: &str) -> (u16, String) {
    let mut router: Router<()> = router(probes.parse().unwrap(), "127.0.0.1".parse().unwrap());
    let answer = router.call(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn an_http_probe_is_asked_as_the_pod_wrote_it_and_its_status_is_the_answer() {
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", 503),
        ("HTTP/1.1 302 Found\r\nlocation: http://elsewhere.example/\r\ncontent-length: 0\r\n\r\n", 200),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200),
        ("SSH-2.0-OpenSSH\r\n", 503),
    ] {
        let (port, heard) = application(answer).await;
        let probes = format!(
            r#"{{"app/liveness": {{"httpGet": {{"port": {port}, "path": "live?deep=1",
                "httpHeaders": [{{"name": "X-Probe", "value": "yes"}}]}}}}}}"#
        );
        assert_eq!(asked(&probes, "/app-health/app/liveness").await.0, status, "{answer}");
        let heard = heard.await.unwrap();
        assert!(heard.starts_with("GET /live?deep=1 HTTP/1.1\r\n"), "{heard}");
        assert!(
            heard.contains("x-probe: yes\r\n") && heard.contains(&format!("host: 127.0.0.1:{port}")),
            "{heard}"
        );
    }
}

#[tokio::test]
async fn a_probe_is_found_by_container_and_name_only() {
    let probes = r#"{"app/readiness": {"tcpSocket": {"port": 1}}}"#;
    for path in ["/app-health/app/liveness", "/app-health/other/readiness"] {
        assert_eq!(asked(probes, path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_tcp_probe_says_whether_somebody_accepts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let probes = format!(r#"{{"app/startup": {{"tcpSocket": {{"port": {port}}}, "timeoutSeconds": 5}}}}"#);
    assert_eq!(asked(&probes, "/app-health/app/startup").await.0, 200);
    drop(listener);
    let (status, why) = asked(&probes, "/app-health/app/startup").await;
    assert_eq!(status, 503);
    assert!(why.contains(&format!("127.0.0.1:{port}")), "{why}");
}

#[tokio::test]
async fn a_grpc_probe_of_something_else_fails_with_a_reason() {
    let (port, _heard) = application("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let probes = format!(r#"{{"app/liveness": {{"grpc": {{"port": {port}, "service": "shop"}}}}}}"#);
    let (status, why) = asked(&probes, "/app-health/app/liveness").await;
    assert_eq!(status, 503, "{why}");
    assert!(why.starts_with("the application"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_application_fails_its_probe_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let probes = format!(r#"{{"app/liveness": {{"httpGet": {{"port": {port}}}, "timeoutSeconds": 3}}}}"#);
    let (status, why) = asked(&probes, "/app-health/app/liveness").await;
    assert_eq!((status, why.as_str()), (503, "the application did not answer within 3s\n"));
}

#[test]
fn what_is_no_probe_is_refused_with_the_reason() {
    for (text, part) in [
        ("[]", "JSON object"),
        (r#"{"a/b": {}}"#, "one of httpGet, tcpSocket and grpc"),
        (r#"{"a/b": {"tcpSocket": {"port": 70000}}}"#, "70000"),
        (r#"{"a/b": {"httpGet": {"port": 1, "scheme": "FTP"}}}"#, "HTTP or HTTPS"),
        (r#"{"a/b": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}}}"#, "a b"),
    ] {
        let error = text.parse::<Probes>().unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}
