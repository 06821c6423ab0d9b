//! Everything one stream has subscribed to, and in which order it gets it.
//!
//! Make before break: what is pointed at is sent before what points at it, and taken away only after what pointed at
//! it is gone and the client has said so. A removal waits only for types that can refer to the removed one, so that
//! endpoints that change all the time hold nothing up.

use std::sync::Arc;

use outrigger_model::name::INBOUND;
use outrigger_model::resource::ResourceType;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use crate::http::meters::Stopwatch;
use crate::xds::connections::{Connection, Place};
use crate::xds::hub::Batch;
use crate::xds::subscription::{Outstanding, Subscription, View, check_count};

/// Pushes whose duration is measured at a time; of more, the oldest count as done.
const MAX_MEASURED: usize = 64;
/// The longest reason of a refusal that is logged, in characters.
const MAX_LOGGED_CHARS: usize = 1024;

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) view: View,
    types: [Subscription; ResourceType::ALL.len()],
    connection: Arc<Connection>,
    _place: Place,
    generation: u64,
    nonce: u64,
    unsent: Vec<Arc<Stopwatch>>,
    unacknowledged: Vec<Arc<Stopwatch>>,
    /// The version of the settings in a response that the client refused.
    refused: Option<Arc<str>>,
}

/// A client's word on a response.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) kind: ResourceType,
    pub(crate) nonce: &'a str,
    /// Why the response was refused, if it was.
    pub(crate) refusal: Option<&'a str>,
}

impl Board {
    pub(crate) fn new(view: View, connection: Arc<Connection>, place: Place) -> Self {
        let generation = view.hub.generation();
        Self {
            view,
            types: ResourceType::ALL.map(Subscription::new),
            connection,
            _place: place,
            generation,
            nonce: 0,
            unsent: Vec::new(),
            unacknowledged: Vec::new(),
            refused: None,
        }
    }

    /// The subscription to a type.
    pub(crate) fn of(&mut self, kind: ResourceType) -> &mut Subscription {
        &mut self.types[kind as usize]
    }

    /// The subscription to a type, with what is needed to look names up.
    pub(crate) fn with_view(&mut self, kind: ResourceType) -> (&mut Subscription, &View) {
        (&mut self.types[kind as usize], &self.view)
    }

    /// Takes in the client's word on a response. `false` when it is about an older one and so about nothing.
    pub(crate) fn answer(&mut self, answer: &Answer<'_>) -> bool {
        let subscription = self.of(answer.kind);
        let is_current = subscription.outstanding.as_ref().is_some_and(|sent| sent.nonce == answer.nonce);
        let Some(sent) = subscription.outstanding.take_if(|_| is_current) else { return false };
        match answer.refusal {
            None => self.connection.acked(answer.kind, sent.version),
            Some(reason) => self.refused(answer.kind, sent.version, reason),
        }
        true
    }

    /// Checks the number of names that the client asked for, over all types, and shows it in the status.
    pub(crate) fn note_subscribed(&mut self, kind: ResourceType) -> Result<(), Status> {
        check_count(self.types.iter().map(|subscription| subscription.explicit().count()).sum())?;
        let names = self.of(kind).len();
        self.connection.subscribed(kind, names);
        Ok(())
    }

    /// Takes in a push, or the news that some were missed.
    pub(crate) fn take(&mut self, batch: Result<Arc<Batch>, RecvError>) -> Result<(), Status> {
        let Ok(batch) = batch else {
            self.generation = self.view.hub.generation();
            return self.each(|subscription, view| subscription.take_everything(view));
        };
        self.generation = batch.generation;
        self.each(|subscription, view| subscription.take(view, &batch))?;
        if !self.types.iter().all(Subscription::is_settled) {
            measure(&mut self.unsent, &batch.sent);
            measure(&mut self.unacknowledged, &batch.acknowledged);
        }
        Ok(())
    }

