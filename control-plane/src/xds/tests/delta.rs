//! The incremental variant.

use envoy_types::pb::google::rpc;

use super::*;

/// A client of the incremental variant.
pub(super) struct DeltaClient {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    node: Option<Node>,
    probes: usize,
}

impl DeltaClient {
    pub(super) async fn connect(mesh: &Mesh, node: Node) -> Self {
        Self::connect_as(mesh, node, None).await
    }

    async fn connect_as(mesh: &Mesh, node: Node, token: Option<String>) -> Self {
        let (requests, sent) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(sent));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let responses = mesh.client().await.delta_aggregated_resources(request).await.unwrap().into_inner();
        Self { requests, responses, node: Some(node), probes: 0 }
    }

    async fn send(&mut self, mut request: DeltaDiscoveryRequest) {
        request.node = self.node.take();
        self.requests.send(request).await.unwrap();
    }

    pub(super) async fn subscribe(&mut self, kind: &str, names: &[&str]) {
        let resource_names_subscribe = names.iter().map(ToString::to_string).collect();
        self.send(DeltaDiscoveryRequest { resource_names_subscribe, ..request(kind) }).await;
    }

    async fn unsubscribe(&mut self, kind: &str, names: &[&str]) {
        let resource_names_unsubscribe = names.iter().map(ToString::to_string).collect();
        self.send(DeltaDiscoveryRequest { resource_names_unsubscribe, ..request(kind) }).await;
    }

    pub(super) async fn ack(&mut self, response: &DeltaDiscoveryResponse) {
        let response_nonce = response.nonce.clone();
        self.send(DeltaDiscoveryRequest { response_nonce, ..request(&response.type_url) }).await;
    }

    async fn nack(&mut self, response: &DeltaDiscoveryResponse, reason: &str) {
        let error_detail =
            Some(rpc::Status { code: 3, message: reason.to_owned(), ..rpc::Status::default() });
        let response_nonce = response.nonce.clone();
        self.send(DeltaDiscoveryRequest { response_nonce, error_detail, ..request(&response.type_url) })
            .await;
    }

    pub(super) async fn next(&mut self) -> DeltaDiscoveryResponse {
        within("a response", self.responses.message()).await.unwrap().expect("the stream has ended")
    }

    /// The next response, answered.
    async fn take(&mut self) -> DeltaDiscoveryResponse {
        let response = self.next().await;
        self.ack(&response).await;
        response
    }

    /// The code with which the stream ends, `None` when it ends in order.
    pub(super) async fn end(&mut self) -> Option<Code> {
        loop {
            match within("the end", self.responses.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status.code()),
            }
        }
    }

    /// Checks that nothing else was to be sent: the answer to a further question is what comes next.
    async fn is_quiet(&mut self) {
        self.probes += 1;
        let probe = format!("probe-{}.none:1", self.probes);
        self.subscribe(ROUTE, &[&probe]).await;
        let response = self.take().await;
        assert_eq!((names(&response), removed(&response)), (vec![], vec![probe.as_str()]), "{response:?}");
    }
}

fn request(kind: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: kind.to_owned(), ..DeltaDiscoveryRequest::default() }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

fn removed(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.removed_resources.iter().map(String::as_str).collect()
}

async fn shop() -> (Mesh, DeltaClient) {
    let mesh = Mesh::start(&(service("reviews", "127.0.1.2") + &service("ratings", "127.0.1.4"))).await;
    let client = DeltaClient::connect(&mesh, node("sidecar~127.0.1.1~web-1.shop~d", "shop")).await;
    (mesh, client)
}

