//! The control plane as a program: flags, start, work, drain. Used by the stand-alone binary, by the CLI and by tests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outrigger_base::admin::{self, Readiness};
use outrigger_base::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use outrigger_base::lifecycle::drain::{self, Drain, DrainTrigger};
use outrigger_base::lifecycle::exit::ExitError;
use outrigger_base::lifecycle::supervisor::Supervisor;
use outrigger_base::lifecycle::{descriptors, ready, signals};
use outrigger_base::telemetry::logs::{self, LogOptions};
use outrigger_base::telemetry::metrics::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;

use crate::ca::news;
use crate::ca::place::Place;
use crate::ca::serving::{Clients, ServingTls};
use crate::ca::store::Store;
use crate::ca::{Authority, CertificateService};
use crate::http;
use crate::http::meters::Meters;
use crate::http::readers::Readers;
use crate::http::trust::TrustView;
use crate::jwks::Fetcher;
use crate::source::Update;
use crate::token::TokenKeys;
use crate::token::book::Book;
use crate::token::gate::{Gate, Verifier};
use crate::webhook;
use crate::world::Fact;
use crate::xds::{Discovery, Hub};
use changes::{Changes, Reporter, Source};
use cluster::Cluster;
use options::Origin;
use serve::Security;

mod changes;
mod cluster;
mod options;
pub(crate) mod serve;

pub use options::{AuthorityOptions, ClusterOptions, Options, data_dir};

/// How long streams and calls may take to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Threads that serve; what is more goes to the proxies.
const WORKER_THREADS: usize = 2;
/// Updates of the source that wait to be applied.
const MAX_UPDATES: usize = 16;
/// Facts that wait to be taken in.
const MAX_FACTS: usize = 64;
/// The largest certificate call, in bytes.
const MAX_CSR_CALL_BYTES: usize = 64 * 1024;

/// The name of the program in messages.
const PROGRAM: &str = "outrigger-control-plane";

/// The line of `--ready-file`. Keys are stable.
#[derive(Debug, Serialize)]
struct Ready {
    pid: u32,
    xds: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    xds_tls: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<SocketAddr>,
    http: SocketAddr,
}

/// Ports that are open.
struct Ports {
    xds: TcpListener,
    xds_tls: Option<TcpListener>,
    webhook: Option<TcpListener>,
    http: TcpListener,
}

/// Whom the control plane vouches for, and how it knows them.
struct Secrets {
    authority: Arc<Authority>,
    /// Where the authority is kept.
    place: Place,
    verifier: Verifier,
}

/// What the control plane stands on: where objects come from, keys, and in a cluster its API.
struct Foundation {
    source: Source,
    secrets: Secrets,
    cluster: Option<Cluster>,
}

/// Runs the control plane with a runtime and logs of its own until SIGTERM or SIGINT; the exit code for `main`.
pub fn run_blocking(options: Options) -> ExitCode {
    match start_runtime(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(PROGRAM),
    }
}

