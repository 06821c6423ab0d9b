//! Fetches from a server that answers with any bytes.

use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Serves one connection with these bytes; what was asked.
async fn asked(answer: Vec<u8>) -> (Result<Fetched, FetchError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/keys?a=b", listener.local_addr().unwrap().port());
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap() == 0 {
                break;
            }
        }
        // The client hangs up when it has had enough.
        let _ = stream.write_all(&answer).await;
        String::from_utf8(request).unwrap()
    };
    tokio::join!(fetch(url.into()), serving)
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[tokio::test]
async fn a_set_comes_with_its_age() {
    let (fetched, request) = asked(answer("200 OK\r\ncache-control: public, max-age=120", b"{}")).await;
    let fetched = fetched.unwrap();
    assert_eq!((fetched.json.as_str(), fetched.max_age), ("{}", Some(Duration::from_secs(120))));
    assert!(request.starts_with("GET /keys?a=b HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("host: localhost:"), "{request}");
}

#[tokio::test]
async fn what_is_no_set_of_keys_is_told_and_not_followed() {
    let large = vec![b' '; MAX_KEY_SET_BYTES + 1];
    for (bytes, expected) in [
        (answer("404 Not Found", b""), "it answers 404"),
        (answer("302 Found\r\nlocation: http://127.0.0.1:1/", b""), "redirects are not followed"),
        (answer("200 OK", &large), "longer than"),
        (answer("200 OK", b"\xff"), "not UTF-8"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec(), "is cut"),
        (b"SSH-2.0-x\r\n".to_vec(), "cannot be read"),
    ] {
        let (fetched, _) = asked(bytes).await;
        let error = fetched.unwrap_err().to_string();
        assert!(error.contains(expected), "{error} is not about {expected}");
    }
}

#[tokio::test]
async fn where_nobody_may_or_does_listen_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    for (url, expected) in [
        ("http://169.254.169.254/latest/meta-data".to_owned(), "never asked"),
        ("http://[fe80::1]/keys".to_owned(), "never asked"),
        ("http://[::ffff:169.254.169.254]/keys".to_owned(), "never asked"),
        (format!("http://{free}/keys"), "cannot be reached"),
        ("http:///keys".to_owned(), "no host"),
    ] {
        let error = fetch(url.as_str().into()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error} is not about {expected}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_verified_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/keys", listener.local_addr().unwrap().port());
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(&answer("200 OK", b"{}")).await;
        stream
    };
    let (fetched, _stream) = tokio::join!(fetch(url.into()), serving);
    assert!(matches!(fetched, Err(FetchError::Tls(_) | FetchError::Verify(_))), "{fetched:?}");
}

#[test]
fn the_age_is_read_as_http_writes_it() {
    for (fields, expected) in [
        (&["max-age=60"][..], Some(60)),
        (&["public", "Max-Age = \"60\""], Some(60)),
        (&["max-age=60, no-store"], Some(0)),
        (&["no-cache"], Some(0)),
        (&["max-age=x"], None),
        (&["max-age=-1"], None),
        (&[], None),
    ] {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(field).unwrap());
        }
        assert_eq!(max_age(&headers), expected.map(Duration::from_secs), "{fields:?}");
    }
}
