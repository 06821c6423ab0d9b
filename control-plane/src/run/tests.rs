//! The whole control plane in this process, on free ports of loopback.

use std::path::Path;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use hyper_util::rt::TokioIo;
use outrigger_base::ca::IstioCertificateRequest;
use outrigger_base::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use outrigger_base::keys::{WorkloadKey, parse_chain_pem};
use outrigger_base::tls::{Alpn, client_with_bundle, provider};
use outrigger_model::identity::SpiffeId;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use outrigger_base::telemetry::logs::LogFormat;

use super::*;
use crate::injector::InjectorOptions;
use crate::token::Caller;
use crate::token::manage::{self, Uses, Wanted, Which};

const DEADLINE: Duration = Duration::from_secs(20);

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n\
                       spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 9080}]}\n";

/// A control plane that runs until it is told to stop.
struct Running {
    home: TempDir,
    ready: serde_json::Value,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ExitError>>,
}

fn options(home: &Path) -> Options {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Options {
        config: Some(home.join("config")),
        kubernetes: false,
        cluster: ClusterOptions::default(),
        authority: AuthorityOptions::default(),
        data: Some(home.join("data")),
        xds: free,
        xds_tls: Some(free),
        tls_name: vec!["control.example".to_owned()],
        webhook: Some(free),
        injector: InjectorOptions::default(),
        http: free,
        ready_file: Some(home.join("ready.json")),
        ready_fd: None,
        log_format: LogFormat::Auto,
        log_level: "info".to_owned(),
    }
}

fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("config")).unwrap();
    home
}

impl Running {
    async fn start() -> Self {
        let home = home();
        std::fs::write(home.path().join("config/shop.yaml"), SERVICE).unwrap();
        let (stop, stopped) = oneshot::channel();
        let options = options(home.path());
        let file = options.ready_file.clone().unwrap();
        let task = tokio::spawn(run(options, async {
            let _ = stopped.await;
        }));
        let ready = within("readiness", async {
            loop {
                if let Ok(text) = std::fs::read_to_string(&file) {
                    return serde_json::from_str(&text).unwrap();
                }
                assert!(!task.is_finished(), "it ended before it was ready");
                tokio::task::yield_now().await;
            }
        })
        .await;
        Self { home, ready, stop: Some(stop), task }
    }

    fn address(&self, key: &str) -> SocketAddr {
        self.ready[key].as_str().unwrap().parse().unwrap()
    }

    fn token(&self) -> String {
        let caller = Caller { namespace: "shop".to_owned(), service_account: "web".to_owned() };
        let wanted = Wanted { caller, ttl: Duration::from_secs(60), uses: Uses::Any };
        manage::create(&self.home.path().join("data"), &wanted, SystemTime::now()).unwrap().token
    }

    fn root(&self) -> Vec<u8> {
        std::fs::read(self.home.path().join("data/root-cert.pem")).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address("http")).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Waits until a metric has a value.
    async fn shows(&self, line: &str) {
        within(line, async { while !self.get("/metrics").await.lines().any(|found| found == line) {} }).await;
    }

    async fn plaintext(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address("xds"))).unwrap().connect().await.unwrap()
    }

    /// A channel to the TLS port.
    async fn tls(
        &self,
        config: Arc<ClientConfig>,
        name: &'static str,
    ) -> Result<Channel, tonic::transport::Error> {
        let address = self.address("xds_tls");
        let connect = move |_| {
            let config = config.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
                TlsConnector::from(config).connect(name, stream).await.map(TokioIo::new)
            }
        };
        Endpoint::from_static("http://control.example")
            .connect_with_connector(tower::service_fn(connect))
            .await
    }

    async fn stop(mut self) -> Result<(), ExitError> {
        self.stop.take().unwrap().send(()).unwrap();
        within("the end", self.task).await.unwrap()
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Asks for the clusters of the mesh; the names, each time they change.
async fn clusters(
    channel: Channel,
    token: Option<&str>,
) -> Result<impl StreamExt<Item = Vec<String>> + Unpin, tonic::Status> {
    let first = DeltaDiscoveryRequest {
        type_url: outrigger_model::resource::ResourceType::Cluster.url().to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    let (answers, requests) = mpsc::channel(4);
    answers.send(first.clone()).await.unwrap();
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(requests));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let responses =
        AggregatedDiscoveryServiceClient::new(channel).delta_aggregated_resources(request).await?;
    Ok(responses.into_inner().map_while(Result::ok).map(move |response| {
        let answer = DeltaDiscoveryRequest {
            response_nonce: response.nonce,
            type_url: response.type_url,
            ..DeltaDiscoveryRequest::default()
        };
        answers.try_send(answer).unwrap();
        response.resources.into_iter().map(|resource| resource.name).collect()
    }))
}

fn csr(key: &WorkloadKey) -> IstioCertificateRequest {
    let id = SpiffeId::new("cluster.local", "shop", "web").unwrap();
    IstioCertificateRequest { csr: key.csr_pem(&id).unwrap(), ..IstioCertificateRequest::default() }
}

async fn certificate(channel: Channel, token: &str, key: &WorkloadKey) -> Vec<CertificateDer<'static>> {
    let mut request = tonic::Request::new(csr(key));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await.unwrap();
    parse_chain_pem(answer.into_inner().cert_chain.concat().as_bytes()).unwrap()
}

