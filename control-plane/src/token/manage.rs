//! What `outrigger token` does with a data directory: make, revoke, restore, list.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::book::{self, BookError};
use super::{Caller, IssueError, KEY_FILE, TokenError, TokenKeys};
use crate::ca::store::{Store, StoreError};

/// A token to be made.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// For whom.
    pub caller: Caller,
    /// How long it is to be good.
    pub ttl: Duration,
    /// Whether it gets one certificate or any number.
    pub uses: Uses,
}

/// How often a token gets a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uses {
    /// Once.
    One,
    /// As often as it is shown.
    Any,
}

/// A token that was made. Keys are stable.
#[derive(Debug, Clone, Serialize)]
pub struct Created {
    /// Its id, by which it can be revoked.
    pub id: String,
    /// The token itself.
    pub token: String,
    /// The namespace it stands for.
    pub namespace: String,
    /// The service account it stands for.
    pub service_account: String,
    /// When it ends, in seconds of Unix time.
    pub expires_at: u64,
    /// Whether one certificate is all it gets.
    pub one_use: bool,
}

/// What is to be revoked.
#[derive(Debug, Clone)]
pub enum Which {
    /// A token.
    Token(String),
    /// The token with an id.
    Id(String),
    /// An identity: its tokens, and the renewal of its certificates.
    Identity(Caller),
}

/// Everything that is known. Keys are stable.
#[derive(Debug, Clone, Serialize)]
pub struct Listing {
    /// The tokens that have not expired.
    pub tokens: Vec<Listed>,
    /// The identities that get nothing, as `namespace/service account`.
    pub revoked_identities: Vec<String>,
}