#[tokio::test]
async fn what_is_asked_for_is_sent_and_only_what_changes_is_sent_again() {
    let (mesh, mut client) = shop().await;
    let (reviews, ratings) = (cluster("reviews"), cluster("ratings"));
    client.subscribe(CLUSTER, &[&reviews]).await;
    client.subscribe(ENDPOINTS, &[&reviews, &ratings]).await;
    let clusters = client.take().await;
    assert_eq!((clusters.type_url.as_str(), names(&clusters)), (CLUSTER, vec![reviews.as_str()]));
    assert_eq!(names(&client.take().await), [ratings.as_str(), reviews.as_str()]);

    mesh.write(&workload("reviews", "127.0.1.77"));
    let changed = client.take().await;
    assert_eq!((changed.type_url.as_str(), names(&changed)), (ENDPOINTS, vec![reviews.as_str()]));
    assert!(shown(changed.resources[0].resource.as_ref().unwrap()).contains("127.0.1.77"), "{changed:?}");
    client.is_quiet().await;
}

#[tokio::test]
async fn a_change_without_effect_is_not_sent() {
    let (mesh, mut client) = shop().await;
    client.subscribe(ENDPOINTS, &[&cluster("reviews")]).await;
    client.take().await;
    let before = mesh.hub.generation();
    mesh.write(&(workload("reviews", "127.0.1.2") + &workload("ratings", "127.0.1.9")));
    eventually("the push", || mesh.hub.generation() > before).await;
    client.is_quiet().await;
}

#[tokio::test]
async fn an_unknown_name_is_answered_at_once_and_sent_when_it_appears() {
    let (mesh, mut client) = shop().await;
    let name = host("details");
    client.subscribe(LISTENER, &[&name]).await;
    let response = client.take().await;
    assert_eq!((names(&response), removed(&response)), (vec![], vec![name.as_str()]));
    mesh.write(&service("details", "127.0.1.5"));
    assert_eq!(names(&client.take().await), [name.as_str()]);
    mesh.delete(Kind::Service, "details");
    let response = client.take().await;
    assert_eq!((names(&response), removed(&response)), (vec![], vec![name.as_str()]));
    client.is_quiet().await;
}

#[tokio::test]
async fn a_client_that_comes_back_gets_only_what_it_does_not_have() {
    let (mesh, mut client) = shop().await;
    let asked = [cluster("ratings"), cluster("reviews")];
    client.subscribe(ENDPOINTS, &[&asked[0], &asked[1]]).await;
    let first = client.take().await;
    let versions: Vec<_> =
        first.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect();
    drop(client);

    mesh.write(&workload("reviews", "127.0.1.77"));
    let mut client = DeltaClient::connect(&mesh, node("again", "shop")).await;
    let again = DeltaDiscoveryRequest {
        resource_names_subscribe: asked.to_vec(),
        initial_resource_versions: versions.into_iter().collect(),
        ..request(ENDPOINTS)
    };
    client.send(again).await;
    assert_eq!(names(&client.take().await), [asked[1].as_str()]);
    client.is_quiet().await;
}

#[tokio::test]
async fn a_client_that_comes_back_learns_what_is_gone() {
    let (mesh, _) = shop().await;
    let mut client = DeltaClient::connect(&mesh, node("again", "shop")).await;
    let gone = cluster("gone");
    let again = DeltaDiscoveryRequest {
        resource_names_subscribe: vec!["*".to_owned()],
        initial_resource_versions: [(gone.clone(), "1".to_owned())].into(),
        ..request(CLUSTER)
    };
    client.send(again).await;
    let response = client.take().await;
    assert_eq!(names(&response), [cluster("ratings"), cluster("reviews")]);
    assert_eq!(removed(&response), [gone.as_str()]);
}

#[tokio::test]
async fn everything_is_what_there_is_now_and_later() {
    for wildcard in [vec!["*"], vec![]] {
        let (mesh, mut client) = shop().await;
        client.subscribe(CLUSTER, &wildcard).await;
        assert_eq!(names(&client.take().await), [cluster("ratings"), cluster("reviews")]);
        mesh.write(&service("details", "127.0.1.5"));
        assert_eq!(names(&client.take().await), [cluster("details")]);
        mesh.delete(Kind::Service, "ratings");
        assert_eq!(removed(&client.take().await), [cluster("ratings")]);
        client.is_quiet().await;
    }
}

