//! Any limit.

use super::*;
use crate::filter::{Descriptor, GlobalRateLimit, LimitKey, RateLimit};
use crate::inbound::{ConcurrencyLimit, InboundLimits, MAX_CLASSES, Priorities};

pub(in crate::codec::tests) fn inbound() -> impl Strategy<Value = InboundLimits> {
    let concurrency = (text(), 1u32.., 0u32..).prop_map(|(name, min, more)| ConcurrencyLimit {
        name,
        min,
        max: min.saturating_add(more),
    });
    let priorities = (header_name(), 1..=MAX_CLASSES, any::<u8>())
        .prop_map(|(header, classes, default)| Priorities { header, classes, default: default % classes });
    (option::of(rate()), option::of(concurrency), option::of(priorities))
        .prop_map(|(rate, concurrency, priorities)| InboundLimits { rate, concurrency, priorities })
}

pub(in crate::codec::tests) fn rate() -> impl Strategy<Value = RateLimit> {
    (text(), 1u32.., positive(), 1u32.., vec(key(), 0..4))
        .prop_map(|(name, requests, per, burst, key)| RateLimit { name, requests, per, burst, key })
}

pub(in crate::codec::tests) fn global() -> impl Strategy<Value = GlobalRateLimit> {
    let fixed = (text(), "[a-z]{0,4}").prop_map(|(key, value)| Descriptor::Fixed {
        key,
        value: HeaderValue::from_str(&value).expect("letters"),
    });
    let from_request = (text(), key()).prop_map(|(key, value)| Descriptor::FromRequest { key, value });
    let descriptor = vec(prop_oneof![fixed, from_request], 0..4);
    (text(), text(), text(), descriptor, (positive(), any::<bool>())).prop_map(
        |(name, cluster, domain, descriptor, (timeout, fail_closed))| GlobalRateLimit {
            name,
            cluster,
            domain,
            descriptor,
            timeout,
            fail_closed,
        },
    )
}

fn key() -> impl Strategy<Value = LimitKey> {
    prop_oneof![
        Just(LimitKey::SourceIdentity),
        Just(LimitKey::SourceAddress),
        header_name().prop_map(LimitKey::Header),
        Just(LimitKey::Method),
        Just(LimitKey::Path),
    ]
}
