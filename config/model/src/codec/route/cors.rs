//! What browsers of other origins may do, as Envoy's CORS filter has it.

use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy as Wire;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::BoolValue;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::codec::fault::{Decoded, Fault, at_most, refuse, shorten};
use crate::codec::{Any, MAX_CORS_ENTRIES, matches, share, wire};
use crate::filter::{AllowList, Cors, OriginMatch};
use crate::route::ValueMatch;

/// Everything, in every list.
const ANY: &str = "*";

pub(super) fn encode(cors: &Cors) -> Any {
    let origins = cors.allow_origins.iter().map(|origin| match origin {
        OriginMatch::Any => matches::exact(ANY),
        OriginMatch::Exact(origin) => matches::exact(origin),
        OriginMatch::Regex(pattern) => matches::by_regex(pattern),
    });
    wire::pack(&Wire {
        allow_origin_string_match: origins.collect(),
        allow_methods: encode_list(&cors.allow_methods),
        allow_headers: encode_list(&cors.allow_headers),
        expose_headers: encode_list(&cors.expose_headers),
        max_age: cors.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: cors.allow_credentials.then_some(BoolValue { value: true }),
        // As we do: what is not allowed is answered without leave, and not sent on.
        forward_not_matching_preflights: Some(BoolValue { value: false }),
        ..Wire::default()
    })
}

pub(super) fn decode(any: &Any) -> Decoded<Cors> {
    wire::check_counts(any, &[("allow_origin_string_match", &[1], MAX_CORS_ENTRIES)])?;
    let wire: Wire = wire::unpack(any)?;
    let partly = |share: Option<&_>| share.map(share::decode_fixed).transpose();
    let enabled = partly(wire.filter_enabled.as_ref()).map_err(|fault| fault.within("filter_enabled"))?;
    refuse(&[
        ("filter_enabled", enabled.is_some_and(|share| share.numerator != share.denominator)),
        ("allow_private_network_access", wire.allow_private_network_access.is_some_and(|on| on.value)),
    ])?;
    let origins = wire.allow_origin_string_match.iter().enumerate();
    let origins = origins.map(|(at, origin)| {
        decode_origin(origin).map_err(|fault| fault.within(format!("allow_origin_string_match[{at}]")))
    });
    Ok(Cors {
        allow_origins: origins.collect::<Decoded<_>>()?,
        allow_methods: decode_list("allow_methods", &wire.allow_methods)?,
        allow_headers: decode_list("allow_headers", &wire.allow_headers)?,
        expose_headers: decode_list("expose_headers", &wire.expose_headers)?,
        max_age: decode_age(&wire.max_age)?,
        allow_credentials: wire.allow_credentials.is_some_and(|on| on.value),
    })
}

fn encode_list<T: Display>(list: &AllowList<T>) -> String {
    match list {
        AllowList::Any => ANY.to_owned(),
        AllowList::Only(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

/// A star beside names makes the names say nothing.
fn decode_list<T: FromStr>(field: &str, text: &str) -> Decoded<AllowList<T>> {
    let words = || text.split(',').map(str::trim).filter(|word| !word.is_empty());
    if words().any(|word| word == ANY) {
        return Ok(AllowList::Any);
    }
    at_most(field, words().count(), MAX_CORS_ENTRIES)?;
    let read = |word: &str| {
        word.parse().map_err(|_| Fault::new(field, format!("{:?} is not a name", shorten(word))))
    };
    words().map(read).collect::<Decoded<_>>().map(AllowList::Only)
}

fn decode_origin(wire: &StringMatcher) -> Decoded<OriginMatch> {
    if let Some(MatchPattern::Exact(text)) = &wire.match_pattern
        && text == ANY
    {
        return Ok(OriginMatch::Any);
    }
    match matches::decode_string(wire)? {
        ValueMatch::Exact(origin) => Ok(OriginMatch::Exact(origin)),
        ValueMatch::Regex(pattern) => Ok(OriginMatch::Regex(pattern)),
        ValueMatch::Present => Err(Fault::whole("says nothing")),
    }
}

fn decode_age(text: &str) -> Decoded<Option<Duration>> {
    if text.is_empty() {
        return Ok(None);
    }
    let seconds = text.parse::<u32>().map_err(|_| {
        Fault::new("max_age", format!("{:?} is not a number of seconds below 2^32", shorten(text)))
    })?;
    Ok(Some(Duration::from_secs(seconds.into())))
}
