//! Every answer that a sidecar makes itself, provoked: what the caller gets over HTTP and over gRPC, and what is logged
//! and counted.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Request, Version};
use outrigger_tests::client::{self, Answer, Client, empty};
use outrigger_tests::eventually;
use outrigger_tests::origin::{Afterwards, Failure, Origin, ScriptedOrigin};
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{
    PATIENCE, PORT, Sidecar, Town, backend_policy, http_route, inbound, logged, meshed, metric, outbound,
    plain, service,
};

use super::ANY;

/// Much longer than a test waits for an answer.
const NEVER: Duration = Duration::from_secs(300);
/// The Services of the town, each of which fails in its own way.
const SERVICES: [&str; 10] =
    ["unrouted", "unbacked", "empty", "closed", "bare", "resetting", "odd", "slow", "full", "missing"];

/// One sidecar, `web`, and a Service for each way to fail.
struct Trouble {
    web: Sidecar,
    /// Accepts and resets, or is as slow as it is told.
    origin: Origin,
    _odd: ScriptedOrigin,
    town: Town,
}

/// What an answer has to be.
struct Expected {
    service: &'static str,
    status: u16,
    grpc_status: &'static str,
    said: &'static str,
}

impl Trouble {
    async fn start() -> Self {
        let origin = Origin::start("slow", ANY).await.unwrap();
        let odd = b"HTTP/1.1 700 Fine\r\ncontent-length: 0\r\n\r\n";
        let odd = ScriptedOrigin::start(ANY, odd, Afterwards::Close).await.unwrap();
        let subnet = Subnet::claim();
        let yaml = yaml(&subnet, origin.address(), odd.address());
        let town = Town::start(subnet, &yaml).await.unwrap();
        let flags: Vec<String> =
            (1..).zip(SERVICES).map(|(host, name)| outbound(town.subnet.address(host, 9001), name)).collect();
        let web = town.sidecar("web", &flags).await.unwrap();
        Self { town, web, origin, _odd: odd }
    }

    fn entrance(&self, service: &str) -> SocketAddr {
        let host = SERVICES.iter().position(|name| *name == service).unwrap();
        self.town.subnet.address(u8::try_from(host + 1).unwrap(), 9001)
    }

    async fn check(&self, expected: &Expected) {
        let Expected { service, status, grpc_status, said } = *expected;
        let entrance = self.entrance(service);
        let reason = said.split(';').next().unwrap();
        let path = format!("/{service}");
        let http = client::get(entrance, &path).await.unwrap();
        assert_eq!((http.status.as_u16(), http.header("x-outrigger-reason")), (status, said), "{service}");
        let line = logged(&self.web, &path).await.unwrap();
        assert_eq!((&line["reason"], &line["status"]), (&reason.into(), &status.into()), "{line}");

        let path = format!("/shop.Trouble/{service}");
        let grpc = call(entrance, &path).await;
        assert_eq!(
            (grpc.status.as_u16(), grpc.header("content-type")),
            (200, "application/grpc"),
            "{service}"
        );
        assert_eq!((grpc.header("grpc-status"), grpc.reason()), (grpc_status, reason), "{service}");
        let line = logged(&self.web, &path).await.unwrap();
        assert_eq!(
            (&line["reason"], line["grpc_status"].to_string()),
            (&reason.into(), grpc_status.into()),
            "{line}"
        );
        let labels = [format!("reason=\"{reason}\""), "direction=\"outbound\"".to_owned()];
        let labels = labels.each_ref().map(String::as_str);
        let counted = metric(&self.web, "/metrics", "outrigger_requests_total", &labels).await.unwrap();
        assert!(counted >= 2.0, "{service}: {counted} requests are counted with {labels:?}");
    }
}

