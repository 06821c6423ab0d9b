//! Handshakes between two sides in memory: good ones, and one for every way a certificate can be bad.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose as Usage, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConnection, Connection, Error, HandshakeKind, NamedGroup, ServerConnection};

use super::*;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const REVIEWS: &str = "spiffe://cluster.local/ns/shop/sa/reviews";
const JUNE_2026_SECONDS: u64 = 1_781_481_600;
const DAY: Duration = Duration::from_secs(86_400);

type Ca = CertifiedIssuer<'static, KeyPair>;

#[derive(Debug)]
struct Clock(UnixTime);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

fn june() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(JUNE_2026_SECONDS))
}

fn clock() -> Arc<dyn TimeProvider> {
    Arc::new(Clock(june()))
}

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "mesh root");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn trust(trust_domain: &str, authorities: &[&Ca]) -> Trust {
    Trust::alone(trust_domain, authorities.iter().map(|ca| ca.der().to_vec().into()))
}

/// A leaf certificate to be; good for 2026 and both sides unless a test says otherwise.
struct Leaf {
    uris: Vec<&'static str>,
    years: (i32, i32),
    usages: Vec<Usage>,
}

fn leaf(uri: &'static str) -> Leaf {
    Leaf { uris: vec![uri], years: (2026, 2027), usages: vec![Usage::ServerAuth, Usage::ClientAuth] }
}

impl Leaf {
    fn sign(&self, ca: &Ca) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            self.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.not_before = date_time_ymd(self.years.0, 1, 1);
        params.not_after = date_time_ymd(self.years.1, 1, 1);
        params.extended_key_usages = self.usages.clone();
        let certificate = params.signed_by(&key, ca).unwrap();
        Credentials {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            trust: trust("cluster.local", &[ca]),
        }
    }
}

fn mesh(credentials: &Credentials) -> MeshTls {
    MeshTls::build_with_time(credentials, clock()).unwrap()
}

/// Shows any certificate with any key, unlike [`MeshTls`], and is a good mesh member otherwise.
fn unchecked(credentials: &Credentials) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let provider = Arc::new(provider());
    let key = provider.key_provider.load_private_key(credentials.key.clone_key()).unwrap();
    let cert = Arc::new(SingleCertAndKey::from(CertifiedKey::new(credentials.chain.clone(), key)));
    let domains = Arc::new(Domains::new(&credentials.trust, &provider).unwrap());
    let (servers, clients) = (verify::servers(domains.clone()), verify::clients(domains));
    let client = client_config(provider.clone(), clock(), servers, cert.clone()).unwrap();
    (
        Arc::new(with_alpn(&client, Alpn::H2)),
        Arc::new(server_config(provider, clock(), clients, cert).unwrap()),
    )
}

/// One side of a handshake and how it ended.
struct Side {
    connection: Connection,
    error: Option<Error>,
}

impl Side {
    /// Takes what the other side has to send; says whether there was anything.
    fn take_from(&mut self, other: &mut Side) -> bool {
        let mut bytes = Vec::new();
        while other.connection.wants_write() {
            other.connection.write_tls(&mut bytes).unwrap();
        }
        self.take(&bytes)
    }

    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let some = !bytes.is_empty();
        while !bytes.is_empty() && self.error.is_none() {
            self.connection.read_tls(&mut bytes).unwrap();
            self.error = self.connection.process_new_packets().err();
        }
        some
    }

    fn peer(&self) -> String {
        verified_peer_at(&self.connection, june()).unwrap().to_string()
    }

    fn refused(&self) -> String {
        describe(self.error.as_ref().expect("this side is content"))
    }

    fn kind(&self) -> HandshakeKind {
        self.connection.handshake_kind().unwrap()
    }
}

/// Both sides after everything that could be exchanged was.
fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> (Side, Side) {
    let name = endpoint_name("127.0.0.1:9080".parse().unwrap());
    let client = ClientConnection::new(client, name).unwrap();
    let mut client = Side { connection: client.into(), error: None };
    let mut server = Side { connection: ServerConnection::new(server).unwrap().into(), error: None };
    while server.take_from(&mut client) | client.take_from(&mut server) {}
    (client, server)
}

#[test]
fn two_members_know_each_other() {
    let ca = ca();
    let (web, reviews) = (mesh(&leaf(WEB).sign(&ca)), mesh(&leaf(REVIEWS).sign(&ca)));
    assert_eq!((web.identity().as_str(), reviews.identity().as_str()), (WEB, REVIEWS));
    for alpn in [Alpn::Http1, Alpn::H2, Alpn::Tcp] {
        let (client, server) = handshake(web.client(alpn), reviews.server());
        assert_eq!((client.error.as_ref(), server.error.as_ref()), (None, None));
        assert_eq!((client.peer(), server.peer()), (REVIEWS.to_owned(), WEB.to_owned()));
        for side in [&client, &server] {
            assert_eq!(side.connection.alpn_protocol().and_then(Alpn::from_id), Some(alpn));
        }
    }
}

