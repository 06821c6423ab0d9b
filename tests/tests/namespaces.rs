//! The mesh as a pod sees it: real redirection by the kernel, unmodified programs, virtual IPs, both address families,
//! and nothing readable on the wire between hosts.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use outrigger_tests::counterparts::{self, Counterpart};
use outrigger_tests::network::{Capture, Stream};

use village::{HOSTS, MARKER, OUTSIDER, PATIENCE, Village};

#[path = "support/village.rs"]
mod village;

const GRPC_CLIENT: &str = include_str!("python/grpc_client.py");
const GREETING: &str = include_str!("python/greeting.py");
const DATAGRAM: &str = include_str!("python/datagram.py");
/// Ends a recording; not [`MARKER`], which must not be found in one.
const LAST: &str = "last-packet-of-the-recording";
/// The ports of the applications.
const APPLICATION_PORTS: [u16; 4] = [7000, 7001, 8080, 8081];
const REVIEWS: [&str; 2] = ["10.96.0.2", "[fd96::2]"];
/// TLS 1.0 to 1.2 in a record's header; 1.3 pretends to be 1.2 there (RFC 8446, section 5.1).
const TLS_MAJOR: u8 = 3;
/// change_cipher_spec, alert, handshake, application_data.
const TLS_RECORDS: std::ops::RangeInclusive<u8> = 20..=23;

#[tokio::test]
async fn unmodified_programs_meet_over_virtual_ips_and_mutual_tls() {
    let wanted = [
        Counterpart::Root,
        Counterpart::NetworkNamespaces,
        Counterpart::Ip,
        Counterpart::Iptables,
        Counterpart::Tcpdump,
        Counterpart::Curl,
        Counterpart::GrpcPython,
    ];
    let Some(found) = counterparts::need(&wanted) else { return };
    let mut village = Village::start(found).await;
    a_second_redirect_changes_nothing(&village).await;
    the_edge_of_the_mesh(&village).await;
    let capture = start_capture(&village).await;
    http_by_virtual_ip(&village).await;
    grpc_by_virtual_ip(&village).await;
    the_server_speaks_first(&village).await;
    by_the_address_of_a_host(&village).await;
    assert_tls_only(&finish(&village, capture).await);

    village.redirect(&["--undo"]).await;
    // Now nothing can pass through them.
    village.kill_sidecars();
    assert!(!village.rules(village.host("web")).await.contains("1500"), "nothing of ours is left");
    let capture = start_capture(&village).await;
    for address in village.host("reviews-1").addresses() {
        assert_eq!(ask(&village, "web", &format!("http://{}/", at(address, 8080))).await, "reviews-1");
    }
    let streams = finish(&village, capture).await;
    assert_eq!(streams.iter().filter(|stream| stream.contains(MARKER)).count(), 4, "each way in each family");
}

async fn a_second_redirect_changes_nothing(village: &Village) {
    let web = village.host("web");
    let rules = village.rules(web).await;
    assert!(rules.contains("15001") && rules.contains("15006"), "{rules}");
    village.redirect(&[]).await;
    assert_eq!(village.rules(web).await, rules);
}

/// What has no sidecar is reached from the mesh as it is, and does not reach a mesh that is Strict.
async fn the_edge_of_the_mesh(village: &Village) {
    let hub = village.network.hub();
    for address in hub.addresses() {
        assert_eq!(ask(village, "web", &format!("http://{}/", at(address, 8080))).await, OUTSIDER);
    }
    for address in village.host("reviews-1").addresses() {
        let url = format!("http://{}/", at(address, 8080));
        let format = ["--output", "/dev/null", "--write-out", "%{http_code} %header{x-outrigger-reason}"];
        let said =
            village.curl(hub, &format, &url).await.unwrap_or_else(|error| failed(village, &url, &error));
        assert!(said.starts_with("401 unauthenticated;"), "{url}: {said}");
        let target = at(address, 8081).to_string();
        let program = village.python(hub, &[GRPC_CLIENT, &target, "1", "/shop.Reviews/Get"]);
        let said = program.output(PATIENCE).await.unwrap_or_else(|error| failed(village, &target, &error));
        assert!(said.starts_with("failed UNAUTHENTICATED"), "{target}: {said}");
    }
}