async fn call(entrance: SocketAddr, path: &str) -> Answer {
    let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    let mut client = Client::connect(entrance, Version::HTTP_2).await.unwrap();
    client.send(request.body(empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn each_failure_says_what_it_is_and_where() {
    let trouble = Trouble::start().await;
    trouble.origin.delay(NEVER);
    for expected in [
        Expected {
            service: "unrouted",
            status: 404,
            grpc_status: "12",
            said: "no_route; hop=web; object=Destination/unrouted.shop:9080",
        },
        Expected {
            service: "missing",
            status: 404,
            grpc_status: "12",
            said: "no_route; hop=web; object=Destination/missing.shop:9080",
        },
        Expected {
            service: "unbacked",
            status: 500,
            grpc_status: "14",
            said: "no_backend; hop=web; object=HTTPRoute/shop/unbacked",
        },
        Expected {
            service: "empty",
            status: 503,
            grpc_status: "14",
            said: "no_endpoint; hop=web; object=Service/shop/empty",
        },
        Expected {
            service: "closed",
            status: 503,
            grpc_status: "14",
            said: "connect_failed; hop=web; object=Service/shop/closed",
        },
        Expected {
            service: "bare",
            status: 503,
            grpc_status: "14",
            said: "tls_failed; hop=web; object=Service/shop/bare",
        },
        Expected {
            service: "slow",
            status: 504,
            grpc_status: "4",
            said: "timeout; hop=web; object=Service/shop/slow",
        },
    ] {
        trouble.check(&expected).await;
    }
    let odd = client::get(trouble.entrance("odd"), "/odd").await.unwrap();
    assert_eq!((odd.status.as_u16(), odd.reason()), (502, "upstream_protocol"));
}

#[tokio::test]
async fn a_reset_before_the_head_is_told_and_not_repeated() {
    let trouble = Trouble::start().await;
    trouble.origin.fail_next(u32::MAX, Failure::Reset);
    let said = "upstream_reset; hop=web; object=Service/shop/resetting";
    trouble.check(&Expected { service: "resetting", status: 503, grpc_status: "14", said }).await;
    assert_eq!(trouble.origin.arrived(), 2, "the application may have seen it, so it is not sent again");
}

#[tokio::test]
async fn a_full_service_turns_the_next_request_away() {
    let trouble = Trouble::start().await;
    trouble.origin.delay(NEVER);
    let entrance = trouble.entrance("full");
    let first = tokio::spawn(async move { client::get(entrance, "/first").await });
    let arrived = eventually(PATIENCE, async || (trouble.origin.arrived() == 1).then_some(())).await;
    assert!(arrived.is_some(), "the first request does not arrive");
    let said = "overflow; hop=web; object=Service/shop/full";
    trouble.check(&Expected { service: "full", status: 503, grpc_status: "14", said }).await;
    let counted =
        metric(&trouble.web, "/metrics", "outrigger_upstream_overflow_total", &["limit=\"requests\""]).await;
    assert_eq!(counted.unwrap(), 2.0);
    assert_eq!(trouble.origin.arrived(), 1);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    // The caller is gone, so its place is free again.
    trouble.origin.delay(Duration::ZERO);
    let freed = eventually(PATIENCE, async || {
        let answer = client::get(entrance, "/next").await.ok()?;
        answer.status.is_success().then_some(())
    });
    assert!(freed.await.is_some(), "the place of a request that was given up is never free");
}

#[tokio::test]
async fn a_refusal_of_head_has_no_body_in_either_version() {
    let trouble = Trouble::start().await;
    for version in super::VERSIONS {
        let mut client = Client::connect(trouble.entrance("empty"), version).await.unwrap();
        for _ in 0..2 {
            let request = Request::builder().method(Method::HEAD).uri("/").body(empty()).unwrap();
            let answer = client.send(request).await.unwrap_or_else(|error| panic!("{version:?}: {error:#}"));
            assert_eq!((answer.status.as_u16(), answer.body.len()), (503, 0), "{version:?}");
            assert_eq!(answer.reason(), "no_endpoint");
        }
    }
}

#[tokio::test]
async fn what_an_application_says_of_reasons_is_not_believed() {
    let lie = b"HTTP/1.1 503 Service Unavailable\r\nx-outrigger-reason: connect_failed; hop=me; object=x\r\n\
                content-length: 4\r\n\r\nbusy";
    for is_meshed in [false, true] {
        let liar = ScriptedOrigin::start(ANY, lie, Afterwards::Listen).await.unwrap();
        let subnet = Subnet::claim();
        let address = if is_meshed { subnet.address(2, PORT) } else { liar.address() };
        let workload =
            if is_meshed { meshed("liar-1", "liar", address) } else { plain("liar-1", "liar", address) };
        let town = Town::start(subnet, &(service("liar", "http") + &workload)).await.unwrap();
        let _liar = match is_meshed {
            true => Some(town.sidecar("liar", &[inbound(address, liar.address())]).await.unwrap()),
            false => None,
        };
        let (_web, entrance) = town.dialling(1, "liar").await.unwrap();
        let answer = client::get(entrance, "/").await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_ref()),
            (503, &b"busy"[..]),
            "meshed: {is_meshed}"
        );
        assert_eq!(answer.header("x-outrigger-reason"), "", "meshed: {is_meshed}");
        assert_eq!(
            liar.heard().len(),
            1,
            "meshed: {is_meshed}: it has seen the request, so it is not repeated"
        );
    }
}

fn yaml(subnet: &Subnet, slow: SocketAddr, odd: SocketAddr) -> String {
    let mut text: String =
        SERVICES.iter().filter(|name| **name != "missing").map(|name| service(name, "http")).collect();
    for (name, address) in [
        ("unrouted", slow),
        ("unbacked", slow),
        ("closed", subnet.address(200, PORT)),
        ("resetting", slow),
        ("odd", odd),
        ("slow", slow),
        ("full", slow),
    ] {
        text += &plain(&format!("{name}-1"), name, address);
    }
    // Said to have a sidecar, and has none.
    text += &meshed("bare-1", "bare", slow);
    let backend = |name: &str| format!("backendRefs: [{{name: {name}, port: {PORT}}}]");
    let only = format!("{{matches: [{{path: {{type: Exact, value: /only}}}}], {}}}", backend("unrouted"));
    text += &http_route("unrouted", &[only]);
    text += &http_route("unbacked", &[format!("{{{}}}", backend("nowhere"))]);
    text += &http_route("slow", &[format!("{{{}, timeouts: {{request: 200ms}}}}", backend("slow"))]);
    text + &backend_policy("full", "circuitBreaker: {maxRequests: 1}")
}
