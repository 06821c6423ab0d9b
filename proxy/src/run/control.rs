//! The tasks of the control thread: discovery, certificates, DNS, health checks.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::SystemTime;

use outrigger_base::lifecycle::exit::ExitError;
use outrigger_base::lifecycle::supervisor::Supervisor;
use outrigger_model::identity::SpiffeId;
use outrigger_model::inbound::MeshSettings;
use tokio::sync::watch;

use super::memory;
use crate::certificates::{Certificates, Issued, LocalIdentity, TrustFile, Workload, alarm, kept};
use crate::demand::Demanded;
use crate::flags::{IdentitySource, RunArgs};
use crate::spiffe::WorkloadApi;
use crate::state::{Owner, StateDir};
use crate::upstream::{dns, health};
use crate::worker::Shared;
use crate::xds::{Client, ControlPlane, ControlPlaneError, Currency, Identity, Parts, node};

/// Starts them. What was kept of an earlier process is in force when this returns.
pub(super) fn start(
    args: &RunArgs,
    shared: &Arc<Shared>,
    demanded: Demanded,
    supervisor: &mut Supervisor,
) -> Result<Views, ExitError> {
    let file = args.trust_bundle.as_deref().map(TrustFile::open).transpose();
    let file = file.map_err(|error| ExitError::usage(format!("--trust-bundle cannot be used: {error}")))?;
    let file = file.map(Arc::new);
    let local = LocalIdentity::new(shared.clone(), file.clone());
    let control_plane =
        ControlPlane::new(args.control_plane.clone(), file, args.token_file.clone(), local.clone());
    let control_plane = control_plane.map_err(|error| usage(&error))?;
    let state = open_state(args)?;
    let kept = state.clone();
    let currency = watch::Sender::new(Currency::Never);
    let current = currency.subscribe();
    let (attended, to_attend) = watch::channel(Vec::new());
    let node = node(&identity(args));
    let workload = Workload {
        namespace: args.namespace.clone(),
        service_account: args.service_account.clone(),
        node: node.id.clone(),
    };
    let client = Client::new(Parts {
        shared: shared.clone(),
        control_plane: control_plane.clone(),
        identity: local.clone(),
        node,
        demanded,
        attended,
        state,
        currency,
    });
    supervise(supervisor, "discovery", client.run());
    supervise(supervisor, "name resolution", dns::run(shared.clone(), to_attend.clone()));
    supervise(supervisor, "health checks", health::run(shared.clone(), to_attend));
    supervise(supervisor, "memory", memory::give_back());
    if !args.has_identity() {
        tracing::warn!(
            "no --token-file: this workload has no identity; it speaks plaintext only, and workloads that are Strict \
             refuse it"
        );
        return Ok(Views { issued: None, currency: current });
    }
    supervise(supervisor, "certificate alarm", alarm::run(local.clone()));
    if args.token_file.is_some() {
        warn_of_plaintext_token(args);
    }
    if let Some(state) = kept.filter(|_| args.state_identity) {
        // Who does not know the name of the mesh has no configuration that was kept, and no identity without it.
        if let Some(Ok(own)) = workload.id(shared) {
            kept::restore(&state, &local, &own, SystemTime::now());
        }
        supervise(supervisor, "identity on disk", kept::keep(state, local.clone()));
    }
    match &args.identity {
        IdentitySource::ControlPlane => {
            let certificates = Certificates::new(shared.clone(), local.clone(), control_plane, workload);
            supervise(supervisor, "certificates", certificates.run());
        }
        IdentitySource::WorkloadApi(socket) => {
            let agent = WorkloadApi::new(shared.clone(), local.clone(), workload, socket.clone());
            supervise(supervisor, "workload api", agent.run());
        }
    }
    Ok(Views { issued: Some(local.issued()), currency: current })
}

/// What the tasks tell the rest of the process.
pub(super) struct Views {
    /// The certificate in force; `None` for a workload without a token.
    pub(super) issued: Option<watch::Receiver<Option<Arc<Issued>>>>,
    /// How current the configuration in force is.
    pub(super) currency: watch::Receiver<Currency>,
}

/// The directory of `--state-dir`, for this workload alone. Without `--state-identity` there is no key in it from here on.
fn open_state(args: &RunArgs) -> Result<Option<Arc<StateDir>>, ExitError> {
    let Some(path) = &args.state_dir else { return Ok(None) };
    let owner = Owner {
        namespace: args.namespace.clone(),
        service_account: args.service_account.clone(),
        workload: args.workload.clone(),
    };
    let state = StateDir::open(path, owner, args.state_max_age).map_err(ExitError::usage)?;
    if !args.state_identity {
        kept::forget(&state).map_err(|error| {
            ExitError::usage(format!("--state-dir: a key that was kept there cannot be removed: {error}"))
        })?;
    }
    Ok(Some(Arc::new(state)))
}

/// The identity that metrics show: that of a mesh with the trust domain of old, as long as none other is known.
pub(super) fn presumed_identity(args: &RunArgs) -> Arc<str> {
    let trust_domain = MeshSettings::default().trust_domain;
    let id = SpiffeId::new(&trust_domain, &args.namespace, &args.service_account).ok();
    id.filter(|_| args.has_identity()).map(|id| id.shared()).unwrap_or_default()
}

fn supervise(
    supervisor: &mut Supervisor,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    supervisor.spawn(name, async move {
        task.await;
        Ok::<_, Infallible>(())
    });
}

fn usage(error: &ControlPlaneError) -> ExitError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    ExitError::usage(format!("{error}{cause}"))
}

fn warn_of_plaintext_token(args: &RunArgs) {
    let host = args.control_plane.host().unwrap_or_default();
    let is_loopback =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if args.control_plane.scheme_str() == Some("http") && !is_loopback {
        tracing::warn!(
            control_plane = %args.control_plane,
            "the token travels in plaintext: use an https:// control plane with --trust-bundle beyond loopback"
        );
    }
}

fn identity(args: &RunArgs) -> Identity {
    Identity {
        namespace: args.namespace.clone(),
        workload: args.workload.clone(),
        service_account: args.service_account.clone(),
        address: own_address(args),
        labels: args.label.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
        locality: args.locality.clone(),
    }
}

/// Where others reach this workload: `--address`, the first `--inbound`, otherwise the address from which the control
/// plane is reached.
pub(super) fn own_address(args: &RunArgs) -> IpAddr {
    if let Some(address) = args.address {
        return address;
    }
    let explicit = args.inbound.iter().map(|inbound| inbound.listen.ip()).find(|ip| !ip.is_unspecified());
    explicit.or_else(|| address_towards(args)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Connecting a datagram socket sends nothing; it only asks the kernel for the route.
fn address_towards(args: &RunArgs) -> Option<IpAddr> {
    let host = args.control_plane.host()?.trim_start_matches('[').trim_end_matches(']');
    let to = (host, args.control_plane.port_u16()?).to_socket_addrs().ok()?.next()?;
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().ok()?;
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
