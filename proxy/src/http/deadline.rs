//! How much time a request has left, told from hop to hop: `x-outrigger-timeout-ms`, and `grpc-timeout` for gRPC ("gRPC over
//! HTTP2", Requests). What a caller says is an upper bound: it never gets more than the route gives.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::hygiene::Fields;

/// The time that is left, in milliseconds.
const TIMEOUT_MS: HeaderName = HeaderName::from_static("x-outrigger-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What waits longer waits for ever.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Digits of a `grpc-timeout`.
const GRPC_DIGITS: usize = 8;

/// What says so is brought up to date when so much time has passed: less does not show in milliseconds.
const GRAIN: Duration = Duration::from_millis(1);

/// When a request must be over: the earliest of what the route says and what its caller says. `fields` are those of its head.
pub(crate) fn earliest(
    (headers, fields): (&HeaderMap, Fields),
    (started, route): (Instant, Option<Duration>),
) -> Option<Instant> {
    let of_grpc = if fields.have(Fields::GRPC_TIMEOUT) { of_grpc(headers) } else { None };
    let in_milliseconds = if fields.have(Fields::TIMEOUT_MS) { in_milliseconds(headers) } else { None };
    if of_grpc.or(in_milliseconds).is_none() {
        return route.map(|timeout| started + timeout);
    }
    let said = [in_milliseconds, of_grpc, route];
    said.into_iter().flatten().min().filter(|timeout| *timeout <= LONGEST).map(|timeout| started + timeout)
}

/// Brings what is left up to date where the caller has said it and time has passed since.
pub(crate) fn refresh(
    (headers, fields): (&mut HeaderMap, Fields),
    deadline: Instant,
    (started, now): (Instant, Instant),
) {
    if now - started >= GRAIN || !fields.have(Fields::TIMEOUT_MS) {
        write((headers, fields), deadline, now);
    }
}

/// Writes what is left, for the next hop. A `grpc-timeout` that is there is brought up to date.
pub(crate) fn write((headers, fields): (&mut HeaderMap, Fields), deadline: Instant, now: Instant) {
    let left = deadline.saturating_duration_since(now).as_micros().div_ceil(1000);
    let left = u64::try_from(left).unwrap_or(u64::MAX);
    headers.insert(TIMEOUT_MS, HeaderValue::from(left));
    if fields.have(Fields::GRPC_TIMEOUT)
        && headers.contains_key(GRPC_TIMEOUT)
        && let Ok(value) = HeaderValue::try_from(grpc_text(left))
    {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// In the finest unit, from milliseconds on, that has room for it.
fn grpc_text(milliseconds: u64) -> String {
    let units = [(1, 'm'), (1000, 'S'), (60_000, 'M'), (3_600_000, 'H')];
    let most = 10_u64.pow(GRPC_DIGITS as u32) - 1;
    let fitting = units.into_iter().find(|(unit, _)| milliseconds.div_ceil(*unit) <= most);
    let (unit, letter) = fitting.unwrap_or((3_600_000, 'H'));
    format!("{}{letter}", milliseconds.div_ceil(unit).min(most))
}

fn in_milliseconds(headers: &HeaderMap) -> Option<Duration> {
    number(headers.get(TIMEOUT_MS)?.to_str().ok()?).map(Duration::from_millis)
}

fn of_grpc(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value = number(digits).filter(|_| digits.len() <= GRPC_DIGITS)?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Digits only: what else `parse` takes means nothing here.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn head(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_earliest_of_all_counts_and_nonsense_does_not() {
        let (millis, grpc) = (TIMEOUT_MS, GRPC_TIMEOUT);
        let started = Instant::now();
        for (fields, route, expected) in [
            (vec![], None, None),
            (vec![], Some(MS(5)), Some(MS(5))),
            (vec![(millis.clone(), "100")], None, Some(MS(100))),
            (vec![(millis.clone(), "100")], Some(MS(5)), Some(MS(5))),
            (vec![(millis.clone(), "0")], Some(MS(5)), Some(MS(0))),
            (vec![(millis.clone(), "100"), (grpc.clone(), "50m")], None, Some(MS(50))),
            (vec![(grpc.clone(), "2S")], None, Some(MS(2000))),
            (vec![(grpc.clone(), "1H")], None, Some(MS(3_600_000))),
            (vec![(grpc.clone(), "3M")], None, Some(MS(180_000))),
            (vec![(grpc.clone(), "2000u")], None, Some(MS(2))),
            (vec![(grpc.clone(), "99999999n")], None, Some(Duration::from_nanos(99_999_999))),
            (vec![(grpc.clone(), "123456789n")], None, None),
            (vec![(grpc.clone(), "1x")], Some(MS(5)), Some(MS(5))),
            (vec![(grpc, "")], None, None),
            (vec![(millis.clone(), "+5")], None, None),
            (vec![(millis, "18446744073709551615")], None, None),
        ] {
            let headers = head(&fields);
            let found = earliest((&headers, Fields::of(&headers)), (started, route));
            assert_eq!(found.map(|at| at - started), expected, "{fields:?} {route:?}");
        }
    }

    #[test]
    fn what_is_left_is_written_and_never_rounded_down_to_nothing() {
        let now = Instant::now();
        for (left, millis, grpc) in [
            (MS(1500), "1500", "1500m"),
            (Duration::from_micros(1), "1", "1m"),
            (Duration::ZERO, "0", "0m"),
            (Duration::from_secs(99_999), "99999000", "99999000m"),
            (Duration::from_secs(100_000), "100000000", "100000S"),
        ] {
            let mut headers = head(&[(GRPC_TIMEOUT, "7H")]);
            let fields = Fields::of(&headers);
            write((&mut headers, fields), now + left, now);
            assert_eq!(
                (&headers[TIMEOUT_MS], &headers[GRPC_TIMEOUT]),
                (&millis.parse().unwrap(), &grpc.parse().unwrap())
            );
        }
        let mut plain = HeaderMap::new();
        write((&mut plain, Fields::default()), now + MS(3), now);
        assert!(plain.contains_key(TIMEOUT_MS) && !plain.contains_key(GRPC_TIMEOUT));
        let mut past = HeaderMap::new();
        write((&mut past, Fields::default()), now, now + MS(3));
        assert_eq!(past[TIMEOUT_MS], "0");
    }
}