/// A token as a list shows it; never the token itself. Times are seconds of Unix time.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// `valid`, `used` or `revoked`.
    pub state: &'static str,
    /// Whether one certificate is all it gets.
    pub one_use: bool,
    /// When it was made.
    pub issued_at: u64,
    /// When it ends.
    pub expires_at: u64,
    /// When it was used up.
    pub used_at: Option<u64>,
    /// When it was revoked.
    pub revoked_at: Option<u64>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// No control plane has used the directory.
    #[error(
        "{} holds no key for tokens: no control plane has used it yet; give the --data DIR of the control plane", .0.display()
    )]
    NoKey(PathBuf),
    /// The directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The records cannot be changed.
    #[error(transparent)]
    Book(#[from] BookError),
    /// What was given is not a token of this control plane.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Opens a data directory that a control plane has used, or that was prepared for one.
fn open_used(data_dir: &Path) -> Result<Store, ManageError> {
    match has_key(data_dir) {
        true => Ok(Store::open(data_dir)?),
        false => Err(ManageError::NoKey(data_dir.to_owned())),
    }
}

/// Whether a data directory has a key for tokens. One without was used by no control plane yet; its name may be mistyped.
pub fn has_key(data_dir: &Path) -> bool {
    data_dir.join(KEY_FILE).exists()
}

/// Makes a token, and before that the directory and its key where they are missing.
pub fn create(data_dir: &Path, wanted: &Wanted, now: SystemTime) -> Result<Created, ManageError> {
    make(&Store::open(data_dir)?, wanted, now)
}

fn make(store: &Store, wanted: &Wanted, now: SystemTime) -> Result<Created, ManageError> {
    let (token, verified) = TokenKeys::open(store)?.make(wanted, now)?;
    book::change(store, |records, _| Ok(records.add(&verified)?))?;
    Ok(Created {
        id: verified.id,
        token,
        namespace: verified.caller.namespace,
        service_account: verified.caller.service_account,
        expires_at: verified.expires_at,
        one_use: verified.one_use,
    })
}

/// Revokes; a line that says what was done.
pub fn revoke(data_dir: &Path, which: &Which) -> Result<String, ManageError> {
    let store = open_used(data_dir)?;
    match which {
        Which::Token(token) => {
            // One that has expired needs no revocation, and everything else is not ours.
            let verified = TokenKeys::open(&store)?.verify(token.trim())?;
            book::change(&store, |records, now| Ok(records.revoke(&verified, now)?))?;
            Ok(format!("revoked the token {} of {}", verified.id, verified.caller))
        }
        Which::Id(id) => {
            book::change(&store, |records, now| Ok(records.revoke_id(id, now)?))?;
            Ok(format!("revoked the token {id}"))
        }
        Which::Identity(caller) => {
            let (_, tokens) = book::change(&store, |records, now| Ok(records.revoke_identity(caller, now)?))?;
            Ok(format!(
                "revoked {caller} and its tokens ({tokens}); a certificate it has is good until it ends, and is not renewed"
            ))
        }
    }
}

/// Lets a revoked identity have new tokens again; a line that says so.
pub fn restore(data_dir: &Path, caller: &Caller) -> Result<String, ManageError> {
    let store = open_used(data_dir)?;
    book::change(&store, |records, now| Ok(records.restore_identity(caller, now)?))?;
    Ok(format!("restored {caller}; its old tokens stay revoked, make a new one with: outrigger token create"))
}

/// What is known of tokens that have not expired.
pub fn list(data_dir: &Path, now: SystemTime) -> Result<Listing, ManageError> {
    let records = book::read(&open_used(data_dir)?)?.unwrap_or_default();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let alive = records.tokens().filter(|(_, record)| record.expires_at > now);
    let tokens = alive.map(|(id, record)| Listed {
        id: id.to_owned(),
        namespace: record.namespace.clone(),
        service_account: record.service_account.clone(),
        state: record.state(),
        one_use: record.one_use,
        issued_at: record.issued_at,
        expires_at: record.expires_at,
        used_at: record.used_at,
        revoked_at: record.revoked_at,
    });
    let mut tokens: Vec<Listed> = tokens.collect();
    tokens.sort_by_key(|token| token.expires_at);
    Ok(Listing { tokens, revoked_identities: records.revoked_identities().map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Caller {
        Caller { namespace: "shop".to_owned(), service_account: "web".to_owned() }
    }

    fn wanted(uses: Uses) -> Wanted {
        Wanted { caller: web(), ttl: Duration::from_secs(3600), uses }
    }

    #[test]
    fn a_directory_that_no_control_plane_has_used_stays_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let typo = home.path().join("typo");
        for path in [typo.as_path(), home.path()] {
            let error = list(path, SystemTime::now()).unwrap_err().to_string();
            assert!(!has_key(path) && error.contains("--data"), "{error}");
            assert!(matches!(list(path, SystemTime::now()), Err(ManageError::NoKey(_))));
            assert!(matches!(revoke(path, &Which::Identity(web())), Err(ManageError::NoKey(_))));
        }
        assert!(!typo.exists() && std::fs::read_dir(home.path()).unwrap().next().is_none());
        create(&typo, &wanted(Uses::Any), SystemTime::now()).unwrap();
        assert!(has_key(&typo));
    }

    #[test]
    fn a_list_shows_what_became_of_each_token() {
        let home = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let mut made = Vec::new();
        for uses in [Uses::One, Uses::Any, Uses::Any] {
            made.push(create(home.path(), &wanted(uses), now).unwrap());
        }
        revoke(home.path(), &Which::Token(format!("{}\n", made[1].token))).unwrap();
        let listing = list(home.path(), now).unwrap();
        let state = |created: &Created| {
            let found = listing.tokens.iter().find(|listed| listed.id == created.id).unwrap();
            (found.state, found.one_use)
        };
        assert_eq!(
            made.iter().map(state).collect::<Vec<_>>(),
            [("valid", true), ("revoked", false), ("valid", false)]
        );
        revoke(home.path(), &Which::Id(made[0].id.clone())).unwrap();
        revoke(home.path(), &Which::Identity(web())).unwrap();
        let listing = list(home.path(), now).unwrap();
        assert!(listing.tokens.iter().all(|token| token.state == "revoked"));
        assert_eq!(listing.revoked_identities, ["shop/web"]);
        assert!(
            create(home.path(), &wanted(Uses::Any), now).unwrap_err().to_string().contains("token restore")
        );
        restore(home.path(), &web()).unwrap();
        create(home.path(), &wanted(Uses::Any), now).unwrap();
        assert!(list(home.path(), now + Duration::from_secs(3600)).unwrap().tokens.is_empty());
    }

    #[test]
    fn a_token_of_another_control_plane_cannot_be_revoked_here() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let foreign = create(one.path(), &wanted(Uses::Any), SystemTime::now()).unwrap();
        create(two.path(), &wanted(Uses::Any), SystemTime::now()).unwrap();
        let error = revoke(two.path(), &Which::Token(foreign.token)).unwrap_err();
        assert!(matches!(error, ManageError::Token(TokenError::Forged)), "{error}");
    }
}