#[tokio::test]
async fn it_serves_health_metrics_and_the_api_and_ends_in_order() {
    let running = Running::start().await;
    for (path, part) in [
        ("/healthz/live", "live"),
        ("/healthz/ready", "ready"),
        ("/metrics", "outrigger_control_plane_proxies 0"),
        ("/api/v1/version", "{\"version\":\""),
        ("/api/v1/proxies", "\"proxies\":[]"),
        ("/api/v1/status", "\"Service\":1"),
        ("/api/v1/config?kind=cluster", "outbound|9080|reviews.shop.svc.cluster.local"),
        ("/api/v1/config?kind=listener&name=reviews.shop:9080", "reviews.shop:9080"),
    ] {
        let text = running.get(path).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains(part), "{path}: {text}");
    }
    for (path, status) in
        [("/api/v1/config?kind=listener&name=nothing:1", "404"), ("/api/v1/config?kind=pizza&name=a", "400")]
    {
        let text = running.get(path).await;
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status}")) && text.contains("\"error\""),
            "{path}: {text}"
        );
    }
    assert_eq!(running.ready["pid"], std::process::id());
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_written_reaches_a_stream() {
    let running = Running::start().await;
    let mut clusters = clusters(running.plaintext().await, None).await.unwrap();
    let first = within("the first clusters", clusters.next()).await.unwrap();
    assert_eq!(first, ["outbound|9080|reviews.shop.svc.cluster.local"]);
    let ratings = SERVICE.replace("reviews", "ratings").replace("10.96.0.2", "10.96.0.3");
    std::fs::write(running.home.path().join("config/ratings.yaml"), ratings).unwrap();
    let next = within("the new cluster", clusters.next()).await.unwrap();
    assert_eq!(next, ["outbound|9080|ratings.shop.svc.cluster.local"]);
    running.stop().await.unwrap();
    assert_eq!(within("the end of the stream", clusters.next()).await, None);
}

