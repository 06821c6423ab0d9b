//! Where a request would rather go: what its destination hashes, and the session that it belongs to. Also what answers
//! say of the load of who gave them.

use std::net::IpAddr;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use outrigger_model::policy::{HashCookie, HashOn};
use tokio::time::Instant;

use super::exchange::Exchange;
use super::hygiene::Fields;
use super::session::Session;
use crate::upstream::{self, Affinity, Cluster, Lease, xxh64};

/// Where a request would rather go. Makes the cookie that is hashed where the client has none.
pub(crate) fn affinity(
    exchange: &mut Exchange,
    cluster: &Cluster,
    session: Option<&Session<'_>>,
    headers: &HeaderMap,
) -> Affinity {
    let on = cluster.config().load_balancer.hash_on();
    let key = on.and_then(|on| match on {
        HashOn::Header(name) => hash_values(headers, name),
        HashOn::Cookie(wanted) => match cookie(headers, &wanted.name) {
            Some(value) => Some(xxh64(value, 0)),
            None => make_cookie(exchange, wanted),
        },
        HashOn::SourceIp => Some(hash_address(exchange.connection.downstream.peer.ip())),
    });
    Affinity { key, session: session.and_then(|session| session.endpoint_of(cluster)) }
}

/// The key of a client by its address; IPv4 is the same however it is written.
pub(crate) fn hash_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => xxh64(&address.octets(), 0),
        IpAddr::V6(address) => xxh64(&address.octets(), 0),
    }
}

/// Takes what a head or trailers say of the endpoint's load, where it matters. The field goes on to the client: an
/// application may balance by itself.
pub(crate) fn report(lease: Option<&Lease>, fields: Fields, headers: &HeaderMap) {
    if !fields.have(Fields::LOAD_REPORT) {
        return;
    }
    let wanting = lease.filter(|lease| lease.wants_reports());
    if let Some((lease, report)) = wanting.zip(upstream::report(headers)) {
        lease.reported(Instant::now(), report);
    }
}

/// The value of a cookie of a request: the first of its name (RFC 6265, section 4.2).
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let fields = headers.get_all(COOKIE).iter();
    let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Several fields of a name count together, in their order.
fn hash_values(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let values = headers.get_all(name).iter();
    values.fold(None, |hash, value| Some(xxh64(value.as_bytes(), hash.unwrap_or_default())))
}

/// A cookie with a value of chance, for the answer; this request is hashed by it already.
fn make_cookie(exchange: &mut Exchange, wanted: &HashCookie) -> Option<u64> {
    let ttl = wanted.ttl?;
    let value = exchange.connection.worker.with_rng(|rng| format!("{:016x}", rng.u64(..)));
    let max_age = (!ttl.is_zero()).then_some(ttl);
    let field = set_cookie(&wanted.name, &value, max_age)?;
    exchange.answer_fields().add.push((SET_COOKIE, field));
    Some(xxh64(value.as_bytes(), 0))
}

/// A cookie that scripts cannot read, for the whole site, sent along when a link leads there.
pub(super) fn set_cookie(
    name: &str,
    value: &str,
    max_age: Option<std::time::Duration>,
) -> Option<HeaderValue> {
    let age = max_age.map_or_else(String::new, |age| format!("; Max-Age={}", age.as_secs().max(1)));
    HeaderValue::from_str(&format!("{name}={value}{age}; Path=/; HttpOnly; SameSite=Lax")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let table = [
            ("user=anna", Some("anna")),
            ("a=1; user=anna;b=2", Some("anna")),
            ("a=1|user=anna", Some("anna")),
            ("user=anna; user=bert", Some("anna")),
            ("xuser=anna; users=bert; user", None),
            ("user=", Some("")),
            ("", None),
        ];
        for (text, expected) in table {
            let fields: Vec<_> = text.split('|').map(|value| ("cookie", value)).collect();
            let headers = head(&fields);
            let found = cookie(&headers, "user").map(|value| std::str::from_utf8(value).unwrap());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn the_same_values_are_the_same_key_in_every_proxy() {
        let user = HeaderName::from_static("x-user");
        assert_eq!(hash_values(&head(&[("x-user", "abc")]), &user), Some(0x44BC_2CF5_AD77_0999));
        assert_eq!(hash_values(&head(&[]), &user), None);
        let both = head(&[("x-user", "a"), ("x-user", "b")]);
        let turned = head(&[("x-user", "b"), ("x-user", "a")]);
        assert_ne!(hash_values(&both, &user), hash_values(&turned, &user));
        let (four, mapped) = ("10.0.0.1", "::ffff:10.0.0.1");
        assert_eq!(hash_address(four.parse().unwrap()), hash_address(mapped.parse().unwrap()));
    }

    #[test]
    fn a_cookie_that_is_set_says_how_it_is_to_be_kept() {
        let day = std::time::Duration::from_secs(86_400);
        for (age, expected) in [
            (Some(day), "s=1; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax"),
            (None, "s=1; Path=/; HttpOnly; SameSite=Lax"),
        ] {
            assert_eq!(set_cookie("s", "1", age).unwrap(), expected);
        }
    }
}
