//! What one client subscribes to of one resource type, and what it has of it.
//!
//! Names whose resource may differ from what the client has are `dirty`; [`Subscription::due`] says what to do about
//! one. Both variants of the protocol are built on this.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use outrigger_model::resource::ResourceType;
use tonic::Status;

use crate::translate::Client;
use crate::xds::cache::Key;
use crate::xds::encoded::Encoded;
use crate::xds::hub::{Batch, Hub, Lease, Names};
use crate::xds::{MAX_NAME_BYTES, MAX_NAMES_PER_STREAM};

/// What the client has of one name.
#[derive(Debug)]
enum Sent {
    /// Nothing was said about it.
    Nothing,
    /// It was said that it does not exist.
    Absent,
    /// A version of it; the resource itself unless the client brought it along from another stream.
    Version { version: Arc<str>, resource: Option<Arc<Encoded>> },
}

/// One subscribed name.
#[derive(Debug)]
struct Held {
    lease: Lease,
    /// The client named it.
    explicit: bool,
    /// It is one of all.
    implied: bool,
    sent: Sent,
}

/// How a client stands to a name.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) sent: Option<Arc<str>>,
    pub(crate) is_current: bool,
}

/// What to do about a name.
#[derive(Debug)]
pub(crate) enum Due {
    /// The client has it as it is.
    Nothing,
    /// Send this.
    Send(Arc<Encoded>),
    /// Say that it does not exist; the client has nothing of it.
    Absence,
    /// Take it away from the client.
    Removal,
}

/// A response that the client has not answered.
#[derive(Debug)]
pub(crate) struct Outstanding {
    pub(crate) nonce: String,
    pub(crate) version: u64,
}

/// The subscription to one resource type.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) kind: ResourceType,
    /// The response in flight: there is at most one.
    pub(crate) outstanding: Option<Outstanding>,
    /// The client waits for a response even if there is nothing in it.
    pub(crate) owes_answer: bool,
    /// The first request of the type has come.
    pub(crate) started: bool,
    held: BTreeMap<Arc<str>, Held>,
    all: Option<Names>,
    dirty: BTreeSet<Arc<str>>,
}

/// Where names are looked up, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) hub: Arc<Hub>,
    pub(crate) client: Arc<Client>,
}

