//! The small pieces that every resource is made of on the wire: `Any`, metadata, durations, config sources.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{AggregatedConfigSource, ApiVersion, ConfigSource, Metadata};
use envoy_types::pb::google::protobuf::{self as google, Any};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{Message, Name};

use super::fault::{Decoded, Fault, at_most, shorten};
use crate::name::EXTENSION;

/// Our own messages, generated from `proto/outrigger/v1`.
#[allow(clippy::all, unreachable_pub)]
pub(super) mod ours {
    include!(concat!(env!("OUT_DIR"), "/outrigger.v1.rs"));
}

/// The longest duration that the standard type holds, in seconds: 10,000 years.
const MAX_DURATION_SECONDS: u64 = 315_576_000_000;

/// Packs a message under its own type URL.
pub(super) fn pack<T: Message + Name>(message: &T) -> Any {
    Any { type_url: T::type_url(), value: message.encode_to_vec() }
}

/// Unpacks a message of a known type.
pub(super) fn unpack<T: Message + Name + Default>(any: &Any) -> Decoded<T> {
    if any.type_url != T::type_url() {
        let found = shorten(&any.type_url);
        return Err(Fault::whole(format!("is a {found:?}, where a {} is understood", T::full_name())));
    }
    T::decode(any.value.as_slice()).map_err(|error| Fault::whole(format!("cannot be read: {error}")))
}

/// Checks how many messages there are at paths of field numbers, so that a small message with millions of empty parts
/// is refused before it takes memory.
pub(super) fn check_counts(any: &Any, bounds: &[(&str, &[u32], usize)]) -> Decoded<()> {
    bounds.iter().try_for_each(|(field, path, bound)| at_most(field, count(&any.value, path), *bound))
}

/// Counts until the end, or until something malformed, where reading ends too.
fn count(mut bytes: &[u8], path: &[u32]) -> usize {
    let Some((field, deeper)) = path.split_first() else { return 1 };
    let mut found = 0;
    while let Ok((tag, kind)) = decode_key(&mut bytes) {
        if tag != *field || kind != WireType::LengthDelimited {
            match skip_field(kind, tag, &mut bytes, DecodeContext::default()) {
                Ok(()) => continue,
                Err(_) => break,
            }
        }
        let length = decode_varint(&mut bytes).ok().and_then(|length| usize::try_from(length).ok());
        let Some((part, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else { break };
        found += count(part, deeper);
        bytes = rest;
    }
    found
}

/// Puts the entries of a map, at a path of field numbers, in order. A map in memory has none, and the same resource must
/// give the same bytes.
pub(super) fn sort_map(bytes: &mut [u8], path: &[u32]) {
    let Some((field, deeper)) = path.split_first() else { return };
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some(part) = next_part(&bytes[at..], at) {
        at = part.end;
        match part.tag == *field && part.is_message {
            true if deeper.is_empty() => entries.push(part.start..part.end),
            true => sort_map(&mut bytes[part.content..part.end], deeper),
            false => {}
        }
    }
    // Entries of a field that is written once stand together.
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
    let together = first.start..last.end;
    let mut sorted: Vec<Vec<u8>> = entries.iter().map(|entry| bytes[entry.clone()].to_vec()).collect();
    sorted.sort_unstable();
    let sorted = sorted.concat();
    if sorted.len() == together.len() {
        bytes[together].copy_from_slice(&sorted);
    }
}

/// One field of a message in its bytes.
struct Part {
    tag: u32,
    is_message: bool,
    start: usize,
    content: usize,
    end: usize,
}

fn next_part(rest: &[u8], start: usize) -> Option<Part> {
    let mut unread = rest;
    let (tag, kind) = decode_key(&mut unread).ok()?;
    let is_message = kind == WireType::LengthDelimited;
    let read = |unread: &[u8]| start + rest.len() - unread.len();
    if !is_message {
        skip_field(kind, tag, &mut unread, DecodeContext::default()).ok()?;
        return Some(Part { tag, is_message, start, content: read(unread), end: read(unread) });
    }
    let length = usize::try_from(decode_varint(&mut unread).ok()?).ok()?;
    let content = read(unread);
    (length <= unread.len()).then_some(Part { tag, is_message, start, content, end: content + length })
}

/// Metadata that carries a message of ours.
pub(super) fn metadata<T: Message + Name>(extension: &T) -> Metadata {
    Metadata {
        typed_filter_metadata: HashMap::from([(EXTENSION.to_owned(), pack(extension))]),
        ..Metadata::default()
    }
}

/// The message of ours in metadata, if there is one.
pub(super) fn extension<T: Message + Name + Default>(metadata: Option<&Metadata>) -> Decoded<Option<T>> {
    let any = metadata.and_then(|metadata| metadata.typed_filter_metadata.get(EXTENSION));
    let field = || format!("metadata.typed_filter_metadata[{EXTENSION}]");
    any.map(|any| unpack(any).map_err(|fault| fault.within(field()))).transpose()
}

/// Writes a duration; one beyond 10,000 years is written as 10,000 years.
pub(super) fn duration(value: Duration) -> google::Duration {
    match value.as_secs() < MAX_DURATION_SECONDS {
        true => google::Duration { seconds: value.as_secs() as i64, nanos: value.subsec_nanos() as i32 },
        false => google::Duration { seconds: MAX_DURATION_SECONDS as i64, nanos: 0 },
    }
}

/// Reads a duration of a field.
pub(super) fn read_duration(field: &str, value: &google::Duration) -> Decoded<Duration> {
    let seconds = u64::try_from(value.seconds).ok().filter(|seconds| *seconds <= MAX_DURATION_SECONDS);
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(Fault::new(field, "is not a duration from 0 to 10,000 years")),
    }
}

/// Reads a duration that may be absent.
pub(super) fn optional_duration(field: &str, value: Option<&google::Duration>) -> Decoded<Option<Duration>> {
    value.map(|value| read_duration(field, value)).transpose()
}

/// Whether a duration is there and says more than 0, which stands for "no limit" wherever this is asked.
pub(super) fn limits(value: Option<&google::Duration>) -> bool {
    value.is_some_and(|value| value.seconds != 0 || value.nanos != 0)
}

/// The control plane that the message itself came from.
pub(super) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// Refuses a source other than the stream that the message came on.
pub(super) fn check_ads(field: &str, source: Option<&ConfigSource>) -> Decoded<()> {
    match source.and_then(|source| source.config_source_specifier.as_ref()) {
        Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)) => Ok(()),
        _ => Err(Fault::new(field, "names a source other than ads or self")),
    }
}

