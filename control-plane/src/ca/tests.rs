//! What is signed, for whom, and every attack that is not.

use std::net::SocketAddr;

use outrigger_base::identity::{certificate_facts, peer_identity};
use outrigger_base::keys::{WorkloadKey, parse_chain_pem};
use outrigger_base::telemetry::metrics::{Format, Registry};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SanType};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::ca::store::Store;
use crate::token::book::Book;
use crate::token::gate::{Channel, Peer, Verifier};
use crate::token::{Caller, TokenKeys};
use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn id(account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", account).unwrap()
}

fn authority() -> Authority {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    Authority::new(Root::open(&store, SystemTime::now()).unwrap(), Lifetimes::default())
}

fn request(key: &KeyPair, names: &[SanType]) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// What a client sends.
fn asking(csr: &str, validity_duration: i64) -> IstioCertificateRequest {
    IstioCertificateRequest { csr: csr.to_owned(), validity_duration, metadata: None }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn a_certificate_says_what_the_contract_says() {
    let (authority, now) = (authority(), SystemTime::now());
    let csr = WorkloadKey::generate().unwrap().csr_pem(&id("web")).unwrap();
    let chain = authority.sign(&id("web"), &asking(&csr, 0), now).unwrap().chain;
    let ders = parse_chain_pem(chain.concat().as_bytes()).unwrap();
    assert_eq!((ders.len(), &ders[1]), (2, authority.root().certificate()));
    assert_eq!(peer_identity(&ders[0]).unwrap(), id("web"));
    let (_, leaf) = X509Certificate::from_der(&ders[0]).unwrap();
    let (_, root) = X509Certificate::from_der(&ders[1]).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    assert!(leaf.key_usage().unwrap().unwrap().value.digital_signature() && !leaf.is_ca());
    assert!(root.is_ca() && root.basic_constraints().unwrap().unwrap().value.path_len_constraint.is_some());
    assert!(root.subject().to_string().contains("O=Outrigger"), "{}", root.subject());
    let (facts, seconds) = (certificate_facts(&ders[0]).unwrap(), since_epoch(now));
    assert_eq!(facts.not_before.as_secs(), seconds - 300);
    assert_eq!(facts.not_after.as_secs(), seconds + 24 * 3600);
}

fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_wish_for_a_shorter_life_is_honoured_within_bounds() {
    for (wish, expected) in [
        (0, DAY),
        (-5, DAY),
        (1, SHORTEST_LIFE),
        (3600, HOUR),
        (86_400, DAY),
        (i64::MAX, DAY),
        (i64::MIN, DAY),
    ] {
        assert_eq!(Lifetimes::default().of(wish), expected, "{wish}");
    }
}

#[test]
fn serial_numbers_differ_for_one_key() {
    let authority = authority();
    let csr = WorkloadKey::generate().unwrap().csr_pem(&id("web")).unwrap();
    let serial = || {
        let chain = authority.sign(&id("web"), &asking(&csr, 0), SystemTime::now()).unwrap().chain;
        certificate_facts(&parse_chain_pem(chain[0].as_bytes()).unwrap()[0]).unwrap().serial
    };
    assert_ne!(serial(), serial());
}

#[test]
fn requests_that_are_not_signed_are_refused_by_name() {
    let authority = authority();
    let p256 = KeyPair::generate().unwrap();
    let good = request(&p256, &[uri(id("web").as_str())]);
    let no_names = request(&p256, &[]);
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    for (what, csr) in [("one name", &good), ("no name", &no_names), ("P-384", &request(&p384, &[]))] {
        assert!(authority.sign(&id("web"), &asking(csr, 0), SystemTime::now()).is_ok(), "{what}");
    }
    let other = request(&p256, &[uri(id("admin").as_str())]);
    let both = request(&p256, &[uri(id("web").as_str()), SanType::DnsName("web.shop".try_into().unwrap())]);
    let rsa = request(&KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(), &[]);
    let ed25519 = request(&KeyPair::generate_for(&PKCS_ED25519).unwrap(), &[]);
    for (what, csr, word) in [
        ("somebody else", other, "identity"),
        ("a second name", both, "identity"),
        ("RSA", rsa, "key_type"),
        ("Ed25519", ed25519, "key_type"),
        ("tampered", tampered(&p256), "signature"),
        ("empty", String::new(), "malformed"),
        ("garbage", "hello".to_owned(), "malformed"),
        ("garbage in PEM", armoured("CERTIFICATE REQUEST", b"hello"), "malformed"),
        ("a certificate", authority.root().pem().to_owned(), "malformed"),
        ("too large", format!("{good}{}", " ".repeat(20_000)), "malformed"),
    ] {
        let refusal = authority.sign(&id("web"), &asking(&csr, 0), SystemTime::now()).unwrap_err();
        assert_eq!(refusal.word(), word, "{what}: {refusal}");
        if word == "identity" {
            assert!(refusal.to_string().contains(id("web").as_str()), "both are named: {refusal}");
        }
    }
}

/// A request in which the name was changed after signing.
fn tampered(key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(id("wab").as_str())];
    let mut der = params.serialize_request(key).unwrap().der().to_vec();
    let place = der.windows(3).position(|bytes| bytes == b"wab").unwrap();
    der[place + 1] = b'e';
    armoured("CERTIFICATE REQUEST", &der)
}

