//! Tables over first bytes, every prefix of them, and real ClientHellos.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

#[test]
fn first_bytes_say_what_is_spoken() {
    for (bytes, expected) in [
        (&b""[..], Sniffed::NeedMore),
        (b"GET / HTTP/1.1\r\n", Sniffed::Http1),
        (b"get / HTTP/1.1\r\n", Sniffed::Http1),
        (b"OPTIONS * HTTP/1.1", Sniffed::Http1),
        (b"GET http://a/ HTTP/1.1", Sniffed::Http1),
        (b"GET HTTPS://a/ HTTP/1.1", Sniffed::Http1),
        (b"CONNECT a:80 HTTP/1.1", Sniffed::Http1),
        (b"X-METHOD-x!~ /", Sniffed::Http1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sniffed::Http2),
        (b"PRI * HTTP/1.1\r\n", Sniffed::Http1),
        (b"\x16\x03\x01\x02\x00", Sniffed::Tls),
        (b"\x16\x05", Sniffed::Opaque),
        (b"*1\r\n$4\r\nPING\r\n", Sniffed::Opaque),
        (b"PING\r\n", Sniffed::Opaque),
        (b"SELECT 1;", Sniffed::Opaque),
        (b"GET  / HTTP/1.1", Sniffed::Opaque),
        (b" GET / HTTP/1.1", Sniffed::Opaque),
        (b"\x00\x00", Sniffed::Opaque),
        (b"THIS-METHOD-IS-MUCH-LONGER-THAN-ANY-METHOD /", Sniffed::Opaque),
    ] {
        assert_eq!(sniff(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_prefix_never_says_something_else() {
    for bytes in [
        &b"GET / HTTP/1.1"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST http://a/ HTTP/1.1",
        b"CONNECT a:80 HTTP/1.1",
        b"\x16\x03\x01\x02\x00",
        b"*1\r\n$4",
    ] {
        let whole = sniff(bytes);
        for end in 0..bytes.len() {
            let part = sniff(&bytes[..end]);
            assert!(part == Sniffed::NeedMore || part == whole, "{part:?} of {:?}", &bytes[..end]);
        }
    }
}

#[test]
fn a_decision_is_always_made_within_the_bound() {
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..SNIFF_BYTES).map(|_| rng.u8(..)).collect();
        assert_ne!(sniff(&bytes), Sniffed::NeedMore);
        let letters: Vec<u8> = (0..SNIFF_BYTES).map(|_| rng.alphabetic() as u8).collect();
        assert_ne!(sniff(&letters), Sniffed::NeedMore);
    }
}

fn hello(alpn: &[&[u8]]) -> Vec<u8> {
    hello_for("reviews.shop", alpn)
}

/// The ClientHello of a real client that asks for a name.
pub(super) fn hello_for(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let provider = Arc::new(outrigger_base::tls::provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = builder.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|id| id.to_vec()).collect();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_applications_own_tls_is_passed_through() {
    use InboundTls::{PassThrough, Terminate};
    let (mesh, tcp) = (hello(&[b"h2", b"outrigger"]), hello(&[b"outrigger/tcp", b"outrigger"]));
    let (own, bare) = (hello(&[b"h2", b"http/1.1"]), hello(&[]));
    for (mtls, declared, hello, expected) in [
        (MtlsMode::Permissive, Protocol::Detect, &mesh, Terminate),
        (MtlsMode::Permissive, Protocol::Opaque, &tcp, Terminate),
        (MtlsMode::Permissive, Protocol::Detect, &own, PassThrough),
        (MtlsMode::Permissive, Protocol::Opaque, &bare, PassThrough),
        (MtlsMode::Permissive, Protocol::Http1, &own, Terminate),
        (MtlsMode::Permissive, Protocol::Http2, &bare, Terminate),
        (MtlsMode::Strict, Protocol::Opaque, &own, Terminate),
    ] {
        assert_eq!(inbound_tls(mtls, declared, hello), expected, "{mtls:?} {declared:?}");
    }
}

#[test]
fn an_incomplete_hello_waits_and_rubbish_is_not_ours() {
    let mesh = hello(&[b"h2", b"outrigger"]);
    for end in 0..mesh.len() {
        assert_eq!(inbound_tls(MtlsMode::Permissive, Protocol::Detect, &mesh[..end]), InboundTls::NeedMore);
    }
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..500 {
        let mut bytes = mesh.clone();
        let place = rng.usize(9..bytes.len());
        bytes[place] ^= rng.u8(1..);
        inbound_tls(MtlsMode::Permissive, Protocol::Detect, &bytes);
    }
    let rubbish = [0x16, 3, 1, 0xff, 0xff, 1, 2, 3];
    assert_eq!(inbound_tls(MtlsMode::Permissive, Protocol::Detect, &rubbish), InboundTls::PassThrough);
}