    /// Whether resources of a type may be sent now: clusters come before what routes to them.
    pub(crate) fn may_send(&self, kind: ResourceType) -> bool {
        let waits = matches!(kind, ResourceType::Listener | ResourceType::Route);
        !(waits && self.types[ResourceType::Cluster as usize].has_additions())
    }

    /// Whether resources of a type may be taken away now: the client has answered everything that could point at
    /// them, and nothing of that is on its way or to be taken away before.
    pub(crate) fn may_remove(&self, kind: ResourceType) -> bool {
        referrers(kind).iter().all(|kind| {
            let subscription = &self.types[*kind as usize];
            subscription.outstanding.is_none() && !subscription.has_work()
        })
    }

    /// Sends the endpoints of clusters that were sent, although the client has them: Envoy does not use a changed
    /// cluster before it gets them again, in either variant.
    pub(crate) fn warm(&mut self, clusters: &[Arc<str>]) {
        let endpoints = self.of(ResourceType::Endpoints);
        for cluster in clusters {
            endpoints.resend(cluster);
        }
    }

    /// Makes a response of a type the one in flight; its nonce and version.
    pub(crate) fn dispatch(&mut self, kind: ResourceType) -> (String, u64) {
        self.nonce += 1;
        let (nonce, version) = (self.nonce.to_string(), self.generation);
        let subscription = self.of(kind);
        subscription.owes_answer = false;
        subscription.outstanding = Some(Outstanding { nonce: nonce.clone(), version });
        let names = subscription.len();
        self.connection.subscribed(kind, names);
        self.connection.sent(kind, version);
        (nonce, version)
    }

    /// Stops the watches of pushes that are sent, and of those that are answered.
    pub(crate) fn settle(&mut self) {
        self.note_settings();
        if !self.types.iter().all(Subscription::is_settled) {
            return;
        }
        self.unsent.clear();
        if self.types.iter().all(|subscription| subscription.outstanding.is_none()) {
            self.unacknowledged.clear();
        }
    }

    fn each(
        &mut self,
        change: impl Fn(&mut Subscription, &View) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let Self { types, view, .. } = self;
        types.iter_mut().try_for_each(|subscription| change(subscription, view))
    }

    /// Notes which settings are in force in the client. The generation is read first: what is compared then is not older.
    fn note_settings(&self) {
        let generation = self.view.hub.generation();
        let listeners = &self.types[ResourceType::Listener as usize];
        let Some(standing) = listeners.standing(INBOUND) else { return };
        let in_force = standing.is_current
            && standing.sent.is_some()
            && standing.sent != self.refused
            && listeners.outstanding.is_none();
        self.connection.follows(in_force.then_some(generation));
    }

    fn refused(&mut self, kind: ResourceType, version: u64, reason: &str) {
        if kind == ResourceType::Listener {
            // Which of the resources it refused is not said; none of them counts as in force.
            self.refused = self.of(kind).standing(INBOUND).and_then(|standing| standing.sent);
        }
        self.connection.nacked(kind, version, reason);
        self.view.hub.meters().nack(kind);
        let reason: String = reason.chars().take(MAX_LOGGED_CHARS).collect();
        let who = self.connection.who();
        tracing::warn!(
            proxy.id = who.id,
            kind = kind.word(),
            version,
            reason,
            "a client refused its configuration and keeps the one before"
        );
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let who = self.connection.who();
        tracing::info!(proxy.id = who.id, "a client has left");
    }
}

/// The types whose resources name resources of `kind`.
fn referrers(kind: ResourceType) -> &'static [ResourceType] {
    match kind {
        ResourceType::Cluster => &[ResourceType::Listener, ResourceType::Route],
        ResourceType::Endpoints => &[ResourceType::Cluster, ResourceType::Listener, ResourceType::Route],
        ResourceType::Listener => &[],
        ResourceType::Route => &[ResourceType::Listener],
    }
}

fn measure(watches: &mut Vec<Arc<Stopwatch>>, watch: &Arc<Stopwatch>) {
    if watches.len() == MAX_MEASURED {
        watches.remove(0);
    }
    watches.push(watch.clone());
}