/// Runs the control plane until `shutdown` resolves, then lets streams end. Logs are the caller's.
///
/// # Errors
///
/// When it cannot start, or when a part of it fails.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), ExitError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let (updates, received) = mpsc::channel(MAX_UPDATES);
    let foundation = tokio::select! {
        foundation = Foundation::open(&options, updates) => foundation?,
        () = &mut shutdown => return Ok(()),
    };
    let Foundation { mut source, secrets, cluster } = foundation;
    let ports = Ports::open(&options).await?;
    let (trigger, drain) = drain::new(DRAIN_TIMEOUT);
    let mut supervisor = Supervisor::new(drain.clone());

    let (facts, learned) = mpsc::channel(MAX_FACTS);
    let mut changes = Changes::new(received, learned, &options.cluster.mesh_namespace);
    // The first picture has the roots in it: a proxy must not be told that there are none.
    facts.try_send(Fact::Roots(secrets.authority.root().fact())).map_err(ExitError::failure)?;
    let world = tokio::select! {
        world = changes.first() => world,
        error = source.failure() => return Err(ExitError::failure(error)),
        () = &mut shutdown => return Ok(()),
    };

    let registry = Registry::new();
    let meters = Meters::new(registry.clone());
    let hub = Hub::new(world, meters.clone());
    supervisor.spawn("source", source.run());
    supervisor.spawn("world", changes.run(hub.clone(), drain.clone()));
    supervisor.spawn("report", Reporter::new(hub.clone(), meters.clone()).run(drain.clone()));
    let pushing = (hub.clone(), drain.clone());
    supervisor.spawn("push", async move { never_fails(pushing.0.run(pushing.1)).await });

    if let Verifier::Keys(_, book) = &secrets.verifier {
        supervisor.spawn("tokens", until(drain.clone(), book.clone().follow()));
    }
    let keys = Fetcher::new(hub.clone(), facts.clone(), meters.clone());
    supervisor.spawn("jwks", never_fails(keys.run(drain.clone())));

    if let Some(cluster) = &cluster {
        tracing::info!(namespace = %cluster.namespace, "configured by a cluster");
        let writer = cluster.writer(hub.clone(), secrets.authority.bundles());
        supervisor.spawn("writer", never_fails(writer.run(drain.clone())));
    }
    let following = secrets.place.clone().follow(secrets.authority.clone());
    supervisor.spawn("authority", until(drain.clone(), following));
    let telling = news::tell(secrets.authority.clone(), facts, meters.clone());
    supervisor.spawn("roots", until(drain.clone(), telling));
    let readers = match &cluster {
        Some(cluster) => {
            Readers::Trusted { client: cluster.client.clone(), namespace: cluster.namespace.clone() }
        }
        None => Readers::Anybody,
    };
    let program = Program { hub, registry, meters, secrets, readers, drain };
    let ready = ports.ready()?;
    let (readiness, http) = program.serve(ports, &options, &mut supervisor)?;
    ready::write(options.ready_file.as_deref(), options.ready_fd, &ready).map_err(ExitError::failure)?;
    tracing::info!(xds = %ready.xds, http = %ready.http, "the control plane is ready");
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        failure = supervisor.failure() => Err(ExitError::failure(failure)),
    };
    readiness.send_replace(Readiness::Draining);
    finish(trigger, http).await;
    outcome
}

fn start_runtime(options: Options) -> Result<(), ExitError> {
    let log = LogOptions { format: options.log_format, filter: options.log_filter() };
    logs::init(&log).map_err(ExitError::usage)?;
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is; each proxy needs one");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| ExitError::failure(format_args!("the runtime cannot be started: {error}")))?;
    runtime.block_on(async {
        let mut signals = signals::signals()
            .map_err(|error| ExitError::failure(format_args!("signals cannot be received: {error}")))?;
        let shutdown = async move {
            let signal = signals.next().await;
            tracing::info!(%signal, "the control plane ends");
        };
        run(options, shutdown).await
    })
}

/// Reads or makes the keys of tokens; on a thread that may block, because another process may hold the directory.
async fn open_tokens(dir: PathBuf) -> Result<Verifier, ExitError> {
    let open = move || {
        let store = Store::open(&dir)?;
        let book = Arc::new(Book::open(&store)?);
        Ok(Verifier::Keys(Arc::new(TokenKeys::open(&store)?), book))
    };
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => opened.map_err(|error: crate::ca::store::StoreError| ExitError::failure(error)),
        Err(error) => {
            Err(ExitError::failure(format_args!("the data directory could not be opened: {error}")))
        }
    }
}

impl Secrets {
    /// Opens the authority: the one that was given, or the one in `own`.
    async fn open(options: &AuthorityOptions, own: Place, verifier: Verifier) -> Result<Self, ExitError> {
        let lifetimes = options.lifetimes()?;
        let place = options.files().map_or(own, Place::Files);
        let begun = SystemTime::now();
        let opened = place.open(begun).await.map_err(ExitError::failure)?;
        let authority = Authority::new(opened.root, lifetimes).remembering_since(begun);
        authority.set_rotation(opened.journal);
        Ok(Self { authority: Arc::new(authority), place, verifier })
    }
}

impl Foundation {
    async fn open(options: &Options, updates: mpsc::Sender<Update>) -> Result<Self, ExitError> {
        match options.origin()? {
            Origin::Directory(directory) => {
                let data = data_dir(options.data.clone())?;
                let verifier = open_tokens(data.clone()).await?;
                let secrets = Secrets::open(&options.authority, Place::Data(data), verifier).await?;
                Ok(Self { source: Source::directory(directory, updates), secrets, cluster: None })
            }
            Origin::Kubernetes => {
                let cluster = Cluster::open(&options.cluster).await?;
                cluster.is_the_only_one().await?;
                let secrets = Secrets::open(&options.authority, cluster.root(), cluster.verifier()).await?;
                let source = Source::cluster(cluster.client.clone(), options.cluster.scope()?, updates);
                Ok(Self { source, secrets, cluster: Some(cluster) })
            }
        }
    }
}

