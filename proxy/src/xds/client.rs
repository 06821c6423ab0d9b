//! The one stream to the control plane, opened again and again, and everything that changes the snapshot.
//!
//! This task alone writes the snapshot once the workers run: it places destinations that are asked for, links what the
//! control plane says, and drops what goes idle. Without a control plane it goes on doing the first and the last.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use outrigger_model::name::{Destination as DestinationName, INBOUND};
use outrigger_model::resource::ResourceType;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::backoff::Backoff;
use super::control_plane::{Connection, ControlPlane};
use super::held::{Applied, Held, Names};
use super::link::Linker;
use super::node::locality_of;
use super::protocol::{Protocol, answer};
use super::saved::Saved;
use crate::certificates::LocalIdentity;
use crate::demand::{Changes, Demanded, MAX_DESTINATIONS, MAX_QUEUED_NAMES, with_place};
use crate::snapshot::{Destination, Handling, Snapshot};
use crate::state::StateDir;
use crate::upstream::Cluster;
use crate::worker::Shared;
use idle::Idle;
use meters::Meters;

mod idle;
mod meters;

pub use meters::{Currency, METRICS};

/// An acknowledgement waits no longer than this for what its resources point at.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// The shortest and the longest wait before the control plane is tried again. The longest is short, because a change
/// made while it was away is to be in force soon after it is back.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long the control plane may take to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to make room for a request; after that the stream is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that wait to be sent; a first burst has at most one for each of the four types.
const MAX_QUEUED_REQUESTS: usize = 8;
/// The largest response, in bytes.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;
/// How often ages are updated and idle destinations are looked for.
const TICK: Duration = Duration::from_secs(1);

/// What a client is made of.
pub struct Parts {
    /// What it changes.
    pub shared: Arc<Shared>,
    /// Whom it asks.
    pub control_plane: ControlPlane,
    /// Who it says it is.
    pub node: Node,
    /// What it is asked for.
    pub demanded: Demanded,
    /// The clusters whose names are to be resolved or whose endpoints are to be checked.
    pub attended: watch::Sender<Vec<Arc<Cluster>>>,
    /// What is told whom to trust.
    pub identity: Arc<LocalIdentity>,
    /// Where the last good configuration is kept.
    pub state: Option<Arc<StateDir>>,
    /// Told how current the configuration in force is.
    pub currency: watch::Sender<Currency>,
}

/// Acknowledgements that wait until what they say is true: a listener or a route of a live destination is in force once
/// everything it points at is here. Not for ever: what never comes must not hold up what else changes.
#[derive(Default)]
struct Waiting {
    answers: Vec<DeltaDiscoveryRequest>,
    until: Option<Instant>,
}

impl Waiting {
    fn hold(&mut self, answer: DeltaDiscoveryRequest) {
        self.until.get_or_insert_with(|| Instant::now() + ANSWER_WITHIN);
        self.answers.push(answer);
    }

