//! The parts of a RoutePolicy as they are written.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

use super::{Abort, Delay, MAX_ATTEMPTS, MAX_CONDITIONS};
use crate::backend_policy::cookie_name;
use crate::field::{self, Misfit};

/// The words of [`super::RetryOn`]; a status is a number, or a text of one.
const RETRY_WORDS: [(&str, super::RetryOn); 11] = [
    ("5xx", super::RetryOn::ServerError),
    ("gateway-error", super::RetryOn::GatewayError),
    ("reset", super::RetryOn::Reset),
    ("connect-failure", super::RetryOn::ConnectFailure),
    ("refused-stream", super::RetryOn::RefusedStream),
    ("retriable-4xx", super::RetryOn::Retriable4xx),
    ("cancelled", super::RetryOn::Grpc(1)),
    ("deadline-exceeded", super::RetryOn::Grpc(4)),
    ("resource-exhausted", super::RetryOn::Grpc(8)),
    ("internal", super::RetryOn::Grpc(13)),
    ("unavailable", super::RetryOn::Grpc(14)),
];

/// The shortest percentile that says "slow" of anything.
const LEAST_PERCENTILE: f64 = 50.0;
/// Beyond this a measure of some hundreds of answers knows nothing.
const MOST_PERCENTILE: f64 = 99.9;

pub(super) fn conditions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<super::RetryOn>>, D::Error> {
    field::one_to::<MAX_CONDITIONS, _, _>(deserializer).map(Some)
}

