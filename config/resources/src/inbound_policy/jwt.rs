//! `InboundPolicy.spec.jwt`: what tokens requests must carry, and where the keys are that sign them.

use std::sync::Arc;

use http::Uri;
use serde::Deserialize;
use serde_json::Value;

use crate::field::{self, Misfit};

/// At most so many audiences of tokens.
const MAX_AUDIENCES: usize = 16;
/// The longest `jwks`, in bytes.
const MAX_JWKS_BYTES: usize = 256 * 1024;
/// The longest `jwksUri`, in bytes.
const MAX_URI_BYTES: usize = 2048;
/// Types of keys that everybody may know and only the issuer can sign with.
const PUBLIC_TYPES: [&str; 3] = ["RSA", "EC", "OKP"];

/// What tokens requests must carry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Jwt {
    /// Who makes them; not empty.
    pub issuer: Arc<str>,
    /// The keys that sign them.
    pub keys: JwtKeys,
    /// For whom they may be; empty is anybody.
    pub audiences: Vec<Arc<str>>,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// At this URL: `http` or `https`, with a host.
    At(Arc<str>),
    /// Here: a JSON Web Key Set with a key that may be public.
    Here(Arc<str>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    issuer: Arc<str>,
    jwks_uri: Option<Arc<str>>,
    jwks: Option<Arc<str>>,
    #[serde(default, deserialize_with = "field::up_to::<MAX_AUDIENCES, _, _>")]
    audiences: Vec<Arc<str>>,
}

impl TryFrom<Written> for Jwt {
    type Error = Misfit;

    fn try_from(written: Written) -> Result<Self, Misfit> {
        let Written { issuer, jwks_uri, jwks, audiences } = written;
        if issuer.is_empty() {
            return Err(Misfit::new("issuer", "empty; write what the claim iss of good tokens says"));
        }
        let keys = match (jwks_uri, jwks) {
            (Some(uri), None) => JwtKeys::At(checked_uri(uri)?),
            (None, Some(jwks)) => JwtKeys::Here(checked_jwks(jwks)?),
            (None, None) => {
                return Err(Misfit::new(
                    "jwksUri",
                    "missing; write the URL of the keys, or the keys in jwks",
                ));
            }
            (Some(_), Some(_)) => return Err(Misfit::new("jwks", "beside jwksUri; write one of them")),
        };
        Ok(Self { issuer, keys, audiences })
    }
}

fn checked_uri(text: Arc<str>) -> Result<Arc<str>, Misfit> {
    let misfit = |message: &str| Err(Misfit::new("jwksUri", message));
    if text.len() > MAX_URI_BYTES {
        return misfit("longer than 2048 bytes");
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return misfit("not a URL; write one such as https://issuer.example/jwks");
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return misfit("not a URL of http:// or https://");
    }
    match uri.authority() {
        // A secret in a policy would be read by everybody who may read policies, and go into logs.
        Some(authority) if authority.as_str().contains('@') => misfit("with a user name in it; remove it"),
        Some(_) if text.contains('#') => misfit("with a fragment (#); remove it"),
        Some(_) => Ok(text),
        None => misfit("without a host"),
    }
}

/// Whether a text is a set of keys of which at least one may be public. What the keys are worth is for those to say who
/// verify with them.
fn checked_jwks(text: Arc<str>) -> Result<Arc<str>, Misfit> {
    let misfit = |message: String| Err(Misfit::new("jwks", message));
    if text.len() > MAX_JWKS_BYTES {
        return misfit(format!("longer than {MAX_JWKS_BYTES} bytes"));
    }
    let set: Value = match serde_json::from_str(&text) {
        Ok(set) => set,
        Err(error) => return misfit(format!("not JSON: {error}")),
    };
    let Some(keys) = set["keys"].as_array() else {
        return misfit("not a JSON Web Key Set; write {\"keys\": [...]}".to_owned());
    };
    if keys.iter().any(|key| key.get("d").is_some()) {
        return misfit(
            "with a private key in it (d): make another key, for this one is known now, and write its public half only"
                .to_owned(),
        );
    }
    let is_public = |key: &Value| {
        let is_encryption = key["use"].as_str().is_some_and(|usage| usage != "sig");
        !is_encryption && key["kty"].as_str().is_some_and(|kty| PUBLIC_TYPES.contains(&kty))
    };
    match keys.iter().any(is_public) {
        true => Ok(text),
        false => misfit(
            "without a key that can verify tokens: one of kty RSA, EC or OKP that is for signatures"
                .to_owned(),
        ),
    }
}
