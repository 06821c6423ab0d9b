//! A rate limit service of Envoy's protocol, which says what the test wants.

use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use outrigger_tests::town::plain;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Response, Status, transport::Server};

use super::*;

/// What the service does next, and what it was asked.
#[derive(Debug, Clone, Default)]
struct Service(Arc<Mutex<Says>>);

#[derive(Debug, Default)]
struct Says {
    over: bool,
    never: bool,
    asked: Vec<String>,
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: tonic::Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let RateLimitRequest { domain, descriptors, .. } = request.into_inner();
        let entries = descriptors.iter().flat_map(|descriptor| &descriptor.entries);
        let entries: Vec<_> = entries.map(|entry| format!("{}={}", entry.key, entry.value)).collect();
        let (over, never) = {
            let mut says = self.0.lock().unwrap();
            says.asked.push(format!("{domain}: {}", entries.join(" ")));
            (says.over, says.never)
        };
        if never {
            std::future::pending::<()>().await;
        }
        let header =
            |key: &str| HeaderValue { key: key.into(), value: "said".into(), ..HeaderValue::default() };
        Ok(Response::new(RateLimitResponse {
            overall_code: if over { Code::OverLimit } else { Code::Ok }.into(),
            response_headers_to_add: vec![header("x-from-service")],
            request_headers_to_add: vec![header("x-to-application")],
            ..RateLimitResponse::default()
        }))
    }
}

/// A running service. What it is asked by then gets no answer any more when it is stopped.
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    async fn start(service: Service, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = Server::builder()
            .add_service(RateLimitServiceServer::new(service))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async { drop(stopped.await) });
        Self { stop, task: tokio::spawn(async move { drop(serving.await) }) }
    }

    /// Until its last connection is closed.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn policy(timeout: &str, on_failure: &str) -> String {
    files_route()
        + &route_policy(&format!(
            "global: {{service: {{name: limits, port: 9080}}, domain: shop, timeout: {timeout}, onFailure: {on_failure}, \
             descriptors: [{{key: tier, value: gold}}, {{key: user, from: header:x-user}}, {{key: who, from: source.identity}}]}}"
        ))
}

async fn ask(shop: &Shop, user: &str) -> Answer {
    let mut client = Client::connect(shop.entrance, Version::HTTP_11).await.unwrap();
    client.send(Request::get("/").header("x-user", user).body(empty()).unwrap()).await.unwrap()
}

/// Long enough for any connection.
const LONG: &str = "10s";

#[tokio::test]
async fn a_service_says_who_goes_on_and_failure_is_what_the_policy_says() {
    let service_at = |subnet: &Subnet| subnet.address(4, 9080);
    let shop = Shop::and(&policy(LONG, "Deny"), |subnet| {
        service("limits", "grpc") + &plain("limits-1", "limits", service_at(subnet))
    })
    .await;
    let says = Service::default();
    let server = Serving::start(says.clone(), service_at(&shop.town.subnet)).await;

    let fine = ask(&shop, "ann").await;
    assert_eq!((fine.status, fine.header("x-from-service")), (StatusCode::OK, "said"));
    assert_eq!(shop.origin.seen()[0].headers["x-to-application"], "said");
    let who = "spiffe://cluster.local/ns/shop/sa/web";
    assert_eq!(says.0.lock().unwrap().asked, [format!("shop: tier=gold user=ann who={who}")]);
    // Without what the descriptor is made of there is nothing to ask.
    assert_eq!(shop.get("/").await.status, StatusCode::OK);
    assert_eq!(says.0.lock().unwrap().asked.len(), 1);

    says.0.lock().unwrap().over = true;
    let over = ask(&shop, "bob").await;
    assert_eq!((over.status, over.header("x-from-service")), (StatusCode::TOO_MANY_REQUESTS, "said"));
    assert_eq!(over.header("x-outrigger-reason"), "rate_limited; hop=web; object=RoutePolicy/shop/limits");
    assert_eq!(shop.origin.arrived(), 2);

    // Slow.
    says.0.lock().unwrap().never = true;
    shop.rewrite(&policy("50ms", "Deny"));
    let denied = async || (ask(&shop, "ann").await.reason() == "shed").then_some(());
    assert!(eventually(PATIENCE, denied).await.is_some(), "refused, as the policy says");
    shop.rewrite(&policy("50ms", "Allow"));
    let allowed = async || (ask(&shop, "ann").await.status == StatusCode::OK).then_some(());
    assert!(eventually(PATIENCE, allowed).await.is_some(), "let through, as the policy says");
    let errors = metric(&shop.web, "/metrics", "outrigger_rate_limit_service_errors_total", &[]);
    assert!(errors.await.unwrap() >= 2.0);

    // Gone.
    server.stop().await;
    assert_eq!(ask(&shop, "ann").await.status, StatusCode::OK);
    shop.rewrite(&policy(LONG, "Deny"));
    let denied = async || (ask(&shop, "ann").await.reason() == "shed").then_some(());
    assert!(eventually(PATIENCE, denied).await.is_some(), "refused when nobody answers");

    // And back.
    let says = Service::default();
    let _server = Serving::start(says, service_at(&shop.town.subnet)).await;
    let back = async || (ask(&shop, "ann").await.header("x-from-service") == "said").then_some(());
    assert!(eventually(PATIENCE, back).await.is_some(), "asked again as soon as it answers");
}
