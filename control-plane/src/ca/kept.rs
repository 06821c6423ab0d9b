//! The authority in the data directory: its files, and the order in which they change.
//!
//! `root-key.pem root-cert.pem` sign; `roots.pem` is what is trusted when that is more; `next-root-key.pem next-root-cert.pem`
//! is the root that comes next; `rotation.json` says how far a rotation is. Every file changes whole or not at all, and
//! after each of them the directory is a state that works: `rotation.json` alone decides which root signs.

use std::time::SystemTime;

use crate::ca::root::{Flaw, MadeRoot, Root};
use crate::ca::rotation::{Journal, Phase, State};
use crate::ca::store::{Store, StoreError};

const KEY_FILE: &str = "root-key.pem";
const CERTIFICATE_FILE: &str = "root-cert.pem";
const BUNDLE_FILE: &str = "roots.pem";
const NEXT_KEY_FILE: &str = "next-root-key.pem";
const NEXT_CERTIFICATE_FILE: &str = "next-root-cert.pem";
const JOURNAL_FILE: &str = "rotation.json";

const BOTH: &str = "restore both files from a backup, or delete both to have a new root made (no workload trusts it until it \
                    gets a new certificate)";

/// Opens the authority, makes a root when there is none.
pub(super) fn open(store: &Store, now: SystemTime) -> Result<Root, StoreError> {
    if let Some(state) = read(store)? {
        return authority(store, &state, now);
    }
    let failed = |why: &dyn std::fmt::Display| {
        store.error(KEY_FILE, format_args!("no root can be made: {why}"), "try again")
    };
    let state = State::of(MadeRoot::new(now).map_err(|error| failed(&error))?);
    let root = state.authority(now).map_err(|flaw| failed(&flaw.why()))?;
    store.write_key(KEY_FILE, &state.root.key)?;
    store.write_certificate(CERTIFICATE_FILE, &state.root.certificate)?;
    tracing::info!(file = %store.path(CERTIFICATE_FILE).display(), "made a new root certificate");
    Ok(root)
}

/// The authority that is there, and the rotation that is under way.
pub(super) fn look(store: &Store, now: SystemTime) -> Result<(Root, Option<Journal>), StoreError> {
    let gone = || store.error(CERTIFICATE_FILE, "is gone", "restore it from a backup");
    let state = read(store)?.ok_or_else(gone)?;
    Ok((authority(store, &state, now)?, state.journal))
}

/// The authority of a state, or which file is wrong and what to do.
fn authority(store: &Store, state: &State, now: SystemTime) -> Result<Root, StoreError> {
    let (key, certificate) = match state.next_signs() {
        true => (NEXT_KEY_FILE, NEXT_CERTIFICATE_FILE),
        false => (KEY_FILE, CERTIFICATE_FILE),
    };
    state.authority(now).map_err(|flaw| match flaw {
        Flaw::Key(why) => store.error(key, why, BOTH),
        Flaw::Certificate(why) => store.error(certificate, why, BOTH),
        Flaw::Authorities(why) => {
            store.error(BUNDLE_FILE, why, "restore it from a backup, or delete it to trust the root alone")
        }
    })
}

/// What is kept; `None` when there is no root.
pub fn read(store: &Store) -> Result<Option<State>, StoreError> {
    let missing =
        |name: &str, other: &str| store.error(name, format_args!("is missing, {other} is there"), BOTH);
    let root = match (store.read_key(KEY_FILE)?, store.read_certificate(CERTIFICATE_FILE)?) {
        (Some(key), Some(certificate)) => MadeRoot { key, certificate },
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(missing(CERTIFICATE_FILE, KEY_FILE)),
        (None, Some(_)) => return Err(missing(KEY_FILE, CERTIFICATE_FILE)),
    };
    let next = match (store.read_key(NEXT_KEY_FILE)?, store.read_certificate(NEXT_CERTIFICATE_FILE)?) {
        (Some(key), Some(certificate)) => Some(MadeRoot { key, certificate }),
        _ => None,
    };
    let journal = store.read_certificate(JOURNAL_FILE)?.map(|text| parse(store, &text)).transpose()?;
    if next.is_none() && journal.as_ref().is_some_and(|journal| journal.phase != Phase::Trusting) {
        return Err(missing(NEXT_CERTIFICATE_FILE, JOURNAL_FILE));
    }
    Ok(Some(State { root, bundle: store.read_certificate(BUNDLE_FILE)?, next, journal }))
}