fn armoured(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn the_root_is_made_once_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let open = || Root::open(&Store::open(home.path()).unwrap(), SystemTime::now()).unwrap();
    assert_eq!(open().pem(), open().pem());
    let mode =
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(home.path().join("root-key.pem")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn files_that_do_not_belong_together_are_refused_with_the_fix() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now = SystemTime::now();
    for dir in [&one, &two] {
        Root::open(&Store::open(dir.path()).unwrap(), now).unwrap();
    }
    let error = |at| Root::open(&Store::open(one.path()).unwrap(), at).unwrap_err().to_string();
    let expired = error(now + 11 * 366 * 24 * HOUR);
    assert!(expired.contains("root-cert.pem: has expired"), "{expired}");
    std::fs::copy(two.path().join("root-cert.pem"), one.path().join("root-cert.pem")).unwrap();
    assert!(error(now).contains("does not belong to the private key"), "{}", error(now));
    std::fs::write(one.path().join("root-cert.pem"), "nonsense").unwrap();
    assert!(error(now).contains("is not a PEM certificate"), "{}", error(now));
    std::fs::remove_file(one.path().join("root-cert.pem")).unwrap();
    assert!(error(now).contains("root-cert.pem: is missing"), "{}", error(now));
    std::fs::remove_file(one.path().join("root-key.pem")).unwrap();
    std::fs::copy(two.path().join("root-cert.pem"), one.path().join("root-cert.pem")).unwrap();
    assert!(error(now).contains("root-key.pem: is missing"), "{}", error(now));
}

struct Service {
    tokens: Arc<TokenKeys>,
    registry: Arc<Registry>,
    service: CertificateService,
}

impl Service {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let tokens = Arc::new(TokenKeys::open(&store).unwrap());
        let registry = Registry::new();
        let meters = Meters::new(registry.clone());
        let book = Arc::new(Book::open(&store).unwrap());
        let gate = Gate::new(Verifier::Keys(tokens.clone(), book), meters.clone());
        let hub = Hub::new(Arc::new(World::default()), meters.clone());
        let service = CertificateService::new(Arc::new(authority()), gate, hub, meters);
        Self { tokens, registry, service }
    }

    fn token(&self, made: SystemTime) -> String {
        let caller = Caller { namespace: "shop".into(), service_account: "web".into() };
        format!("Bearer {}", self.tokens.issue(&caller, HOUR, made).unwrap())
    }

    async fn call(&self, authorization: Option<&str>, csr: &str) -> Result<Vec<String>, Status> {
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            ..IstioCertificateRequest::default()
        });
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        request.extensions_mut().insert(Peer { address, channel: Channel::Plaintext });
        Ok(self.service.create_certificate(request).await?.into_inner().cert_chain)
    }

    fn metrics(&self) -> String {
        self.registry.render(Format::Prometheus)
    }
}

#[tokio::test]
async fn the_identity_comes_from_the_token() {
    let service = Service::new();
    let csr = WorkloadKey::generate().unwrap().csr_pem(&id("web")).unwrap();
    let chain = service.call(Some(&service.token(SystemTime::now())), &csr).await.unwrap();
    let leaf = &parse_chain_pem(chain[0].as_bytes()).unwrap()[0];
    assert_eq!(peer_identity(leaf).unwrap(), id("web"));
    let metrics = service.metrics();
    assert!(metrics.contains("outrigger_control_plane_csr_total{outcome=\"issued\"} 1"), "{metrics}");
}

#[tokio::test]
async fn attacks_are_refused_and_counted() {
    let service = Service::new();
    let now = SystemTime::now();
    let (own, other) = (id("web"), id("admin"));
    let key = WorkloadKey::generate().unwrap();
    let (csr, theft) = (key.csr_pem(&own).unwrap(), key.csr_pem(&other).unwrap());
    let good = service.token(now);
    let forged = Service::new().token(now);
    let expired = service.token(now - 2 * HOUR);
    for (what, token, csr, code) in [
        ("no token", None, &csr, Code::Unauthenticated),
        ("not a bearer token", Some("Basic Zm9v"), &csr, Code::Unauthenticated),
        ("forged", Some(forged.as_str()), &csr, Code::Unauthenticated),
        ("expired", Some(expired.as_str()), &csr, Code::Unauthenticated),
        ("somebody else's name", Some(good.as_str()), &theft, Code::PermissionDenied),
        ("garbage", Some(good.as_str()), &"garbage".to_owned(), Code::InvalidArgument),
    ] {
        let status = service.call(token, csr).await.unwrap_err();
        assert_eq!(status.code(), code, "{what}: {status}");
        if code == Code::PermissionDenied {
            let text = status.message();
            assert!(text.contains(own.as_str()) && text.contains(other.as_str()), "{text}");
        }
    }
    let metrics = service.metrics();
    for line in [
        "outrigger_control_plane_csr_total{outcome=\"unauthenticated\"} 4",
        "outrigger_control_plane_csr_total{outcome=\"identity\"} 1",
        "outrigger_control_plane_csr_total{outcome=\"malformed\"} 1",
        "outrigger_control_plane_tokens_refused_total{reason=\"forged\"} 1",
        "outrigger_control_plane_tokens_refused_total{reason=\"expired\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}
