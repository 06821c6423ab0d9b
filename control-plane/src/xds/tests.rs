//! Both variants of the protocol, spoken by a real gRPC client over loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::protobuf::value::Kind as ValueKind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use outrigger_base::lifecycle::drain::{self, DrainTrigger};
use outrigger_base::telemetry::metrics::{Format, Registry};
use outrigger_model::codec;
use outrigger_resources::{Kind, ObjectRef, parse_yaml};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

use super::*;
use crate::ca::store::Store;
use crate::http::meters::Meters;
use crate::run::serve::{self, Security};
use crate::token::book::Book;
use crate::token::gate::{Gate, Verifier};
use crate::token::{Caller, TokenKeys};
use crate::world::{Change, World};

mod delta;
mod sotw;

/// How long a test waits for a message before it fails.
const DEADLINE: Duration = Duration::from_secs(10);

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// A control plane that serves discovery.
struct Mesh {
    hub: Arc<Hub>,
    world: Mutex<Arc<World>>,
    registry: Arc<Registry>,
    tokens: Arc<TokenKeys>,
    address: SocketAddr,
    trigger: DrainTrigger,
    _tasks: JoinSet<()>,
}

impl Mesh {
    async fn start(yaml: &str) -> Self {
        let world = Arc::new(World::default().apply(upserts(yaml)).0);
        let registry = Registry::new();
        let meters = Meters::new(registry.clone());
        let hub = Hub::new(world.clone(), meters.clone());
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let tokens = Arc::new(TokenKeys::open(&store).unwrap());
        let book = Arc::new(Book::open(&store).unwrap());
        drop(store);
        let gate = Gate::new(Verifier::Keys(tokens.clone(), book), meters);
        let (trigger, drain) = drain::new(DEADLINE);
        let discovery = Discovery::new(hub.clone(), gate, drain.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve::serve(listener, Security::Plaintext, Routes::new(discovery), drain.clone()));
        let pushing = hub.clone();
        tasks.spawn(async move { pushing.run(drain).await });
        Self { hub, world: Mutex::new(world), registry, tokens, address, trigger, _tasks: tasks }
    }

    /// Writes objects.
    fn write(&self, yaml: &str) {
        self.apply(upserts(yaml));
    }

    /// Deletes an object of the namespace `shop`.
    fn delete(&self, kind: Kind, name: &str) {
        self.apply(vec![Change::Delete(ObjectRef { kind, namespace: "shop".into(), name: name.into() })]);
    }

    fn apply(&self, changes: Vec<Change>) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, changed) = world.apply(changes);
        *world = Arc::new(next);
        self.hub.publish(world.clone(), changed);
    }

    async fn client(&self) -> AggregatedDiscoveryServiceClient<Channel> {
        let channel =
            Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap();
        AggregatedDiscoveryServiceClient::new(channel)
    }

    fn token(&self, namespace: &str) -> String {
        let caller = Caller { namespace: namespace.into(), service_account: "web".into() };
        self.tokens.issue(&caller, Duration::from_secs(60), SystemTime::now()).unwrap()
    }

    /// What the status says of one type of the only client.
    fn status(&self, kind: &str) -> TypeStatus {
        let [proxy] = &self.hub.proxies()[..] else { panic!("not one client: {:?}", self.hub.proxies()) };
        proxy.types.iter().find(|status| status.kind == kind).cloned().unwrap()
    }

    fn metric(&self, line: &str) -> bool {
        self.registry.render(Format::Prometheus).lines().any(|found| found == line)
    }
}

fn upserts(yaml: &str) -> Vec<Change> {
    let parsed = parse_yaml("test.yaml", yaml);
    assert_eq!(parsed.problems, [], "the YAML of the test is wrong");
    parsed.objects.into_iter().map(Change::from).collect()
}

/// A Service with one Workload behind it.
fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 9080, targetPort: http}}]}}\n---\n{}",
        workload(name, address)
    )
}

/// The Workload behind the Service of its name.
fn workload(name: &str, address: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
         metadata: {{name: {name}-1, namespace: shop, labels: {{app: {name}}}}}\n\
         spec: {{address: {address}, ports: {{http: 9080}}, serviceAccount: {name}, meshed: true}}\n---\n"
    )
}

/// The circuit breaker of a Service: changes its cluster and nothing else.
fn limit(name: &str, connections: u32) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{{group: \"\", kind: Service, name: {name}}}], \
         circuitBreaker: {{maxConnections: {connections}}}}}\n---\n"
    )
}