    async fn is_over(&self) {
        match self.until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    async fn send_all(
        &mut self,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.until = None;
        for answer in self.answers.drain(..) {
            send(requests, answer).await?;
        }
        Ok(())
    }
}

/// Whether an answer accepts resources that point at others.
fn points_at_others(answer: &DeltaDiscoveryRequest) -> bool {
    let kind = ResourceType::from_url(&answer.type_url);
    answer.error_detail.is_none() && matches!(kind, Some(ResourceType::Listener | ResourceType::Route))
}

/// Keeps the snapshot what the control plane says.
pub struct Client {
    shared: Arc<Shared>,
    control_plane: ControlPlane,
    identity: Arc<LocalIdentity>,
    node: Node,
    names: mpsc::Receiver<DestinationName>,
    changes: Changes,
    attended: watch::Sender<Vec<Arc<Cluster>>>,
    saved: Option<Saved>,
    held: Held,
    linker: Linker,
    idle: Idle,
    meters: Meters,
    tick: Interval,
    /// Whether other resources may be wanted than were last time.
    is_stale: bool,
    /// Whether the end of the process has begun, and what was to be kept for the next one is.
    is_ending: bool,
    last_failure: String,
}

impl Client {
    /// A client whose destinations of now are pinned. What was kept on disk is in force from here on.
    pub fn new(parts: Parts) -> Self {
        let Parts { shared, control_plane, node, demanded, attended, identity, state, currency } = parts;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut client = Self {
            meters: Meters::new(shared.telemetry.registry(), currency),
            idle: Idle::pinning(&shared.snapshot.load()),
            shared,
            control_plane,
            identity,
            linker: Linker::at(locality_of(&node)),
            node,
            names: demanded.names,
            changes: demanded.changes,
            attended,
            saved: state.map(Saved::new),
            held: Held::default(),
            tick,
            is_stale: true,
            is_ending: false,
            last_failure: String::new(),
        };
        client.restore();
        client
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        let mut rng = fastrand::Rng::new();
        loop {
            let failure = match self.session(&mut backoff).await {
                Ok(()) => "the control plane closed the stream".to_owned(),
                Err(error) => describe(&*error),
            };
            self.meters.disconnected();
            self.tell(failure);
            let waited = tokio::time::sleep(backoff.next(&mut rng));
            tokio::pin!(waited);
            loop {
                tokio::select! {
                    () = &mut waited => break,
                    () = self.local_event() => {}
                }
            }
        }
    }

    /// One stream, from opening it to its end. When the certificate was of no use the next one goes without it.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Box<dyn Error + Send + Sync>> {
        let connection = self.control_plane.connection();
        let ended = self.stream(&connection, backoff).await;
        if let Some(status) = ended.as_ref().err().and_then(|error| error.downcast_ref::<Status>()) {
            connection.is_refused_for_its_certificate(status);
        }
        ended
    }

    async fn stream(
        &mut self,
        connection: &Connection,
        backoff: &mut Backoff,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut protocol = Protocol::new(self.node.clone());
        let (requests, queue) = mpsc::channel(MAX_QUEUED_REQUESTS);
        self.is_stale = true;
        self.subscribe(&mut protocol, &requests).await?;
        let mut responses = {
            let opening = open(connection.clone(), queue);
            tokio::pin!(opening);
            loop {
                tokio::select! {
                    opened = &mut opening => break opened?,
                    () = self.local_event() => {}
                }
            }
        };
        tracing::info!(control_plane = %self.control_plane.url(), "connected to the control plane");
        self.meters.connected();
        self.last_failure.clear();
        let mut waiting = Waiting::default();
        loop {
            self.subscribe(&mut protocol, &requests).await?;
            let message = tokio::select! {
                message = responses.message() => message?,
                () = self.local_event() => continue,
                () = waiting.is_over() => {
                    waiting.send_all(&requests).await?;
                    continue;
                }
            };
            let Some(response) = message else { return Ok(()) };
            backoff.reset();
            let answer = self.take(&protocol, response);
            let is_early = self.linker.is_behind() && points_at_others(&answer);
            if !self.linker.is_behind() {
                waiting.send_all(&requests).await?;
            }
            if is_early { waiting.hold(answer) } else { send(&requests, answer).await? }
        }
    }

    /// Sends what is wanted beyond what was asked for, and drops what is not wanted any more.
    async fn subscribe(
        &mut self,
        protocol: &mut Protocol,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        if !std::mem::take(&mut self.is_stale) {
            return Ok(());
        }
        let wanted = self.wanted();
        self.held.retain(&wanted);
        for request in protocol.subscribe(&wanted, &self.held) {
            send(requests, request).await?;
        }
        Ok(())
    }

    fn wanted(&self) -> Names {
        let snapshot = self.shared.snapshot.load();
        let destinations: Vec<Arc<str>> = snapshot.names.keys().map(|name| name.to_string().into()).collect();
        self.held.wanted(&destinations, &self.linker.names_in_force())
    }