#[test]
fn the_key_exchange_is_post_quantum_and_the_cipher_aes_128() {
    let ca = ca();
    let (web, reviews) = (mesh(&leaf(WEB).sign(&ca)), mesh(&leaf(REVIEWS).sign(&ca)));
    let (client, server) = handshake(web.client(Alpn::H2), reviews.server());
    for side in [client, server] {
        let group = side.connection.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        let suite = side.connection.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(side.connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        // Full, without a second round trip for another key share.
        assert_eq!(side.kind(), HandshakeKind::Full);
    }
}

#[test]
fn the_second_connection_resumes_until_the_certificate_is_renewed() {
    let ca = ca();
    let (web, reviews) = (mesh(&leaf(WEB).sign(&ca)), mesh(&leaf(REVIEWS).sign(&ca)));
    let connect = |web: &MeshTls, reviews: &MeshTls, alpn| handshake(web.client(alpn), reviews.server());
    assert_eq!(connect(&web, &reviews, Alpn::H2).0.kind(), HandshakeKind::Full);
    for alpn in [Alpn::H2, Alpn::Tcp] {
        let (client, server) = connect(&web, &reviews, alpn);
        assert_eq!((client.kind(), server.kind()), (HandshakeKind::Resumed, HandshakeKind::Resumed));
        assert_eq!((client.peer(), server.peer()), (REVIEWS.to_owned(), WEB.to_owned()));
    }
    let renewed = mesh(&leaf(REVIEWS).sign(&ca));
    assert_eq!(connect(&web, &renewed, Alpn::H2).0.kind(), HandshakeKind::Full);
    assert_eq!(connect(&mesh(&leaf(WEB).sign(&ca)), &renewed, Alpn::H2).0.kind(), HandshakeKind::Full);
}

#[test]
fn a_session_does_not_outlive_the_certificate_of_the_peer() {
    let ca = ca();
    let (web, reviews) = (mesh(&leaf(WEB).sign(&ca)), mesh(&leaf(REVIEWS).sign(&ca)));
    handshake(web.client(Alpn::H2), reviews.server());
    let (client, server) = handshake(web.client(Alpn::H2), reviews.server());
    let next_year = UnixTime::since_unix_epoch(Duration::from_secs(JUNE_2026_SECONDS) + 365 * DAY);
    for side in [client, server] {
        assert_eq!(side.kind(), HandshakeKind::Resumed);
        let refused = verified_peer_at(&side.connection, next_year);
        assert!(matches!(refused, Err(IdentityError::Expired { .. })), "{refused:?}");
    }
}

/// What a bad member shows, as which side, and the words with which the good side refuses it.
fn check_refused(bad: &Credentials, ca: &Ca, words: &str) {
    check_client_refused(bad, ca, words);
    check_server_refused(bad, ca, words);
}

fn check_client_refused(bad: &Credentials, ca: &Ca, words: &str) {
    let good = mesh(&leaf(REVIEWS).sign(ca));
    let (client, server) = handshake(unchecked(bad).0, good.server());
    let reason = server.refused();
    assert!(reason.contains(words), "the server says {reason:?}, not {words:?}");
    assert!(client.refused().starts_with("the peer refused us: "), "{}", client.refused());
}

fn check_server_refused(bad: &Credentials, ca: &Ca, words: &str) {
    let good = mesh(&leaf(REVIEWS).sign(ca));
    let (client, _) = handshake(good.client(Alpn::H2), unchecked(bad).1);
    let reason = client.refused();
    assert!(reason.contains(words), "the client says {reason:?}, not {words:?}");
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let ca = ca();
    let expired = Leaf { years: (2025, 2026), ..leaf(WEB) }.sign(&ca);
    check_refused(&expired, &ca, "the certificate expired on Jan  1 00:00:00 2026");
    let early = Leaf { years: (2027, 2028), ..leaf(WEB) }.sign(&ca);
    check_refused(&early, &ca, "the certificate is not valid before Jan  1 00:00:00 2027");
}

#[test]
fn a_certificate_without_the_one_identity_is_refused() {
    let ca = ca();
    let with_uris = |uris: &[&'static str]| Leaf { uris: uris.to_vec(), ..leaf(WEB) }.sign(&ca);
    check_refused(&with_uris(&[WEB, REVIEWS]), &ca, "has 2 URI names");
    check_refused(&with_uris(&[]), &ca, "has 0 URI names");
    check_refused(&with_uris(&["https://cluster.local/web"]), &ca, "is no SPIFFE id");
    check_refused(&with_uris(&["spiffe://cluster.local/ns/shop/sa/web?x"]), &ca, "is no SPIFFE id");
    let other = "spiffe://other.example/ns/shop/sa/web";
    check_refused(&with_uris(&[other]), &ca, "is of another trust domain than ours, which is cluster.local");
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (ca(), ca());
    // The other authority has the name of ours. The attacker trusts our root, so that only its certificate is bad.
    let mut bad = leaf(WEB).sign(&theirs);
    bad.trust = trust("cluster.local", &[&ours]);
    check_refused(&bad, &ours, "a signature does not match");

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(WEB.try_into().unwrap())];
    let alone = params.self_signed(&key).unwrap();
    bad.chain = vec![alone.der().clone()];
    bad.key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    check_refused(&bad, &ours, "signed by nobody we trust");
}

#[test]
fn a_root_vouches_for_its_own_trust_domain_only() {
    let (ours, theirs) = (ca(), ca());
    const PARTNER: &str = "spiffe://partner.example/ns/pay/sa/api";
    let federation = || trust("cluster.local", &[&ours]).united(&trust("partner.example", &[&theirs]));
    let reversed = || trust("partner.example", &[&theirs]).united(&trust("cluster.local", &[&ours]));
    let web = Credentials { trust: federation(), ..leaf(WEB).sign(&ours) };
    let partner = Credentials { trust: reversed(), ..leaf(PARTNER).sign(&theirs) };
    let (client, server) = handshake(mesh(&web).client(Alpn::H2), mesh(&partner).server());
    assert_eq!((client.peer(), server.peer()), (PARTNER.to_owned(), WEB.to_owned()));

    // The partner's authority signs one of our ids, and ours one of theirs.
    for (signed, by) in [(leaf(REVIEWS), &theirs), (leaf(PARTNER), &ours)] {
        let forged = Credentials { trust: federation(), ..signed.sign(by) };
        let (show, answer) = unchecked(&forged);
        for refused in
            [handshake(show, mesh(&web).server()).1, handshake(mesh(&web).client(Alpn::H2), answer).0]
        {
            assert!(refused.refused().contains("a signature does not match"), "{}", refused.refused());
        }
    }
    // A certificate of our own that only a federated root vouches for is none.
    let foreign = Credentials { trust: federation(), ..leaf(PARTNER).sign(&theirs) };
    let refused = MeshTls::build_with_time(&foreign, clock()).unwrap_err().to_string();
    assert!(refused.contains("of another trust domain than ours, which is cluster.local"), "{refused}");
}

#[test]
fn a_session_does_not_outlive_the_trust_in_its_root() {
    let (old, new) = (ca(), ca());
    let both = || trust("cluster.local", &[&old, &new]);
    let web = mesh(&Credentials { trust: both(), ..leaf(WEB).sign(&old) });
    let reviews = leaf(REVIEWS).sign(&new);
    let before = mesh(&Credentials { trust: both(), ..reviews });
    assert_eq!(handshake(web.client(Alpn::H2), before.server()).1.kind(), HandshakeKind::Full);
    assert_eq!(handshake(web.client(Alpn::H2), before.server()).1.kind(), HandshakeKind::Resumed);
    let after = mesh(&leaf(REVIEWS).sign(&new));
    let refused = handshake(web.client(Alpn::H2), after.server()).1.refused();
    assert!(refused.contains("a signature does not match"), "{refused}");
}

#[test]
fn a_chain_stands_under_the_root_that_signed_it() {
    let (one, other) = (ca(), ca());
    let chain = leaf(WEB).sign(&one).chain;
    assert!(stands_under(&chain, one.der(), june()));
    assert!(!stands_under(&chain, other.der(), june()));
    assert!(!stands_under(&[], one.der(), june()) && !stands_under(&chain, b"hello", june()));
}

#[test]
fn session_keys_are_not_logged() {
    let tls = mesh(&leaf(WEB).sign(&ca()));
    for alpn in [Alpn::Http1, Alpn::H2, Alpn::Tcp] {
        assert!(!tls.client(alpn).key_log.will_log("CLIENT_TRAFFIC_SECRET_0"));
    }
    assert!(!tls.server().key_log.will_log("SERVER_TRAFFIC_SECRET_0"));
}

#[test]
fn a_certificate_for_the_other_side_only_is_refused() {
    let ca = ca();
    let for_usage = |usage| Leaf { usages: vec![usage], ..leaf(WEB) }.sign(&ca);
    check_client_refused(&for_usage(Usage::ServerAuth), &ca, "extended key usage lacks ClientAuth");
    check_server_refused(&for_usage(Usage::ClientAuth), &ca, "extended key usage lacks ServerAuth");
}

#[test]
fn a_stolen_certificate_is_of_no_use_without_its_key() {
    let ca = ca();
    let stolen = Credentials { key: leaf(WEB).sign(&ca).key, ..leaf(WEB).sign(&ca) };
    check_refused(&stolen, &ca, "a signature does not match");
    let refused = MeshTls::build_with_time(&stolen, clock()).unwrap_err().to_string();
    assert!(refused.contains("the key does not belong to the certificate"), "{refused}");
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let ca = ca();
    let good = mesh(&leaf(REVIEWS).sign(&ca));
    let provider = Arc::new(provider());
    let domains = Arc::new(Domains::new(&trust("cluster.local", &[&ca]), &provider).unwrap());
    let anonymous = ClientConfig::builder_with_details(provider.clone(), clock())
        .with_protocol_versions(TLS13_ONLY)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verify::servers(domains))
        .with_no_client_auth();
    let (client, server) = handshake(Arc::new(anonymous), good.server());
    assert!(server.refused().starts_with("no certificate was shown"), "{}", server.refused());
    assert!(client.refused().contains("it requires a certificate"), "{}", client.refused());
    assert_eq!(verified_peer(&server.connection), Err(IdentityError::NoCertificate));
}

