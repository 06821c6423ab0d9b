//! The tasks of the control thread: discovery, certificates, DNS, health checks.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;

use outrigger_base::keys::parse_chain_pem;
use outrigger_base::lifecycle::exit::ExitError;
use outrigger_base::lifecycle::supervisor::Supervisor;
use outrigger_model::identity::SpiffeId;
use outrigger_model::inbound::MeshSettings;
use tokio::sync::watch;

use super::{memory, read_file};
use crate::certificates::{Certificates, Issued, Roots, Workload};
use crate::demand::Demanded;
use crate::flags::RunArgs;
use crate::upstream::{dns, health};
use crate::worker::Shared;
use crate::xds::{Client, ControlPlane, ControlPlaneError, Identity, Parts, node};

/// Starts them, and gives the certificate in force; `None` for a workload without a token.
pub(super) fn start(
    args: &RunArgs,
    shared: &Arc<Shared>,
    demanded: Demanded,
    supervisor: &mut Supervisor,
) -> Result<Option<watch::Receiver<Option<Arc<Issued>>>>, ExitError> {
    let bundle = args.trust_bundle.as_deref().map(|path| read_file("--trust-bundle", path)).transpose()?;
    let token_file = args.token_file.clone();
    let control_plane = ControlPlane::new(args.control_plane.clone(), bundle.as_deref(), token_file);
    let control_plane = control_plane.map_err(|error| usage(&error))?;
    if let Some(directory) = &args.state_dir {
        let made = std::fs::create_dir_all(directory);
        made.map_err(|error| {
            ExitError::usage(format!("--state-dir: cannot use {}: {error}", directory.display()))
        })?;
    }

    let (attended, to_attend) = watch::channel(Vec::new());
    let client = Client::new(Parts {
        shared: shared.clone(),
        control_plane: control_plane.clone(),
        node: node(&identity(args)),
        demanded,
        attended,
        state_dir: args.state_dir.clone(),
    });
    supervise(supervisor, "discovery", client.run());
    supervise(supervisor, "name resolution", dns::run(shared.clone(), to_attend.clone()));
    supervise(supervisor, "health checks", health::run(shared.clone(), to_attend));
    supervise(supervisor, "memory", memory::give_back());
    if !control_plane.has_token() {
        tracing::warn!(
            "no --token-file: this workload has no identity; it speaks plaintext only, and workloads that are Strict \
             refuse it"
        );
        return Ok(None);
    }
    warn_of_plaintext_token(args);
    let roots = match &bundle {
        None => Roots::FromChain,
        Some(pem) => Roots::Bundle(
            parse_chain_pem(pem)
                .map_err(|error| ExitError::usage(format!("--trust-bundle cannot be used: {error}")))?,
        ),
    };
    let workload =
        Workload { namespace: args.namespace.clone(), service_account: args.service_account.clone() };
    let certificates = Certificates::new(shared.clone(), control_plane, workload, roots);
    let issued = certificates.issued();
    supervise(supervisor, "certificates", certificates.run());
    Ok(Some(issued))
}

/// The identity that metrics show: that of a mesh with the trust domain of old, as long as none other is known.
pub(super) fn presumed_identity(args: &RunArgs) -> Arc<str> {
    let trust_domain = MeshSettings::default().trust_domain;
    let id = SpiffeId::new(&trust_domain, &args.namespace, &args.service_account).ok();
    id.filter(|_| args.token_file.is_some()).map(|id| id.shared()).unwrap_or_default()
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
