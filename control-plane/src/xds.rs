//! Discovery (xDS v3): tells each client what it asked for, and what changed of it since.
//!
//! [`Hub`] holds the world in force and the encoded resources that anybody subscribes to, each computed once for all
//! streams. [`Discovery`] is the gRPC service: one `session` a stream, which speaks either the incremental (`delta`)
//! or the state-of-the-world (`sotw`) variant of the protocol. What a resource contains is `translate`'s business;
//! nothing here looks into one.

use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures_util::Stream;
use outrigger_base::lifecycle::drain::Drain;
use tonic::{Request, Response, Status, Streaming};

use crate::token::gate::{Gate, Peer};
use delta::Delta;
use session::{Admission, Protocol};
use sotw::StateOfTheWorld;

mod board;
mod cache;
mod connections;
mod delta;
mod hub;
mod node;
mod session;
mod sotw;
mod subscription;

pub use connections::{Nack, ProxyStatus, TypeStatus};
pub use hub::Hub;

/// The largest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Names one stream may subscribe to.
pub const MAX_NAMES_PER_STREAM: usize = 10_000;
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Streams at a time.
pub const MAX_STREAMS: usize = 20_000;

/// The aggregated discovery service.
#[derive(Debug)]
pub struct Discovery {
    hub: Arc<Hub>,
    gate: Gate,
    drain: Drain,
}

type Responses<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

impl Discovery {
    /// A service that lets in whom `gate` knows and ends its streams when `drain` starts.
    pub fn new(hub: Arc<Hub>, gate: Gate, drain: Drain) -> Self {
        Self { hub, gate, drain }
    }

    fn open<P: Protocol>(
        &self,
        request: Request<Streaming<P::Request>>,
    ) -> Result<Response<Responses<P::Response>>, Status> {
        let caller = self.gate.stream(request.metadata(), request.extensions())?;
        let address = request.extensions().get::<Peer>().map(|peer| peer.address);
        let admission = Admission { hub: self.hub.clone(), caller, address, drain: self.drain.clone() };
        let responses = session::serve::<P>(admission, request.into_inner())?;
        Ok(Response::new(Box::pin(responses)))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open::<StateOfTheWorld>(request)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.open::<Delta>(request)
    }
}

#[cfg(test)]
mod tests;