/// The ClientHello of a client that ends at TLS 1.2: no `supported_versions` extension (RFC 8446 section 4.2.1).
fn tls12_client_hello() -> Vec<u8> {
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..],  // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],             // ec_point_formats: uncompressed
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4], // signature_algorithms
    ]
    .concat();
    let mut body = [&[3, 3][..], &[7; 32], &[0]].concat(); // version 1.2, random, no session id
    body.extend([0, 2, 0xc0, 0x2b, 1, 0]); // ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let length = body.len() as u16;
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}

#[test]
fn an_older_protocol_or_none_is_refused() {
    let ca = ca();
    let good = mesh(&leaf(REVIEWS).sign(&ca));
    for (bytes, words) in [
        (tls12_client_hello(), "which is TLS 1.3 only"),
        (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), "does not speak TLS"),
    ] {
        let connection = ServerConnection::new(good.server()).unwrap().into();
        let mut server = Side { connection, error: None };
        server.take(&bytes);
        assert!(server.refused().contains(words), "{}", server.refused());
    }
}

#[test]
fn credentials_that_peers_would_refuse_are_not_published() {
    let (ca, other) = (ca(), ca());
    let refused = |credentials: &Credentials| {
        MeshTls::build_with_time(credentials, clock()).map(|_| ()).unwrap_err().to_string()
    };
    let expired = Leaf { years: (2025, 2026), ..leaf(WEB) }.sign(&ca);
    assert!(refused(&expired).contains("expired on Jan  1"), "{}", refused(&expired));
    let trusting = |trust: Trust| refused(&Credentials { trust, ..leaf(WEB).sign(&ca) });
    let foreign = trusting(trust("cluster.local", &[&other]));
    assert!(foreign.contains("our own certificate would be refused"), "{foreign}");
    let domain = trusting(trust("other.example", &[&ca]));
    assert!(domain.contains("of another trust domain"), "{domain}");
    let one_sided = Leaf { usages: vec![Usage::ServerAuth], ..leaf(WEB) }.sign(&ca);
    assert!(refused(&one_sided).contains("lacks ClientAuth"), "{}", refused(&one_sided));
    assert_eq!(trusting(Trust::default()), "the trust bundle has no root certificate");
    let alone = trusting(trust("cluster.local", &[]));
    assert_eq!(alone, "trust domain cluster.local: the trust bundle has no root certificate");
    let many = trusting(trust("cluster.local", &[&ca; MAX_ROOTS + 1]));
    assert!(many.contains("has 65 root certificates"), "{many}");
    let garbage: Arc<[u8]> = [1].into();
    let federated = Trust::alone("other.example", [ca.der().to_vec().into(), garbage]);
    let broken = trusting(trust("cluster.local", &[&ca]).united(&federated));
    assert!(
        broken.starts_with("trust domain other.example: root certificate 2 of the trust bundle"),
        "{broken}"
    );
    let empty = Credentials { chain: Vec::new(), ..leaf(WEB).sign(&ca) };
    assert!(refused(&empty).contains("no certificate"), "{}", refused(&empty));
}