#[tokio::test]
async fn what_is_wrong_in_a_file_is_counted_and_shown_until_it_is_solved() {
    let running = Running::start().await;
    // That the Service has no endpoints is the first problem.
    running.shows("outrigger_control_plane_problems 1").await;
    let file = running.home.path().join("config/bad.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: Service\nmetadata: {name: [\n").unwrap();
    running.shows("outrigger_control_plane_problems 2").await;
    let status = running.get("/api/v1/status").await;
    assert!(status.contains("bad.yaml:"), "{status}");
    std::fs::remove_file(&file).unwrap();
    running.shows("outrigger_control_plane_problems 1").await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn the_tls_port_wants_a_token_or_a_certificate_of_the_mesh() {
    let running = Running::start().await;
    let (token, key) = (running.token(), WorkloadKey::generate().unwrap());
    let anonymous = client_with_bundle(&running.root()).unwrap();
    let channel = running.tls(anonymous.clone(), "control.example").await.unwrap();

    let refused = clusters(channel.clone(), None).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let mut with_token = clusters(channel.clone(), Some(&token)).await.unwrap();
    assert_eq!(within("clusters", with_token.next()).await.unwrap().len(), 1);

    let chain = certificate(channel, &token, &key).await;
    let known = with_certificate(&running.root(), chain, key.private_key());
    let channel = running.tls(known, "localhost").await.unwrap();
    let mut with_certificate = clusters(channel, None).await.unwrap();
    assert_eq!(within("clusters", with_certificate.next()).await.unwrap().len(), 1);

    assert!(running.tls(anonymous, "other.example").await.is_err(), "a name the certificate does not have");
    running.stop().await.unwrap();
}

/// Asks for a certificate without a token; how it is refused.
async fn renew(channel: &Channel, request: IstioCertificateRequest) -> Result<(), Code> {
    let answered = IstioCertificateServiceClient::new(channel.clone()).create_certificate(request).await;
    answered.map(|_| ()).map_err(|status| status.code())
}

#[tokio::test]
async fn a_certificate_of_the_mesh_is_renewed_by_itself_until_its_identity_is_revoked() {
    let running = Running::start().await;
    let (data, key) = (running.home.path().join("data"), WorkloadKey::generate().unwrap());
    let anonymous = client_with_bundle(&running.root()).unwrap();
    let channel = running.tls(anonymous, "control.example").await.unwrap();
    assert_eq!(renew(&channel, csr(&key)).await, Err(Code::Unauthenticated), "who shows nothing");
    let chain = certificate(channel.clone(), &running.token(), &key).await;
    let token = running.token();
    let mut with_token = clusters(channel, Some(&token)).await.unwrap();
    within("clusters", with_token.next()).await.unwrap();
    let known = with_certificate(&running.root(), chain, key.private_key());
    let channel = running.tls(known, "localhost").await.unwrap();
    let mut with_certificate = clusters(channel.clone(), None).await.unwrap();
    within("clusters", with_certificate.next()).await.unwrap();

    let new = WorkloadKey::generate().unwrap();
    assert_eq!(renew(&channel, csr(&new)).await, Ok(()));
    let admin = SpiffeId::new("cluster.local", "shop", "admin").unwrap();
    let theft =
        IstioCertificateRequest { csr: new.csr_pem(&admin).unwrap(), ..IstioCertificateRequest::default() };
    assert_eq!(renew(&channel, theft).await, Err(Code::PermissionDenied));
    let plaintext = running.plaintext().await;
    assert_eq!(renew(&plaintext, csr(&new)).await, Err(Code::Unauthenticated), "loopback is no proof");

    let web = Caller { namespace: "shop".to_owned(), service_account: "web".to_owned() };
    manage::revoke(&data, &Which::Identity(web.clone())).unwrap();
    assert_eq!(renew(&channel, csr(&new)).await, Err(Code::Unauthenticated));
    assert_eq!(within("the end of its stream", with_token.next()).await, None);
    assert_eq!(within("the end of its stream", with_certificate.next()).await, None);
    manage::restore(&data, &web).unwrap();
    assert_eq!(renew(&channel, csr(&new)).await, Ok(()));
    running.stop().await.unwrap();
}

/// What a client of the webhooks says and hears over TLS.
async fn webhook(running: &Running, sni: bool, alpn: Option<Alpn>) -> String {
    let roots = parse_chain_pem(&running.root()).unwrap();
    let mut store = RootCertStore::empty();
    roots.into_iter().for_each(|root| store.add(root).unwrap());
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.enable_sni = sni;
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.id().to_vec()).collect();
    let stream = TcpStream::connect(running.address("webhook")).await.unwrap();
    let name = ServerName::try_from("outrigger-control-plane.outrigger-system.svc").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let review = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1",
        "operation":"CREATE","kind":{"kind":"Pod"},"namespace":"shop","object":{"spec":{}}}}"#;
    let head = format!(
        "POST /inject HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{review}",
        review.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    // Who closes without the closing of TLS has said what it had to say.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn the_webhooks_are_served_with_and_without_a_server_name() {
    let running = Running::start().await;
    for (sni, alpn) in [(true, Some(Alpn::Http1)), (false, None)] {
        let answer = within("an answer", webhook(&running, sni, alpn)).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("JSONPatch"), "{sni}: {answer}");
    }
    // A frame of settings is the first thing that a server of HTTP/2 says; it does not understand the rest.
    let answer = within("an answer", webhook(&running, true, Some(Alpn::H2))).await;
    assert!(!answer.starts_with("HTTP/1.1"), "{answer}");
    running.shows("outrigger_control_plane_injections_total{outcome=\"injected\"} 2").await;
    running.stop().await.unwrap();
}

fn with_certificate(
    root: &[u8],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in parse_chain_pem(root).unwrap() {
        roots.add(root).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![Alpn::H2.id().to_vec()];
    Arc::new(config)
}

#[tokio::test]
async fn a_certificate_of_another_root_is_refused() {
    let (running, other) = (Running::start().await, Running::start().await);
    let key = WorkloadKey::generate().unwrap();
    let chain = certificate(other.plaintext().await, &other.token(), &key).await;
    let foreign = with_certificate(&running.root(), chain, key.private_key());
    // In TLS 1.3 the client may learn of the refusal only when it uses the connection.
    match running.tls(foreign, "localhost").await {
        Ok(channel) => assert!(clusters(channel, Some(&running.token())).await.is_err()),
        Err(error) => drop(error),
    }
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_named() {
    let home = home();
    let never = std::future::pending;
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let good = options(home.path());
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let held = holder.local_addr().unwrap();
    for (options, part) in [
        (Options { config: Some(home.path().join("missing")), ..good.clone() }, "--config"),
        (Options { config: Some(file.clone()), ..good.clone() }, "--config"),
        (Options { data: Some(file.join("data")), ..good.clone() }, "--data"),
        (Options { xds: held, ..good.clone() }, "--xds"),
        (Options { http: held, ..good.clone() }, "--http"),
        (Options { xds_tls: Some(held), ..good.clone() }, "--xds-tls"),
        (Options { webhook: Some(held), ..good.clone() }, "--webhook"),
        (Options { config: None, ..good.clone() }, "--kubernetes"),
        (Options { tls_name: vec!["not a name".to_owned()], ..good.clone() }, "--tls-name"),
        (Options { ready_file: Some(home.path().join("no/such/file")), ..good.clone() }, "--ready-file"),
    ] {
        let error = within(part, run(options, never())).await.unwrap_err();
        assert!(error.to_string().contains(part) && error.code() > 0, "{part}: {error}");
    }
}
