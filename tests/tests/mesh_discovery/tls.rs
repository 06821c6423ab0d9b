//! TLSRoute and TCPRoute: TLS goes by the name that a client asks for, unopened; shares that cannot be used are closed.

use std::net::{Ipv4Addr, SocketAddr};

use outrigger_tests::client::read_until;
use outrigger_tests::eventually;
use outrigger_tests::origin::TcpEcho;
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{NAMESPACE, PATIENCE, PORT, Sidecar, Town, ask, metric, plain, service};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// `web` dials the Service `db`; `a` and `b` are other Services, each of which greets with its name.
struct Fork {
    entrance: SocketAddr,
    web: Sidecar,
    echoes: Vec<TcpEcho>,
    town: Town,
}

impl Fork {
    async fn start(more: &str) -> Self {
        let mut echoes = Vec::new();
        for name in ["db", "a", "b"] {
            echoes.push(TcpEcho::start(ANY, format!("{name} greets\n").as_bytes()).await.unwrap());
        }
        let town = Town::start(Subnet::claim(), &(services(&echoes) + more)).await.unwrap();
        let (web, entrance) = town.dialling(1, "db").await.unwrap();
        Self { entrance, web, echoes, town }
    }

    /// Who greets a client that sends this; nobody when the connection is closed.
    async fn greets(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.entrance).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let heard = read_until(&mut stream, "\n").await.unwrap_or_default();
        heard.split_once(" greets\n").map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    async fn closed_for(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        metric(&self.web, "/metrics", "outrigger_tcp_connections_closed_total", &[&label]).await.unwrap()
    }
}

fn services(echoes: &[TcpEcho]) -> String {
    let each = ["db", "a", "b"].iter().zip(echoes);
    each.map(|(name, echo)| service(name, "tcp") + &plain(&format!("{name}-1"), name, echo.address()))
        .collect()
}

fn route(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: db}}], {spec}}}\n"
    )
}

fn to(name: &str) -> String {
    format!("rules: [{{backendRefs: [{{name: {name}, port: {PORT}}}]}}]")
}

/// A ClientHello that asks for a name, or for none.
pub(super) fn hello(name: &str) -> Vec<u8> {
    let host = name.as_bytes();
    let number = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let mut extensions = Vec::new();
    if !host.is_empty() {
        extensions.extend([0, 0]);
        extensions.extend(number(host.len() + 5));
        extensions.extend(number(host.len() + 3));
        extensions.push(0);
        extensions.extend(number(host.len()));
        extensions.extend(host);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(number(extensions.len()));
    body.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend(number(body.len() + 4));
    record.extend([1, 0]);
    record.extend(number(body.len()));
    record.extend(body);
    record
}

#[tokio::test]
async fn tls_goes_by_its_name_and_what_has_no_way_is_closed() {
    let routes =
        route("TLSRoute", "a", &format!("hostnames: ['*.example', exact.shop.example], {}", to("a")))
            + &route("TLSRoute", "b", &format!("hostnames: ['*.shop.example'], {}", to("b")))
            + &route("TCPRoute", "c", &to("db"));
    let fork = Fork::start(&routes).await;
    for (name, expected) in [
        ("x.example", "a"),
        ("EXACT.shop.example", "a"),
        ("y.shop.example", "b"),
        ("z.y.shop.example", "b"),
        ("shop.example", "a"),
        ("example", ""),
        ("other.org", ""),
        ("", ""),
    ] {
        assert_eq!(fork.greets(&hello(name)).await, expected, "{name:?}: {}", fork.web.stderr());
    }
    assert_eq!(fork.greets(b"GET / HTTP/1.1\r\nhost: x.example\r\n\r\n").await, "");
    assert_eq!(fork.closed_for("no_route").await, 4.0);
    assert!(fork.web.stderr().contains("no TLS name (SNI)"), "{}", fork.web.stderr());

    // Without a name in the route any TLS connection goes there, and every byte arrives.
    fork.town.rewrite(&(services(&fork.echoes) + &route("TLSRoute", "a", &to("a")))).unwrap();
    let any = hello("other.org");
    assert!(eventually(PATIENCE, async || (fork.greets(&any).await == "a").then_some(())).await.is_some());
    assert_eq!(fork.greets(&hello("")).await, "a");
    let config = ask(&fork.web, "/admin", "/config_dump").await.unwrap().to_string();
    assert!(config.contains("TLSRoute/shop/a"), "{config}");
}

#[tokio::test]
async fn connections_are_shared_by_weight_and_a_share_that_cannot_be_used_is_closed() {
    let backends = format!(
        "rules: [{{backendRefs: [{{name: a, port: {PORT}, weight: 2}}, {{name: b, port: {PORT}, weight: 1}}, \
         {{name: gone, port: {PORT}, weight: 1}}, {{name: never, port: {PORT}, weight: 0}}]}}]"
    );
    let fork = Fork::start(&route("TCPRoute", "t", &backends)).await;
    let mut counts = [0_u32; 3];
    for _ in 0..120 {
        let greeted = fork.greets(b"hello").await;
        counts[["a", "b", ""].iter().position(|name| *name == greeted).unwrap()] += 1;
    }
    // 60, 30 and 30 of 120; about six standard deviations to each side.
    assert!((27..=93).contains(&counts[0]), "{counts:?}");
    assert!((3..=60).contains(&counts[1]) && (3..=60).contains(&counts[2]), "{counts:?}");
    assert_eq!(fork.closed_for("no_backend").await, f64::from(counts[2]));
}
