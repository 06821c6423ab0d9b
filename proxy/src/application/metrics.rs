//! The application's own metrics, appended to those of the proxy, so that Prometheus has one target a pod.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Uri, header};
use outrigger_base::admin::ApplicationMetrics;

use super::ask::{Question, ask};

/// How long the application may take; Prometheus gives ten seconds for both of us.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(8);
/// The most that is taken over, in bytes.
pub const MAX_SCRAPE_BYTES: usize = 16 << 20;
/// The text format that is asked for and added to ours.
const ACCEPT: &str = "text/plain;version=0.0.4";

/// `--application-metrics`: where the application shows its metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsUrl(Uri);

impl FromStr for MetricsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape =
            || format!("{text:?} is not http://host:port/path, such as http://127.0.0.1:9102/metrics");
        let url: Uri = text.parse().map_err(|_| shape())?;
        let whole = matches!(url.scheme_str(), Some("http" | "https")) && url.port_u16().is_some();
        if whole && url.host().is_some() { Ok(Self(url)) } else { Err(shape()) }
    }
}

/// Asks the application at each scrape. Nothing is added when it does not answer; that is logged when it begins.
pub fn merged(url: MetricsUrl) -> ApplicationMetrics {
    let failing = Arc::new(AtomicBool::new(false));
    let url = Arc::new(url);
    ApplicationMetrics::new(move || {
        let (url, failing) = (url.clone(), failing.clone());
        async move {
            let scraped = scrape(&url.0).await;
            let was_failing = failing.swap(scraped.is_err(), Ordering::Relaxed);
            scraped.unwrap_or_else(|why| {
                if !was_failing {
                    tracing::warn!(url = %url.0, "the application's metrics are missing from ours: {why}");
                }
                String::new()
            })
        }
    })
}

async fn scrape(url: &Uri) -> Result<String, String> {
    let answer = ask(Question {
        host: url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']'),
        port: url.port_u16().unwrap_or(80),
        scheme: url.scheme().cloned().unwrap_or(http::uri::Scheme::HTTP),
        path: url.path_and_query().map_or("/", |path| path.as_str()),
        headers: HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(ACCEPT))]),
        within: SCRAPE_TIMEOUT,
        max_body_bytes: MAX_SCRAPE_BYTES,
    })
    .await
    .map_err(|error| error.to_string())?;
    if !answer.status.is_success() {
        return Err(format!("it answered {}", answer.status));
    }
    let text = String::from_utf8(answer.body.into()).map_err(|_| "it did not answer with text".to_owned())?;
    Ok(without_end_mark(text))
}

/// OpenMetrics ends in a mark, behind which nothing may stand.
fn without_end_mark(mut text: String) -> String {
    let kept = text.trim_end().strip_suffix("# EOF").map(str::len);
    text.truncate(kept.unwrap_or(text.len()));
    text
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use outrigger_base::admin::metrics_router;
    use outrigger_base::telemetry::metrics::Registry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tower::Service;

    use super::*;

    #[test]
    fn a_url_names_host_and_port() {
        for good in ["http://127.0.0.1:9102/metrics", "http://[::1]:9102", "https://127.0.0.1:1/x?y=z"] {
            assert!(good.parse::<MetricsUrl>().is_ok(), "{good}");
        }
        for bad in ["127.0.0.1:9102", "http://127.0.0.1/metrics", "ftp://127.0.0.1:1/", ""] {
            assert!(
                bad.parse::<MetricsUrl>().unwrap_err().contains("http://127.0.0.1:9102/metrics"),
                "{bad}"
            );
        }
    }

    async fn application(answer: &'static str) -> MetricsUrl {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        url.parse().unwrap()
    }

    #[tokio::test]
    async fn what_the_application_shows_is_added_to_what_the_proxy_shows() {
        for (answer, added) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nshop 42\n", "shop 42"),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nnone\n", ""),
            ("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsho", ""),
        ] {
            let url = application(answer).await;
            let mut router = metrics_router(Registry::new(), Some(merged(url)));
            let request = Request::get("/metrics").body(Body::empty()).unwrap();
            let shown = router.call(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            let shown = String::from_utf8(shown.to_vec()).unwrap();
            assert!(shown.contains("outrigger_build_info"), "{shown}");
            assert_eq!(shown.lines().last().unwrap().starts_with("shop"), !added.is_empty(), "{answer}");
        }
    }

    #[test]
    fn the_end_mark_of_openmetrics_does_not_stand_in_the_middle() {
        assert_eq!(without_end_mark("a 1\n# EOF\n".to_owned()), "a 1\n");
        assert_eq!(without_end_mark("a 1\n".to_owned()), "a 1\n");
    }
}
