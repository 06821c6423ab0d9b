//! The state-of-the-world variant.

use envoy_types::pb::google::rpc;

use super::*;

struct SotwClient {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
    node: Option<Node>,
}

impl SotwClient {
    async fn connect(mesh: &Mesh) -> Self {
        let (requests, sent) = mpsc::channel(16);
        let request = Request::new(ReceiverStream::new(sent));
        let responses = mesh.client().await.stream_aggregated_resources(request).await.unwrap().into_inner();
        Self { requests, responses, node: Some(node("grpc-client", "")) }
    }

    async fn send(&mut self, kind: &str, names: &[&str], answers: Option<&DiscoveryResponse>) {
        let request = DiscoveryRequest {
            node: self.node.take(),
            type_url: kind.to_owned(),
            resource_names: names.iter().map(ToString::to_string).collect(),
            version_info: answers.map(|response| response.version_info.clone()).unwrap_or_default(),
            response_nonce: answers.map(|response| response.nonce.clone()).unwrap_or_default(),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn nack(&mut self, names: &[&str], response: &DiscoveryResponse) {
        let request = DiscoveryRequest {
            type_url: response.type_url.clone(),
            resource_names: names.iter().map(ToString::to_string).collect(),
            response_nonce: response.nonce.clone(),
            error_detail: Some(rpc::Status { message: "no".to_owned(), ..rpc::Status::default() }),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> DiscoveryResponse {
        within("a response", self.responses.message()).await.unwrap().expect("the stream has ended")
    }

    /// The next response, which has to be of this type, answered with these names.
    async fn take(&mut self, kind: &str, asked: &[&str]) -> DiscoveryResponse {
        let response = self.next().await;
        assert_eq!(response.type_url, kind, "{response:?}");
        self.send(kind, asked, Some(&response)).await;
        response
    }
}

fn names(response: &DiscoveryResponse) -> Vec<String> {
    response.resources.iter().map(|any| codec::decode(any).unwrap().name().to_string()).collect()
}

async fn shop() -> (Mesh, SotwClient) {
    let mesh = Mesh::start(&(service("reviews", "127.0.1.2") + &service("ratings", "127.0.1.4"))).await;
    let client = SotwClient::connect(&mesh).await;
    (mesh, client)
}

#[tokio::test]
async fn a_client_walks_from_listener_to_endpoints_and_gets_what_changes() {
    let (mesh, mut client) = shop().await;
    let (host, name) = (host("reviews"), cluster("reviews"));
    for (kind, asked) in [(LISTENER, &host), (ROUTE, &host), (CLUSTER, &name), (ENDPOINTS, &name)] {
        client.send(kind, &[asked], None).await;
        assert_eq!(names(&client.take(kind, &[asked]).await), [asked.as_str()]);
    }
    mesh.write(&workload("reviews", "127.0.1.77"));
    let changed = client.take(ENDPOINTS, &[&name]).await;
    assert!(shown(&changed.resources[0]).contains("127.0.1.77"), "{changed:?}");
}

#[tokio::test]
async fn an_unknown_listener_is_missing_in_a_complete_answer() {
    let (mesh, mut client) = shop().await;
    let (known, unknown) = (host("reviews"), host("details"));
    let asked = [known.as_str(), unknown.as_str()];
    client.send(LISTENER, &asked, None).await;
    assert_eq!(names(&client.take(LISTENER, &asked).await), [known.as_str()]);
    mesh.write(&service("details", "127.0.1.5"));
    assert_eq!(names(&client.take(LISTENER, &asked).await), [unknown.as_str(), known.as_str()]);
    mesh.delete(Kind::Service, "reviews");
    assert_eq!(names(&client.take(LISTENER, &asked).await), [unknown.as_str()]);
}

#[tokio::test]
async fn clusters_without_names_are_all_clusters() {
    let (mesh, mut client) = shop().await;
    client.send(CLUSTER, &[], None).await;
    assert_eq!(names(&client.take(CLUSTER, &[]).await), [cluster("ratings"), cluster("reviews")]);
    mesh.write(&service("details", "127.0.1.5"));
    let all = [cluster("details"), cluster("ratings"), cluster("reviews")];
    assert_eq!(names(&client.take(CLUSTER, &[]).await), all);
    mesh.delete(Kind::Service, "ratings");
    assert_eq!(names(&client.take(CLUSTER, &[]).await), [all[0].as_str(), all[2].as_str()]);
}

#[tokio::test]
async fn no_listeners_at_all_is_an_answer() {
    let (_mesh, mut client) = shop().await;
    client.send(LISTENER, &[], None).await;
    assert!(client.take(LISTENER, &[]).await.resources.is_empty());
}

#[tokio::test]
async fn endpoints_follow_a_changed_cluster() {
    let (mesh, mut client) = shop().await;
    let name = cluster("reviews");
    client.send(CLUSTER, &[], None).await;
    client.take(CLUSTER, &[]).await;
    client.send(ENDPOINTS, &[&name], None).await;
    client.take(ENDPOINTS, &[&name]).await;
    mesh.write(&limit("reviews", 7));
    client.take(CLUSTER, &[]).await;
    assert_eq!(names(&client.take(ENDPOINTS, &[&name]).await), [name.as_str()]);
}

#[tokio::test]
async fn names_that_are_added_are_sent_and_those_that_are_left_out_are_not() {
    let (mesh, mut client) = shop().await;
    let (reviews, ratings) = (cluster("reviews"), cluster("ratings"));
    client.send(ENDPOINTS, &[&reviews], None).await;
    let first = client.take(ENDPOINTS, &[&reviews]).await;
    assert_eq!(names(&first), [reviews.as_str()]);
    client.send(ENDPOINTS, &[&ratings], Some(&first)).await;
    assert_eq!(names(&client.take(ENDPOINTS, &[&ratings]).await), [ratings.as_str()]);
    mesh.write(&(workload("reviews", "127.0.1.77") + &workload("ratings", "127.0.1.78")));
    assert_eq!(names(&client.take(ENDPOINTS, &[&ratings]).await), [ratings.as_str()]);
}

#[tokio::test]
async fn a_refusal_is_remembered_and_the_next_change_is_sent() {
    let (mesh, mut client) = shop().await;
    let name = cluster("reviews");
    client.send(CLUSTER, &[&name], None).await;
    let bad = client.next().await;
    client.nack(&[&name], &bad).await;
    eventually("the refusal", || mesh.status("cluster").nack.is_some()).await;
    assert_eq!(mesh.status("cluster").acked_version, None);
    mesh.write(&limit("reviews", 7));
    client.take(CLUSTER, &[&name]).await;
    eventually("the acknowledgement", || mesh.status("cluster").acked_version.is_some()).await;
    assert_eq!(mesh.status("cluster").nack, None);
}

#[tokio::test]
async fn an_answer_to_an_older_response_changes_nothing() {
    let (mesh, mut client) = shop().await;
    let name = cluster("reviews");
    client.send(ENDPOINTS, &[&name], None).await;
    let first = client.take(ENDPOINTS, &[&name]).await;
    mesh.write(&workload("reviews", "127.0.1.77"));
    let second = client.next().await;
    client.send(ENDPOINTS, &[&name], Some(&first)).await;
    mesh.write(&workload("reviews", "127.0.1.78"));
    client.send(LISTENER, &[], None).await;
    client.take(LISTENER, &[]).await;
    client.send(ENDPOINTS, &[&name], Some(&second)).await;
    let third = client.take(ENDPOINTS, &[&name]).await;
    assert!(shown(&third.resources[0]).contains("127.0.1.78"), "{third:?}");
}