/// Lets streams end, then the port that shows how they do.
async fn finish(trigger: DrainTrigger, http: DrainTrigger) {
    let drained = trigger.drain_and_wait().await;
    if drained.left > 0 {
        tracing::warn!(left = drained.left, "some streams were cut off");
    }
    http.drain_and_wait().await;
}

fn serving_tls(
    authority: &Arc<Authority>,
    clients: Clients,
    options: &Options,
) -> Result<ServingTls, ExitError> {
    ServingTls::new(authority.clone(), clients, &options.tls_names(), SystemTime::now())
        .map_err(ExitError::usage)
}

/// Works until the drain starts.
async fn until(drain: Drain, work: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    tokio::select! {
        () = work => {}
        () = drain.started() => {}
    }
    Ok(())
}

async fn never_fails(work: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    work.await;
    Ok(())
}

impl Ports {
    async fn open(options: &Options) -> Result<Self, ExitError> {
        let xds = admin::bind(options.xds, "--xds").await.map_err(ExitError::failure)?;
        let xds_tls = match options.xds_tls {
            Some(address) => Some(admin::bind(address, "--xds-tls").await.map_err(ExitError::failure)?),
            None => None,
        };
        let webhook = match options.webhook {
            Some(address) => Some(admin::bind(address, "--webhook").await.map_err(ExitError::failure)?),
            None => None,
        };
        let http = admin::bind(options.http, "--http").await.map_err(ExitError::failure)?;
        Ok(Self { xds, xds_tls, webhook, http })
    }

    fn ready(&self) -> Result<Ready, ExitError> {
        let address = |listener: &TcpListener| listener.local_addr().map_err(ExitError::failure);
        Ok(Ready {
            pid: std::process::id(),
            xds: address(&self.xds)?,
            xds_tls: self.xds_tls.as_ref().map(address).transpose()?,
            webhook: self.webhook.as_ref().map(address).transpose()?,
            http: address(&self.http)?,
        })
    }
}

/// The parts that serve.
struct Program {
    hub: Arc<Hub>,
    registry: Arc<Registry>,
    meters: Meters,
    secrets: Secrets,
    readers: Readers,
    drain: Drain,
}

impl Program {
    /// Serves on all ports. Gives the readiness to set, and the trigger that ends the HTTP port.
    fn serve(
        self,
        ports: Ports,
        options: &Options,
        supervisor: &mut Supervisor,
    ) -> Result<(watch::Sender<Readiness>, DrainTrigger), ExitError> {
        let routes = self.routes();
        let drain = self.drain;
        let plain = (routes.clone(), drain.clone());
        supervisor.spawn("xds", never_fails(serve::serve(ports.xds, Security::Plaintext, plain.0, plain.1)));
        if let Some(listener) = ports.xds_tls {
            let tls = serving_tls(&self.secrets.authority, Clients::Mesh(self.hub.clone()), options)?;
            let tls = Security::Tls(Box::new(tls));
            supervisor.spawn("xds-tls", never_fails(serve::serve(listener, tls, routes, drain.clone())));
        }
        if let Some(listener) = ports.webhook {
            let tls = serving_tls(&self.secrets.authority, Clients::Anyone, options)?;
            let settings = options.injector.settings(&options.cluster.mesh_namespace);
            let router = webhook::router(settings, self.meters.clone());
            supervisor.spawn("webhook", never_fails(webhook::listen::serve(listener, tls, router, drain)));
        }
        let (trigger, drain) = drain::new(DRAIN_TIMEOUT);
        let (readiness, ready) = watch::channel(Readiness::Ready);
        let source = self.secrets.place.word();
        let trusted = TrustView { hub: self.hub.clone(), authority: self.secrets.authority, source };
        let router = http::router(self.hub, self.registry, ready, self.readers, trusted);
        supervisor.spawn("http", never_fails(admin::serve(ports.http, router, drain)));
        Ok((readiness, trigger))
    }

    /// The gRPC services.
    fn routes(&self) -> Routes {
        let gate = Gate::new(self.secrets.verifier.clone(), self.meters.clone());
        let authority = self.secrets.authority.clone();
        let certificates =
            CertificateService::new(authority, gate.clone(), self.hub.clone(), self.meters.clone());
        let discovery = Discovery::new(self.hub.clone(), gate, self.drain.clone());
        Routes::new(discovery).add_service(
            IstioCertificateServiceServer::new(certificates).max_decoding_message_size(MAX_CSR_CALL_BYTES),
        )
    }
}

#[cfg(test)]
mod tests;