pub(super) fn attempts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match field::some_number(deserializer)? {
        Some(attempts) if attempts > MAX_ATTEMPTS => {
            Err(D::Error::custom(format!("{attempts}; at most {MAX_ATTEMPTS} are allowed")))
        }
        attempts => Ok(attempts),
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct RetryOn(Value);

impl TryFrom<RetryOn> for super::RetryOn {
    type Error = String;

    fn try_from(written: RetryOn) -> Result<Self, String> {
        let text = written.0.as_str();
        if let Some((_, condition)) = RETRY_WORDS.iter().find(|(word, _)| Some(*word) == text) {
            return Ok(*condition);
        }
        let number = written.0.as_u64().or_else(|| text?.parse().ok());
        let status = number.and_then(|number| u16::try_from(number).ok()).filter(|s| (400..600).contains(s));
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        status.map(Self::Status).ok_or_else(|| {
            let words: Vec<_> = RETRY_WORDS.iter().map(|(word, _)| *word).collect();
            format!(
                "{} is not a condition; write {} or a status from 400 to 599",
                written.0,
                words.join(", ")
            )
        })
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backoff {
    #[serde(default, deserialize_with = "field::some_positive")]
    base: Option<Duration>,
    #[serde(default, deserialize_with = "field::some_positive")]
    max: Option<Duration>,
}

impl TryFrom<Backoff> for super::Backoff {
    type Error = Misfit;

    fn try_from(written: Backoff) -> Result<Self, Misfit> {
        match (written.base, written.max) {
            (Some(base), Some(max)) if max < base => {
                Err(Misfit::new("max", "shorter than base; write one that is at least as long"))
            }
            (base, max) => Ok(Self { base, max }),
        }
    }
}

pub(super) fn delay_percentile() -> f64 {
    95.0
}

pub(super) fn max_extra_percent() -> f64 {
    5.0
}

pub(super) fn percentile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = value.as_f64().filter(|number| (LEAST_PERCENTILE..=MOST_PERCENTILE).contains(number));
    number.ok_or_else(|| {
        D::Error::custom(format!("{value} is not a number from {LEAST_PERCENTILE} to {MOST_PERCENTILE}"))
    })
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    delay: Option<Delay>,
    abort: Option<Abort>,
}

impl TryFrom<Fault> for super::Fault {
    type Error = Misfit;

    fn try_from(written: Fault) -> Result<Self, Misfit> {
        match written {
            Fault { delay: None, abort: None } => {
                Err(Misfit::new("", "an empty fault; write delay, abort or both"))
            }
            Fault { delay, abort } => Ok(Self { delay, abort }),
        }
    }
}

pub(super) fn all() -> f64 {
    100.0
}

pub(super) fn abort_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    let status = number.filter(|status| (200..600).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    status.ok_or_else(|| D::Error::custom(format!("{value} is not a status from 200 to 599")))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimits {
    local: Option<super::LocalRateLimit>,
    global: Option<super::GlobalRateLimit>,
}

impl TryFrom<RateLimits> for super::RateLimits {
    type Error = Misfit;

    fn try_from(written: RateLimits) -> Result<Self, Misfit> {
        match written {
            RateLimits { local: None, global: None } => {
                Err(Misfit::new("", "an empty rateLimit; write local, global or both"))
            }
            RateLimits { local, global } => Ok(Self { local, global }),
        }
    }
}

pub(super) fn second() -> Duration {
    Duration::from_secs(1)
}

pub(super) fn ask_timeout() -> Duration {
    Duration::from_millis(20)
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
pub(super) enum LimitKey {
    Word(String),
    Mapping(HeaderKey),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderKey {
    header: String,
}

impl TryFrom<LimitKey> for super::LimitKey {
    type Error = String;

    fn try_from(written: LimitKey) -> Result<Self, String> {
        let word = match written {
            LimitKey::Mapping(HeaderKey { header }) => {
                return field::parse_header_name(&header).map(Self::Header);
            }
            LimitKey::Word(word) => word,
        };
        match word.as_str() {
            "source.identity" => Ok(Self::SourceIdentity),
            "source.address" => Ok(Self::SourceAddress),
            "method" => Ok(Self::Method),
            "path" => Ok(Self::Path),
            "route" => Ok(Self::Route),
            word => match word.strip_prefix("header:") {
                Some(name) => field::parse_header_name(name.trim()).map(Self::Header),
                None => Err(format!(
                    "{word:?} is not a key; write source.identity, source.address, header:NAME, method, path or route"
                )),
            },
        }
    }
}

pub(super) fn domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.is_empty() {
        true => Err(D::Error::custom("an empty text; name the domain that the service has limits for")),
        false => Ok(text.into()),
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Descriptor {
    key: String,
    value: Option<String>,
    from: Option<super::LimitKey>,
}

impl TryFrom<Descriptor> for super::Descriptor {
    type Error = Misfit;

    fn try_from(written: Descriptor) -> Result<Self, Misfit> {
        let Descriptor { key, value, from } = written;
        if key.is_empty() {
            return Err(Misfit::new("key", "an empty text; the service finds its limit by it"));
        }
        let key = key.into();
        match (value, from) {
            (Some(value), None) => {
                let value =
                    field::parse_header_value(&value).map_err(|message| Misfit::new("value", message));
                value.map(|value| Self::Fixed { key, value })
            }
            (None, Some(from)) => Ok(Self::From { key, from }),
            _ => Err(Misfit::new("", "write one of value and from")),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionAffinity {
    cookie: Option<Cookie>,
    #[serde(default, deserialize_with = "some_header")]
    header: Option<HeaderName>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Cookie {
    #[serde(deserialize_with = "cookie_name")]
    name: String,
    #[serde(default, deserialize_with = "field::some_positive")]
    ttl: Option<Duration>,
}

impl TryFrom<SessionAffinity> for super::SessionAffinity {
    type Error = Misfit;

    fn try_from(written: SessionAffinity) -> Result<Self, Misfit> {
        match (written.cookie, written.header) {
            (Some(Cookie { name, ttl }), None) => Ok(Self::Cookie { name, ttl }),
            (None, Some(name)) => Ok(Self::Header(name)),
            _ => Err(Misfit::new("", "write one of cookie: {name: NAME} and header: NAME")),
        }
    }
}

fn some_header<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HeaderName>, D::Error> {
    field::header_name(deserializer).map(Some)
}