/// Writes a number that could be absent.
pub(super) fn number(value: u32) -> Option<google::UInt32Value> {
    Some(google::UInt32Value { value })
}

/// Reads a port.
pub(super) fn port(field: &str, value: u32) -> Decoded<u16> {
    let port = u16::try_from(value).ok().filter(|port| *port != 0);
    port.ok_or_else(|| Fault::new(field, format!("is {value}, a port is a number from 1 to 65535")))
}

/// Reads a percentage.
pub(super) fn percent(field: &str, value: f64) -> Decoded<f64> {
    match (0.0..=100.0).contains(&value) {
        true => Ok(value),
        false => Err(Fault::new(field, format!("is {value}, a percentage is a number from 0 to 100"))),
    }
}

/// Refuses an empty text.
pub(super) fn not_empty(field: &str, value: &str) -> Decoded<()> {
    match value.is_empty() {
        true => Err(Fault::new(field, "is empty")),
        false => Ok(()),
    }
}

/// Refuses what is not a token, as names of cookies and fields are (RFC 9110, section 5.6.2).
pub(super) fn token(field: &str, value: &str) -> Decoded<()> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !value.is_empty() && value.bytes().all(valid) {
        true => Ok(()),
        false => Err(Fault::new(field, "is not a token")),
    }
}

/// Weights that add up to at most the largest 32-bit number, as every client asks, in the same proportions. A weight
/// above 0 stays above 0.
pub(super) fn fit(weights: &[u64]) -> Vec<u32> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let room = u128::from(u32::MAX).saturating_sub(weights.len() as u128);
    let scale = |weight: u64| match total <= u128::from(u32::MAX) {
        true => weight as u32,
        false => (u128::from(weight) * room / total) as u32 + u32::from(weight > 0),
    };
    weights.iter().map(|weight| scale(*weight)).collect()
}
