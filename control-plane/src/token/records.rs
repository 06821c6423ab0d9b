//! What is known of tokens beside what they say themselves: which were made, used up and revoked, and which identities
//! get nothing any more. Pure: time is an argument, and nothing here reads or writes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::token::{Caller, MAX_TTL, TokenError, Verified};

/// Tokens that are remembered at a time; those that have expired are not counted.
pub const MAX_RECORDS: usize = 10_000;
/// Identities that can be revoked at a time.
pub const MAX_IDENTITIES: usize = 10_000;

/// The version of the form that is written.
const VERSION: u32 = 1;

/// Everything that is remembered. Times are seconds of Unix time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    version: u32,
    #[serde(default)]
    tokens: BTreeMap<String, Record>,
    /// By `namespace/service account`.
    #[serde(default)]
    identities: BTreeMap<String, Revocation>,
}

/// One token that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The namespace it stands for.
    pub namespace: String,
    /// The service account it stands for.
    pub service_account: String,
    /// When it was made.
    pub issued_at: u64,
    /// When it ends.
    pub expires_at: u64,
    /// Whether one certificate is all it can get.
    pub one_use: bool,
    /// When it got that certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<u64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<u64>,
}

/// An identity that got nothing more from some time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Revocation {
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restored_at: Option<u64>,
}

/// Why something cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There are too many tokens.
    #[error(
        "{MAX_RECORDS} tokens are valid already; revoke some with: outrigger token revoke, or give them a shorter --ttl"
    )]
    Full,
    /// There are too many revoked identities.
    #[error("{MAX_IDENTITIES} identities are revoked already; restore some with: outrigger token restore")]
    TooManyIdentities,
    /// The identity is revoked.
    #[error(
        "{0} is revoked and would get nothing with this token; first: outrigger token restore --namespace {ns} --service-account {sa}",
        ns = .0.namespace, sa = .0.service_account
    )]
    Revoked(Caller),
    /// There is no token with that id.
    #[error("no token with the id {0:?} is known; outrigger token list shows those that are")]
    Unknown(String),
    /// The identity is not revoked.
    #[error("{0} is not revoked")]
    NotRevoked(Caller),
    /// Written by a later version.
    #[error("it was written by a later version of outrigger (form {0}); use that version")]
    Later(u32),
}

impl Default for Records {
    fn default() -> Self {
        Self { version: VERSION, tokens: BTreeMap::new(), identities: BTreeMap::new() }
    }
}

impl Records {
    /// What was read, if this version knows its form.
    pub(super) fn known_form(self) -> Result<Self, RecordError> {
        if self.version > VERSION { Err(RecordError::Later(self.version)) } else { Ok(self) }
    }