#[tokio::test]
async fn everything_of_nothing_is_an_empty_answer() {
    let mesh = Mesh::start("").await;
    let mut client = DeltaClient::connect(&mesh, Node::default()).await;
    client.subscribe(LISTENER, &["*"]).await;
    let response = client.take().await;
    assert_eq!((response.resources.len(), response.removed_resources.len()), (0, 0));
}

#[tokio::test]
async fn a_refusal_is_remembered_and_the_same_is_not_sent_again() {
    let (mesh, mut client) = shop().await;
    let name = cluster("reviews");
    client.subscribe(CLUSTER, &[&name]).await;
    let good = client.take().await;
    mesh.write(&limit("reviews", 7));
    let bad = client.next().await;
    client.nack(&bad, "cluster reviews: no").await;
    client.is_quiet().await;
    let status = mesh.status("cluster");
    let nack = status.nack.expect("the refusal is forgotten");
    assert_eq!(
        (nack.reason.as_str(), nack.version.to_string()),
        ("cluster reviews: no", bad.system_version_info)
    );
    assert_eq!(status.acked_version.map(|version| version.to_string()), Some(good.system_version_info));
    assert!(mesh.metric("outrigger_control_plane_nacks_total{kind=\"cluster\"} 1"));

    mesh.write(&limit("reviews", 8));
    assert_eq!(names(&client.take().await), [name.as_str()]);
    client.is_quiet().await;
    assert_eq!(mesh.status("cluster").nack, None);
}

#[tokio::test]
async fn what_is_unsubscribed_is_neither_sent_nor_kept() {
    let (mesh, mut client) = shop().await;
    let name = cluster("reviews");
    client.subscribe(ENDPOINTS, &[&name]).await;
    client.take().await;
    client.unsubscribe(ENDPOINTS, &[&name]).await;
    client.is_quiet().await;
    assert!(mesh.metric("outrigger_control_plane_resources{kind=\"endpoints\"} 0"));
    let before = mesh.hub.generation();
    mesh.write(&workload("reviews", "127.0.1.77"));
    eventually("the push", || mesh.hub.generation() > before).await;
    client.is_quiet().await;
    client.subscribe(ENDPOINTS, &[&name]).await;
    assert_eq!(names(&client.take().await), [name.as_str()]);
}

#[tokio::test]
async fn a_name_that_is_asked_for_again_is_sent_again() {
    let (_mesh, mut client) = shop().await;
    let name = cluster("reviews");
    for _ in 0..2 {
        client.subscribe(CLUSTER, &[&name]).await;
        assert_eq!(names(&client.take().await), [name.as_str()]);
    }
}

#[tokio::test]
async fn one_response_of_a_type_is_in_flight() {
    let (mesh, mut client) = shop().await;
    let name = cluster("reviews");
    client.subscribe(ENDPOINTS, &[&name]).await;
    let unanswered = client.next().await;
    for last in 3..=9 {
        let before = mesh.hub.generation();
        mesh.write(&workload("reviews", &format!("127.0.1.{last}")));
        eventually("the push", || mesh.hub.generation() > before).await;
    }
    client.is_quiet().await;
    client.ack(&unanswered).await;
    let latest = client.take().await;
    assert!(shown(latest.resources[0].resource.as_ref().unwrap()).contains("127.0.1.9"), "{latest:?}");
    client.is_quiet().await;
}

#[tokio::test]
async fn a_cluster_is_taken_away_only_after_its_listener_and_routes() {
    let (mesh, mut client) = shop().await;
    let (name, host) = (cluster("reviews"), host("reviews"));
    for (kind, name) in [(CLUSTER, &name), (ENDPOINTS, &name), (LISTENER, &host), (ROUTE, &host)] {
        client.subscribe(kind, &[name]).await;
        assert_eq!(names(&client.take().await), [name.as_str()]);
    }
    mesh.delete(Kind::Service, "reviews");
    for kind in [LISTENER, ROUTE, CLUSTER, ENDPOINTS] {
        let response = client.take().await;
        assert_eq!((response.type_url.as_str(), removed(&response).len()), (kind, 1), "{response:?}");
    }
}

