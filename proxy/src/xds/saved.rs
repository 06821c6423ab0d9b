//! The last good configuration on disk (`--state-dir`), so that a proxy that starts while the control plane is away
//! carries on (design, decision 7). No secrets: keys and certificates are not in it.
//!
//! The file has one length-delimited `DeltaDiscoveryResponse` for each type, as a control plane would send it, and is read
//! with the same decoder.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource as Item};
use outrigger_model::codec::encode;
use outrigger_model::resource::{Resource, ResourceType};
use prost::{DecodeError, EncodeError, Message};
use tokio::time::Instant;

use super::held::Held;
use crate::state::{Kept, StateDir};

/// The name of the file.
const FILE: &str = "configuration";
/// Changes gather for so long before they are written.
const WRITE_AFTER: Duration = Duration::from_secs(2);
/// What has not changed is written again after this share of its permitted age, with the time until which it was good.
const REFRESH_SHARE: u32 = 8;
/// And at the latest after this.
const REFRESH_AFTER: Duration = Duration::from_secs(600);

/// Where configuration is kept.
#[derive(Debug)]
pub(crate) struct Saved {
    state: Arc<StateDir>,
    is_changed: bool,
    /// When changes are to be written.
    due: Option<Instant>,
    /// When this process wrote last.
    written: Option<Instant>,
}

/// What was kept.
pub(crate) struct Restored {
    pub(crate) responses: Vec<(ResourceType, DeltaDiscoveryResponse)>,
    pub(crate) as_of: SystemTime,
}

impl Saved {
    pub(crate) fn new(state: Arc<StateDir>) -> Self {
        Self { state, is_changed: false, due: None, written: None }
    }

    /// What is held is not what was written.
    pub(crate) fn note_change(&mut self) {
        self.is_changed = true;
    }

    /// Whether this process has not written anything yet, and has something to write.
    pub(crate) fn awaits_first(&self) -> bool {
        self.is_changed && self.written.is_none()
    }

    /// Writes changes that have gathered for long enough, and what was written long ago and is still good.
    pub(crate) fn write_when_due(&mut self, held: &Held, now: Instant, as_of: SystemTime) {
        let refresh_after = REFRESH_AFTER.min(self.state.max_age() / REFRESH_SHARE);
        let is_old = self.written.is_some_and(|written| now >= written + refresh_after);
        let is_due = self.is_changed && now >= *self.due.get_or_insert(now + WRITE_AFTER);
        if is_due || is_old {
            self.write(held, now, as_of);
        }
    }

    /// Writes changes, if there are any, without waiting for more.
    pub(crate) fn write_changes(&mut self, held: &Held, now: Instant, as_of: SystemTime) {
        if self.is_changed {
            self.write(held, now, as_of);
        }
    }

    fn write(&mut self, held: &Held, now: Instant, as_of: SystemTime) {
        (self.is_changed, self.due, self.written) = (false, None, Some(now));
        let content = content(held).map_err(std::io::Error::other);
        let written = content.and_then(|content| self.state.write(FILE, &Kept { content, as_of }));
        if let Err(error) = written {
            let path = self.state.path(FILE);
            tracing::warn!(path = %path.display(), %error, "the configuration in force could not be kept on disk");
        }
    }

    /// What was kept, if there is something that can be used.
    pub(crate) fn read(&self, now: SystemTime) -> Option<Restored> {
        let kept = self.state.read(FILE, now)?;
        match responses(&kept.content) {
            Ok(responses) => Some(Restored { responses, as_of: kept.as_of }),
            Err(error) => {
                let path = self.state.path(FILE);
                tracing::warn!(path = %path.display(), %error, "what was kept on disk is not used");
                None
            }
        }
    }
}

fn content(held: &Held) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    for (kind, resources) in resources(held) {
        let item = |(resource, version): (Resource, &str)| Item {
            name: resource.name().to_string(),
            version: version.to_owned(),
            resource: Some(encode(&resource)),
            ..Item::default()
        };
        let response = DeltaDiscoveryResponse {
            type_url: kind.url().to_owned(),
            resources: resources.into_iter().map(item).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        response.encode_length_delimited(&mut bytes)?;
    }
    Ok(bytes)
}

fn resources(held: &Held) -> [(ResourceType, Vec<(Resource, &str)>); 4] {
    let clusters =
        held.clusters.iter().map(|(cluster, version)| (Resource::Cluster((**cluster).clone()), version));
    let endpoints =
        held.endpoints.iter().map(|(all, version)| (Resource::Endpoints((**all).clone()), version));
    let inbound =
        held.inbound.iter().map(|(inbound, version)| (Resource::Inbound((**inbound).clone()), version));
    let listeners =
        held.listeners.iter().map(|(one, version)| (Resource::Listener((**one).clone()), version));
    let routes = held.routes.iter().map(|(config, version)| (Resource::Route((**config).clone()), version));
    [
        (ResourceType::Cluster, clusters.collect()),
        (ResourceType::Endpoints, endpoints.collect()),
        (ResourceType::Listener, inbound.chain(listeners).collect()),
        (ResourceType::Route, routes.collect()),
    ]
}

fn responses(mut rest: &[u8]) -> Result<Vec<(ResourceType, DeltaDiscoveryResponse)>, DecodeError> {
    let mut responses = Vec::new();
    while !rest.is_empty() {
        let response = DeltaDiscoveryResponse::decode_length_delimited(&mut rest)?;
        if let Some(kind) = ResourceType::from_url(&response.type_url) {
            responses.push((kind, response));
        }
    }
    Ok(responses)
}
