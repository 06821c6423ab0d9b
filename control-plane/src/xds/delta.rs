//! The incremental variant: names come and go one by one, and only what differs is sent.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds>

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use outrigger_model::resource::ResourceType;
use tonic::Status;

use crate::xds::board::{Answer, Board};
use crate::xds::encoded::{Encoded, Form, message};
use crate::xds::session::Protocol;
use crate::xds::subscription::{Due, check_count};

/// Resources of one response, in bytes; what is left follows when it is answered. gRPC takes 4 MiB a message.
const MAX_RESPONSE_BYTES: usize = 2 * 1024 * 1024;

/// The name that stands for everything.
pub(crate) const WILDCARD: &str = "*";

/// The incremental variant.
#[derive(Debug)]
pub(crate) struct Delta;

/// What goes into a response.
#[derive(Debug, Default)]
struct Parts {
    names: Vec<Arc<str>>,
    resources: Vec<Arc<Encoded>>,
    removed: Vec<Arc<str>>,
}

impl Protocol for Delta {
    type Request = DeltaDiscoveryRequest;
    const WORD: &'static str = "delta";

    fn take_node(request: &mut DeltaDiscoveryRequest) -> Option<Node> {
        request.node.take()
    }

    fn accept(board: &mut Board, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let Some(kind) = ResourceType::from_url(&request.type_url) else {
            tracing::debug!(type_url = request.type_url, "a client asks for a type that is not served");
            return Ok(());
        };
        let asked = request.resource_names_subscribe.len();
        check_count(asked.max(request.resource_names_unsubscribe.len()))?;
        if !request.response_nonce.is_empty() {
            let refusal = request.error_detail.as_ref().map(|status| status.message.as_str());
            board.answer(&Answer { kind, nonce: &request.response_nonce, refusal });
        }
        let is_answer_alone = board.of(kind).started
            && request.resource_names_subscribe.is_empty()
            && request.resource_names_unsubscribe.is_empty();
        if is_answer_alone {
            return Ok(());
        }
        subscribe(board, kind, request)?;
        board.note_subscribed(kind)
    }

    fn respond(board: &mut Board) -> Option<Bytes> {
        ResourceType::ALL.into_iter().find_map(|kind| {
            if board.of(kind).outstanding.is_some() {
                return None;
            }
            let parts = collect(board, kind);
            let is_empty = parts.resources.is_empty() && parts.removed.is_empty();
            if kind == ResourceType::Cluster {
                board.warm(&parts.names);
            }
            (!is_empty || board.of(kind).owes_answer).then(|| response(board, kind, parts))
        })
    }
}

fn subscribe(board: &mut Board, kind: ResourceType, request: DeltaDiscoveryRequest) -> Result<(), Status> {
    let (subscription, view) = board.with_view(kind);
    let first = !subscription.started;
    subscription.started = true;
    let names = &request.resource_names_subscribe;
    // A first request without names means everything, for the two types where that makes sense.
    let legacy = first && names.is_empty() && matches!(kind, ResourceType::Cluster | ResourceType::Listener);
    for name in &request.resource_names_unsubscribe {
        match name.as_str() {
            WILDCARD => subscription.unsubscribe_all(),
            name => subscription.unsubscribe(name),
        }
    }
    if legacy || names.iter().any(|name| name == WILDCARD) {
        subscription.subscribe_all(view)?;
    }
    for name in names.iter().filter(|name| *name != WILDCARD) {
        subscription.subscribe(view, name)?;
    }
    if first {
        for (name, version) in request.initial_resource_versions {
            subscription.brought(view, &name, version)?;
        }
    }
    Ok(())
}

/// What can be said about a type now.
fn collect(board: &mut Board, kind: ResourceType) -> Parts {
    let (may_send, may_remove) = (board.may_send(kind), board.may_remove(kind));
    let subscription = board.of(kind);
    let (mut parts, mut bytes) = (Parts::default(), 0);
    for name in subscription.dirty() {
        match subscription.due(&name) {
            Due::Nothing => subscription.note_clean(&name),
            Due::Send(encoded) if may_send && bytes < MAX_RESPONSE_BYTES => {
                bytes += encoded.len();
                subscription.note_sent(&name, encoded.clone());
                parts.names.push(name);
                parts.resources.push(encoded);
            }
            Due::Absence => {
                subscription.note_absent(&name);
                parts.removed.push(name);
            }
            Due::Removal if may_remove => {
                subscription.note_absent(&name);
                parts.removed.push(name);
            }
            Due::Send(_) | Due::Removal => {}
        }
    }
    parts
}

fn response(board: &mut Board, kind: ResourceType, parts: Parts) -> Bytes {
    let (nonce, version) = board.dispatch(kind);
    let response = DeltaDiscoveryResponse {
        system_version_info: version.to_string(),
        removed_resources: parts.removed.iter().map(ToString::to_string).collect(),
        type_url: kind.url().to_owned(),
        nonce,
        ..DeltaDiscoveryResponse::default()
    };
    message(&response, &parts.resources, Form::Named)
}