#[tokio::test]
async fn the_namespace_of_a_token_counts_not_what_the_client_says() {
    let (mesh, _) = shop().await;
    let token = Some(mesh.token("shop"));
    let mut client = DeltaClient::connect_as(&mesh, node("sidecar~1.2.3.4~x.bank~d", "bank"), token).await;
    client.subscribe(CLUSTER, &[&cluster("reviews")]).await;
    client.take().await;
    let proxies = mesh.hub.proxies();
    let proxy = proxies.iter().find(|proxy| proxy.id.contains("bank")).unwrap();
    assert_eq!((proxy.namespace.as_str(), proxy.service_account.as_deref()), ("shop", Some("web")));
}

#[tokio::test]
async fn a_type_that_is_not_served_is_left_unanswered() {
    let (_mesh, mut client) = shop().await;
    client.subscribe("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", &["a"]).await;
    client.is_quiet().await;
}

#[tokio::test]
async fn bounds_end_a_stream() {
    let many: Vec<String> = (0..=MAX_NAMES_PER_STREAM).map(|n| format!("h{n}:80")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (half, rest) = many.split_at(many.len() / 2);
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    for (what, requests, code) in [
        ("too many names at once", vec![(LISTENER, &many[..])], Code::ResourceExhausted),
        ("too many names in all", vec![(LISTENER, half), (ROUTE, rest)], Code::ResourceExhausted),
        ("a long name", vec![(LISTENER, &[long.as_str()][..])], Code::InvalidArgument),
        ("an empty name", vec![(LISTENER, &[""][..])], Code::InvalidArgument),
    ] {
        let (_mesh, mut client) = shop().await;
        for (kind, names) in requests {
            client.subscribe(kind, names).await;
        }
        assert_eq!(client.end().await, Some(code), "{what}");
    }
}

#[tokio::test]
async fn endpoints_follow_a_changed_cluster() {
    let (mesh, mut client) = shop().await;
    let name = cluster("reviews");
    for kind in [CLUSTER, ENDPOINTS] {
        client.subscribe(kind, &[&name]).await;
        client.take().await;
    }
    mesh.write(&limit("reviews", 7));
    for kind in [CLUSTER, ENDPOINTS] {
        let response = client.take().await;
        assert_eq!((response.type_url.as_str(), names(&response)), (kind, vec![name.as_str()]));
    }
    client.is_quiet().await;
}

#[tokio::test]
async fn a_push_is_measured_until_it_is_sent_and_until_it_is_answered() {
    let (mesh, mut client) = shop().await;
    client.subscribe(ENDPOINTS, &[&cluster("reviews")]).await;
    client.take().await;
    mesh.write(&workload("reviews", "127.0.1.77"));
    let unanswered = client.next().await;
    client.is_quiet().await;
    assert!(mesh.metric("outrigger_control_plane_push_duration_seconds_count 1"));
    assert!(mesh.metric("outrigger_control_plane_converge_duration_seconds_count 0"));
    client.ack(&unanswered).await;
    client.is_quiet().await;
    eventually("the end of the measurement", || {
        mesh.metric("outrigger_control_plane_converge_duration_seconds_count 1")
    })
    .await;
}

/// Streams that come while changes are pushed must end up with the last state, whatever the order of events.
#[tokio::test]
async fn who_subscribes_during_a_push_misses_nothing() {
    let (mesh, _) = shop().await;
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    for (round, name) in names.iter().enumerate() {
        mesh.write(&service(name, &format!("127.0.2.{round}")));
        let mut client = DeltaClient::connect(&mesh, node("late", "shop")).await;
        client.subscribe(ENDPOINTS, &[&cluster(name)]).await;
        mesh.write(&workload(name, &format!("127.0.3.{round}")));
        loop {
            let response = client.take().await;
            let resource = response.resources.first().and_then(|resource| resource.resource.as_ref());
            if resource.is_some_and(|any| shown(any).contains(&format!("127.0.3.{round}"))) {
                break;
            }
        }
    }
}
