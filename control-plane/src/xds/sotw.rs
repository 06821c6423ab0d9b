//! The state-of-the-world variant: each request repeats all names, each response of listeners and clusters is complete.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#variants-of-the-xds-transport-protocol>

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use outrigger_model::resource::ResourceType;
use tonic::Status;

use crate::xds::board::{Answer, Board};
use crate::xds::delta::WILDCARD;
use crate::xds::encoded::{Encoded, Form, message};
use crate::xds::session::Protocol;
use crate::xds::subscription::{Due, check_count};

/// The state-of-the-world variant.
#[derive(Debug)]
pub(crate) struct StateOfTheWorld;

impl Protocol for StateOfTheWorld {
    type Request = DiscoveryRequest;
    const WORD: &'static str = "sotw";

    fn take_node(request: &mut DiscoveryRequest) -> Option<Node> {
        request.node.take()
    }

    fn accept(board: &mut Board, request: DiscoveryRequest) -> Result<(), Status> {
        let Some(kind) = ResourceType::from_url(&request.type_url) else {
            tracing::debug!(type_url = request.type_url, "a client asks for a type that is not served");
            return Ok(());
        };
        check_count(request.resource_names.len())?;
        let refusal = request.error_detail.as_ref().map(|status| status.message.as_str());
        let is_answer = !request.response_nonce.is_empty();
        if is_answer && !board.answer(&Answer { kind, nonce: &request.response_nonce, refusal }) {
            // The client has not seen the response in flight yet; it repeats its names when it has. Without one in
            // flight it only changes its names.
            if board.of(kind).outstanding.is_some() {
                return Ok(());
            }
        }
        subscribe(board, kind, &request.resource_names)?;
        board.note_subscribed(kind)
    }

    fn respond(board: &mut Board) -> Option<Bytes> {
        ResourceType::ALL.into_iter().find_map(|kind| {
            if board.of(kind).outstanding.is_some() {
                return None;
            }
            let resources = if is_complete(kind) { complete(board, kind) } else { changed(board, kind) };
            resources.map(|resources| response(board, kind, &resources))
        })
    }
}

/// Whether a response of the type has to hold everything, so that what is missing does not exist.
const fn is_complete(kind: ResourceType) -> bool {
    matches!(kind, ResourceType::Cluster | ResourceType::Listener)
}

fn subscribe(board: &mut Board, kind: ResourceType, names: &[String]) -> Result<(), Status> {
    let (subscription, view) = board.with_view(kind);
    // No names mean everything until names were given, for the two types where that makes sense.
    let never_named = !subscription.started || subscription.is_wildcard();
    let legacy = is_complete(kind) && names.is_empty() && never_named;
    let wildcard = legacy || names.iter().any(|name| name == WILDCARD);
    if !subscription.started && is_complete(kind) {
        subscription.owes_answer = true;
    }
    subscription.started = true;
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).filter(|name| *name != WILDCARD).collect();
    let had: BTreeSet<String> = subscription.explicit().map(ToString::to_string).collect();
    for name in had.iter().filter(|name| !wanted.contains(name.as_str())) {
        subscription.unsubscribe(name);
    }
    for name in wanted.into_iter().filter(|name| !had.contains(*name)) {
        subscription.subscribe(view, name)?;
    }
    match (wildcard, subscription.is_wildcard()) {
        (true, false) => subscription.subscribe_all(view)?,
        (false, true) => subscription.unsubscribe_all(),
        _ => {}
    }
    Ok(())
}

/// The whole set, when anything in it differs from what the client has.
fn complete(board: &mut Board, kind: ResourceType) -> Option<Vec<Arc<Encoded>>> {
    let (may_send, may_remove) = (board.may_send(kind), board.may_remove(kind));
    let subscription = board.of(kind);
    let mut due = false;
    for name in subscription.dirty() {
        match subscription.due(&name) {
            Due::Nothing => subscription.note_clean(&name),
            Due::Send(_) if !may_send => return None,
            Due::Removal if !may_remove => {}
            Due::Send(_) | Due::Absence | Due::Removal => due = true,
        }
    }
    let answers = subscription.owes_answer && may_send;
    if !due && !answers {
        return None;
    }
    let (mut resources, mut sent) = (Vec::new(), Vec::new());
    for name in subscription.names() {
        let encoded = match subscription.due(&name) {
            Due::Send(encoded) => {
                subscription.note_sent(&name, encoded.clone());
                sent.push(name.clone());
                Some(encoded)
            }
            Due::Absence => None,
            Due::Removal if may_remove => None,
            Due::Nothing | Due::Removal => subscription.last_sent(&name),
        };
        match encoded {
            Some(encoded) => resources.push(encoded),
            None => subscription.note_absent(&name),
        }
    }
    if kind == ResourceType::Cluster {
        board.warm(&sent);
    }
    Some(resources)
}

/// What differs from what the client has. That something is gone cannot be said for these types; the listener or
/// cluster that pointed at it says it.
fn changed(board: &mut Board, kind: ResourceType) -> Option<Vec<Arc<Encoded>>> {
    let may_send = board.may_send(kind);
    let subscription = board.of(kind);
    let mut resources = Vec::new();
    for name in subscription.dirty() {
        match subscription.due(&name) {
            Due::Nothing => subscription.note_clean(&name),
            Due::Send(encoded) if may_send => {
                subscription.note_sent(&name, encoded.clone());
                resources.push(encoded);
            }
            Due::Send(_) => {}
            Due::Absence | Due::Removal => subscription.note_absent(&name),
        }
    }
    (!resources.is_empty()).then_some(resources)
}

fn response(board: &mut Board, kind: ResourceType, resources: &[Arc<Encoded>]) -> Bytes {
    let (nonce, version) = board.dispatch(kind);
    let response = DiscoveryResponse {
        version_info: version.to_string(),
        type_url: kind.url().to_owned(),
        nonce,
        ..DiscoveryResponse::default()
    };
    message(&response, resources, Form::Bare)
}
