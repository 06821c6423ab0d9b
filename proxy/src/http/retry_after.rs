//! `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use crate::upstream::Outcome;

/// What an answer asks of its client, when it asks for patience: 429 always, 503 with `Retry-After`. Looked for in answers
/// with these statuses only.
pub(crate) fn asked_to_wait(
    status: StatusCode,
    headers: &HeaderMap,
    now: impl FnOnce() -> SystemTime,
) -> Option<Outcome> {
    let wait = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => said(headers, now),
        _ => return None,
    };
    match wait {
        None if status == StatusCode::SERVICE_UNAVAILABLE => None,
        wait => Some(Outcome::AskedToWait(wait)),
    }
}

/// How long an answer of any status says to wait.
pub(crate) fn said(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    headers.get(header::RETRY_AFTER).and_then(|value| wait(value.to_str().ok()?, now))
}

/// How long a value says to wait; a date that is over says nothing to wait for.
fn wait(value: &str, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_patience_is_429_or_503_with_a_time() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let seconds = |seconds| Some(Outcome::AskedToWait(Some(Duration::from_secs(seconds))));
        for (status, value, expected) in [
            (429, None, Some(Outcome::AskedToWait(None))),
            (429, Some("7"), seconds(7)),
            (429, Some("soon"), Some(Outcome::AskedToWait(None))),
            (429, Some("Sun, 06 Nov 1994 08:50:37 GMT"), seconds(60)),
            (429, Some("Sun, 06 Nov 1994 08:00:00 GMT"), seconds(0)),
            (503, None, None),
            (503, Some("soon"), None),
            (503, Some("3"), seconds(3)),
            (500, Some("3"), None),
            (200, Some("3"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(asked_to_wait(status, &headers, || now), expected, "{status} {value:?}");
        }
    }
}
