//! Dialling real TLS servers outside the mesh: who is verified, and what happens when nobody can be.

use std::net::Ipv4Addr;

use outrigger_model::upstream_tls::{PeerName, Trust, UpstreamTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::upstream::support::shared;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server with a certificate that this authority signed; it echoes five bytes.
    async fn server(&self, change: impl FnOnce(&mut CertificateParams), speaks: Speaks) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName("api.example".try_into().unwrap())];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(speaks.versions).unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = speaks.alpn.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                let mut five = [0; 5];
                if tls.read_exact(&mut five).await.is_ok() {
                    let name = tls.get_ref().1.server_name().unwrap_or("none").to_owned();
                    tls.write_all(format!("{} to {name}", five.len()).as_bytes()).await.unwrap();
                    tls.shutdown().await.ok();
                }
            }
        });
        address
    }

    fn trusted(&self) -> Trust {
        Trust::Roots(self.0.pem().into())
    }
}

#[derive(Clone, Copy)]
struct Speaks {
    versions: &'static [&'static rustls::SupportedProtocolVersion],
    alpn: &'static [&'static str],
}

const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

const ANYTHING: Speaks = Speaks { versions: rustls::ALL_VERSIONS, alpn: &["h2", "http/1.1"] };

fn dns(name: &str) -> PeerName {
    PeerName::Dns(name.into())
}

fn asks(trust: Trust, names: Vec<PeerName>) -> Security {
    let tls = UpstreamTls { server_name: "api.example".into(), trust, names };
    Security::Origin(Arc::new(Origin::new(Arc::new(tls))))
}

async fn dial_it(address: SocketAddr, security: &Security, alpn: Alpn) -> Result<Stream, DialError> {
    dial(&shared(), address, security, alpn, &ConnectionPolicy::default()).await
}

/// Why a server is refused.
async fn refusal(address: SocketAddr, security: &Security) -> String {
    let error = dial_it(address, security, Alpn::Http1).await.unwrap_err();
    assert_eq!(error.reason, Reason::TlsFailed);
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{}{source}", error.cause)
}

#[tokio::test]
async fn a_server_with_the_name_and_the_authority_is_talked_to() {
    let authority = Authority::new();
    let security = asks(authority.trusted(), vec![dns("api.example")]);
    for versions in [TLS12, TLS13] {
        let address = authority.server(|_| {}, Speaks { versions, ..ANYTHING }).await;
        let mut stream = dial_it(address, &security, Alpn::Http1).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "5 to api.example");
        let Stream::Tls(tls) = stream else { panic!("not protected") };
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(Alpn::Http1.id()));
    }
}

#[tokio::test]
async fn anybody_else_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let named = asks(authority.trusted(), vec![dns("api.example")]);
    let wrong_name = authority
        .server(|it| it.subject_alt_names = vec![SanType::DnsName("b.example".try_into().unwrap())], ANYTHING)
        .await;
    let why = refusal(wrong_name, &named).await;
    assert!(why.contains("not valid for"), "{why}");
    let wrong_authority = other.server(|_| {}, ANYTHING).await;
    let why = refusal(wrong_authority, &named).await;
    // Both authorities have the same name, and different keys.
    assert!(why.contains("BadSignature"), "{why}");
    let expired = authority.server(|it| it.not_after = date_time_ymd(2020, 1, 1), ANYTHING).await;
    let why = refusal(expired, &named).await;
    assert!(why.contains("xpired"), "{why}");
}

#[tokio::test]
async fn one_of_the_names_is_enough_and_a_uri_is_a_name() {
    let authority = Authority::new();
    let uri = "spiffe://example.org/api";
    let address = authority
        .server(|it| it.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())], ANYTHING)
        .await;
    let names = vec![dns("other.example"), PeerName::Uri(uri.into())];
    assert!(dial_it(address, &asks(authority.trusted(), names), Alpn::Http1).await.is_ok());
    let others = vec![dns("api.example"), PeerName::Uri("spiffe://example.org/other".into())];
    refusal(address, &asks(authority.trusted(), others)).await;
}

#[tokio::test]
async fn what_is_spoken_must_be_agreed_on_unless_it_is_http1() {
    let authority = Authority::new();
    let security = asks(authority.trusted(), vec![dns("api.example")]);
    let silent = authority.server(|_| {}, Speaks { alpn: &[], ..ANYTHING }).await;
    assert!(dial_it(silent, &security, Alpn::Http1).await.is_ok());
    assert!(dial_it(silent, &security, Alpn::Tcp).await.is_ok());
    let error = dial_it(silent, &security, Alpn::H2).await.unwrap_err();
    assert!(matches!(*error.cause, DialCause::Protocol(Alpn::H2)), "{error}");
    let speaking = authority.server(|_| {}, ANYTHING).await;
    assert!(dial_it(speaking, &security, Alpn::H2).await.is_ok());
}

#[tokio::test]
async fn nothing_is_sent_when_nobody_can_be_verified() {
    let address = Authority::new().server(|_| {}, ANYTHING).await;
    for (trust, expected) in [
        (Trust::Nobody("ConfigMap/shop/ca is not there".into()), "ConfigMap/shop/ca is not there"),
        (Trust::Roots("not PEM".into()), "the authorities cannot be used"),
    ] {
        let why = refusal(address, &asks(trust, vec![dns("api.example")])).await;
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn connections_are_shared_by_what_asks_exactly_the_same() {
    let (one, other) = (Authority::new(), Authority::new());
    let named = |name: &str| vec![dns(name)];
    assert_eq!(asks(one.trusted(), named("a")), asks(one.trusted(), named("a")));
    assert_ne!(asks(one.trusted(), named("a")), asks(other.trusted(), named("a")));
    assert_ne!(asks(one.trusted(), named("a")), asks(one.trusted(), named("b")));
    assert_ne!(asks(one.trusted(), named("a")), Security::Plaintext);
}
