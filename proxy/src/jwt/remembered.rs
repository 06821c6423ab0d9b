//! Tokens that were found true, kept by a worker: one that comes again costs a hash and a look, not a signature.
//!
//! Kept by their SHA-256, so that a token can neither be read here nor be found by trying. Only true tokens are kept: nobody
//! fills this who cannot make the issuer sign. It belongs to one verifier: with other keys or another rule it starts anew.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use http::HeaderMap;
use tracing::debug;

use super::{Claims, Refused, Verified, Verifier, bearer};

/// The most tokens that a worker keeps.
pub(super) const MAX_REMEMBERED: usize = 1024;
/// The most bytes that the tokens it keeps have together; what they say takes a few times as much.
pub(super) const MAX_REMEMBERED_BYTES: usize = 1024 * 1024;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// The tokens of a worker.
#[derive(Debug, Default)]
pub struct Remembered(RefCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Who found them true. Held weakly, so that no other verifier is at its address.
    by: Weak<Verifier>,
    tokens: HashMap<Hash, Known, foldhash::fast::RandomState>,
    /// The lengths of all tokens.
    size_bytes: usize,
}

#[derive(Debug)]
struct Known {
    verified: Verified,
    length_bytes: usize,
}

impl Remembered {
    /// What the token of a request says, if it is good at this moment, in seconds since 1970. Counts what is not.
    ///
    /// # Errors
    /// There is no good token.
    pub fn check(
        &self,
        verifier: &Arc<Verifier>,
        headers: &HeaderMap,
        now_unix: u64,
    ) -> Result<Arc<Claims>, Refused> {
        let checked = self.look_up(verifier, headers, now_unix);
        if let Err(refused) = &checked {
            verifier.refusals.count(*refused);
            let object = &*verifier.rule.name;
            debug!(object, reason = refused.word(), "a token was refused: {refused}");
        }
        checked
    }

    /// How many tokens there are, and their bytes.
    #[cfg(test)]
    pub(super) fn figures(&self) -> (usize, usize) {
        let kept = self.0.borrow();
        (kept.tokens.len(), kept.size_bytes)
    }

    fn look_up(
        &self,
        verifier: &Arc<Verifier>,
        headers: &HeaderMap,
        now_unix: u64,
    ) -> Result<Arc<Claims>, Refused> {
        let token = bearer(headers)?;
        // Nothing outlives the keys that it was verified with.
        verifier.keys_at(now_unix)?;
        let hash = hash_of(token);
        let mut kept = self.0.borrow_mut();
        kept.belong_to(verifier);
        if let Some(known) = kept.tokens.get(&hash).filter(|known| now_unix < known.verified.until) {
            return Ok(known.verified.claims.clone());
        }
        let verified = verifier.verify(token, now_unix)?;
        let claims = verified.claims.clone();
        kept.keep(hash, Known { verified, length_bytes: token.len() }, now_unix);
        Ok(claims)
    }
}

impl Kept {
    fn belong_to(&mut self, verifier: &Arc<Verifier>) {
        if !std::ptr::eq(self.by.as_ptr(), Arc::as_ptr(verifier)) {
            *self = Self { by: Arc::downgrade(verifier), ..Self::default() };
        }
    }

    fn keep(&mut self, hash: Hash, known: Known, now_unix: u64) {
        if !self.has_room(known.length_bytes) {
            self.tokens.retain(|_, known| now_unix < known.verified.until);
            self.size_bytes = self.tokens.values().map(|known| known.length_bytes).sum();
        }
        // When all of them are good, each is verified once more: cheaper than to keep an order of all of them all the time.
        if !self.has_room(known.length_bytes) {
            self.tokens.clear();
            self.size_bytes = 0;
        }
        self.size_bytes += known.length_bytes;
        if let Some(before) = self.tokens.insert(hash, known) {
            self.size_bytes -= before.length_bytes;
        }
    }

    fn has_room(&self, length_bytes: usize) -> bool {
        self.tokens.len() < MAX_REMEMBERED && self.size_bytes + length_bytes <= MAX_REMEMBERED_BYTES
    }
}

fn hash_of(token: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, token).as_ref());
    hash
}
