//! One root takes over from another: what is kept of it, and the steps from one state to the next.
//!
//! 1. *Trusting*: the next root is there and trusted; the old one signs.
//! 2. *Signing*: the next root signs; the old one is still trusted, for the leaves that stand under it.
//! 3. *Settling*: the old one goes. Then the next root is the root, and there is no rotation any more.
//!
//! Whoever drives them (`outrigger certs rotate-root`) may end at any moment and begin again: a step looks at what is there, and
//! one that was done already does nothing. Which root signs is one word in one file, so that it changes at once.
//! Pure: where the state is kept is `kept.rs` (the data directory) and `secret.rs` (a Secret).

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::ca::root::{Flaw, MadeRoot, Root, RootPems, SignError, fingerprint_text, is_made_here, to_pem};

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The next root is trusted and does not sign yet.
    Trusting,
    /// The next root signs, the old one is trusted.
    Signing,
    /// The old root is being taken away.
    Settling,
}

/// What is remembered of a rotation while it is under way, as JSON. Keys are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// How far it is.
    pub phase: Phase,
    /// When it began, in seconds of Unix time.
    pub started: u64,
    /// When the next root began to sign, in seconds of Unix time.
    #[serde(default)]
    pub switched_at: Option<u64>,
    /// SHA-256 of the root that goes, in lower case hexadecimal.
    pub old: String,
    /// SHA-256 of the root that comes.
    pub new: String,
}

/// An authority as text: what signs, what is trusted, and what comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The root, with its key.
    pub root: MadeRoot,
    /// The authorities that workloads trust; the root alone when there is none.
    pub bundle: Option<String>,
    /// The root that comes next.
    pub next: Option<MadeRoot>,
    /// The rotation that is under way.
    pub journal: Option<Journal>,
}

