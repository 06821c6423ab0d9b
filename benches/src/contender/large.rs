//! A proxy that has a large mesh configured, of which a little is used.
//!
//! The services that are dialled have endpoints where the origin really listens; those of the others are addresses
//! that nobody connects to.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use super::addresses::block;
use super::hop::Service;
use super::yaml::{NAMESPACE, SERVICE_PORT};
use super::{Contender, Running, outrigger, peer};
use crate::origin;
use crate::scenario::{Scenario, Work};
use crate::site::Site;

/// The second octet of endpoints that nobody listens at; the others never have it.
const NOWHERE: u8 = 254;

/// Where a service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// What the service is called there.
    pub(crate) host: String,
}

/// How large the mesh is.
#[derive(Debug, Clone, Copy)]
struct Size {
    services: usize,
    endpoints_each: usize,
}

/// Starts a contender with the mesh of a scenario; returns also the doors of the services that are dialled.
pub(crate) async fn start(
    contender: Contender,
    scenario: Scenario,
    (site, dir): (&Site, TempDir),
) -> Result<(Running, Vec<Door>)> {
    let Work::Mesh { services, endpoints_each, dialled } = scenario.work() else {
        bail!("{scenario} has no large mesh")
    };
    let size = Size { services, endpoints_each };
    let listening = block(dialled * endpoints_each)?;
    let services = services_of(size, &listening)?;
    let origin = origin::start(&listening, scenario.work(), (site, dir.path())).await?;
    let peer = match (contender, contender.peer()) {
        (_, Some(peer)) => peer,
        (Contender::Outrigger, _) => {
            return outrigger::start_large((site, dir), (origin, &services, dialled)).await;
        }
        _ => bail!("{contender} is configured with no mesh"),
    };
    let running = peer::start_with(peer, scenario, (site, dir), (origin, &services)).await?;
    let door = |service: &Service| Door { address: running.entry, host: service.name.clone() };
    let doors = services.iter().take(dialled).map(door).collect();
    Ok((running, doors))
}

/// The services, the dialled ones first.
fn services_of(size: Size, listening: &[SocketAddr]) -> Result<Vec<Service>> {
    let all = size.services * size.endpoints_each;
    ensure!(all <= usize::from(u16::MAX), "{all} endpoints are more than there are addresses for");
    let nowhere = (listening.len()..all).map(|place| {
        // Checked above: a place has 16 bits.
        let [high, low] = (place as u16).to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(127, NOWHERE, high, low), SERVICE_PORT))
    });
    let endpoints: Vec<SocketAddr> = listening.iter().copied().chain(nowhere).collect();
    let service = |(place, endpoints): (usize, &[SocketAddr])| Service {
        name: format!("service-{place}.{NAMESPACE}"),
        endpoints: endpoints.to_vec(),
    };
    Ok(endpoints.chunks(size.endpoints_each).enumerate().map(service).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_service_has_its_endpoints_and_only_the_dialled_ones_can_be_reached() {
        let listening = block(6).unwrap();
        let size = Size { services: 100, endpoints_each: 3 };
        let services = services_of(size, &listening).unwrap();
        assert_eq!((services.len(), services[1].name.as_str()), (100, "service-1.bench"));
        assert_eq!(services[0].endpoints, listening[..3]);
        assert_eq!(services[1].endpoints, listening[3..]);
        let all: BTreeSet<SocketAddr> =
            services.iter().flat_map(|service| service.endpoints.clone()).collect();
        assert_eq!(all.len(), 300);
        assert!(services_of(Size { services: 70_000, ..size }, &listening).is_err());
    }
}
