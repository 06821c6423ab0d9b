//! What the tests of configuration share: a worker's surroundings, resources, and a control plane that does what a test
//! tells it, over connections in memory, so that a paused clock is in charge of all time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::{ArcSwap, ArcSwapOption};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as Item,
};
use hyper_util::rt::TokioIo;
use outrigger_base::lifecycle::drain;
use outrigger_base::telemetry::access_log;
use outrigger_base::telemetry::metrics::{Format, Registry};
use outrigger_model::cluster::{Cluster, Discovery, ServiceRef, UpstreamProtocol};
use outrigger_model::codec::encode;
use outrigger_model::endpoint::{Endpoint, Endpoints, Health, Locality, WorkloadRef};
use outrigger_model::inbound::{Inbound, MtlsMode};
use outrigger_model::listener::{Handling, Listener, OpaqueBackend, OpaqueRoute};
use outrigger_model::policy::{ConnectionPolicy, Limits, LoadBalancer, RetryBudget};
use outrigger_model::resource::{Resource, ResourceType};
use outrigger_model::route::{Action, Backend, BackendTarget, Forward, Route, RouteConfig, RouteMatch};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Router;
use tonic::transport::{Channel, Endpoint as ChannelEndpoint};
use tonic::{Request, Response, Status, Streaming};

use super::held::{Held, Names};
use super::link::Linker;
use crate::demand::{self, Demanded};
use crate::snapshot::Snapshot;
use crate::telemetry::{Name, Telemetry};
use crate::worker::Shared;

/// The destination of most tests, and what its cluster is called.
pub(crate) const REVIEWS: &str = "reviews.shop:9080";
pub(crate) const CLUSTER: &str = "outbound|9080|reviews.shop";

pub(crate) fn telemetry() -> Telemetry {
    let (writer, _) = access_log::open(io::sink()).unwrap();
    Telemetry::new(Registry::new(), Name::default(), writer)
}

pub(crate) fn shared() -> (Arc<Shared>, Demanded) {
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
    let (_, drain) = drain::new(std::time::Duration::from_secs(1));
    let (demand, demanded) = demand::channel(snapshot.clone());
    let shared = Shared {
        demand,
        snapshot,
        tls: ArcSwapOption::empty(),
        telemetry: telemetry(),
        workload: "web-1".into(),
        namespace: "shop".into(),
        interception: crate::worker::Interception::Explicit,
        drains: crate::worker::Drains { inbound: drain.clone(), outbound: drain },
    };
    (Arc::new(shared), demanded)
}

/// The value of a series, by the text before its value.
pub(crate) fn metric(shared: &Shared, series: &str) -> f64 {
    let text = shared.telemetry.registry().render(Format::Prometheus);
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

pub(crate) fn inbound(mtls: MtlsMode) -> Resource {
    Resource::Inbound(Inbound::plain(mtls))
}

pub(crate) fn http_listener(name: &str) -> Resource {
    Resource::Listener(Listener { name: name.into(), handling: Handling::Http { route_config: name.into() } })
}

pub(crate) fn opaque_listener(name: &str, cluster: &str) -> Resource {
    let backends = vec![OpaqueBackend { cluster: cluster.into(), weight: 1 }];
    let route = OpaqueRoute { object: "TCPRoute/shop/reviews".into(), backends };
    Resource::Listener(Listener { name: name.into(), handling: Handling::Opaque(route.into()) })
}

/// Everything to clusters with weights.
pub(crate) fn routes(name: &str, clusters: &[(&str, u32)]) -> Resource {
    let backend =
        |(cluster, weight): &(&str, u32)| Backend::plain(BackendTarget::Cluster((*cluster).into()), *weight);
    let forward = Forward::to(clusters.iter().map(backend).collect());
    let route =
        Route::plain("HTTPRoute/shop/reviews".into(), RouteMatch::default(), Action::Forward(forward));
    Resource::Route(RouteConfig { name: name.into(), routes: vec![route] })
}

pub(crate) fn cluster(name: &str) -> Cluster {
    Cluster {
        name: name.into(),
        service: ServiceRef { kind: "Service".into(), namespace: "shop".into(), name: "reviews".into() },
        discovery: Discovery::Eds,
        protocol: UpstreamProtocol::AsDownstream,
        load_balancer: LoadBalancer::default(),
        slow_start: None,
        locality: None,
        connection: ConnectionPolicy::default(),
        limits: Limits::default(),
        outlier: None,
        retry_budget: RetryBudget::default(),
        health_check: None,
        tls: None,
    }
}

pub(crate) fn endpoints(cluster: &str, addresses: &[&str]) -> Resource {
    let endpoint = |address: &&str| Endpoint {
        address: address.parse().unwrap(),
        weight: 1,
        health: Health::Healthy,
        locality: Locality::default(),
        hint_zones: Vec::new(),
        workload: WorkloadRef::default(),
        identity: None,
    };
    let endpoints = addresses.iter().map(endpoint).collect();
    Resource::Endpoints(Endpoints { cluster: cluster.into(), endpoints })
}

/// The snapshot that these resources make for `REVIEWS`.
pub(crate) fn linked(telemetry: &Telemetry, resources: &[Resource]) -> Snapshot {
    let (snapshot, _) = demand::with_place(&Snapshot::empty(), REVIEWS.parse().unwrap());
    let mut held = Held::default();
    for resource in resources {
        let mut asked = Names::default();
        asked.insert(resource.kind(), &resource.name());
        held.apply(resource.kind(), response(resource.kind(), vec![item(resource, "1")], &[]), &asked);
    }
    Linker::default().link(&held, &snapshot, telemetry).expect("something changes")
}

/// A response of one type.
pub(crate) fn response(kind: ResourceType, items: Vec<Item>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.url().to_owned(),
        resources: items,
        removed_resources: removed.iter().map(ToString::to_string).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

pub(crate) fn item(resource: &Resource, version: &str) -> Item {
    Item {
        name: resource.name().to_string(),
        version: version.to_owned(),
        resource: Some(encode(resource)),
        ..Item::default()
    }
}

/// A resource of a good type whose bytes are no message.
pub(crate) fn broken(kind: ResourceType, name: &str) -> Item {
    let any = outrigger_model::codec::Any { type_url: kind.url().to_owned(), value: vec![0xff; 8] };
    Item { name: name.to_owned(), version: "bad".to_owned(), resource: Some(any), ..Item::default() }
}

/// Serves `router` over connections in memory, and gives the channel that dials it.
pub(crate) fn serve_in_memory(router: Router) -> Channel {
    let (dials, incoming) = mpsc::channel::<io::Result<DuplexStream>>(4);
    tokio::spawn(router.serve_with_incoming(ReceiverStream::new(incoming)));
    ChannelEndpoint::from_static("http://control-plane.test").connect_with_connector_lazy(InMemory(dials))
}

struct InMemory(mpsc::Sender<io::Result<DuplexStream>>);

impl tower::Service<http::Uri> for InMemory {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dials = self.0.clone();
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(64 * 1024);
            dials.send(Ok(far)).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(TokioIo::new(near))
        })
    }
}

