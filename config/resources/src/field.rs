//! How single fields are read: durations, ports, names, addresses, expressions. Each function is for serde's
//! `deserialize_with` and says in its error what to write instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::de::{Deserialize, Deserializer, Error};

mod duration;
mod name;

pub(crate) use duration::parse_duration;
pub(crate) use name::{check_host, check_label, check_subdomain, check_trust_domain};

/// The largest weight, as Gateway API has it.
const MAX_WEIGHT: u32 = 1_000_000;

/// An error about a field below the one that serde is at, so that the field in the report is the one to change.
#[derive(Debug)]
pub(crate) struct Misfit {
    field: &'static str,
    message: String,
}

/// Separates field and message of a [`Misfit`] on its way through serde, which carries text only.
const MISFIT_MARK: char = '\u{1f}';

impl Misfit {
    /// A misfit of a field, empty for the value itself.
    pub(crate) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }

    /// Takes a text apart that a misfit was turned into.
    pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
        text.strip_prefix(MISFIT_MARK)?.split_once(MISFIT_MARK)
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MISFIT_MARK}{}{MISFIT_MARK}{}", self.field, self.message)
    }
}

/// A list of at most `N`.
pub(crate) fn up_to<'de, const N: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let list = Vec::deserialize(deserializer)?;
    if list.len() > N {
        return Err(D::Error::custom(format!("{} entries; at most {N} are allowed here", list.len())));
    }
    Ok(list)
}

/// A list of 1 to `N`.
pub(crate) fn one_to<'de, const N: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let list = up_to::<N, T, D>(deserializer)?;
    if list.is_empty() {
        return Err(D::Error::custom("an empty list; at least one entry is needed"));
    }
    Ok(list)
}

/// A duration; zero is allowed.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(D::Error::custom)
}

/// A timeout: `0s` is none.
pub(crate) fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(duration(deserializer)?.filter(|timeout| !timeout.is_zero()))
}

/// A duration longer than zero.
pub(crate) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = parse_duration(&text).map_err(D::Error::custom)?;
    match duration.is_zero() {
        true => Err(D::Error::custom("0s; it must be longer than nothing")),
        false => Ok(duration),
    }
}

/// A duration longer than zero that may be absent.
pub(crate) fn some_positive<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    positive(deserializer).map(Some)
}

/// A whole number within bounds.
fn number<'de, D: Deserializer<'de>>(deserializer: D, bounds: (u32, u32)) -> Result<u32, D::Error> {
    let (low, high) = bounds;
    let value = serde_json::Value::deserialize(deserializer)?;
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| D::Error::custom(format!("{value} is not a whole number from {low} to {high}")))
}

/// A port.
pub(crate) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let port = number(deserializer, (1, u32::from(u16::MAX)))?;
    u16::try_from(port).map_err(D::Error::custom)
}

/// A port that may be absent.
pub(crate) fn some_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    port(deserializer).map(Some)
}

/// A port within a list or a map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Port(u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        port(deserializer).map(Self)
    }
}

/// Ports without order.
pub(crate) fn port_set<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<u16>, D::Error> {
    let ports = Vec::<Port>::deserialize(deserializer)?;
    Ok(ports.into_iter().map(|port| port.0).collect())
}

/// Ports by name.
pub(crate) fn port_map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, u16>, D::Error> {
    let ports = BTreeMap::<String, Port>::deserialize(deserializer)?;
    Ok(ports.into_iter().map(|(name, port)| (name, port.0)).collect())
}

/// A weight of Gateway API.
pub(crate) fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    number(deserializer, (0, MAX_WEIGHT))
}

/// A weight that is at least 1.
pub(crate) fn positive_weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    number(deserializer, (1, MAX_WEIGHT))
}

/// A count of at least 1.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    number(deserializer, (1, u32::MAX))
}

/// A count of at least 1 that may be absent.
pub(crate) fn some_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    count(deserializer).map(Some)
}

/// A number of 0 or more that may be absent.
pub(crate) fn some_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    number(deserializer, (0, u32::MAX)).map(Some)
}

/// A percentage in whole numbers.
pub(crate) fn whole_percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    number(deserializer, (0, 100))
}

/// A percentage in whole numbers that may be absent.
pub(crate) fn some_whole_percent<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    whole_percent(deserializer).map(Some)
}

/// A percentage.
pub(crate) fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let number = value.as_f64().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| D::Error::custom(format!("{value} is not a number from 0 to 100")))
}

/// A percentage that may be absent.
pub(crate) fn some_percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    percent(deserializer).map(Some)
}

/// An address, as an error that helps who wrote a host name.
pub(crate) fn parse_address(text: &str) -> Result<IpAddr, String> {
    let hint = "write one like 10.0.0.7 or fd00::7; for a host name use an ExternalService";
    text.parse().map_err(|_| format!("{text:?} is not an IP address; {hint}"))
}

/// An address.
pub(crate) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// An address within a list.
struct Address(IpAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        address(deserializer).map(Self)
    }
}

/// Addresses.
pub(crate) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let addresses = Vec::<Address>::deserialize(deserializer)?;
    Ok(addresses.into_iter().map(|address| address.0).collect())
}

/// A name that is part of an identity.
pub(crate) fn service_account<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    let name = String::deserialize(deserializer)?;
    check_subdomain(&name).map_err(D::Error::custom)?;
    Ok(name.into())
}

/// A header field name.
pub(crate) fn parse_header_name(text: &str) -> Result<HeaderName, String> {
    let hint = "write letters, digits and -, without spaces or a colon";
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not a header name; {hint}"))
}

/// A header field value.
pub(crate) fn parse_header_value(text: &str) -> Result<HeaderValue, String> {
    let hint = "control characters are not allowed";
    HeaderValue::from_str(text).map_err(|_| format!("{text:?} is not a header value; {hint}"))
}

/// A header field name.
pub(crate) fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    parse_header_name(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// A host name, or `*.` and the end of one, which stands for all names that end so and have at least one label more.
pub(crate) fn parse_host_pattern(text: &str) -> Result<Arc<str>, String> {
    match text.strip_prefix("*.") {
        None => parse_host(text),
        Some(end) => parse_host(end).map(|end| format!("*.{end}").into()),
    }
}

/// A host name, in lower case without a trailing dot.
pub(crate) fn parse_host(text: &str) -> Result<Arc<str>, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    check_host(&name)?;
    Ok(name.into())
}
