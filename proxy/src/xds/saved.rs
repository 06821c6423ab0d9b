//! The last good configuration on disk (`--state-dir`), so that a proxy that starts while the control plane is away
//! carries on (design, decision 7). No secrets: keys and certificates are never written.
//!
//! The file has one length-delimited `DeltaDiscoveryResponse` for each type, as a control plane would send it, and is read
//! with the same decoder. A file that cannot be used is passed over with a line in the log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource as Item};
use outrigger_model::codec::encode;
use outrigger_model::resource::{Resource, ResourceType};
use prost::Message;
use tokio::time::Instant;

use super::held::Held;

/// The name of the file.
const FILE: &str = "xds-state.pb";
/// Changes gather for so long before they are written.
const WRITE_AFTER: Duration = Duration::from_secs(2);
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Where configuration is kept.
#[derive(Debug)]
pub(crate) struct Saved {
    path: PathBuf,
    is_changed: bool,
    due: Option<Instant>,
}

/// What was kept.
pub(crate) struct Restored {
    pub(crate) responses: Vec<(ResourceType, DeltaDiscoveryResponse)>,
    pub(crate) written: SystemTime,
}

impl Saved {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { path: directory.join(FILE), is_changed: false, due: None }
    }

    /// What is held is not what was written.
    pub(crate) fn note_change(&mut self) {
        self.is_changed = true;
    }

    /// Writes changes that have gathered for long enough.
    pub(crate) fn write_when_due(&mut self, held: &Held, now: Instant) {
        if !self.is_changed || now < *self.due.get_or_insert(now + WRITE_AFTER) {
            return;
        }
        (self.is_changed, self.due) = (false, None);
        if let Err(error) = write(&self.path, held) {
            tracing::warn!(path = %self.path.display(), %error, "the configuration in force could not be kept on disk");
        }
    }

    /// What was kept, if there is something that can be used.
    pub(crate) fn read(&self) -> Option<Restored> {
        match read(&self.path) {
            Ok(restored) => Some(restored),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the configuration kept on disk cannot be used");
                None
            }
        }
    }
}

fn write(path: &Path, held: &Held) -> io::Result<()> {
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
        response.encode_length_delimited(&mut bytes).map_err(io::Error::other)?;
    }
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, &bytes)?;
    fs::rename(&temporary, path)
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

fn read(path: &Path) -> io::Result<Restored> {
    let metadata = fs::metadata(path)?;
    if metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    let bytes = fs::read(path)?;
    let mut rest = bytes.as_slice();
    let mut responses = Vec::new();
    while !rest.is_empty() {
        let response = DeltaDiscoveryResponse::decode_length_delimited(&mut rest)?;
        if let Some(kind) = ResourceType::from_url(&response.type_url) {
            responses.push((kind, response));
        }
    }
    Ok(Restored { responses, written: metadata.modified()? })
}
