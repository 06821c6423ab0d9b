//! One simulated proxy: on the wire what a sidecar is, without the traffic.
//!
//! It has a connection, a token and an incremental stream of its own; it asks for its inbound listener and for what its
//! application dials, listeners first, then the routes they name, then clusters and endpoints; it acknowledges what
//! comes. It keeps nothing of what it is sent.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use outrigger_model::name::INBOUND;
use outrigger_model::resource::ResourceType;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Endpoint;

use super::mesh::{Home, change_in, cluster};

/// Requests that wait to be sent: an acknowledgement and what is asked for next.
const MAX_QUEUED_REQUESTS: usize = 8;
/// The largest response, in bytes.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;
/// How long the control plane may take to accept a connection when all proxies come at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A silent control plane is asked for a sign of life, as our proxies do.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A proxy before it connects.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) number: usize,
    pub(super) home: Home,
    pub(super) token: String,
    pub(super) destinations: Vec<String>,
}

/// What a proxy has to say to whoever measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It has everything it asked for.
    Synced,
    /// It has acknowledged the endpoints of the hot Service as they are after this change.
    Acknowledged(u16),
}

/// Who says it, and when it was so.
#[derive(Debug, Clone, Copy)]
pub(super) struct News {
    pub(super) proxy: usize,
    pub(super) at: Instant,
    pub(super) event: Event,
}

/// A stream while it lives.
struct Stream {
    proxy: Proxy,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    news: mpsc::Sender<News>,
    /// Names of each type that are asked for and have not come.
    missing: [usize; ResourceType::ALL.len()],
    synced: bool,
}

impl Proxy {
    /// Connects and follows the control plane; it returns only when something is wrong.
    pub(super) async fn run(self, url: String, news: mpsc::Sender<News>) -> Result<()> {
        let number = self.number;
        self.follow(url, news).await.with_context(|| format!("simulated proxy {number}"))
    }

    async fn follow(self, url: String, news: mpsc::Sender<News>) -> Result<()> {
        let endpoint = Endpoint::from_shared(url)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await.context("cannot connect to the control plane")?;
        let (requests, queue) = mpsc::channel(MAX_QUEUED_REQUESTS);
        let mut opening = Request::new(ReceiverStream::new(queue));
        let bearer: AsciiMetadataValue = format!("Bearer {}", self.token).parse()?;
        opening.metadata_mut().insert("authorization", bearer);
        let node = self.node();
        let mut stream = Stream { proxy: self, requests, news, missing: [0; 4], synced: false };
        stream.subscribe(ResourceType::Listener, Some(node)).await?;
        let client = AggregatedDiscoveryServiceClient::new(channel);
        let mut client = client.max_decoding_message_size(MAX_RESPONSE_BYTES);
        let mut responses = client.delta_aggregated_resources(opening).await?.into_inner();
        while let Some(response) = responses.message().await? {
            stream.take(response).await?;
        }
        bail!("the control plane has closed the stream")
    }

    fn node(&self) -> Node {
        let Home { namespace, service_account, workload, address } = &self.home;
        let string = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let labels = Struct { fields: [("app".to_owned(), string(service_account))].into() };
        let fields = [
            ("NAMESPACE".to_owned(), string(namespace)),
            ("SERVICE_ACCOUNT".to_owned(), string(service_account)),
            ("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(labels)) }),
        ];
        Node {
            id: format!("sidecar~{address}~{workload}.{namespace}~{namespace}.svc.cluster.local"),
            cluster: format!("{workload}.{namespace}"),
            metadata: Some(Struct { fields: fields.into() }),
            user_agent_name: "outrigger-proxy".to_owned(),
            ..Node::default()
        }
    }
}

impl Stream {
    /// Takes a response as a proxy does, and acknowledges it.
    async fn take(&mut self, response: DeltaDiscoveryResponse) -> Result<()> {
        let kind = ResourceType::from_url(&response.type_url);
        let kind = kind.with_context(|| format!("{:?} was not asked for", response.type_url))?;
        if let Some(removed) = response.removed_resources.first() {
            bail!("the control plane says that there is no {} {removed:?}", kind.word());
        }
        let change = (kind == ResourceType::Endpoints).then(|| newest_change(&response)).flatten();
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        self.send(acknowledgement).await?;
        if let Some(change) = change {
            self.tell(Event::Acknowledged(change)).await?;
        }
        if !self.synced {
            let missing = &mut self.missing[kind as usize];
            *missing = missing.saturating_sub(response.resources.len());
            self.go_on(kind).await?;
        }
        Ok(())
    }

    /// Asks for what the resources that have come point at.
    async fn go_on(&mut self, kind: ResourceType) -> Result<()> {
        if self.missing[kind as usize] > 0 {
            return Ok(());
        }
        match kind {
            ResourceType::Listener => self.subscribe(ResourceType::Route, None).await,
            ResourceType::Route => {
                self.subscribe(ResourceType::Cluster, None).await?;
                self.subscribe(ResourceType::Endpoints, None).await
            }
            ResourceType::Cluster | ResourceType::Endpoints => {
                self.synced = self.missing.iter().all(|missing| *missing == 0);
                if self.synced { self.tell(Event::Synced).await } else { Ok(()) }
            }
        }
    }

    async fn subscribe(&mut self, kind: ResourceType, node: Option<Node>) -> Result<()> {
        let destinations = &self.proxy.destinations;
        let names: Vec<String> = match kind {
            ResourceType::Listener => destinations.iter().cloned().chain([INBOUND.to_owned()]).collect(),
            ResourceType::Route => destinations.clone(),
            ResourceType::Cluster | ResourceType::Endpoints => {
                destinations.iter().map(|destination| cluster(destination)).collect()
            }
        };
        self.missing[kind as usize] = names.len();
        self.send(DeltaDiscoveryRequest {
            node,
            type_url: kind.url().to_owned(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        })
        .await
    }

    async fn send(&self, request: DeltaDiscoveryRequest) -> Result<()> {
        self.requests.send(request).await.context("the control plane has closed the stream")
    }

    async fn tell(&self, event: Event) -> Result<()> {
        let news = News { proxy: self.proxy.number, at: Instant::now(), event };
        self.news.send(news).await.context("nobody measures any more")
    }
}

fn newest_change(response: &DeltaDiscoveryResponse) -> Option<u16> {
    let resources = response.resources.iter().filter_map(|item| item.resource.as_ref());
    resources.filter_map(|resource| change_in(&resource.value)).max()
}