    /// Every token that is remembered, with its id.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.tokens.iter().map(|(id, record)| (id.as_str(), record))
    }

    /// The identities that get nothing, as `namespace/service account`.
    pub fn revoked_identities(&self) -> impl Iterator<Item = &str> {
        let revoked = |revocation: &Revocation| revocation.restored_at.is_none();
        self.identities.iter().filter(move |(_, one)| revoked(one)).map(|(name, _)| name.as_str())
    }

    /// Whether a call with this token may be answered.
    pub(crate) fn judge(&self, token: &Verified) -> Result<(), TokenError> {
        self.judge_open(token)?;
        match self.tokens.get(&token.id) {
            Some(record) if token.one_use && record.used_at.is_some() => Err(TokenError::Used),
            // Without its record nobody can say whether it was used.
            None if token.one_use => Err(TokenError::Unrecorded),
            _ => Ok(()),
        }
    }

    /// Whether a stream that was opened with this token may stay open: being used up since then does not matter.
    pub(crate) fn judge_open(&self, token: &Verified) -> Result<(), TokenError> {
        self.judge_identity(&token.caller)?;
        let revocation = self.identities.get(&key(&token.caller));
        match self.tokens.get(&token.id) {
            Some(record) if record.revoked_at.is_some() => Err(TokenError::Revoked),
            // Made before there was a record of it, and before everything of its identity was revoked.
            None if revocation.is_some_and(|revocation| token.issued_at <= revocation.at) => {
                Err(TokenError::Revoked)
            }
            _ => Ok(()),
        }
    }

    /// Whether an identity may get anything at all, by whatever it proves itself.
    pub(crate) fn judge_identity(&self, caller: &Caller) -> Result<(), TokenError> {
        match self.identities.get(&key(caller)) {
            Some(revocation) if revocation.restored_at.is_none() => Err(TokenError::IdentityRevoked),
            _ => Ok(()),
        }
    }

    /// Remembers a new token.
    pub(super) fn add(&mut self, token: &Verified) -> Result<(), RecordError> {
        if self.judge_identity(&token.caller).is_err() {
            return Err(RecordError::Revoked(token.caller.clone()));
        }
        if self.tokens.len() >= MAX_RECORDS && !self.tokens.contains_key(&token.id) {
            return Err(RecordError::Full);
        }
        self.tokens.insert(token.id.clone(), Record::of(token));
        Ok(())
    }

    /// Uses a token up, once.
    pub(super) fn use_up(&mut self, token: &Verified, now: u64) -> Result<(), TokenError> {
        self.judge(token)?;
        if let Some(record) = self.tokens.get_mut(&token.id).filter(|_| token.one_use) {
            record.used_at = Some(now);
        }
        Ok(())
    }

    /// Revokes a token that may not have been recorded.
    pub(super) fn revoke(&mut self, token: &Verified, now: u64) -> Result<(), RecordError> {
        if !self.tokens.contains_key(&token.id) {
            if self.tokens.len() >= MAX_RECORDS {
                return Err(RecordError::Full);
            }
            self.tokens.insert(token.id.clone(), Record::of(token));
        }
        self.revoke_id(&token.id, now)
    }

    /// Revokes a token that was recorded.
    pub(super) fn revoke_id(&mut self, id: &str, now: u64) -> Result<(), RecordError> {
        let record = self.tokens.get_mut(id).ok_or_else(|| RecordError::Unknown(id.to_owned()))?;
        record.revoked_at.get_or_insert(now);
        Ok(())
    }

    /// Revokes an identity with all its tokens; how many of those were still good.
    pub(super) fn revoke_identity(&mut self, caller: &Caller, now: u64) -> Result<usize, RecordError> {
        let key = key(caller);
        if self.identities.len() >= MAX_IDENTITIES && !self.identities.contains_key(&key) {
            return Err(RecordError::TooManyIdentities);
        }
        self.identities.insert(key, Revocation { at: now, restored_at: None });
        let is_good = |record: &&mut Record| record.is_of(caller) && record.revoked_at.is_none();
        let good = self.tokens.values_mut().filter(is_good);
        Ok(good.map(|record| record.revoked_at = Some(now)).count())
    }

    /// Lets an identity have new tokens and certificates again. Its old tokens stay revoked.
    pub(super) fn restore_identity(&mut self, caller: &Caller, now: u64) -> Result<(), RecordError> {
        let revocation =
            self.identities.get_mut(&key(caller)).filter(|revocation| revocation.restored_at.is_none());
        revocation.ok_or_else(|| RecordError::NotRevoked(caller.clone()))?.restored_at = Some(now);
        Ok(())
    }

    /// Forgets what no token can be about any more.
    pub(super) fn forget_expired(&mut self, now: u64) {
        let longest = Duration::as_secs(&MAX_TTL);
        self.tokens.retain(|_, record| record.expires_at > now);
        self.identities
            .retain(|_, one| one.restored_at.is_none_or(|restored| restored.saturating_add(longest) > now));
    }
}

impl Record {
    fn of(token: &Verified) -> Self {
        Self {
            namespace: token.caller.namespace.clone(),
            service_account: token.caller.service_account.clone(),
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            one_use: token.one_use,
            used_at: None,
            revoked_at: None,
        }
    }

    fn is_of(&self, caller: &Caller) -> bool {
        self.namespace == caller.namespace && self.service_account == caller.service_account
    }

    /// What can be done with it, in one word: `valid`, `used` or `revoked`.
    pub fn state(&self) -> &'static str {
        match (self.revoked_at, self.used_at) {
            (Some(_), _) => "revoked",
            (None, Some(_)) => "used",
            (None, None) => "valid",
        }
    }
}

