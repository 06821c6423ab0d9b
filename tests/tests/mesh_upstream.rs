//! Through real sidecars: endpoints that fail their health checks, and servers outside the mesh that speak TLS.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_tests::client;
use outrigger_tests::eventually;
use outrigger_tests::mesh::READY_WITHIN;
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{PATIENCE, PORT, Town, ask, backend_policy, metric, plain, service};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers one request with its name; `/healthz` with 503 when it is not well.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, name: &str, is_well: bool) {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(read @ 1..) => head.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let checked = head.starts_with(b"GET /healthz ");
    let status = if checked && !is_well { "503 Unwell" } else { "200 OK" };
    let answer =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{name}", name.len());
    stream.write_all(answer.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}

async fn serve(address: SocketAddr, name: &'static str, is_well: bool) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(answer(tcp, name, is_well));
        }
    });
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server of this authority, for `api.example`.
    async fn serve(&self, address: SocketAddr) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName("api.example".try_into().unwrap())];
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(outrigger_base::tls::provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        answer(tls, "verified", true).await;
                    }
                });
            }
        });
    }

    fn config_map(&self) -> String {
        let pem = self.0.pem().trim().replace('\n', "\n    ");
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca, namespace: shop}}\ndata:\n  ca.crt: |\n    {pem}\n"
        )
    }
}

/// Status and body, or status and reason when the sidecar answers itself.
async fn said(entrance: SocketAddr) -> String {
    let answer = client::get(entrance, "/").await.unwrap();
    let word = match answer.reason() {
        "" => String::from_utf8_lossy(&answer.body).into_owned(),
        reason => reason.split(';').next().unwrap_or_default().to_owned(),
    };
    format!("{} {word}", answer.status.as_u16())
}

#[tokio::test]
async fn an_endpoint_that_fails_its_health_check_gets_no_requests() {
    let subnet = Subnet::claim();
    let (well, unwell) = (subnet.address(2, PORT), subnet.address(3, PORT));
    serve(well, "well", true).await;
    serve(unwell, "unwell", false).await;
    let check = "healthCheck: {http: {path: /healthz}, interval: 100ms, timeout: 5s, unhealthyThreshold: 2}";
    let yaml = service("files", "http")
        + &plain("files-1", "files", well)
        + &plain("files-2", "files", unwell)
        + &backend_policy("files", check);
    let town = Town::start(subnet, &yaml).await.unwrap();
    let (web, entrance) = town.dialling(1, "files").await.unwrap();
    // Only what is in use is checked.
    said(entrance).await;
    let labels = ["state=\"unhealthy\"", "destination_service=\"files\""];
    eventually(PATIENCE, async || {
        let unhealthy = metric(&web, "/metrics", "outrigger_upstream_endpoints", &labels).await.ok()?;
        (unhealthy == 1.0).then_some(())
    })
    .await
    .expect("no endpoint became unhealthy");
    for _ in 0..30 {
        assert_eq!(said(entrance).await, "200 well");
    }
    let clusters = ask(&web, "/admin", "/clusters").await.unwrap().to_string();
    assert!(clusters.contains("\"unhealthy\""), "{clusters}");
}

#[tokio::test]
async fn a_policy_decides_which_tls_server_is_believed_and_never_lets_plaintext_out() {
    let subnet = Subnet::claim();
    let server = subnet.address(2, PORT);
    let (authority, other) = (Authority::new(), Authority::new());
    authority.serve(server).await;
    let policy = |host: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n\
             metadata: {{name: files, namespace: shop}}\n\
             spec:\n  targetRefs: [{{group: '', kind: Service, name: files}}]\n\
             \x20 validation: {{hostname: {host}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]}}\n"
        )
    };
    let base = service("files", "http") + &plain("files-1", "files", server);
    let good = base.clone() + &authority.config_map() + &policy("api.example");
    let town = Town::start(subnet, &good).await.unwrap();
    let (_web, entrance) = town.dialling(1, "files").await.unwrap();
    assert_eq!(said(entrance).await, "200 verified");
    for yaml in [
        base.clone() + &authority.config_map() + &policy("other.example"),
        base.clone() + &other.config_map() + &policy("api.example"),
        base + &policy("api.example"),
    ] {
        for (yaml, expected) in [(&yaml, "503 tls_failed"), (&good, "200 verified")] {
            town.rewrite(yaml).unwrap();
            let found = eventually(PATIENCE, async || (said(entrance).await == expected).then_some(())).await;
            assert!(found.is_some(), "never {expected} with {yaml}");
        }
    }
}

#[tokio::test]
async fn an_external_service_with_https_is_verified_against_the_authorities_of_the_host() {
    let subnet = Subnet::claim();
    let server = subnet.address(2, 8443);
    let authority = Authority::new();
    authority.serve(server).await;
    let yaml = format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: ExternalService\nmetadata: {{name: api, namespace: shop}}\n\
         spec: {{hosts: [api.example, wrong.example], ports: [{{name: https, port: 8443, protocol: HTTPS}}], \
         resolution: Static, endpoints: [\"{}\"]}}\n",
        server.ip()
    );
    let (right, wrong) = (subnet.address(1, 9001), subnet.address(1, 9002));
    let town = Town::start(subnet, &yaml).await.unwrap();
    let roots = town.mesh.path().join("roots.pem");
    std::fs::write(&roots, authority.0.pem()).unwrap();
    let flags =
        [format!("--outbound={right}=api.example:8443"), format!("--outbound={wrong}=wrong.example:8443")];
    let program = town.program("web", &flags).await.unwrap().env("SSL_CERT_FILE", &roots);
    let _web = program.start_ready(READY_WITHIN).await.unwrap();
    assert_eq!(said(right).await, "200 verified");
    assert_eq!(said(wrong).await, "503 tls_failed");
}
