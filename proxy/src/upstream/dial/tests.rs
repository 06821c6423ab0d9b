//! Dialling real servers on loopback, with certificates of an authority made for the test.

use std::net::Ipv4Addr;

use outrigger_base::tls::MeshTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::upstream::support::{Ca, shared};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const REVIEWS: &str = "spiffe://cluster.local/ns/shop/sa/reviews";
const RATINGS: &str = "spiffe://cluster.local/ns/shop/sa/ratings";

fn mesh(id: &str) -> Security {
    Security::Mesh(id.parse().unwrap())
}

/// Accepts one mesh connection after the other and echoes five bytes on each.
async fn echo(tls: Arc<MeshTls>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(tls.server());
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut five = [0; 5];
            if tls.read_exact(&mut five).await.is_ok() {
                tls.write_all(&five).await.unwrap();
            }
        }
    });
    address
}

async fn dial_as(
    own: Option<Arc<MeshTls>>,
    address: SocketAddr,
    security: &Security,
) -> Result<Stream, DialError> {
    let shared = shared();
    shared.tls.store(own);
    dial(&shared, address, security, Alpn::Tcp, &ConnectionPolicy::default()).await
}

#[tokio::test]
async fn the_expected_peer_is_talked_to() {
    let ca = Ca::new();
    let address = echo(ca.member(REVIEWS)).await;
    let mut stream = dial_as(Some(ca.member(WEB)), address, &mesh(REVIEWS)).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut five = [0; 5];
    stream.read_exact(&mut five).await.unwrap();
    assert_eq!(&five, b"hello");
    let Stream::Tls(tls) = stream else { panic!("not protected") };
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(Alpn::Tcp.id()));
    let tcp = SockRef::from(tls.get_ref().0);
    assert!(tcp.tcp_nodelay().unwrap());
    assert_eq!(tcp.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn another_member_of_the_mesh_is_refused_by_name() {
    let ca = Ca::new();
    let address = echo(ca.member(RATINGS)).await;
    let error = dial_as(Some(ca.member(WEB)), address, &mesh(REVIEWS)).await.unwrap_err();
    assert_eq!(error.reason, Reason::TlsFailed);
    let expected = format!("no connection to {address}: expected {REVIEWS}, but {RATINGS} answered");
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_member_of_another_mesh_is_refused() {
    let address = echo(Ca::new().member(REVIEWS)).await;
    let error = dial_as(Some(Ca::new().member(WEB)), address, &mesh(REVIEWS)).await.unwrap_err();
    assert_eq!(error.reason, Reason::TlsFailed);
    assert!(matches!(*error.cause, DialCause::Tls(_)), "{error}");
}

#[tokio::test]
async fn without_a_certificate_nothing_is_sent() {
    let ca = Ca::new();
    let address = echo(ca.member(REVIEWS)).await;
    let error = dial_as(None, address, &mesh(REVIEWS)).await.unwrap_err();
    assert_eq!(error.reason, Reason::TlsFailed);
    assert!(error.to_string().contains("this proxy has no certificate yet"), "{error}");
}

#[tokio::test]
async fn who_is_outside_the_mesh_is_dialled_in_plaintext() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = dial_as(None, address, &Security::Plaintext).await.unwrap();
    assert!(matches!(stream, Stream::Plain(_)));
}

#[tokio::test]
async fn a_refused_connection_is_a_connect_failure() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = dial_as(None, address, &Security::Plaintext).await.unwrap_err();
    assert_eq!(error.reason, Reason::ConnectFailed);
    assert!(matches!(*error.cause, DialCause::Connect(_)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_the_handshake_is_given_up() {
    let ca = Ca::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = dial_as(Some(ca.member(WEB)), address, &mesh(REVIEWS)).await.unwrap_err();
    assert_eq!(error.reason, Reason::TlsFailed);
    assert!(
        error.to_string().ends_with("the TLS handshake was not done within connectTimeout, 1s"),
        "{error}"
    );
}

#[test]
fn only_a_redirected_proxy_reaches_its_own_application_without_a_sidecar() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let own = Some(at("10.0.0.1:40000"));
    assert!(is_own_application(Interception::Capture, own, at("10.0.0.1:80")));
    assert!(!is_own_application(Interception::Capture, own, at("10.0.0.2:80")));
    assert!(!is_own_application(Interception::Capture, None, at("10.0.0.1:80")));
    assert!(!is_own_application(Interception::Explicit, own, at("10.0.0.1:80")));
}