fn key(caller: &Caller) -> String {
    format!("{}/{}", caller.namespace, caller.service_account)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Caller {
        Caller { namespace: "shop".to_owned(), service_account: "web".to_owned() }
    }

    fn token(id: &str, one_use: bool) -> Verified {
        Verified { caller: web(), id: id.to_owned(), issued_at: 100, expires_at: 200, one_use }
    }

    #[test]
    fn a_one_use_token_is_good_once_and_keeps_open_what_it_opened() {
        let (mut records, once) = (Records::default(), token("once", true));
        assert_eq!(records.judge(&once), Err(TokenError::Unrecorded));
        records.add(&once).unwrap();
        assert_eq!(records.judge(&once), Ok(()), "a look does not use it up");
        assert_eq!(records.use_up(&once, 110), Ok(()));
        assert_eq!(records.use_up(&once, 111), Err(TokenError::Used));
        assert_eq!((records.judge(&once), records.judge_open(&once)), (Err(TokenError::Used), Ok(())));
        let often = token("often", false);
        records.add(&often).unwrap();
        assert_eq!((records.use_up(&often, 110), records.use_up(&often, 111)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_token_is_revoked_by_itself_or_by_its_id() {
        let (mut records, known, unknown) =
            (Records::default(), token("known", false), token("unknown", false));
        records.add(&known).unwrap();
        assert_eq!(records.judge(&unknown), Ok(()), "made before there were records");
        records.revoke(&unknown, 110).unwrap();
        records.revoke_id("known", 110).unwrap();
        for token in [known, unknown] {
            assert_eq!(records.judge(&token), Err(TokenError::Revoked));
            assert_eq!(records.judge_open(&token), Err(TokenError::Revoked));
        }
        assert_eq!(records.revoke_id("nobody", 110), Err(RecordError::Unknown("nobody".to_owned())));
    }

    #[test]
    fn a_revoked_identity_gets_nothing_and_after_that_nothing_with_its_old_tokens() {
        let mut records = Records::default();
        records.add(&token("old", false)).unwrap();
        assert_eq!(records.revoke_identity(&web(), 150), Ok(1));
        let other = Caller { service_account: "reviews".to_owned(), ..web() };
        assert_eq!(records.judge_identity(&other), Ok(()), "another identity is not concerned");
        assert_eq!(records.judge_identity(&web()), Err(TokenError::IdentityRevoked));
        assert_eq!(records.add(&token("new", false)), Err(RecordError::Revoked(web())));
        records.restore_identity(&web(), 160).unwrap();
        assert_eq!(records.restore_identity(&web(), 160), Err(RecordError::NotRevoked(web())));
        assert_eq!(records.judge_identity(&web()), Ok(()));
        assert_eq!(records.judge(&token("old", false)), Err(TokenError::Revoked));
        assert_eq!(records.judge(&token("never recorded", false)), Err(TokenError::Revoked));
        // Made in the same second as the revocation, but after it.
        let new = Verified { issued_at: 150, ..token("new", false) };
        records.add(&new).unwrap();
        assert_eq!(records.judge(&new), Ok(()));
    }

    #[test]
    fn there_is_a_bound_and_what_has_expired_makes_room() {
        let mut records = Records::default();
        for number in 0..MAX_RECORDS {
            records.add(&token(&number.to_string(), false)).unwrap();
        }
        assert_eq!(records.add(&token("one more", false)), Err(RecordError::Full));
        assert_eq!(records.revoke(&token("one more", false), 110), Err(RecordError::Full));
        records.forget_expired(200);
        records.add(&token("one more", false)).unwrap();
        assert_eq!(records.tokens().count(), 1);
    }

    #[test]
    fn a_later_form_is_refused() {
        let later: Records = serde_json::from_str(r#"{"version": 2, "more": true}"#).unwrap();
        assert_eq!(later.known_form(), Err(RecordError::Later(2)));
        let own = serde_json::to_string(&Records::default()).unwrap();
        assert_eq!(serde_json::from_str::<Records>(&own).unwrap().known_form(), Ok(Records::default()));
    }
}
