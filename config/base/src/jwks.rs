//! Sets of public keys that sign tokens (JWK Set, RFC 7517), as issuers publish them.
//!
//! Read by the control plane before it passes a set on, and by proxies once when a set comes into force. A key that cannot
//! verify tokens is left out and says why; the rest of the set counts. No I/O and no clock.

use serde::Deserialize;
use serde_json::Value;

mod algorithm;
mod key;

pub use algorithm::{Algorithm, RsaAlgorithm};
pub use key::PublicKey;

/// The longest text of a set, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 256 * 1024;
/// The most keys of a set.
pub const MAX_KEYS: usize = 64;
/// So much of a name is shown in messages, in characters.
const SHOWN_NAME_CHARS: usize = 64;

/// The keys of an issuer, at least one.
#[derive(Debug)]
pub struct PublicKeys {
    keys: Vec<PublicKey>,
    left_out: Vec<LeftOut>,
}

/// A key that cannot verify tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name, shortened; its number in the set, from 1, when it has none.
    pub key: String,
    /// Why, as a clause.
    pub why: &'static str,
}

/// Why a text is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Too long.
    #[error("it is longer than {MAX_KEY_SET_BYTES} bytes")]
    TooLong,
    /// Not JSON, or not an object with a list of `keys`.
    #[error("it is not a JSON Web Key Set, {{\"keys\": [...]}}: {0}")]
    Malformed(String),
    /// Too many keys.
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    /// No key verifies tokens.
    #[error("it has no key that verifies tokens{0}")]
    NoKey(String),
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

impl PublicKeys {
    /// Reads a set.
    ///
    /// # Errors
    /// It is none, or no key of it verifies tokens.
    pub fn read(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetError::TooLong);
        }
        let malformed = |error: serde_json::Error| KeySetError::Malformed(error.to_string());
        let written: Written = serde_json::from_slice(json).map_err(malformed)?;
        if written.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut set = Self { keys: Vec::new(), left_out: Vec::new() };
        for (place, value) in written.keys.into_iter().enumerate() {
            set.take(place + 1, value);
        }
        match (set.keys.is_empty(), set.left_out.first()) {
            (false, _) => Ok(set),
            (true, None) => Err(KeySetError::NoKey(String::new())),
            (true, Some(first)) => Err(KeySetError::NoKey(format!("; {first}"))),
        }
    }

    /// The key that a token is to be verified with: the one it names, otherwise the only one that fits. `None` when there is
    /// none, or when several would do: a token is never tried with one key after the other.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&PublicKey> {
        let named = |key: &&PublicKey| kid.is_none() || key.kid() == kid;
        let mut fitting = self.keys.iter().filter(named).filter(|key| key.fits(algorithm));
        let found = fitting.next()?;
        fitting.next().is_none().then_some(found)
    }

    /// The keys that verify tokens.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Those that do not.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    fn take(&mut self, number: usize, value: Value) {
        let (key, read) = match serde_json::from_value::<key::Written>(value) {
            Ok(written) => (written.kid.clone(), PublicKey::read(written)),
            Err(_) => (None, Err("it is not a JSON Web Key")),
        };
        match read {
            Ok(key) => self.keys.push(key),
            Err(why) => {
                let name = key.map(|kid| kid.chars().take(SHOWN_NAME_CHARS).collect());
                self.left_out.push(LeftOut { key: name.unwrap_or_else(|| format!("#{number}")), why });
            }
        }
    }
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {:?}: {}", self.key, self.why)
    }
}

#[cfg(test)]
mod tests;