    /// Puts a response in force, and only then gives the answer to it.
    fn take(&mut self, protocol: &Protocol, mut response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        let type_url = std::mem::take(&mut response.type_url);
        let nonce = std::mem::take(&mut response.nonce);
        let Some(kind) = ResourceType::from_url(&type_url) else {
            let nack = format!("the type {type_url:?} was not asked for");
            return answer(type_url, nonce, Some(nack));
        };
        let mut applied = self.held.apply(kind, response, protocol.subscribed());
        applied.refused.extend(self.trust(&applied));
        self.put_in_force(kind, &applied);
        let nack = applied.nack();
        self.meters.answered(kind, nack.is_some());
        if let Some(reasons) = &nack {
            tracing::warn!(
                kind = kind.word(),
                reasons,
                "configuration refused; what was in force before stays"
            );
        }
        answer(type_url, nonce, nack)
    }

    /// Has new handshakes trust whom `inbound` says, or gives the reason why they do not.
    fn trust(&self, applied: &Applied) -> Option<String> {
        let inbound = applied.changed.get(INBOUND).and_then(|name| self.held.inbound.good(name))?;
        let refused = self.identity.trust(inbound.trust.as_ref()).err()?;
        Some(format!("listener {INBOUND:?}, field trust: {refused}; another certificate is asked for"))
    }

    fn put_in_force(&mut self, kind: ResourceType, applied: &Applied) {
        if applied.changed.is_empty() {
            return;
        }
        if let Some(saved) = &mut self.saved {
            saved.note_change();
        }
        if kind == ResourceType::Endpoints {
            for name in &applied.changed {
                self.linker.endpoints_changed(name, &self.held, &self.shared.telemetry);
            }
            if !self.linker.is_waiting() {
                return;
            }
        }
        self.link();
        self.keep_the_first();
    }

    fn link(&mut self) {
        self.is_stale = true;
        let before = self.shared.snapshot.load_full();
        let Some(next) = self.linker.link(&self.held, &before, &self.shared.telemetry) else { return };
        self.publish(next);
        let attended = self.linker.attended_clusters();
        self.attended.send_if_modified(|known| {
            let is_same =
                known.len() == attended.len() && known.iter().zip(&attended).all(|(a, b)| Arc::ptr_eq(a, b));
            if !is_same {
                *known = attended;
            }
            !is_same
        });
    }

    fn publish(&self, next: Snapshot) {
        tracing::debug!(generation = next.generation, "configuration in force");
        self.shared.snapshot.store(Arc::new(next));
        self.changes.ring();
    }

    /// Waits for something that does not come from the control plane, and does it.
    async fn local_event(&mut self) {
        let mut names = Vec::new();
        tokio::select! {
            count = self.names.recv_many(&mut names, MAX_QUEUED_NAMES) => match count {
                // Nobody is left who could ask.
                0 => std::future::pending().await,
                _ => self.place(names),
            },
            now = self.tick.tick() => self.housekeeping(now),
            () = self.shared.drains.inbound.started(), if !self.is_ending => {
                self.is_ending = true;
                self.keep_changes();
            }
        }
    }

    /// Gives names a place in the snapshot; their listeners are asked for next.
    fn place(&mut self, names: Vec<DestinationName>) {
        let before = self.shared.snapshot.load_full();
        let mut next: Option<Snapshot> = None;
        for name in names {
            let current = next.as_ref().unwrap_or(&before);
            if current.lookup(&name).is_some() {
                continue;
            }
            if current.names.len() >= MAX_DESTINATIONS {
                tracing::warn!(destination = %name, "more than {MAX_DESTINATIONS} destinations in use: not asked for");
                break;
            }
            next = Some(with_place(current, name).0);
        }
        if let Some(next) = next {
            self.is_stale = true;
            self.publish(next);
        }
    }