fn parse(store: &Store, text: &str) -> Result<Journal, StoreError> {
    let fix = "restore it from a backup; it says which root signs";
    serde_json::from_str(text).map_err(|error| {
        store.error(JOURNAL_FILE, format_args!("does not say how far the rotation is: {error}"), fix)
    })
}

/// One file that changes, whole or not at all.
enum Change<'s> {
    Key(&'static str, &'s str),
    Public(&'static str, String),
    Remove(&'static str),
}

/// Writes a step of a rotation.
pub fn write(store: &Store, state: &State) -> Result<(), StoreError> {
    changes(state).iter().try_for_each(|change| apply(store, change))
}

fn apply(store: &Store, change: &Change<'_>) -> Result<(), StoreError> {
    match change {
        Change::Key(name, text) => store.write_key(name, text),
        Change::Public(name, text) => store.write_certificate(name, text),
        Change::Remove(name) => store.remove(name),
    }
}

/// What changes, in order: files that decide come after those that they decide about.
fn changes(state: &State) -> Vec<Change<'_>> {
    let mut changes = Vec::new();
    if let Some(next) = &state.next {
        changes.push(Change::Key(NEXT_KEY_FILE, &next.key));
        changes.push(Change::Public(NEXT_CERTIFICATE_FILE, next.certificate.clone()));
    }
    let bundle = match &state.bundle {
        Some(bundle) => Change::Public(BUNDLE_FILE, bundle.clone()),
        None => Change::Remove(BUNDLE_FILE),
    };
    match &state.journal {
        Some(journal) => changes.extend([bundle, Change::Public(JOURNAL_FILE, journal.to_text())]),
        None => changes.extend([
            Change::Key(KEY_FILE, &state.root.key),
            Change::Public(CERTIFICATE_FILE, state.root.certificate.clone()),
            Change::Remove(JOURNAL_FILE),
            Change::Remove(NEXT_KEY_FILE),
            Change::Remove(NEXT_CERTIFICATE_FILE),
            bundle,
        ]),
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn files(dir: &Path) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
            .filter(|(name, _)| !name.starts_with('.'))
            .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
            .collect()
    }

    /// The states of a rotation, the first one among them.
    fn states(now: SystemTime) -> Vec<State> {
        let first = State::of(MadeRoot::new(now).unwrap());
        let trusting = first.clone().begin(now).unwrap();
        let signing = trusting.clone().switch(now).unwrap();
        let settling = signing.clone().settle(now).unwrap();
        let settled = settling.clone().finish(now).unwrap();
        vec![first, trusting, signing, settling, settled]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let now = SystemTime::now();
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        assert!(read(&store).unwrap().is_none());
        for state in states(now) {
            write(&store, &state).unwrap();
            assert_eq!(read(&store).unwrap(), Some(state));
        }
        assert_eq!(files(home.path()).into_keys().collect::<Vec<_>>(), [CERTIFICATE_FILE, KEY_FILE]);
    }

    /// Steps from one state to the next file by file, as a process that is killed leaves them.
    #[test]
    fn a_step_that_is_cut_off_anywhere_leaves_an_authority_that_works_and_can_be_taken_again() {
        let now = SystemTime::now();
        let all = states(now);
        for step in all.windows(2) {
            for cut in 0..=changes(&step[1]).len() {
                let home = tempfile::tempdir().unwrap();
                let store = Store::open(home.path()).unwrap();
                write(&store, &all[0]).unwrap();
                write(&store, &step[0]).unwrap();
                changes(&step[1]).iter().take(cut).for_each(|change| apply(&store, change).unwrap());
                let found = read(&store).unwrap().unwrap();
                let root = authority(&store, &found, now).unwrap();
                let both = [&step[0], &step[1]].map(|state| state.authority(now).unwrap());
                assert!(both.iter().any(|one| one.certificate() == root.certificate()), "after {cut} files");
                write(&store, &step[1]).unwrap();
                assert_eq!(read(&store).unwrap().as_ref(), Some(&step[1]), "after {cut} files");
            }
        }
    }
}
