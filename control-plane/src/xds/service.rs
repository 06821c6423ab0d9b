//! The gRPC service of discovery, from HTTP/2 to a session and back.
//!
//! Served without the generated server, because that one keeps for every stream the largest buffer a response ever
//! needed, and copies each resource twice on its way into it; a fleet of a thousand proxies pays that a thousand times.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::StreamBody;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use outrigger_base::lifecycle::drain::Drain;
use tonic::body::Body;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Request, Status, Streaming};

use crate::token::gate::{Gate, Peer};
use crate::xds::MAX_REQUEST_BYTES;
use crate::xds::delta::Delta;
use crate::xds::hub::Hub;
use crate::xds::session::{self, Admission, Protocol};
use crate::xds::sotw::StateOfTheWorld;

/// Room for what clients send again and again, their acknowledgements, in bytes.
const REQUEST_BUFFER_BYTES: usize = 512;

/// The aggregated discovery service.
#[derive(Debug, Clone)]
pub struct Discovery {
    hub: Arc<Hub>,
    gate: Gate,
    drain: Drain,
}

/// Reads requests of one variant.
struct Requests<R>(PhantomData<fn() -> R>);

impl Discovery {
    /// A service that lets in whom `gate` knows and ends its streams when `drain` starts.
    pub fn new(hub: Arc<Hub>, gate: Gate, drain: Drain) -> Self {
        Self { hub, gate, drain }
    }

    async fn open<P: Protocol>(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        refuse_compression(&request)?;
        let (metadata, extensions, body) = Request::from_http(request).into_parts();
        let standing = self.gate.stream((&metadata, &extensions), &self.hub.trust_domain()).await?;
        let address = extensions.get::<Peer>().map(|peer| peer.address);
        let admission = Admission { hub: self.hub.clone(), standing, address, drain: self.drain.clone() };
        let reader = Requests::<P::Request>(PhantomData);
        let requests = Streaming::new_request(reader, body, None, Some(MAX_REQUEST_BYTES));
        let frames = session::serve::<P>(admission, requests)?;
        let mut response = http::Response::new(Body::new(StreamBody::new(frames)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(response)
    }
}

impl NamedService for Discovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl Service<http::Request<Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        async move {
            let opened = match request.uri().path().rsplit('/').next() {
                Some("DeltaAggregatedResources") => service.open::<Delta>(request).await,
                Some("StreamAggregatedResources") => service.open::<StateOfTheWorld>(request).await,
                _ => Err(Status::unimplemented("discovery has no such call")),
            };
            Ok(opened.unwrap_or_else(Status::into_http))
        }
        .boxed()
    }
}

impl<R: prost::Message + Default> Decoder for Requests<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        let decoded = R::decode(bytes).map(Some);
        decoded.map_err(|error| Status::internal(format!("not a discovery request: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(REQUEST_BUFFER_BYTES, REQUEST_BUFFER_BYTES)
    }
}

/// Messages are small; nothing is gained by reading compressed ones, and bombs are not let in.
fn refuse_compression(request: &http::Request<Body>) -> Result<(), Status> {
    match request.headers().get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(()),
        Some(_) => Err(Status::unimplemented("compressed requests are not read; send them as they are")),
    }
}
