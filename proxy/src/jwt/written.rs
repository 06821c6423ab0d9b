//! A token as it is written: a JWT in the compact form (RFC 7515, section 7.1), taken apart.
//!
//! Whatever could be read in two ways is refused, because the application reads the token again: names that stand there
//! twice, other alphabets, bits behind the end.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Refused;

/// What `typ` may say (RFC 8725, section 3.11): nothing, a JWT, an access token (RFC 9068). Whatever else issuers sign, such
/// as logout tokens, proofs of possession and events, is no proof of who calls.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// A token, nothing of which is known to be true.
#[derive(Debug)]
pub(super) struct Written<'t> {
    pub(super) header: Header,
    /// What the signature is about.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
    payload: &'t [u8],
}

/// The head of a token. Names that stand there twice are an error of reading.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'t> Written<'t> {
    /// Takes a token apart. Its claims are read when its signature is known to be right.
    pub(super) fn read(token: &'t [u8]) -> Result<Self, Refused> {
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::Malformed);
        };
        let read: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Refused::Malformed)?;
        // Extensions that must be understood: none is (RFC 7515, section 4.1.11).
        if read.crit.is_some() || !read.typ.as_deref().is_none_or(is_accepted_type) {
            return Err(Refused::Malformed);
        }
        let signed = &token[..header.len() + 1 + payload.len()];
        Ok(Self { header: read, signed, signature: decode(signature)?, payload })
    }

    /// What it says.
    pub(super) fn claims(&self) -> Result<Map<String, Value>, Refused> {
        let claims: Unique =
            serde_json::from_slice(&decode(self.payload)?).map_err(|_| Refused::Malformed)?;
        Ok(claims.0)
    }
}

fn decode(part: &[u8]) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed)
}

/// Media types, whose first half may be left away (RFC 7515, section 4.1.9).
fn is_accepted_type(written: &str) -> bool {
    let written = written.to_ascii_lowercase();
    let short = written.strip_prefix("application/").unwrap_or(&written);
    TYPES.contains(&short)
}

/// An object whose names are all different (RFC 7519, section 4).
struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose names are all different")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
        let mut claims = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if claims.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands there twice"));
            }
        }
        Ok(Unique(claims))
    }
}
