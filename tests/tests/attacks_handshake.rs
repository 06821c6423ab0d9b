//! Handshakes of attackers, with public tools: what a Strict workload lets in, and whom a sidecar believes that dials.
//!
//! The attackers here have whatever they could have: a certificate of the mesh's own root with anything in it, a copy of the
//! root's name, somebody's certificate without its key. `docs/security.md` has a row for each.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_tests::client;
use outrigger_tests::counterparts::{self, Counterpart, Found};
use outrigger_tests::eventually;
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program};
use outrigger_tests::town::{PATIENCE, PORT, Sidecar, Town, inbound, meshed, metric, service};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use forger::{Forged, Forger, Shown, WEB};

#[path = "support/forger.rs"]
mod forger;

/// Where the application listens.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A Strict workload, `reviews`, and what reaches its application.
struct Besieged {
    entrance: SocketAddr,
    origin: Origin,
    reviews: Sidecar,
    town: Town,
    found: Found,
}

impl Besieged {
    async fn start(found: Found) -> Self {
        let origin = Origin::start("reviews", ANY).await.unwrap();
        let subnet = Subnet::claim();
        let entrance = subnet.address(2, PORT);
        let yaml = service("reviews", "http") + &meshed("reviews-1", "reviews", entrance);
        let town = Town::start(subnet, &yaml).await.unwrap();
        let reviews = town.sidecar("reviews", &[inbound(entrance, origin.address())]).await.unwrap();
        Self { entrance, origin, reviews, town, found }
    }

    fn stolen_root(&self) -> Forger {
        Forger::with_root(&self.town.mesh.data(), self.town.mesh.path())
    }

    fn copied_root(&self) -> Forger {
        Forger::with_copy(self.town.mesh.path())
    }

    /// What curl gets that shows this certificate: a status, or why there is none.
    async fn curl(&self, shown: Option<&Shown>, more: &[&str]) -> Result<String, String> {
        let curl = Program::at(self.found.path(Counterpart::Curl));
        let always = ["--silent", "--show-error", "--insecure", "--noproxy", "*", "--max-time", "10"];
        let mut curl =
            curl.args(always).args(["--output", "/dev/null", "--write-out", "%{http_code}"]).args(more);
        if let Some(Shown { certificate, key, .. }) = shown {
            curl = curl.args(["--cert"]).args([certificate]).args(["--key"]).args([key]);
        }
        let url = format!("https://{}/", self.entrance);
        curl.args([url]).output(PATIENCE).await.map_err(|error| format!("{error:#}"))
    }

    /// Refused in the handshake, told so in the log in these words, counted, and nothing has reached the application.
    async fn refuses(&self, attacker: &str, shown: Option<&Shown>, (more, why): (&[&str], &str)) {
        let before = (self.origin.arrived(), self.refused().await, self.told(why));
        let got = self.curl(shown, more).await;
        assert!(got.is_err(), "{attacker}: got {got:?}");
        let told = eventually(PATIENCE, async || (self.told(why) > before.2).then_some(())).await;
        assert!(told.is_some(), "{attacker}: the log does not say {why:?}:\n{}", self.reviews.stderr());
        assert_eq!(self.origin.arrived(), before.0, "{attacker}: the application has seen something");
        assert!(self.refused().await > before.1, "{attacker}: not counted");
    }

    fn told(&self, why: &str) -> usize {
        self.reviews
            .stderr()
            .lines()
            .filter(|line| line.contains("mutual TLS refused") && line.contains(why))
            .count()
    }

    async fn refused(&self) -> f64 {
        let labels = ["direction=\"inbound\"", "reason=\"unauthenticated\""];
        metric(&self.reviews, "/metrics", "outrigger_tcp_connections_closed_total", &labels).await.unwrap()
    }
}

fn tools() -> Option<Found> {
    counterparts::need(&[Counterpart::Curl, Counterpart::Openssl])
}