/// The instances of a Service answer from other hosts, to curl with a virtual IP of either family.
async fn http_by_virtual_ip(village: &Village) {
    for vip in REVIEWS {
        for port in [80, 8080] {
            let url = format!("http://{vip}:{port}/[1-20]");
            let answers = village.curl(village.host("web"), &["--fail"], &url).await;
            let answers = answers.unwrap_or_else(|error| failed(village, &url, &error));
            let lines: Vec<_> = answers.lines().collect();
            assert_eq!(lines.len(), 20, "{answers}");
            assert_eq!(lines[19].split(' ').nth(1), Some(MARKER), "{answers}");
            let instances: BTreeSet<_> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
            assert_eq!(instances, BTreeSet::from(["reviews-1", "reviews-2"]), "{url}");
        }
    }
    for from in &HOSTS[1..] {
        assert_eq!(ask(village, from, "http://10.96.0.1/").await, "web");
        // Its only endpoint has an IPv6 address, whatever was dialled.
        assert_eq!(ask(village, from, "http://10.96.0.3/").await, "reviews-1");
        assert_eq!(ask(village, from, "http://[fd96::3]/").await, "reviews-1");
    }
}

/// gRPC's own client, told no more than a virtual IP, keeps one connection; its calls are shared all the same.
async fn grpc_by_virtual_ip(village: &Village) {
    for vip in REVIEWS {
        let target = format!("{vip}:8081");
        let args = [GRPC_CLIENT, &target, "20", "/shop.Reviews/Get"];
        let answers = village.python(village.host("web"), &args).output(PATIENCE).await;
        let answers = answers.unwrap_or_else(|error| failed(village, &target, &error));
        let instances: BTreeSet<_> = answers.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(instances, BTreeSet::from(["reviews-1", "reviews-2"]), "{answers}\n{}", village.logs());
    }
}

/// A protocol in which the client waits for the server, declared (7000) and not (7001).
async fn the_server_speaks_first(village: &Village) {
    for host in ["10.96.0.1", "fd96::1"] {
        for port in ["7000", "7001"] {
            let program = village.python(village.host("reviews-2"), &[GREETING, host, port, MARKER]);
            let said = program.output(PATIENCE).await;
            let said = said.unwrap_or_else(|error| failed(village, &format!("{host} {port}"), &error));
            assert_eq!(said, format!("220 web {MARKER}\n{MARKER}\n"));
        }
    }
}

/// A workload dialled by its own address is met with mutual TLS as well.
async fn by_the_address_of_a_host(village: &Village) {
    for (host, name) in village.network.hosts().iter().zip(HOSTS).skip(1) {
        assert_eq!(ask(village, "web", &format!("http://{}/", at(host.ipv4().into(), 8080))).await, name);
    }
    let archive = village.host("reviews-1").ipv6();
    assert_eq!(ask(village, "web", &format!("http://{}/", at(archive.into(), 8080))).await, "reviews-1");
}

/// The instance that answers.
async fn ask(village: &Village, from: &str, url: &str) -> String {
    let answer = village.curl(village.host(from), &["--fail"], url).await;
    let answer = answer.unwrap_or_else(|error| failed(village, url, &error));
    answer.split(' ').next().unwrap_or_default().to_owned()
}

fn failed(village: &Village, what: &str, error: &anyhow::Error) -> ! {
    panic!("{what}: {error:#}\n{}", village.logs())
}

fn at(address: IpAddr, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(address, port)
}

async fn start_capture(village: &Village) -> Capture {
    village.network.capture(village.found.path(Counterpart::Tcpdump)).await.unwrap()
}

/// What passed between hosts, the control plane's part as well.
async fn finish(village: &Village, capture: Capture) -> Vec<Stream> {
    let web = village.host("web").ipv4().to_string();
    village.python(village.network.hub(), &[DATAGRAM, &web, LAST]).output(PATIENCE).await.unwrap();
    capture.finish(LAST.as_bytes()).await.unwrap()
}

/// Every stream between applications is TLS from its first byte to its last, and the marker is in none.
fn assert_tls_only(streams: &[Stream]) {
    let port = |stream: &Stream| if stream.is_from_client { stream.to.port() } else { stream.from.port() };
    for expected in APPLICATION_PORTS {
        assert!(streams.iter().any(|stream| port(stream) == expected), "nothing was seen on port {expected}");
    }
    assert!(streams.iter().any(|stream| stream.from.is_ipv6()), "nothing was seen over IPv6");
    for stream in streams {
        let (from, to) = (stream.from, stream.to);
        assert!(!stream.contains(MARKER), "the marker is readable from {from} to {to}");
        assert!(
            is_tls(&stream.bytes),
            "from {from} to {to} there is something else than TLS: {:?}",
            stream.bytes
        );
    }
}

/// Whether these are TLS records, one after the other; the last may be cut off.
fn is_tls(mut bytes: &[u8]) -> bool {
    while let [kind, major, _, high, low, rest @ ..] = bytes {
        if !TLS_RECORDS.contains(kind) || *major != TLS_MAJOR {
            return false;
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = rest.get(length..).unwrap_or_default();
    }
    bytes.len() < 5
}
