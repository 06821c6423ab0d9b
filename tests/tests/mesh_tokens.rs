//! Attackers at the control plane's door: who shows which token and which request, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use outrigger_base::ca::IstioCertificateRequest;
use outrigger_base::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use outrigger_control_plane::ca::store::Store;
use outrigger_control_plane::token::{Caller, TokenKeys};
use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::process::{Process, Program, Signal};
use outrigger_tests::town::{PATIENCE, mesh_config, metric, resident_kib};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SanType};
use serde_json::Value;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const ADMIN: &str = "spiffe://cluster.local/ns/shop/sa/admin";
const HOUR: Duration = Duration::from_secs(3600);
/// A flood ends when so many requests were refused, and has failed after so many were sent.
const FLOOD: (usize, usize) = (200, 10_000);
/// How much memory a flood may cost the control plane; a debug build is generous with it.
const FLOOD_KIB: u64 = 64 * 1024;

/// A control plane, and somebody who calls it.
struct Door {
    mesh: Mesh,
    control_plane: Process,
    channel: Channel,
}

impl Door {
    async fn open() -> Self {
        let mesh = Mesh::new().unwrap();
        mesh.write("mesh.yaml", &mesh_config("Strict")).unwrap();
        let control_plane = mesh.start_control_plane().await.unwrap();
        let channel = Self::channel(&control_plane);
        Self { mesh, control_plane, channel }
    }

    fn channel(control_plane: &Process) -> Channel {
        let xds = control_plane.address("/xds").unwrap();
        Channel::from_shared(format!("http://{xds}")).unwrap().connect_lazy()
    }

    async fn restart(&mut self) {
        self.control_plane.signal(Signal::Kill).unwrap();
        self.control_plane.wait_exit(PATIENCE).await.unwrap();
        self.control_plane = self.mesh.start_control_plane().await.unwrap();
        self.channel = Self::channel(&self.control_plane);
    }

    /// `outrigger token` with these words, on the data directory.
    async fn token_command(&self, words: &[&str]) -> String {
        let program = Program::of_workspace("outrigger").args(["token"]).args(&words[..1]);
        program
            .args(["--data"])
            .args([self.mesh.data()])
            .args(&words[1..])
            .output(READY_WITHIN)
            .await
            .unwrap()
    }

    async fn create(&self, more: &[&str]) -> Value {
        let words = ["create", "--namespace", "shop", "--service-account", "web", "-o", "json"];
        let text = self.token_command(&[&words, more].concat()).await;
        serde_json::from_str(&text).unwrap()
    }

    fn keys(&self) -> TokenKeys {
        TokenKeys::open(&Store::open(&self.mesh.data()).unwrap()).unwrap()
    }

    async fn sign(&self, token: Option<&str>, csr: &str) -> Result<(), Status> {
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            ..IstioCertificateRequest::default()
        });
        authorize(&mut request, token);
        let mut client = IstioCertificateServiceClient::new(self.channel.clone());
        client.create_certificate(request).await.map(|_| ())
    }

    /// A stream that has asked for all clusters.
    async fn stream(
        &self,
        token: &str,
    ) -> Result<Streaming<envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse>, Status>
    {
        let first = DeltaDiscoveryRequest {
            type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
            resource_names_subscribe: vec!["*".to_owned()],
            ..DeltaDiscoveryRequest::default()
        };
        let requests = tokio_stream::iter([first]).chain(tokio_stream::pending());
        let mut request = Request::new(requests);
        authorize(&mut request, Some(token));
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel.clone());
        Ok(client.delta_aggregated_resources(request).await?.into_inner())
    }

    async fn counted(&self, name: &str, label: &str) -> f64 {
        metric(&self.control_plane, "/http", name, &[label]).await.unwrap()
    }
}

fn authorize<T>(request: &mut Request<T>, token: Option<&str>) {
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
}

fn web() -> Caller {
    Caller { namespace: "shop".to_owned(), service_account: "web".to_owned() }
}

fn csr(key: &KeyPair, id: &str) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn p256() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A request whose name was changed after it was signed.
fn tampered() -> String {
    let pem = csr(&p256(), "spiffe://cluster.local/ns/shop/sa/wxb");
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut der = STANDARD.decode(body).unwrap();
    let place = der.windows(3).position(|bytes| bytes == b"wxb").unwrap();
    der[place + 1] = b'e';
    armoured(&der)
}

fn armoured(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
}