#[tokio::test]
async fn only_a_certificate_of_the_mesh_opens_a_strict_workload() {
    let Some(found) = tools() else { return };
    let besieged = Besieged::start(found).await;
    let (root, copy) = (besieged.stolen_root(), besieged.copied_root());
    let good = root.sign("good", &Forged::good());
    assert_eq!(besieged.curl(Some(&good), &[]).await.unwrap(), "200", "the attackers' tool can do it");

    let says = |uris: &[&'static str]| Forged { uris: uris.to_vec(), ..Forged::good() };
    let (other_domain, server_only) =
        ("spiffe://other.example/ns/shop/sa/web", ExtendedKeyUsagePurpose::ServerAuth);
    let attackers = [
        ("expired", Forged { years: (2020, 2021), ..Forged::good() }, "expired"),
        ("not yet valid", Forged { years: (2050, 2060), ..Forged::good() }, "not valid"),
        ("another trust domain", says(&[other_domain]), "trust domain"),
        ("no identity", says(&[]), "0 URI names"),
        ("two identities", says(&[WEB, "spiffe://cluster.local/ns/shop/sa/admin"]), "2 URI names"),
        ("a name that is no identity", says(&["https://cluster.local/ns/shop/sa/web"]), "no SPIFFE id"),
        (
            "an identity with dot segments",
            says(&["spiffe://cluster.local/ns/shop/../sa/web"]),
            "no SPIFFE id",
        ),
        ("no client usage", Forged { usages: vec![server_only], ..Forged::good() }, "extended key usage"),
    ];
    for (attacker, forged, why) in attackers {
        let shown = root.sign("attacker", &forged);
        besieged.refuses(attacker, Some(&shown), (&[], why)).await;
    }
    let copied = copy.sign("copied", &Forged::good());
    besieged.refuses("a root of the same name", Some(&copied), (&[], "")).await;
    besieged.refuses("no certificate", None, (&[], "certificate")).await;
    besieged.refuses("TLS 1.2", Some(&good), (&["--tls-max", "1.2"], "")).await;
    // A name that is asked for opens no other door: identities count, names do not.
    let at = format!("admin.shop:{PORT}:{}", besieged.entrance.ip());
    let url = format!("https://admin.shop:{PORT}/");
    let more = ["--resolve", at.as_str(), url.as_str(), "--output", "/dev/null", "--http1.1"];
    assert_eq!(besieged.curl(Some(&good), &more).await.unwrap(), "200200");
    let seen = besieged.origin.seen();
    let asked = format!("admin.shop:{PORT}");
    let has_come = seen.iter().any(|seen| seen.headers.get("host").is_some_and(|host| *host == asked));
    assert!(has_come, "it has come to the one application there is");
}

#[tokio::test]
async fn plaintext_to_a_strict_workload_is_refused_and_told_why() {
    let Some(found) = tools() else { return };
    let besieged = Besieged::start(found).await;
    let answer = client::get(besieged.entrance, "/").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.reason()), (401, "unauthenticated"));
    let mut opaque = TcpStream::connect(besieged.entrance).await.unwrap();
    opaque.write_all(b"\x00\x01opaque bytes that are no HTTP\r\n").await.unwrap();
    let mut said = Vec::new();
    // Closed or reset: either way nothing is said.
    opaque.read_to_end(&mut said).await.ok();
    assert!(!String::from_utf8_lossy(&said).contains("200"), "{said:?}");
    assert_eq!(besieged.origin.arrived(), 0);
}

#[tokio::test]
async fn somebody_elses_certificate_is_of_no_use_without_its_key() {
    let Some(found) = tools() else { return };
    let besieged = Besieged::start(found).await;
    let root = besieged.stolen_root();
    let (good, other) = (root.sign("good", &Forged::good()), root.sign("other", &Forged::good()));
    for (chain, key, expected) in [(&good, &good, true), (&good, &other, false)] {
        let provider = Arc::new(outrigger_base::tls::provider());
        let private = provider.key_provider.load_private_key(key.private.clone_key()).unwrap();
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain.chain.clone(), private));
        let mut config = outrigger_base::tls::unverified::client().unwrap();
        config.client_auth_cert_resolver = Arc::new(shown);
        let tcp = TcpStream::connect(besieged.entrance).await.unwrap();
        let name = ServerName::try_from("reviews.shop").unwrap();
        let mut said = Vec::new();
        if let Ok(mut tls) = TlsConnector::from(Arc::new(config)).connect(name, tcp).await {
            tls.write_all(b"GET / HTTP/1.1\r\nhost: reviews.shop\r\nconnection: close\r\n\r\n").await.ok();
            tls.read_to_end(&mut said).await.ok();
        }
        assert_eq!(said.starts_with(b"HTTP/1.1 200"), expected, "{}", String::from_utf8_lossy(&said));
    }
    assert_eq!(besieged.origin.arrived(), 1);
}

/// What `openssl s_server` shows, to a sidecar that wants `reviews`.
async fn impostor(found: &Found, address: SocketAddr, shown: &Shown, more: &[&str]) -> Process {
    let openssl = Program::at(found.path(Counterpart::Openssl)).args(["s_server", "-www", "-accept"]);
    let openssl =
        openssl.args([address.to_string()]).args(["-cert"]).args([&shown.certificate]).args(["-key"]);
    let process = openssl.args([&shown.key]).args(["-alpn", "http/1.1"]).args(more).start().unwrap();
    let accepts = eventually(PATIENCE, async || process.stdout().contains("ACCEPT").then_some(())).await;
    assert!(accepts.is_some(), "{}", process.stderr());
    process
}

