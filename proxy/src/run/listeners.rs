//! Which listeners the flags ask for, and binding them before anything else starts.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use outrigger_base::lifecycle::exit::ExitError;

use crate::accept::{self, BindError, Bound, ListenKind, ListenSpec};
use crate::admin::ListenerView;
use crate::demand::Demand;
use crate::flags::RunArgs;

/// The words for directions.
pub(super) const INBOUND: &str = "inbound";
pub(super) const OUTBOUND: &str = "outbound";

/// The address family is not there: IPv6 is turned off.
const EAFNOSUPPORT: i32 = 97;

/// Binds every listener on every worker. Destinations of explicit ones are pinned.
pub(super) fn bind(args: &RunArgs, demand: &Demand, workers: usize) -> Result<Vec<Bound>, ExitError> {
    let failed = |error: BindError| ExitError::failure(error);
    if args.inbound.is_empty() && args.outbound.is_empty() {
        let outbound = (ListenKind::CaptureOutbound, args.outbound_port, "--outbound-port");
        let inbound = (ListenKind::CaptureInbound, args.inbound_port, "--inbound-port");
        return [outbound, inbound]
            .map(|capture| bind_capture(capture, workers).map_err(failed))
            .into_iter()
            .collect();
    }
    let inbound = args.inbound.iter().map(|flag| ListenSpec {
        address: flag.listen,
        kind: ListenKind::Inbound { application: flag.application },
        flag: "--inbound",
    });
    let outbound = args.outbound.iter().map(|flag| ListenSpec {
        address: flag.listen,
        kind: ListenKind::Outbound { destination: demand.pin(flag.destination.clone()) },
        flag: "--outbound",
    });
    inbound.chain(outbound).map(|spec| accept::bind(&spec, workers).map_err(failed)).collect()
}

/// On both address families; on IPv4 alone where IPv6 is off.
fn bind_capture(
    (kind, port, flag): (ListenKind, u16, &'static str),
    workers: usize,
) -> Result<Bound, BindError> {
    let spec = |address| ListenSpec { address, kind, flag };
    let both = accept::bind(&spec(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))), workers);
    match both {
        Err(error) if is_without_ipv6(&error) => {
            accept::bind(&spec(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))), workers)
        }
        bound => bound,
    }
}

fn is_without_ipv6(error: &BindError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| {
        cause.raw_os_error() == Some(EAFNOSUPPORT) || cause.kind() == io::ErrorKind::AddrNotAvailable
    })
}

/// `inbound` or `outbound`.
pub(super) fn direction(kind: ListenKind) -> &'static str {
    match kind {
        ListenKind::Inbound { .. } | ListenKind::CaptureInbound => INBOUND,
        ListenKind::Outbound { .. } | ListenKind::CaptureOutbound => OUTBOUND,
    }
}

/// Listeners as the admin server shows them; explicit ones are in the order of the flags.
pub(super) fn views(args: &RunArgs, listeners: &[Bound]) -> Vec<ListenerView> {
    let mut destinations = args.outbound.iter().map(|flag| flag.destination.to_string());
    let mut target = |kind| match kind {
        ListenKind::Inbound { application } => application.to_string(),
        ListenKind::Outbound { .. } => destinations.next().unwrap_or_default(),
        ListenKind::CaptureInbound | ListenKind::CaptureOutbound => "original destination".to_owned(),
    };
    let view = |bound: &Bound| ListenerView {
        direction: direction(bound.kind),
        address: bound.address,
        target: target(bound.kind),
    };
    listeners.iter().map(view).collect()
}
