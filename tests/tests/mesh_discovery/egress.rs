//! Destinations outside the mesh, dialled by address: egress, and what ExternalServices say of names.

use std::net::{Ipv4Addr, SocketAddr};

use http::{Request, Version};
use outrigger_tests::client::{Answer, Client, empty, read_until};
use outrigger_tests::eventually;
use outrigger_tests::origin::{Origin, TcpEcho};
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{NAMESPACE, PATIENCE, Sidecar, Town, metric};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::tls::hello;

/// Nothing that anybody would take for HTTP or TLS.
const NOISE: &[u8] = b"\0noise";
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn egress(mode: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\n\
         metadata: {{name: mesh, namespace: outrigger-system}}\nspec: {{egress: {mode}}}\n"
    )
}

fn external(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: ExternalService\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}}}\nspec: {{{spec}}}\n"
    )
}

/// `web` dials two addresses outside the mesh: an HTTP server, and one that greets and sends back every byte.
struct Edge {
    web: Sidecar,
    http: SocketAddr,
    bytes: SocketAddr,
    origin: Origin,
    echo: TcpEcho,
    town: Town,
}

impl Edge {
    async fn start(yaml: impl Fn(SocketAddr, SocketAddr) -> String) -> Self {
        let origin = Origin::start("outside", ANY).await.unwrap();
        let echo = TcpEcho::start(ANY, b"greetings\n").await.unwrap();
        let subnet = Subnet::claim();
        let (http, bytes) = (subnet.address(1, 9001), subnet.address(1, 9002));
        let town = Town::start(subnet, &yaml(origin.address(), echo.address())).await.unwrap();
        let flags = [
            format!("--outbound={http}={}", origin.address()),
            format!("--outbound={bytes}={}", echo.address()),
        ];
        let web = town.sidecar("web", &flags).await.unwrap();
        Self { web, http, bytes, origin, echo, town }
    }

    /// Replaces the one MeshConfig.
    fn egress(&self, mode: &str) {
        self.town.mesh.write("mesh.yaml", &egress(mode)).unwrap();
    }

    async fn get(&self, host: &str) -> Answer {
        let mut client = Client::connect(self.http, Version::HTTP_11).await.unwrap();
        client.send(Request::get("/").header("host", host).body(empty()).unwrap()).await.unwrap()
    }

    /// Whether somebody greets who is sent this.
    async fn is_greeted(&self, bytes: &[u8]) -> bool {
        let mut stream = TcpStream::connect(self.bytes).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_until(&mut stream, "greetings\n").await.is_ok()
    }
}

#[tokio::test]
async fn what_the_mesh_does_not_know_is_let_through_or_refused_as_egress_says() {
    let edge = Edge::start(|_, _| String::new()).await;
    assert_eq!(edge.get("any.example").await.origin(), "outside");
    assert!(edge.is_greeted(NOISE).await);
    edge.egress("Deny");
    let refused = eventually(PATIENCE, async || {
        let answer = edge.get("any.example").await;
        (answer.status == 404).then_some(answer)
    });
    let answer = refused.await.unwrap();
    assert!(answer.reason().starts_with("no_route"), "{}", answer.reason());
    let object = format!("object=Destination/{}", edge.origin.address());
    assert!(answer.header("x-outrigger-reason").contains(&object), "{:?}", answer.headers);
    assert!(!edge.is_greeted(NOISE).await);
    let labels = ["direction=\"outbound\"", "reason=\"no_route\""];
    let closed =
        metric(&edge.web, "/metrics", "outrigger_tcp_connections_closed_total", &labels).await.unwrap();
    assert_eq!(closed, 1.0);
    assert!(edge.web.stderr().contains("egress: Deny"), "{}", edge.web.stderr());
}

#[tokio::test]
async fn an_external_service_lets_its_names_through_and_no_others() {
    let yaml = |http: SocketAddr, bytes: SocketAddr| {
        external(
            "web",
            &format!(
                "hosts: ['*.web.example'], ports: [{{port: {}, protocol: HTTP}}], resolution: Passthrough",
                http.port()
            ),
        ) + &external(
            "fixed",
            &format!(
                "hosts: [fixed.example], ports: [{{port: {}, protocol: HTTP}}], resolution: Static, endpoints: [127.0.0.1]",
                http.port()
            ),
        ) + &external(
            "tls",
            &format!(
                "hosts: ['*.tls.example'], ports: [{{port: {}, protocol: TLS}}], resolution: Passthrough",
                bytes.port()
            ),
        )
    };
    let edge = Edge::start(yaml).await;
    edge.egress("Deny");
    let closed = eventually(PATIENCE, async || (!edge.is_greeted(NOISE).await).then_some(()));
    assert!(closed.await.is_some(), "egress is not denied");
    for (host, expected) in [("a.web.example", 200), ("A.B.Web.Example:80", 200), ("fixed.example", 200)] {
        assert_eq!(edge.get(host).await.status, expected, "{host}");
    }
    let seen = edge.origin.seen();
    assert!(seen.iter().any(|seen| seen.headers["host"] == "a.web.example"), "the host goes on as it came");
    // The address is listed by `fixed`, so a host that nobody knows is its own; at any other address it is refused.
    assert_eq!(edge.get("other.example").await.status, 200);
    assert!(edge.is_greeted(&hello("a.tls.example")).await, "{}", edge.web.stderr());
    for bytes in [hello("tls.example"), hello("other.example"), hello(""), NOISE.to_vec()] {
        assert!(!edge.is_greeted(&bytes).await);
    }
    edge.town
        .rewrite(
            &yaml(edge.origin.address(), edge.echo.address())
                .replace("endpoints: [127.0.0.1]", "endpoints: [127.0.0.9]"),
        )
        .unwrap();
    let refused =
        eventually(PATIENCE, async || (edge.get("other.example").await.status == 404).then_some(()));
    assert!(refused.await.is_some());
    assert_eq!(edge.get("a.web.example").await.status, 200);
}