fn cluster(name: &str) -> String {
    format!("outbound|9080|{name}.shop.svc.cluster.local")
}

fn host(name: &str) -> String {
    format!("{name}.shop.svc.cluster.local:9080")
}

fn node(id: &str, namespace: &str) -> Node {
    let namespace = Value { kind: Some(ValueKind::StringValue(namespace.to_owned())) };
    let metadata = Some(Struct { fields: [("NAMESPACE".to_owned(), namespace)].into() });
    Node { id: id.to_owned(), metadata, ..Node::default() }
}

/// What an encoded resource holds, as text.
fn shown(any: &Any) -> String {
    format!("{:?}", codec::decode(any).unwrap())
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits until `check` holds; for what no message announces.
async fn eventually(what: &str, check: impl Fn() -> bool) {
    within(what, async {
        while !check() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn status_shows_who_is_connected_until_it_leaves() {
    let mesh = Mesh::start(&service("reviews", "127.0.1.2")).await;
    let mut client = delta::DeltaClient::connect(&mesh, node("sidecar~127.0.1.1~web-1.shop~d", "shop")).await;
    client.subscribe(CLUSTER, &[&cluster("reviews")]).await;
    let response = client.next().await;
    client.ack(&response).await;
    eventually("the acknowledgement", || mesh.status("cluster").acked_version.is_some()).await;
    let proxies = mesh.hub.proxies();
    assert_eq!(proxies[0].id, "sidecar~127.0.1.1~web-1.shop~d");
    assert_eq!((proxies[0].namespace.as_str(), proxies[0].protocol), ("shop", "delta"));
    assert!(proxies[0].address.is_some_and(|address| address.ip().is_loopback()));
    let status = mesh.status("cluster");
    assert_eq!((status.subscribed, status.sent_version), (1, status.acked_version));
    assert!(mesh.metric("outrigger_control_plane_proxies 1"));
    assert!(mesh.metric("outrigger_control_plane_resources{kind=\"cluster\"} 1"));
    drop(client);
    eventually("the client to be gone", || mesh.hub.proxies().is_empty()).await;
    assert!(mesh.metric("outrigger_control_plane_proxies 0"));
    assert!(mesh.metric("outrigger_control_plane_resources{kind=\"cluster\"} 0"));
}

#[tokio::test]
async fn a_bad_token_is_refused_although_loopback_needs_none() {
    let mesh = Mesh::start("").await;
    for token in ["nonsense".to_owned(), Mesh::start("").await.token("shop")] {
        let mut request = Request::new(tokio_stream::pending());
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let status = mesh.client().await.delta_aggregated_resources(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    }
}

#[tokio::test]
async fn a_drain_ends_streams_in_order() {
    let mesh = Mesh::start("").await;
    let mut client = delta::DeltaClient::connect(&mesh, Node::default()).await;
    client.subscribe(CLUSTER, &["*"]).await;
    client.next().await;
    mesh.trigger.start();
    assert_eq!(client.end().await, None);
}

#[test]
fn there_is_a_bound_on_streams() {
    let hub = Hub::new(Arc::new(World::default()), Meters::new(Registry::new()));
    let mut places: Vec<_> = (0..MAX_STREAMS).map(|_| hub.connections().enter().unwrap()).collect();
    assert!(hub.connections().enter().is_none());
    places.pop();
    assert!(hub.connections().enter().is_some(), "a place that is given back can be taken");
}

#[tokio::test]
async fn what_is_no_call_of_discovery_is_unimplemented() {
    let mesh = Mesh::start(&service("reviews", "10.0.0.1")).await;
    let address = mesh.address;
    let call = |path: &str, encoding: &str| {
        let uri = format!("http://{address}/{}/{path}", <Discovery as tonic::server::NamedService>::NAME);
        let request = tonic::codegen::http::Request::post(uri).header("grpc-encoding", encoding);
        request.header("content-type", "application/grpc").body(tonic::body::Body::empty()).unwrap()
    };
    for (path, encoding, expected) in [
        ("FetchAggregatedResources", "identity", "12"),
        ("DeltaAggregatedResources", "gzip", "12"),
        // What is open at all ends well when the client has no more to ask.
        ("DeltaAggregatedResources", "identity", "0"),
    ] {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let answer = tower::ServiceExt::oneshot(channel, call(path, encoding)).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let at_once = answer.headers().get("grpc-status").cloned();
        let ended = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
        let status = at_once.or_else(|| ended.trailers()?.get("grpc-status").cloned()).unwrap();
        assert_eq!(status, expected, "{path} {encoding}");
    }
}