/// A request for a key on a curve that is not signed: one arc of its object identifier is another.
fn on_another_curve() -> String {
    let pem = csr(&p256(), WEB);
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut der = STANDARD.decode(body).unwrap();
    // prime256v1 is 1.2.840.10045.3.1.7, and prime239v3 is the one before (RFC 5480, X9.62).
    let p256_oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let place = der.windows(p256_oid.len()).position(|bytes| bytes == p256_oid).unwrap();
    der[place + p256_oid.len() - 1] = 0x06;
    armoured(&der)
}

#[tokio::test]
async fn a_token_that_proves_nothing_gets_no_certificate_and_no_stream() {
    let (door, elsewhere) = (Door::open().await, Mesh::new().unwrap());
    let good = door.keys().issue(&web(), HOUR, SystemTime::now()).unwrap();
    let foreign = TokenKeys::open(&Store::open(&elsewhere.data()).unwrap()).unwrap();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let payload = head.split_once('.').unwrap().1;
    let claims = URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims = String::from_utf8(claims).unwrap().replace("web", "admin");
    let changed =
        format!("{}.{}.{signature}", head.split_once('.').unwrap().0, URL_SAFE_NO_PAD.encode(claims));
    let headed = |header: &str| format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(header));
    let expired = door.keys().issue(&web(), HOUR, SystemTime::now() - 2 * HOUR).unwrap();
    let request = csr(&p256(), WEB);
    for (what, token) in [
        ("garbage", "a.b.c".to_owned()),
        ("of another control plane", foreign.issue(&web(), HOUR, SystemTime::now()).unwrap()),
        ("with other claims", changed),
        ("alg none", headed(r#"{"alg":"none","typ":"JWT"}"#)),
        ("alg HS256", headed(r#"{"alg":"HS256","typ":"JWT"}"#)),
        ("without its signature", format!("{head}.")),
        ("expired", expired),
        ("too long", "a".repeat(9 * 1024)),
    ] {
        let refused = door.sign(Some(&token), &request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}: {refused}");
        let refused = door.stream(&token).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{what}: {refused}");
    }
    let refused = door.sign(None, &request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "no token, from loopback: {refused}");
    door.sign(Some(&good), &request).await.unwrap();
    door.stream(&good).await.unwrap();
}

#[tokio::test]
async fn a_request_for_somebody_else_or_with_a_bad_key_or_signature_is_not_signed() {
    let door = Door::open().await;
    let token = door.keys().issue(&web(), HOUR, SystemTime::now()).unwrap();
    let (key, rsa) = (p256(), KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    for (what, request, code) in [
        ("somebody else", csr(&key, ADMIN), Code::PermissionDenied),
        ("another trust domain", csr(&key, "spiffe://other.example/ns/shop/sa/web"), Code::PermissionDenied),
        ("changed after it was signed", tampered(), Code::InvalidArgument),
        ("RSA", csr(&rsa, WEB), Code::InvalidArgument),
        ("a curve that is not signed", on_another_curve(), Code::InvalidArgument),
        ("garbage", "hello".to_owned(), Code::InvalidArgument),
        ("garbage in PEM", armoured(b"hello"), Code::InvalidArgument),
        ("nothing", String::new(), Code::InvalidArgument),
        ("large", format!("{}{}", csr(&key, WEB), " ".repeat(20_000)), Code::InvalidArgument),
        // More than a call may have: it is not even taken in.
        ("huge", "x".repeat(1 << 20), Code::OutOfRange),
    ] {
        let refused = door.sign(Some(&token), &request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused}");
    }
    door.sign(Some(&token), &csr(&key, WEB)).await.unwrap();
    assert_eq!(door.counted("outrigger_control_plane_csr_total", "outcome=\"issued\"").await, 1.0);
}

#[tokio::test]
async fn a_one_use_token_cannot_be_replayed_not_even_to_a_restarted_control_plane() {
    let mut door = Door::open().await;
    let created = door.create(&["--one-use"]).await;
    let token = created["token"].as_str().unwrap().to_owned();
    let request = csr(&p256(), WEB);
    door.stream(&token).await.unwrap();
    door.sign(Some(&token), "garbage").await.unwrap_err();
    door.sign(Some(&token), &request).await.unwrap();
    for _ in 0..2 {
        let replayed = door.sign(Some(&token), &request).await.unwrap_err();
        assert_eq!(replayed.code(), Code::Unauthenticated);
        assert!(replayed.message().contains("was used already"), "{replayed}");
        assert_eq!(door.stream(&token).await.err().unwrap().code(), Code::Unauthenticated);
        let refused = "outrigger_control_plane_tokens_refused_total";
        assert_eq!(door.counted(refused, "reason=\"used\"").await, 2.0);
        door.restart().await;
    }
    let listed: Value = serde_json::from_str(&door.token_command(&["list", "-o", "json"]).await).unwrap();
    assert_eq!(listed["tokens"][0]["id"], created["id"]);
    assert_eq!(
        (&listed["tokens"][0]["state"], &listed["tokens"][0]["one_use"]),
        (&"used".into(), &true.into())
    );
}

#[tokio::test]
async fn what_is_revoked_gets_nothing_and_loses_its_streams() {
    let door = Door::open().await;
    let (one, two) = (door.create(&[]).await, door.create(&[]).await);
    let (first, second) = (one["token"].as_str().unwrap(), two["token"].as_str().unwrap());
    let request = csr(&p256(), WEB);
    let mut by_first = door.stream(first).await.unwrap();
    let mut by_second = door.stream(second).await.unwrap();
    for stream in [&mut by_first, &mut by_second] {
        stream.message().await.unwrap().unwrap();
    }
    door.token_command(&["revoke", "--id", one["id"].as_str().unwrap()]).await;
    let ended = tokio::time::timeout(PATIENCE, by_first.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    assert_eq!(door.sign(Some(first), &request).await.unwrap_err().code(), Code::Unauthenticated);
    door.sign(Some(second), &request).await.unwrap();

    let identity = ["--namespace", "shop", "--service-account", "web"];
    door.token_command(&[&["revoke"], identity.as_slice()].concat()).await;
    let ended = tokio::time::timeout(PATIENCE, by_second.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    assert_eq!(door.sign(Some(second), &request).await.unwrap_err().code(), Code::Unauthenticated);
    let never_recorded = door.keys().issue(&web(), HOUR, SystemTime::now()).unwrap();
    let refused = door.sign(Some(&never_recorded), &request).await.unwrap_err();
    assert!(refused.message().contains("identity is revoked"), "{refused}");

    door.token_command(&[&["restore"], identity.as_slice()].concat()).await;
    let new = door.create(&[]).await;
    door.sign(new["token"].as_str(), &request).await.unwrap();
    assert_eq!(door.sign(Some(second), &request).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_flood_of_requests_is_stopped_for_its_identity_alone_and_costs_no_memory() {
    let door = Door::open().await;
    let token = door.keys().issue(&web(), HOUR, SystemTime::now()).unwrap();
    let other = Caller { service_account: "reviews".to_owned(), ..web() };
    let other = door.keys().issue(&other, HOUR, SystemTime::now()).unwrap();
    // The limit comes before anything is parsed, so that garbage uses it up as well.
    let before = resident_kib(&door.control_plane).unwrap();
    let mut refused = 0;
    for _ in 0..FLOOD.1 {
        if refused >= FLOOD.0 {
            break;
        }
        let status = door.sign(Some(&token), "garbage").await.unwrap_err();
        refused += usize::from(status.code() == Code::ResourceExhausted);
    }
    assert_eq!(refused, FLOOD.0, "it was not stopped");
    let grown = resident_kib(&door.control_plane).unwrap().saturating_sub(before);
    assert!(grown < FLOOD_KIB, "{grown} KiB");
    let request = csr(&p256(), "spiffe://cluster.local/ns/shop/sa/reviews");
    door.sign(Some(&other), &request).await.unwrap();
    let counted = door.counted("outrigger_control_plane_csr_total", "outcome=\"rate_limited\"").await;
    assert_eq!(counted, refused as f64);
}

#[tokio::test]
async fn a_token_may_be_made_before_the_control_plane_starts_and_says_so() {
    let mesh = Mesh::new().unwrap();
    for (is_first, said) in [(true, "no control plane has used"), (false, "")] {
        let program =
            Program::of_workspace("outrigger").args(["token", "create", "--service-account", "web"]);
        let mut create = program.args(["--data"]).args([mesh.data()]).start().unwrap();
        assert_eq!(create.wait_exit(PATIENCE).await.unwrap(), 0, "{}", create.stderr());
        assert_eq!(create.stdout().trim().split('.').count(), 3, "the token alone: {}", create.stdout());
        assert_eq!((create.stderr().contains(said), create.stderr().is_empty()), (true, !is_first));
    }
}