    fn housekeeping(&mut self, now: Instant) {
        self.meters.age();
        if let (Some(saved), Some(as_of)) = (&mut self.saved, self.meters.current_as_of(SystemTime::now())) {
            saved.write_when_due(&self.held, now, as_of);
        }
        let before = self.shared.snapshot.load_full();
        let gone = self.idle.look(&before, now);
        if gone.is_empty() {
            return;
        }
        let mut next = Snapshot { generation: before.generation + 1, ..Snapshot::clone(&before) };
        for id in &gone {
            if let Some(destination) = next.destinations.get_mut(id.0 as usize).and_then(Option::take) {
                tracing::debug!(destination = %destination.name, "destination dropped: idle");
                next.names.remove(&destination.name);
            }
        }
        self.is_stale = true;
        self.publish(next);
        gone.into_iter().for_each(|id| self.linker.forget(id));
    }

    /// Keeps the first complete configuration at once, so that a process that is killed soon loses nothing.
    fn keep_the_first(&mut self) {
        if !self.saved.as_ref().is_some_and(Saved::awaits_first) || self.linker.is_behind() {
            return;
        }
        let snapshot = self.shared.snapshot.load();
        let is_known = |destination: &Arc<Destination>| !matches!(destination.handling, Handling::Pending);
        if snapshot.inbound.is_some() && snapshot.destinations.iter().flatten().all(is_known) {
            self.keep_changes();
        }
    }

    fn keep_changes(&mut self) {
        if let (Some(saved), Some(as_of)) = (&mut self.saved, self.meters.current_as_of(SystemTime::now())) {
            saved.write_changes(&self.held, Instant::now(), as_of);
        }
    }

    /// Takes what was kept on disk as if the control plane had said it.
    fn restore(&mut self) {
        let read = |saved: &Saved| saved.read(SystemTime::now());
        let Some(restored) = self.saved.as_ref().and_then(read) else { return };
        let mut asked = Names::default();
        for (kind, response) in &restored.responses {
            response.resources.iter().for_each(|item| asked.insert(*kind, &item.name.as_str().into()));
        }
        for (kind, response) in restored.responses {
            let applied = self.held.apply(kind, response, &asked);
            self.trust(&applied);
        }
        let listeners: BTreeSet<String> =
            self.held.listeners.iter().map(|(l, _)| l.name.to_string()).collect();
        self.place(listeners.iter().filter_map(|name| name.parse().ok()).collect());
        self.link();
        self.meters.as_of(restored.as_of);
        tracing::info!(
            destinations = listeners.len(),
            "the last good configuration is in force until the control plane answers"
        );
    }

    /// A failure is told once, not each time it is met again.
    fn tell(&mut self, failure: String) {
        let url = self.control_plane.url();
        if failure == self.last_failure {
            tracing::debug!(control_plane = %url, failure, "still no control plane");
            return;
        }
        tracing::warn!(control_plane = %url, failure, "no control plane: what is in force stays, and it is tried again");
        self.last_failure = failure;
    }
}

async fn open(
    connection: Connection,
    queue: mpsc::Receiver<DeltaDiscoveryRequest>,
) -> Result<Streaming<DeltaDiscoveryResponse>, Box<dyn Error + Send + Sync>> {
    let mut request = Request::new(ReceiverStream::new(queue));
    connection.authorize(&mut request)?;
    let client = AggregatedDiscoveryServiceClient::new(connection.channel());
    let mut client = client.max_decoding_message_size(MAX_RESPONSE_BYTES);
    let opened = timeout(OPEN_TIMEOUT, client.delta_aggregated_resources(request)).await;
    let opened = opened.map_err(|_| format!("no stream was opened within {OPEN_TIMEOUT:?}"))?;
    Ok(opened?.into_inner())
}

async fn send(
    requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    request: DeltaDiscoveryRequest,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    match timeout(SEND_TIMEOUT, requests.send(request)).await {
        Ok(sent) => sent.map_err(|_| "the stream is closed".into()),
        Err(_) => Err(format!("the control plane took no request for {SEND_TIMEOUT:?}").into()),
    }
}

/// An error with its causes, each once. What tonic says of itself ("transport error") is not worth repeating.
fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<tonic::Status>() {
        Some(status) => format!("{:?}: {}", status.code(), status.message()),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if part != "transport error" && !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
