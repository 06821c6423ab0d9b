//! `healthCheck` as it is written.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{HealthCheck, Probe};
use crate::field::{self, Misfit};

/// At most so many ranges of statuses.
const MAX_RANGES: usize = 16;

/// [`HealthCheck`] as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    http: Option<Http>,
    grpc: Option<Grpc>,
    tcp: Option<Tcp>,
    #[serde(default = "default_interval", deserialize_with = "field::positive")]
    interval: Duration,
    #[serde(default = "default_timeout", deserialize_with = "field::positive")]
    timeout: Duration,
    #[serde(default = "default_healthy", deserialize_with = "field::count")]
    healthy_threshold: u32,
    #[serde(default = "default_unhealthy", deserialize_with = "field::count")]
    unhealthy_threshold: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Http {
    #[serde(deserialize_with = "path")]
    path: String,
    #[serde(default = "default_statuses", deserialize_with = "statuses")]
    expected_statuses: Vec<RangeInclusive<u16>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grpc {
    #[serde(default)]
    service: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcp {}

/// One status, or the first and the last of a range.
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Status {
    One(u16),
    Range { start: u16, end: u16 },
}

impl TryFrom<Written> for HealthCheck {
    type Error = Misfit;

    fn try_from(written: Written) -> Result<Self, Misfit> {
        let Written { http, grpc, tcp, interval, timeout, healthy_threshold, unhealthy_threshold } = written;
        let probe = match (http, grpc, tcp) {
            (Some(http), None, None) => Probe::Http { path: http.path, statuses: http.expected_statuses },
            (None, Some(grpc), None) => Probe::Grpc { service: grpc.service },
            (None, None, Some(Tcp {})) => Probe::Tcp,
            _ => return Err(Misfit::new("", "write one of http: {path}, grpc: {}, tcp: {}")),
        };
        Ok(Self { probe, interval, timeout, healthy_threshold, unhealthy_threshold })
    }
}

fn statuses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RangeInclusive<u16>>, D::Error> {
    use serde::de::Error;
    let range = |status: &Status| {
        let (start, end) = match *status {
            Status::One(status) => (status, status),
            Status::Range { start, end } => (start, end),
        };
        let known = 100 <= start && start <= end && end <= 599;
        known.then_some(start..=end).ok_or_else(|| {
            D::Error::custom(format!("{start} to {end} is not a range of statuses from 100 to 599"))
        })
    };
    field::one_to::<MAX_RANGES, Status, D>(deserializer)?.iter().map(range).collect()
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    use serde::de::Error;
    let path = String::deserialize(deserializer)?;
    let usable = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
    match usable {
        true => Ok(path),
        false => Err(D::Error::custom(format!("{path:?} is not a path; write one like /healthz"))),
    }
}

fn default_statuses() -> Vec<RangeInclusive<u16>> {
    vec![200..=399]
}

fn default_interval() -> Duration {
    Duration::from_secs(5)
}

fn default_timeout() -> Duration {
    Duration::from_secs(1)
}

fn default_healthy() -> u32 {
    2
}

fn default_unhealthy() -> u32 {
    3
}