#[test]
fn a_proxy_checks_the_host_name_of_an_https_control_plane() {
    // These configurations use the system clock, so the certificate is good for as long as rcgen makes it.
    let ca = ca();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["control-plane.example".to_owned()]).unwrap();
    let chain = vec![params.signed_by(&key, &ca).unwrap().der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = server_side_only(chain, key, &[Alpn::H2]).unwrap();
    let client = client_with_bundle(ca.pem().as_bytes()).unwrap();
    for (name, accepted) in [("control-plane.example", true), ("other.example", false)] {
        let connection = ClientConnection::new(client.clone(), name.try_into().unwrap()).unwrap().into();
        let mut client = Side { connection, error: None };
        let connection = ServerConnection::new(server.clone()).unwrap().into();
        let mut server = Side { connection, error: None };
        while server.take_from(&mut client) | client.take_from(&mut server) {}
        assert_eq!(client.error.is_none(), accepted, "{name}: {:?}", client.error);
        assert!(!accepted || client.connection.alpn_protocol() == Some(b"h2"));
    }
    assert!(matches!(client_with_bundle(b""), Err(TlsError::Bundle(KeyError::NoCertificate))));
}

#[test]
fn endpoints_have_names_of_their_own() {
    let names: Vec<_> = ["127.0.0.1:80", "127.0.0.1:81", "127.0.0.2:80", "[::1]:80", "[fe80::1]:80"]
        .map(|address| endpoint_name(address.parse().unwrap()).to_str().into_owned())
        .into();
    assert_eq!(names[0], "p80.i127-0-0-1.endpoint");
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len(), "{names:?}");
}

