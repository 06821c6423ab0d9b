//! What a workload says about its own sidecar by annotations. The injector has refused what cannot be read; of a workload
//! that came another way such a value says nothing.

use outrigger_model::inbound::{AccessLogFormat, Inbound, InboundPort, Protocol};
use outrigger_resources::Meta;

use crate::injector::annotations::{ACCESS_LOG, OPAQUE_PORTS};

/// The most ports that are read of one annotation; the injector has the same bound.
const MAX_PORTS: usize = 256;

/// Changes what everybody gets to what this workload wants.
pub(super) fn apply(meta: &Meta, inbound: &mut Inbound) {
    let said = |key: &str| meta.annotations.get(key).map(|value| value.trim());
    for port in said(OPAQUE_PORTS).into_iter().flat_map(ports) {
        make_opaque(&mut inbound.ports, port);
    }
    let log = &mut inbound.mesh.access_log;
    match said(ACCESS_LOG) {
        Some("enabled") => *log = log.or(Some(AccessLogFormat::Json)),
        Some("json") => *log = Some(AccessLogFormat::Json),
        Some("text") => *log = Some(AccessLogFormat::Text),
        Some("disabled") => *log = None,
        _ => {}
    }
}

fn ports(list: &str) -> impl Iterator<Item = u16> {
    list.split(',').take(MAX_PORTS).filter_map(|port| port.trim().parse().ok()).filter(|port| *port > 0)
}

/// Ports are in ascending order, those of Services and others.
fn make_opaque(ports: &mut Vec<InboundPort>, port: u16) {
    match ports.binary_search_by_key(&port, |known| known.port) {
        Ok(place) => ports[place].protocol = Protocol::Opaque,
        Err(place) => {
            ports.insert(place, InboundPort { port, protocol: Protocol::Opaque, service: "".into() });
        }
    }
}
