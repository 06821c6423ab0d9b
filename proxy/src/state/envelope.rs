//! The head of a file of the state directory, and whether what follows may be used. Pure: bytes and time are arguments.
//!
//! Layout, numbers big-endian: magic (8 bytes), version (4), seconds of Unix time (8), length of the owner (2), the owner,
//! length of the content (8), SHA-256 of everything before and of the content (32), the content.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

use super::Kept;

const MAGIC: &[u8; 8] = b"OUTRIGST";
/// Of this layout; a file of another one is passed over.
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = 32;
/// A clock that was set back makes files of the future; so much may be chance.
const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);

/// The workload that a file belongs to. Its trust domain is part of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its name.
    pub workload: String,
}

/// What is said of the content.
pub(super) struct Envelope<'a> {
    pub(super) owner: &'a Owner,
    pub(super) as_of: SystemTime,
}

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not such a file.
    #[error("it is not a file of a proxy's state")]
    NotState,
    /// Of another version of the proxy.
    #[error("it has the form {0} of another version of the proxy, this one reads the form {VERSION}")]
    Version(u32),
    /// Not what was written.
    #[error("it is damaged: its length or its digest is wrong")]
    Damaged,
    /// Somebody else's.
    #[error("it belongs to {0}, which is another workload: was the directory used by another one before?")]
    OtherOwner(String),
    /// Too old.
    #[error("it is {} old, and --state-max-age is {}", humantime::format_duration(*.age), humantime::format_duration(*.max_age))]
    TooOld {
        /// How old it is.
        age: Duration,
        /// How old it may be.
        max_age: Duration,
    },
    /// The clock has gone backwards.
    #[error("it was written {} from now: the clock was set back", humantime::format_duration(*.0))]
    FromTheFuture(Duration),
}

impl Owner {
    fn text(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.service_account, self.workload)
    }
}

impl Envelope<'_> {
    /// The file around `content`.
    pub(super) fn seal(&self, content: &[u8]) -> io::Result<Vec<u8>> {
        let owner = self.owner.text();
        let owner_length = u16::try_from(owner.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(content.len() + owner.len() + 64);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        let as_of = self.as_of.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        bytes.extend_from_slice(&as_of.to_be_bytes());
        bytes.extend_from_slice(&owner_length.to_be_bytes());
        bytes.extend_from_slice(owner.as_bytes());
        bytes.extend_from_slice(&(content.len() as u64).to_be_bytes());
        let digest = digest(&bytes, content).ok_or_else(|| io::Error::other("there is no SHA-256"))?;
        bytes.extend_from_slice(&digest);
        bytes.extend_from_slice(content);
        Ok(bytes)
    }
}

/// What a file holds, if `owner` may use it now. `clock` is the time, and how old it may be.
pub(super) fn unseal(bytes: &[u8], owner: &Owner, clock: (SystemTime, Duration)) -> Result<Kept, Unusable> {
    let mut rest = Rest(bytes);
    if rest.take(MAGIC.len()) != Ok(MAGIC) {
        return Err(Unusable::NotState);
    }
    let version = u32::from_be_bytes(rest.array()?);
    if version != VERSION {
        return Err(Unusable::Version(version));
    }
    let seconds = u64::from_be_bytes(rest.array()?);
    let owner_length = u16::from_be_bytes(rest.array()?);
    let found = rest.take(usize::from(owner_length))?;
    let length = u64::from_be_bytes(rest.array()?);
    let head = &bytes[..bytes.len() - rest.0.len()];
    let expected: [u8; DIGEST_BYTES] = rest.array()?;
    let content = rest.0;
    if content.len() as u64 != length || digest(head, content) != Some(expected) {
        return Err(Unusable::Damaged);
    }
    if found != owner.text().as_bytes() {
        return Err(Unusable::OtherOwner(String::from_utf8_lossy(found).into_owned()));
    }
    let as_of = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(Unusable::Damaged)?;
    check_age(as_of, clock)?;
    Ok(Kept { content: content.to_vec(), as_of })
}

fn check_age(as_of: SystemTime, (now, max_age): (SystemTime, Duration)) -> Result<(), Unusable> {
    let whole = |duration: Duration| Duration::from_secs(duration.as_secs());
    match now.duration_since(as_of) {
        Ok(age) if age > max_age => Err(Unusable::TooOld { age: whole(age), max_age }),
        Err(ahead) if ahead.duration() > MAX_AHEAD => Err(Unusable::FromTheFuture(whole(ahead.duration()))),
        _ => Ok(()),
    }
}

fn digest(head: &[u8], content: &[u8]) -> Option<[u8; DIGEST_BYTES]> {
    let mut context = TLS13_AES_128_GCM_SHA256.tls13()?.common.hash_provider.start();
    context.update(head);
    context.update(content);
    context.finish().as_ref().try_into().ok()
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unusable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unusable::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unusable> {
        self.take(N)?.try_into().map_err(|_| Unusable::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn owner() -> Owner {
        Owner {
            namespace: "shop".to_owned(),
            service_account: "web".to_owned(),
            workload: "web-1".to_owned(),
        }
    }

    fn written() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn sealed() -> Vec<u8> {
        Envelope { owner: &owner(), as_of: written() }.seal(b"content").unwrap()
    }

    fn open(bytes: &[u8], at: SystemTime) -> Result<Vec<u8>, Unusable> {
        unseal(bytes, &owner(), (at, HOUR)).map(|kept| kept.content)
    }

    #[test]
    fn any_byte_that_is_changed_and_any_that_is_missing_is_noticed() {
        let good = sealed();
        assert_eq!(open(&good, written()).unwrap(), b"content");
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            open(&bad, written()).unwrap_err();
            open(&good[..place], written()).unwrap_err();
        }
        open(&[good.as_slice(), b"x"].concat(), written()).unwrap_err();
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut later = sealed();
        later[11] = 2;
        assert_eq!(open(&later, written()), Err(Unusable::Version(2)));
        assert_eq!(open(b"xds-state of old", written()), Err(Unusable::NotState));
        assert_eq!(open(b"", written()), Err(Unusable::NotState));
    }

    #[test]
    fn what_is_too_old_or_of_the_future_is_not_used() {
        let file = sealed();
        assert!(open(&file, written() + HOUR).is_ok());
        let age = HOUR + Duration::from_secs(1);
        assert_eq!(open(&file, written() + age), Err(Unusable::TooOld { age, max_age: HOUR }));
        assert!(open(&file, written() - MAX_AHEAD).is_ok());
        let ahead = MAX_AHEAD + Duration::from_secs(1);
        let error = open(&file, written() - ahead).unwrap_err();
        assert_eq!(error, Unusable::FromTheFuture(ahead));
        assert_eq!(error.to_string(), "it was written 5m 1s from now: the clock was set back");
    }

    #[test]
    fn another_workloads_file_is_named() {
        let other = Owner { workload: "web-2".to_owned(), ..owner() };
        let refused = unseal(&sealed(), &other, (written(), HOUR));
        assert_eq!(refused, Err(Unusable::OtherOwner("shop/web/web-1".to_owned())));
    }
}