/// A control plane that hands each stream to the test.
pub(crate) struct FakeControlPlane {
    streams: mpsc::Receiver<ServerStream>,
}

/// One incremental stream, from the control plane's side.
pub(crate) struct ServerStream {
    pub(crate) authorization: Option<String>,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    nonce: u32,
}

impl FakeControlPlane {
    pub(crate) fn start() -> (Self, Channel) {
        let (sender, streams) = mpsc::channel(4);
        let service = AggregatedDiscoveryServiceServer::new(Ads(sender));
        let channel = serve_in_memory(tonic::transport::Server::builder().add_service(service));
        (Self { streams }, channel)
    }

    pub(crate) async fn stream(&mut self) -> ServerStream {
        self.streams.recv().await.expect("the server ended")
    }
}

impl ServerStream {
    pub(crate) async fn request(&mut self) -> DeltaDiscoveryRequest {
        self.requests.message().await.expect("the stream failed").expect("the stream ended")
    }

    /// The next request, which must subscribe to these names of a type.
    pub(crate) async fn expect_subscribe(
        &mut self,
        kind: ResourceType,
        names: &[&str],
    ) -> DeltaDiscoveryRequest {
        let request = self.request().await;
        assert_eq!(
            (request.type_url.as_str(), request.response_nonce.as_str()),
            (kind.url(), ""),
            "{request:?}"
        );
        assert_eq!(request.resource_names_subscribe, names, "{request:?}");
        request
    }

    /// Sends a response without waiting for its answer, and gives its nonce.
    pub(crate) async fn push(&mut self, mut response: DeltaDiscoveryResponse) -> String {
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        response.nonce.clone_from(&nonce);
        self.responses.send(Ok(response)).await.expect("the stream ended");
        nonce
    }

    /// Sends a response, and gives its answer.
    pub(crate) async fn send(&mut self, response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        let type_url = response.type_url.clone();
        let nonce = self.push(response).await;
        let answer = self.request().await;
        assert_eq!((answer.type_url, answer.response_nonce), (type_url, nonce));
        DeltaDiscoveryRequest { error_detail: answer.error_detail, ..DeltaDiscoveryRequest::default() }
    }

    /// Sends resources of one type, which must be taken.
    pub(crate) async fn send_good(&mut self, resources: &[Resource], version: &str) {
        let items = resources.iter().map(|resource| item(resource, version)).collect();
        let answer = self.send(response(resources[0].kind(), items, &[])).await;
        assert_eq!(answer.error_detail, None);
    }
}

struct Ads(mpsc::Sender<ServerStream>);

type Responses<R> = ReceiverStream<Result<R, Status>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only the incremental variant is asked for"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let (responses, queue) = mpsc::channel(4);
        let stream = ServerStream { authorization, requests: request.into_inner(), responses, nonce: 0 };
        self.0.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}
