//! The words of one incremental ADS stream: what to subscribe to, and how a response is answered. No I/O.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds>

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::google::rpc::Status;
use outrigger_model::resource::ResourceType;
use tonic::Code;

use super::held::{Held, Names};

/// What was said on a stream so far.
#[derive(Debug)]
pub(crate) struct Protocol {
    /// Goes with the first message.
    node: Option<Node>,
    begun: Vec<ResourceType>,
    subscribed: Names,
}

impl Protocol {
    pub(crate) fn new(node: Node) -> Self {
        Self { node: Some(node), begun: Vec::new(), subscribed: Names::default() }
    }

    /// What this stream has asked for.
    pub(crate) fn subscribed(&self) -> &Names {
        &self.subscribed
    }

    /// The requests that bring the subscriptions from what they are to what is wanted.
    pub(crate) fn subscribe(&mut self, wanted: &Names, held: &Held) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        for kind in ResourceType::ALL {
            let added = wanted.beyond(&self.subscribed, kind);
            let dropped = self.subscribed.beyond(wanted, kind);
            if added.is_empty() && dropped.is_empty() {
                continue;
            }
            let mut request = DeltaDiscoveryRequest {
                node: self.node.take(),
                type_url: kind.url().to_owned(),
                resource_names_subscribe: added.iter().map(ToString::to_string).collect(),
                resource_names_unsubscribe: dropped.iter().map(ToString::to_string).collect(),
                ..DeltaDiscoveryRequest::default()
            };
            if !self.begun.contains(&kind) {
                self.begun.push(kind);
                let version =
                    |name: &Arc<str>| Some((name.to_string(), held.version(kind, name)?.to_owned()));
                request.initial_resource_versions = added.iter().filter_map(version).collect();
            }
            requests.push(request);
        }
        self.subscribed = wanted.clone();
        requests
    }
}

/// The answer to the response of a type and nonce: an ACK, or a NACK that says why.
pub(crate) fn answer(type_url: String, nonce: String, nack: Option<String>) -> DeltaDiscoveryRequest {
    let error_detail =
        nack.map(|message| Status { code: Code::InvalidArgument.into(), message, ..Status::default() });
    DeltaDiscoveryRequest {
        type_url,
        response_nonce: nonce,
        error_detail,
        ..DeltaDiscoveryRequest::default()
    }
}