/// A step that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The authority was given by somebody else.
    #[error(
        "the root was not made by the control plane, so that it is not its own to exchange; put the old and the new root into \
         ca.crt, wait until every proxy has both (outrigger certs status), put the new certificate and key into tls.crt and \
         tls.key, wait until no leaf stands under the old root, and take that out of ca.crt"
    )]
    Given,
    /// The root cannot be read.
    #[error("the root that is there {}; it must be good before another takes over", .0.why())]
    Root(Flaw),
    /// The next root cannot be read.
    #[error("the next root {}; take its files (next-root-*.pem and rotation.json, or those keys of the Secret) away and begin again", .0.why())]
    Next(Flaw),
    /// None can be made.
    #[error("no new root can be made: {0}")]
    Make(#[from] SignError),
    /// The step is not the next one.
    #[error("this step does not follow: {0}")]
    Order(&'static str),
}

impl Journal {
    /// As it is kept.
    pub fn to_text(&self) -> String {
        // A struct of words and numbers is always JSON.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

impl State {
    /// A root that was just made.
    pub fn of(root: MadeRoot) -> Self {
        Self { root, bundle: None, next: None, journal: None }
    }

    /// How far a rotation is; `None` when there is none.
    pub fn phase(&self) -> Option<Phase> {
        self.journal.as_ref().map(|journal| journal.phase)
    }

    /// Whether the next root signs already.
    pub fn next_signs(&self) -> bool {
        matches!(self.phase(), Some(Phase::Signing | Phase::Settling))
    }

    /// The pair that signs. A state whose next root ought to sign but is missing signs with the one before.
    fn signing(&self) -> &MadeRoot {
        match &self.next {
            Some(next) if self.next_signs() => next,
            _ => &self.root,
        }
    }

    /// The authority that this state is.
    pub fn authority(&self, now: SystemTime) -> Result<Root, Flaw> {
        let MadeRoot { key, certificate } = self.signing();
        Root::from_pems(&RootPems { key, certificate, authorities: self.bundle.as_deref() }, now)
    }

    /// Makes the next root and trusts it beside the old one; nothing when that was done already.
    pub fn begin(mut self, now: SystemTime) -> Result<Self, RotationError> {
        if self.journal.is_some() {
            return Ok(self);
        }
        let old = self.authority(now).map_err(RotationError::Root)?;
        if !is_made_here(&old) {
            return Err(RotationError::Given);
        }
        let next = match self.next.take().filter(|next| is_usable(next, &old, now)) {
            Some(next) => next,
            None => MadeRoot::new(now)?,
        };
        let new = Root::from_pems(&next.pems(), now).map_err(RotationError::Next)?;
        let mut bundle = old.bundle().trim_end().to_owned() + "\n";
        if !old.authorities().contains(new.root_certificate()) {
            bundle.push_str(&next.certificate);
        }
        self.journal = Some(Journal {
            phase: Phase::Trusting,
            started: unix_seconds(now),
            switched_at: None,
            old: fingerprint_text(old.root_certificate()),
            new: fingerprint_text(new.root_certificate()),
        });
        Ok(Self { bundle: Some(bundle), next: Some(next), ..self })
    }

    /// Has the next root sign; nothing when it does already.
    pub fn switch(mut self, now: SystemTime) -> Result<Self, RotationError> {
        let next =
            self.next.as_ref().ok_or(RotationError::Order("there is no next root; begin a rotation"))?;
        let authorities = self.bundle.as_deref();
        let pems = RootPems { authorities, ..next.pems() };
        Root::from_pems(&pems, now).map_err(RotationError::Next)?;
        let journal = self.journal.as_mut().ok_or(RotationError::Order("no rotation is under way"))?;
        if journal.phase == Phase::Trusting {
            journal.phase = Phase::Signing;
            journal.switched_at = Some(unix_seconds(now));
        }
        Ok(self)
    }

    /// Trusts the old root no more.
    pub fn settle(mut self, now: SystemTime) -> Result<Self, RotationError> {
        if !self.next_signs() {
            return Err(RotationError::Order("the next root does not sign yet"));
        }
        let signing = self.authority(now).map_err(RotationError::Next)?;
        let journal = self.journal.as_mut().ok_or(RotationError::Order("no rotation is under way"))?;
        journal.phase = Phase::Settling;
        let left = signing.authorities().iter().filter(|root| fingerprint_text(root) != journal.old);
        self.bundle = Some(left.map(to_pem).collect());
        Ok(self)
    }

    /// Makes the next root the root; there is no rotation any more.
    pub fn finish(self, now: SystemTime) -> Result<Self, RotationError> {
        if self.phase() != Some(Phase::Settling) {
            return Err(RotationError::Order("the old root is still trusted"));
        }
        let alone = self.authority(now).map_err(RotationError::Next)?.authorities().len() == 1;
        let root = self.next.ok_or(RotationError::Order("there is no next root"))?;
        Ok(Self { root, bundle: self.bundle.filter(|_| !alone), next: None, journal: None })
    }
}

/// Whether a next root that was left behind can be the next one: it is good, and another than the root.
fn is_usable(next: &MadeRoot, old: &Root, now: SystemTime) -> bool {
    Root::from_pems(&next.pems(), now).is_ok_and(|next| next.root_certificate() != old.root_certificate())
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(now: SystemTime) -> State {
        State::of(MadeRoot::new(now).unwrap())
    }

    fn signer(state: &State, now: SystemTime) -> String {
        fingerprint_text(state.authority(now).unwrap().root_certificate())
    }

    fn trusted(state: &State, now: SystemTime) -> Vec<String> {
        state.authority(now).unwrap().authorities().iter().map(|root| fingerprint_text(root)).collect()
    }

    #[test]
    fn the_next_root_is_trusted_then_signs_then_stands_alone() {
        let now = SystemTime::now();
        let first = state(now);
        let old = signer(&first, now);
        let trusting = first.begin(now).unwrap();
        let journal = trusting.journal.clone().unwrap();
        assert_eq!((journal.phase, &journal.old), (Phase::Trusting, &old));
        assert_eq!(signer(&trusting, now), old);
        assert_eq!(trusted(&trusting, now), [journal.old.clone(), journal.new.clone()]);
        let signing = trusting.switch(now).unwrap();
        assert_eq!(signer(&signing, now), journal.new);
        assert_eq!(trusted(&signing, now), [journal.old.clone(), journal.new.clone()]);
        let settling = signing.settle(now).unwrap();
        assert_eq!(
            (signer(&settling, now), trusted(&settling, now)),
            (journal.new.clone(), vec![journal.new.clone()])
        );
        let settled = settling.finish(now).unwrap();
        assert_eq!((signer(&settled, now), settled.bundle.clone()), (journal.new, None));
        assert!(settled.next.is_none() && settled.phase().is_none());
    }

    #[test]
    fn a_step_that_was_taken_does_nothing_and_one_out_of_order_is_refused() {
        let now = SystemTime::now();
        let trusting = state(now).begin(now).unwrap();
        assert_eq!(trusting.clone().begin(now).unwrap(), trusting);
        let signing = trusting.clone().switch(now).unwrap();
        let later = now + std::time::Duration::from_secs(60);
        assert_eq!(signing.clone().switch(later).unwrap(), signing, "the moment of the switch stays");
        let settling = signing.clone().settle(now).unwrap();
        assert_eq!(settling.clone().settle(now).unwrap(), settling);
        assert!(state(now).switch(now).is_err() && trusting.settle(now).is_err());
        assert!(signing.finish(now).is_err(), "the old root is still trusted");
    }

    #[test]
    fn what_a_rotation_left_behind_is_used_when_it_is_good_for_it() {
        let now = SystemTime::now();
        let left = MadeRoot::new(now).unwrap();
        let begun = State { next: Some(left.clone()), ..state(now) }.begin(now).unwrap();
        assert_eq!(begun.next, Some(left));
        let same = state(now);
        let begun = State { next: Some(same.root.clone()), ..same.clone() }.begin(now).unwrap();
        assert_ne!(begun.next, Some(same.root), "the root that signs is not the next one");
    }

    #[test]
    fn others_that_are_trusted_stay_so() {
        let now = SystemTime::now();
        let (first, spire) = (state(now), MadeRoot::new(now).unwrap());
        let bundle = Some(first.root.certificate.clone() + &spire.certificate);
        let begun = State { bundle, ..first }.begin(now).unwrap();
        let done = begun.switch(now).unwrap().settle(now).unwrap().finish(now).unwrap();
        assert_eq!(trusted(&done, now).len(), 2);
    }

    #[test]
    fn a_journal_is_read_as_it_is_written() {
        let now = SystemTime::now();
        let journal = state(now).begin(now).unwrap().journal.unwrap();
        let text = journal.to_text();
        assert!(text.contains("\"phase\":\"trusting\""), "{text}");
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
    }
}
