//! Who may call a workload: policies as the control plane has resolved them for it.
//!
//! Plain data. What a request is compared with, and how a path is read before that, is the proxy's part.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

/// The policies about one workload.
///
/// Deny wins over Allow. Where at least one policy allows, what none allows is forbidden; where none does, what is not
/// denied may pass. Audit only records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Authorization {
    /// In the order in which they are shown.
    pub policies: Vec<AuthorizationPolicy>,
}

/// One policy.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthorizationPolicy {
    /// Where it was written: `AuthorizationPolicy/shop/reviews`.
    pub name: Arc<str>,
    /// What becomes of a request that one of the rules matches.
    pub action: AuthorizationAction,
    /// It matches when one of them does; without any it matches nothing.
    pub rules: Vec<Rule>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthorizationAction {
    /// It may pass.
    Allow,
    /// It is refused.
    Deny,
    /// It is recorded.
    Audit,
}

/// Matches when `from`, `to` and `when` do. An empty rule matches everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    /// Who calls: one of them; empty is anybody, without an identity too.
    pub from: Vec<Source>,
    /// What is called: one of them; empty is anything.
    pub to: Vec<Operation>,
    /// All of them.
    pub when: Vec<Condition>,
}

/// A caller: all of what is not empty, each by one of its entries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    /// Its SPIFFE id, proven by mutual TLS.
    pub identities: Vec<TextPattern>,
    /// The namespace in its identity, within the trust domain of the mesh.
    pub namespaces: Vec<TextPattern>,
    /// Where its connection comes from.
    pub networks: Vec<Network>,
}

/// A request, or a connection: all of what is not empty, each by one of its entries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Operation {
    /// Of HTTP, in upper case.
    pub methods: Vec<TextPattern>,
    /// Paths without percent encoding, dot segments, empty segments and parameters, as they are read before comparing.
    pub paths: Vec<TextPattern>,
    /// Ports that others dial.
    pub ports: Vec<u16>,
}

/// Something else that must be so.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// It has one of these values; empty is any value at all.
    pub values: Vec<TextPattern>,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A claim of the request's verified token: names of nested objects, outermost first. A list has each of its values.
    Claim(Vec<Arc<str>>),
    /// A header of the request; each of several fields of the name counts.
    Header(HeaderName),
}

/// How a text is compared, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TextPattern {
    /// It is this.
    Exact(Arc<str>),
    /// It begins with this; empty is anything.
    Prefix(Arc<str>),
}

/// A range of addresses: `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither an address nor a network like 10.0.0.0/8 or fd00::/8 (without bits behind the prefix)"
)]
pub struct NetworkError(String);

impl TextPattern {
    /// What stands in YAML: `*` at the end stands for anything.
    pub fn written(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Whether a text is as it says.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
        }
    }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Network {
    /// Whether an address is in it. An IPv4 address in its IPv6 form counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl From<IpNet> for Network {
    /// The network without bits behind its prefix.
    fn from(network: IpNet) -> Self {
        Self { address: network.network(), prefix: network.prefix_len() }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.chars().take(64).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let digits = |prefix: &&str| prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            Some(prefix) => {
                Some(prefix).filter(digits).and_then(|prefix| prefix.parse().ok()).ok_or_else(error)?
            }
            None => bits,
        };
        let network = Self { address, prefix };
        let is_clean = prefix <= bits
            && match address {
                IpAddr::V4(own) => own.to_bits().checked_shl(u32::from(prefix)).unwrap_or(0) == 0,
                IpAddr::V6(own) => own.to_bits().checked_shl(u32::from(prefix)).unwrap_or(0) == 0,
            };
        if is_clean && network.contains(address) { Ok(network) } else { Err(error()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_begins_as_it_does() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("10.1.2.128/25", "::ffff:10.1.2.200", "10.1.2.127"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("::/0", "fe80::1", "1.2.3.4"),
            ("::1", "::1", "::2"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} has {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} has not {outside}");
            assert_eq!(parsed.to_string().parse::<Network>().unwrap(), parsed);
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "fd00::1/8",
            "a/8",
            "::/129",
        ] {
            let network = text.parse::<Network>();
            assert!(network.is_err(), "{text} is {network:?}");
        }
    }

    #[test]
    fn a_star_at_the_end_stands_for_anything() {
        let prefix = TextPattern::written("/api/*");
        assert!(prefix.matches("/api/a") && prefix.matches("/api/") && !prefix.matches("/api"));
        let exact = TextPattern::written("/api");
        assert!(exact.matches("/api") && !exact.matches("/api/"));
        assert!(TextPattern::written("*").matches(""));
        assert_eq!((prefix.to_string(), exact.to_string()), ("/api/*".to_owned(), "/api".to_owned()));
    }
}