#[tokio::test]
async fn a_sidecar_speaks_with_nobody_but_the_workload_it_wants() {
    let Some(found) = tools() else { return };
    let subnet = Subnet::claim();
    let reviews = subnet.address(2, PORT);
    let yaml = service("reviews", "http") + &meshed("reviews-1", "reviews", reviews);
    let town = Town::start(subnet, &yaml).await.unwrap();
    let (web, entrance) = town.dialling(1, "reviews").await.unwrap();
    let root = Forger::with_root(&town.mesh.data(), town.mesh.path());
    let copy = Forger::with_copy(town.mesh.path());
    let own = || Forged { uris: vec!["spiffe://cluster.local/ns/shop/sa/reviews"], ..Forged::good() };
    let client_only = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let other_domain = vec!["spiffe://other.example/ns/shop/sa/reviews"];
    let old = &["-tls1_2"][..];
    let impostors = [
        ("another identity of the mesh", root.sign("a", &Forged::good()), &[][..], false),
        ("expired", root.sign("b", &Forged { years: (2020, 2021), ..own() }), &[], false),
        ("not yet valid", root.sign("c", &Forged { years: (2050, 2060), ..own() }), &[], false),
        ("another trust domain", root.sign("d", &Forged { uris: other_domain, ..own() }), &[], false),
        ("no server usage", root.sign("e", &Forged { usages: client_only, ..own() }), &[], false),
        ("a root of the same name", copy.sign("f", &own()), &[], false),
        ("TLS 1.2", root.sign("g", &own()), old, false),
        ("the workload itself", root.sign("h", &own()), &[], true),
    ];
    for (name, shown, more, expected) in impostors {
        let server = impostor(&found, reviews, &shown, more).await;
        let answer = eventually(PATIENCE, async || {
            let answer = client::get(entrance, "/secret").await.unwrap();
            // An endpoint that was ejected for the impostor before is back after a while.
            (answer.status.as_u16() == if expected { 200 } else { 503 }).then_some(answer)
        });
        let answer = answer.await.unwrap_or_else(|| panic!("{name}: {}", web.stderr()));
        if !expected {
            assert_eq!(answer.reason(), "tls_failed", "{name}");
            assert!(!server.stdout().contains("/secret"), "{name} has read the request");
        }
        server.signal(outrigger_tests::process::Signal::Kill).unwrap();
    }
}

#[tokio::test]
async fn sslyze_finds_nothing_but_tls_1_3() {
    let Some(found) = counterparts::need(&[Counterpart::Curl, Counterpart::Openssl, Counterpart::Sslyze])
    else {
        return;
    };
    let besieged = Besieged::start(found).await;
    let report = besieged.town.mesh.path().join("sslyze.json");
    let scan = Program::at(besieged.found.path(Counterpart::Sslyze)).args(["--json_out"]).args([&report]);
    let commands =
        ["--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--reneg", "--compression"];
    let more =
        ["--early_data", "--heartbleed", "--openssl_ccs", "--robot", "--elliptic_curves", "--fallback"];
    let scan = scan.args(commands).args(more).args([besieged.entrance.to_string()]);
    // With a certificate, because what it looks for in TLS 1.3 comes after the handshake.
    let shown = besieged.stolen_root().sign("scanner", &Forged::good());
    let scan = scan.args(["--cert"]).args([&shown.certificate]).args(["--key"]).args([&shown.key]);
    // It ends with 1 where its own policy, which is for browsers, is not met.
    let mut scan = scan.start().unwrap();
    scan.wait_exit(PATIENCE * 3).await.unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let server = &report["server_scan_results"][0];
    assert_eq!(server["connectivity_status"], "COMPLETED", "{server}");
    let result = |name: &str| server["scan_result"][name]["result"].clone();
    for version in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"] {
        let accepted = &result(&format!("{version}_cipher_suites"))["accepted_cipher_suites"];
        assert_eq!(accepted.as_array().map(Vec::len), Some(0), "{version}: {accepted}");
    }
    let accepted = &result("tls_1_3_cipher_suites")["accepted_cipher_suites"];
    assert!(accepted.as_array().is_some_and(|suites| !suites.is_empty()), "TLS 1.3: {accepted}");
    for (check, field) in [
        ("tls_compression", "supports_compression"),
        ("tls_1_3_early_data", "supports_early_data"),
        ("heartbleed", "is_vulnerable_to_heartbleed"),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection"),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos"),
    ] {
        assert_eq!(result(check)[field], Value::Bool(false), "{check}: {}", server["scan_result"][check]);
    }
}