#[test]
fn nothing_secret_is_printed() {
    let credentials = leaf(WEB).sign(&ca());
    assert_eq!(format!("{credentials:?}"), r#"Credentials { trust_domain: Some("cluster.local"), .. }"#);
    assert_eq!(
        format!("{:?}", mesh(&credentials)),
        "MeshTls { identity: spiffe://cluster.local/ns/shop/sa/web, .. }"
    );
}

#[test]
fn a_chain_that_is_known_is_judged_again_when_anything_is_different() {
    let ca = ca();
    let (web, reviews) = (leaf(WEB).sign(&ca), mesh(&leaf(REVIEWS).sign(&ca)));
    let [leaf] = &web.chain[..] else { panic!("a chain of one") };
    let next_year = UnixTime::since_unix_epoch(Duration::from_secs(JUNE_2026_SECONDS) + 365 * DAY);
    let mut forged = leaf.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let name = endpoint_name("127.0.0.1:9080".parse().unwrap());
    let server = |leaf: &CertificateDer<'_>, now| {
        reviews.servers.verify_server_cert(leaf, &[], &name, &[], now).map(drop).map_err(|e| describe(&e))
    };
    let client = |leaf: &CertificateDer<'_>, now| {
        reviews.clients.verify_client_cert(leaf, &[], now).map(drop).map_err(|e| describe(&e))
    };
    for judge in [&server as &dyn Fn(&CertificateDer<'_>, UnixTime) -> Result<(), String>, &client] {
        for _ in 0..2 {
            assert_eq!(judge(leaf, june()), Ok(()));
            let expired = judge(leaf, next_year).unwrap_err();
            assert!(expired.starts_with("the certificate expired on"), "{expired}");
            let refused = judge(&forged.clone().into(), june()).unwrap_err();
            assert!(refused.starts_with("a signature does not match"), "{refused}");
        }
    }
    // What one side has learnt is not believed on the other.
    let servers_only = Leaf { usages: vec![Usage::ServerAuth], ..self::leaf(WEB) }.sign(&ca);
    assert_eq!(server(&servers_only.chain[0], june()), Ok(()));
    assert!(client(&servers_only.chain[0], june()).is_err());
}

#[test]
fn a_peer_that_is_known_is_named_without_its_certificate_being_read() {
    let ca = ca();
    let (web, reviews) = (mesh(&leaf(WEB).sign(&ca)), mesh(&leaf(REVIEWS).sign(&ca)));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (client, server) = handshake(web.client(Alpn::Tcp), reviews.server());
        assert_eq!(client.kind(), kind);
        let shown = |side: &Side| side.connection.peer_certificates().unwrap()[0].clone();
        let known =
            |table: &Known, side: &Side| table.identity(&shown(side), june()).map(|id| id.to_string());
        assert_eq!(known(&web.servers.known, &client), Some(REVIEWS.to_owned()));
        assert_eq!(known(&reviews.clients.known, &server), Some(WEB.to_owned()));
    }
}
