//! Limits: all of it is ours. Envoy's filters keep such limits too, but count by descriptors that only make sense with a
//! listener of its own.

use http::{HeaderName, HeaderValue};

use super::fault::{Decoded, Fault, at_most, shorten};
use super::wire::{self, ours};
use super::{MAX_DESCRIPTOR_ENTRIES, MAX_LIMIT_KEYS};
use crate::filter::{Descriptor, GlobalRateLimit, LimitKey, RateLimit};
use crate::inbound::{ConcurrencyLimit, InboundLimits, MAX_CLASSES, Priorities};

pub(super) fn encode_rate(limit: &RateLimit) -> ours::RateLimit {
    ours::RateLimit {
        name: limit.name.as_ref().into(),
        requests: limit.requests,
        per: Some(wire::duration(limit.per)),
        burst: limit.burst,
        key: limit.key.iter().map(encode_key).collect(),
    }
}

pub(super) fn decode_rate(wire: &ours::RateLimit) -> Decoded<RateLimit> {
    wire::not_empty("name", &wire.name)?;
    at_most("key", wire.key.len(), MAX_LIMIT_KEYS)?;
    let per = wire::optional_duration("per", wire.per.as_ref())?.filter(|per| !per.is_zero());
    Ok(RateLimit {
        name: wire.name.as_str().into(),
        requests: positive("requests", wire.requests)?,
        per: per.ok_or_else(|| Fault::new("per", "is no time"))?,
        burst: positive("burst", wire.burst)?,
        key: wire.key.iter().map(decode_key).collect::<Decoded<_>>()?,
    })
}

pub(super) fn encode_global(limit: &GlobalRateLimit) -> ours::GlobalRateLimit {
    ours::GlobalRateLimit {
        name: limit.name.as_ref().into(),
        cluster: limit.cluster.as_ref().into(),
        domain: limit.domain.as_ref().into(),
        descriptor: limit.descriptor.iter().map(encode_entry).collect(),
        timeout: Some(wire::duration(limit.timeout)),
        fail_closed: limit.fail_closed,
    }
}

pub(super) fn decode_global(wire: &ours::GlobalRateLimit) -> Decoded<GlobalRateLimit> {
    wire::not_empty("name", &wire.name)?;
    wire::not_empty("cluster", &wire.cluster)?;
    wire::not_empty("domain", &wire.domain)?;
    at_most("descriptor", wire.descriptor.len(), MAX_DESCRIPTOR_ENTRIES)?;
    let timeout =
        wire::optional_duration("timeout", wire.timeout.as_ref())?.filter(|timeout| !timeout.is_zero());
    Ok(GlobalRateLimit {
        name: wire.name.as_str().into(),
        cluster: wire.cluster.as_str().into(),
        domain: wire.domain.as_str().into(),
        descriptor: wire.descriptor.iter().map(decode_entry).collect::<Decoded<_>>()?,
        timeout: timeout.ok_or_else(|| Fault::new("timeout", "is no time"))?,
        fail_closed: wire.fail_closed,
    })
}

pub(super) fn encode_inbound(limits: &InboundLimits) -> ours::InboundLimits {
    let concurrency = |limit: &ConcurrencyLimit| ours::ConcurrencyLimit {
        name: limit.name.as_ref().into(),
        min: limit.min,
        max: limit.max,
    };
    let priorities = |priorities: &Priorities| ours::Priorities {
        header: priorities.header.as_str().to_owned(),
        classes: priorities.classes.into(),
        default_class: priorities.default.into(),
    };
    ours::InboundLimits {
        rate: limits.rate.as_ref().map(encode_rate),
        concurrency: limits.concurrency.as_ref().map(concurrency),
        priorities: limits.priorities.as_ref().map(priorities),
    }
}

pub(super) fn decode_inbound(wire: &ours::InboundLimits) -> Decoded<InboundLimits> {
    let rate = wire.rate.as_ref().map(decode_rate).transpose().map_err(|fault| fault.within("rate"))?;
    let concurrency = wire.concurrency.as_ref().map(decode_concurrency).transpose();
    let priorities = wire.priorities.as_ref().map(decode_priorities).transpose();
    Ok(InboundLimits {
        rate,
        concurrency: concurrency.map_err(|fault| fault.within("concurrency"))?,
        priorities: priorities.map_err(|fault| fault.within("priorities"))?,
    })
}