impl Subscription {
    pub(crate) fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            outstanding: None,
            owes_answer: false,
            started: false,
            held: BTreeMap::new(),
            all: None,
            dirty: BTreeSet::new(),
        }
    }

    /// How many names are subscribed to.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// The names the client asked for itself.
    pub(crate) fn explicit(&self) -> impl Iterator<Item = &Arc<str>> {
        self.held.iter().filter(|(_, held)| held.explicit).map(|(name, _)| name)
    }

    /// Whether it subscribes to everything.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.all.is_some()
    }

    /// Subscribes to a name. A name that is subscribed to already is sent again, as the protocol asks.
    pub(crate) fn subscribe(&mut self, view: &View, name: &str) -> Result<(), Status> {
        check_name(name)?;
        let held = self.hold(view, name)?;
        if held.explicit {
            held.sent = Sent::Nothing;
        }
        held.explicit = true;
        let name = held.name();
        self.dirty.insert(name);
        Ok(())
    }

    /// Drops a name that the client no longer wants. It forgets it by itself.
    pub(crate) fn unsubscribe(&mut self, name: &str) {
        let Some(held) = self.held.get_mut(name) else { return };
        held.explicit = false;
        if held.implied {
            // The client thinks it has lost it, though everything includes it.
            held.sent = Sent::Nothing;
            self.dirty.insert(name.into());
        } else {
            self.forget(name);
        }
    }

    /// Subscribes to everything of the type.
    pub(crate) fn subscribe_all(&mut self, view: &View) -> Result<(), Status> {
        self.owes_answer = true;
        self.replace_all(view, view.hub.wildcard(self.kind))
    }

    /// Ends the subscription to everything; what was named stays.
    pub(crate) fn unsubscribe_all(&mut self) {
        self.all = None;
        for held in self.held.values_mut() {
            held.implied = false;
        }
        let gone: Vec<_> =
            self.held.iter().filter(|(_, held)| !held.explicit).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.forget(&name);
        }
    }

    /// Notes which version of a name the client brought along from an earlier stream.
    pub(crate) fn brought(&mut self, view: &View, name: &str, version: String) -> Result<(), Status> {
        if !self.is_wildcard() && !self.held.contains_key(name) {
            return Ok(());
        }
        check_name(name)?;
        let held = self.hold(view, name)?;
        let name = held.name();
        held.sent = Sent::Version { version: version.into(), resource: None };
        self.dirty.insert(name);
        Ok(())
    }

    /// Takes in a push.
    pub(crate) fn take(&mut self, view: &View, batch: &Batch) -> Result<(), Status> {
        let is_mine = |held: &BTreeMap<Arc<str>, Held>, key: &Key| {
            key.kind == self.kind && held.get(&key.name).is_some_and(|held| held.lease.entry().key == *key)
        };
        let mine = batch.keys.iter().filter(|key| is_mine(&self.held, key)).map(|key| key.name.clone());
        self.dirty.extend(mine.collect::<Vec<_>>());
        if self.is_wildcard() && batch.wildcards.contains(&self.kind) {
            self.replace_all(view, view.hub.wildcard(self.kind))?;
        }
        Ok(())
    }

    /// Looks at everything again, after pushes were missed.
    pub(crate) fn take_everything(&mut self, view: &View) -> Result<(), Status> {
        self.dirty = self.held.keys().cloned().collect();
        if self.is_wildcard() {
            self.replace_all(view, view.hub.wildcard(self.kind))?;
        }
        Ok(())
    }

    /// Names that may need something, in order.
    pub(crate) fn dirty(&self) -> Vec<Arc<str>> {
        self.dirty.iter().cloned().collect()
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.held.keys().cloned().collect()
    }

    /// What to do about a name.
    pub(crate) fn due(&self, name: &str) -> Due {
        let Some(held) = self.held.get(name) else { return Due::Nothing };
        match (held.value(), &held.sent) {
            (Some(now), Sent::Version { version, .. }) if now.version == *version => Due::Nothing,
            (Some(now), _) => Due::Send(now),
            (None, Sent::Nothing) => Due::Absence,
            (None, Sent::Absent) => Due::Nothing,
            (None, Sent::Version { .. }) => Due::Removal,
        }
    }

    /// The version of a name that the client was sent, and whether that is the one in force here; `None` when it does not
    /// ask for the name.
    pub(crate) fn standing(&self, name: &str) -> Option<Standing> {
        let held = self.held.get(name).filter(|held| held.is_wanted())?;
        let sent = match &held.sent {
            Sent::Version { version, .. } => Some(version.clone()),
            Sent::Nothing | Sent::Absent => None,
        };
        Some(Standing { sent, is_current: matches!(self.due(name), Due::Nothing) })
    }

    /// What the client has of a name now, as far as this stream sent it.
    pub(crate) fn last_sent(&self, name: &str) -> Option<Arc<Encoded>> {
        match &self.held.get(name)?.sent {
            Sent::Version { resource, .. } => resource.clone(),
            Sent::Nothing | Sent::Absent => None,
        }
    }

    /// Notes that the client is sent this.
    pub(crate) fn note_sent(&mut self, name: &str, encoded: Arc<Encoded>) {
        if let Some(held) = self.held.get_mut(name) {
            held.sent = Sent::Version { version: encoded.version.clone(), resource: Some(encoded) };
        }
        self.dirty.remove(name);
    }

    /// Notes that the client knows that a name does not exist.
    pub(crate) fn note_absent(&mut self, name: &str) {
        self.dirty.remove(name);
        let Some(held) = self.held.get_mut(name) else { return };
        held.sent = Sent::Absent;
        if !held.is_wanted() {
            self.held.remove(name);
        }
    }

    /// Notes that there is nothing to do about a name.
    pub(crate) fn note_clean(&mut self, name: &str) {
        self.dirty.remove(name);
        if self.held.get(name).is_some_and(|held| !held.is_wanted()) {
            self.held.remove(name);
        }
    }

    /// Whether a resource waits to be sent.
    pub(crate) fn has_additions(&self) -> bool {
        self.dirty.iter().any(|name| matches!(self.due(name), Due::Send(_)))
    }

    /// Whether something waits to be sent or taken away.
    pub(crate) fn has_work(&self) -> bool {
        self.dirty.iter().any(|name| !matches!(self.due(name), Due::Nothing))
    }

    /// Sends a name again although the client has it.
    pub(crate) fn resend(&mut self, name: &str) {
        let Some((name, held)) = self.held.get_key_value(name) else { return };
        if matches!(held.sent, Sent::Version { .. }) {
            let name = name.clone();
            self.dirty.insert(name.clone());
            if let Some(held) = self.held.get_mut(&name) {
                held.sent = Sent::Nothing;
            }
        }
    }

    /// Whether everything is said.
    pub(crate) fn is_settled(&self) -> bool {
        self.dirty.is_empty() && !self.owes_answer
    }

    fn replace_all(&mut self, view: &View, names: Names) -> Result<(), Status> {
        let wanted: BTreeSet<&Arc<str>> = names.iter().collect();
        for (name, held) in &mut self.held {
            if held.implied && !wanted.contains(name) {
                held.implied = false;
                self.dirty.insert(name.clone());
            }
        }
        for name in names.iter() {
            let held = self.hold(view, name)?;
            if !held.implied {
                held.implied = true;
                self.dirty.insert(name.clone());
            }
        }
        self.all = Some(names);
        Ok(())
    }

    fn hold(&mut self, view: &View, name: &str) -> Result<&mut Held, Status> {
        if !self.held.contains_key(name) {
            let lease = view
                .hub
                .lease(self.kind, name, &view.client)
                .map_err(|full| Status::resource_exhausted(full.to_string()))?;
            let held = Held { lease, explicit: false, implied: false, sent: Sent::Nothing };
            self.held.insert(held.name(), held);
        }
        self.held.get_mut(name).ok_or_else(|| Status::internal("a name that was just added is gone"))
    }

    fn forget(&mut self, name: &str) {
        self.held.remove(name);
        self.dirty.remove(name);
    }
}

impl Held {
    /// The name, which all streams share.
    fn name(&self) -> Arc<str> {
        self.lease.entry().key.name.clone()
    }

    fn is_wanted(&self) -> bool {
        self.explicit || self.implied
    }

    fn value(&self) -> Option<Arc<Encoded>> {
        self.lease.entry().value().filter(|_| self.is_wanted())
    }
}

/// Refuses a name that no resource can have.
fn check_name(name: &str) -> Result<(), Status> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        let text = format!("a resource name has 1 to {MAX_NAME_BYTES} bytes, this one has {}", name.len());
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

/// Refuses a stream that asks for more names than it may.
pub(crate) fn check_count(names: usize) -> Result<(), Status> {
    if names > MAX_NAMES_PER_STREAM {
        let text =
            format!("a stream subscribes to at most {MAX_NAMES_PER_STREAM} names, this one asks for {names}");
        return Err(Status::resource_exhausted(text));
    }
    Ok(())
}
