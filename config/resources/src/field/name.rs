//! Names: of objects, hosts and trust domains. They become parts of host names and identities, so nothing else passes.

/// The longest label, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_BYTES: usize = 63;
/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 253;

/// A label of RFC 1123, as namespaces and Services are called.
pub(crate) fn check_label(name: &str) -> Result<(), String> {
    match is_label(name) {
        true => Ok(()),
        false => {
            Err(format!("{name:?} is not a name; write 1 to 63 of a-z, 0-9 and -, with no - at either end"))
        }
    }
}

/// A subdomain of RFC 1123, as other objects are called.
pub(crate) fn check_subdomain(name: &str) -> Result<(), String> {
    match name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label) {
        true => Ok(()),
        false => Err(format!("{name:?} is not a name; write at most 253 of a-z, 0-9, - and .")),
    }
}

/// A host name in lower case, without a trailing dot.
pub(crate) fn check_host(name: &str) -> Result<(), String> {
    let part = |part: &str| {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        (1..=MAX_LABEL_BYTES).contains(&part.len()) && part.bytes().all(allowed)
    };
    match name.len() <= MAX_NAME_BYTES && name.split('.').all(part) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is not a host name; write one like api.example.com, without scheme or port"
        )),
    }
}

/// A trust domain (SPIFFE ID, section 2.1).
pub(crate) fn check_trust_domain(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    match (1..=255).contains(&name.len()) && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(format!("{name:?} is not a trust domain; write 1 to 255 of a-z, 0-9, -, . and _")),
    }
}

fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let inside = (1..=MAX_LABEL_BYTES).contains(&name.len()) && name.bytes().all(allowed);
    inside && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        for name in ["a", "reviews-v1", "0", &"a".repeat(63)] {
            assert!(check_label(name).is_ok(), "{name}");
        }
        for name in ["", "A", "a.b", "-a", "a-", "a/b", "ä", &"a".repeat(64)] {
            assert!(check_label(name).is_err(), "{name}");
        }
        assert!(check_subdomain("reviews.v1").is_ok());
        for name in ["", ".", "a..b", "a.", "a b"] {
            assert!(check_subdomain(name).is_err(), "{name}");
        }
    }
}