fn decode_concurrency(wire: &ours::ConcurrencyLimit) -> Decoded<ConcurrencyLimit> {
    wire::not_empty("name", &wire.name)?;
    let (min, max) = (positive("min", wire.min)?, positive("max", wire.max)?);
    match min <= max {
        true => Ok(ConcurrencyLimit { name: wire.name.as_str().into(), min, max }),
        false => Err(Fault::new("max", "is below min")),
    }
}

fn decode_priorities(wire: &ours::Priorities) -> Decoded<Priorities> {
    let classes = u8::try_from(wire.classes).ok().filter(|classes| (1..=MAX_CLASSES).contains(classes));
    let classes = classes.ok_or_else(|| {
        Fault::new("classes", format!("is {}, there are 1 to {MAX_CLASSES} classes", wire.classes))
    })?;
    let default = u8::try_from(wire.default_class).ok().filter(|class| *class < classes);
    let default = default.ok_or_else(|| {
        Fault::new("default_class", format!("is {}, there are {classes} classes", wire.default_class))
    })?;
    Ok(Priorities { header: header("header", &wire.header)?, classes, default })
}

fn encode_key(key: &LimitKey) -> ours::LimitKey {
    use ours::limit_key::{Method, Of, Path, SourceAddress, SourceIdentity};
    let of = match key {
        LimitKey::SourceIdentity => Of::SourceIdentity(SourceIdentity {}),
        LimitKey::SourceAddress => Of::SourceAddress(SourceAddress {}),
        LimitKey::Header(name) => Of::Header(name.as_str().to_owned()),
        LimitKey::Method => Of::Method(Method {}),
        LimitKey::Path => Of::Path(Path {}),
    };
    ours::LimitKey { of: Some(of) }
}

/// A key that we do not know would count together what is to be counted apart.
fn decode_key(wire: &ours::LimitKey) -> Decoded<LimitKey> {
    use ours::limit_key::Of;
    match &wire.of {
        Some(Of::SourceIdentity(_)) => Ok(LimitKey::SourceIdentity),
        Some(Of::SourceAddress(_)) => Ok(LimitKey::SourceAddress),
        Some(Of::Header(name)) => header("key.header", name).map(LimitKey::Header),
        Some(Of::Method(_)) => Ok(LimitKey::Method),
        Some(Of::Path(_)) => Ok(LimitKey::Path),
        None => Err(Fault::new("key", "is not known here")),
    }
}

fn encode_entry(entry: &Descriptor) -> ours::Descriptor {
    use ours::descriptor::Value;
    let (key, value) = match entry {
        Descriptor::Fixed { key, value } => (key, Value::Fixed(value.as_bytes().to_vec())),
        Descriptor::FromRequest { key, value } => (key, Value::FromRequest(encode_key(value))),
    };
    ours::Descriptor { key: key.as_ref().into(), value: Some(value) }
}

fn decode_entry(wire: &ours::Descriptor) -> Decoded<Descriptor> {
    use ours::descriptor::Value;
    wire::not_empty("descriptor.key", &wire.key)?;
    let key = wire.key.as_str().into();
    match &wire.value {
        Some(Value::Fixed(value)) => {
            let value = HeaderValue::from_bytes(value);
            let value = value.map_err(|error| Fault::new("descriptor.fixed", error))?;
            Ok(Descriptor::Fixed { key, value })
        }
        Some(Value::FromRequest(value)) => Ok(Descriptor::FromRequest { key, value: decode_key(value)? }),
        None => Err(Fault::new("descriptor.value", "is not known here")),
    }
}

fn positive(field: &str, value: u32) -> Decoded<u32> {
    match value {
        0 => Err(Fault::new(field, "is 0, the least is 1")),
        value => Ok(value),
    }
}

fn header(field: &str, name: &str) -> Decoded<HeaderName> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    parsed.map_err(|_| Fault::new(field, format!("{:?} is not the name of a header", shorten(name))))
}
