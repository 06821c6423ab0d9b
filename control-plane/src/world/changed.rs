//! What a change of the world may alter for proxies, and how resource names are asked against it.
//!
//! Conservative rather than wrong: a destination named here may translate as before; one that is not named translates
//! as before for certain (a property test holds that).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use outrigger_model::name::{Destination, Host};

/// Beyond so many destinations a change counts as one of everything.
pub const MAX_CHANGED_DESTINATIONS: usize = 20_000;

/// Which destinations may translate differently from before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// All of them.
    Everything,
    /// These and no others.
    Destinations(BTreeSet<DestinationKey>),
}

/// A group of resource names that change together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DestinationKey {
    /// All ports of a host; of a Service its full name.
    Host(Arc<str>),
    /// All ports of an address.
    Address(IpAddr),
    /// A port of all addresses that nobody in the mesh has.
    Outside(u16),
    /// The `inbound` listeners of the workloads of a namespace.
    Inbound(Arc<str>),
}

impl DestinationKey {
    /// The groups that the names of a destination belong to.
    pub(crate) fn all_of(destination: &Destination) -> Vec<Self> {
        match &destination.host {
            Host::Address(address) => vec![Self::Address(*address), Self::Outside(destination.port)],
            Host::Name(host) => {
                let full = canonical_host(host).filter(|full| full != host);
                let own = [Some(host.clone()), full].into_iter().flatten();
                own.chain(host_patterns(host)).map(Self::Host).collect()
            }
        }
    }
}

impl Default for Changed {
    /// Nothing.
    fn default() -> Self {
        Self::Destinations(BTreeSet::new())
    }
}

impl Changed {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Destinations(keys) if keys.is_empty())
    }

    /// Takes in another change, so that bursts can be worked off together.
    pub fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Everything, _) => {}
            (_, Self::Everything) => *self = Self::Everything,
            (Self::Destinations(_), Self::Destinations(keys)) => {
                for key in keys {
                    self.add(key);
                }
            }
        }
    }

    /// Takes in one more destination.
    pub(crate) fn add(&mut self, key: DestinationKey) {
        let Self::Destinations(keys) = self else { return };
        keys.insert(key);
        if keys.len() > MAX_CHANGED_DESTINATIONS {
            *self = Self::Everything;
        }
    }
}

/// The part of a Service's full name that stands behind its namespace.
const CLUSTER_DOMAIN: &str = "svc.cluster.local";

/// The full name of a Service.
pub(crate) fn service_host(namespace: &str, name: &str) -> Arc<str> {
    format!("{name}.{namespace}.{CLUSTER_DOMAIN}").into()
}

/// Namespace and name of the Service that a host may stand for: `svc.ns`, `svc.ns.svc` or `svc.ns.svc.cluster.local`.
pub(crate) fn service_of_host(host: &str) -> Option<(&str, &str)> {
    let short = host.strip_suffix(".svc.cluster.local").or_else(|| host.strip_suffix(".svc")).unwrap_or(host);
    let (name, namespace) = short.split_once('.')?;
    (!name.is_empty() && !namespace.is_empty() && !namespace.contains('.')).then_some((namespace, name))
}

/// The `*.` names that stand for a host, the longest first; none for the full name of a Service.
pub(crate) fn host_patterns(host: &str) -> impl Iterator<Item = Arc<str>> {
    let outside = !host.ends_with(CLUSTER_DOMAIN);
    let ends = host.match_indices('.').filter(move |_| outside);
    ends.map(|(dot, _)| format!("*{}", &host[dot..]).into())
}

fn canonical_host(host: &str) -> Option<Arc<str>> {
    service_of_host(host).map(|(namespace, name)| service_host(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_stand_for_services_in_three_spellings() {
        for host in ["reviews.shop", "reviews.shop.svc", "reviews.shop.svc.cluster.local"] {
            assert_eq!(service_of_host(host), Some(("shop", "reviews")), "{host}");
        }
        for host in [
            "reviews",
            "a.b.c",
            "api.payments.example",
            ".shop",
            "a.b.svc.cluster.local.",
            "svc.cluster.local",
        ] {
            let service = service_of_host(host);
            assert!(service.is_none(), "{host} stands for {service:?}");
        }
    }

    #[test]
    fn a_change_is_found_by_every_spelling_of_its_host() {
        let mut changed = Changed::default();
        changed.add(DestinationKey::Host("reviews.shop.svc.cluster.local".into()));
        changed.add(DestinationKey::Host("api.example".into()));
        for (name, expected) in [
            ("reviews.shop:80", true),
            ("reviews.shop.svc:81", true),
            ("reviews.shop.svc.cluster.local:80", true),
            ("api.example:443", true),
            ("ratings.shop:80", false),
            ("10.0.0.1:80", false),
        ] {
            let found = DestinationKey::all_of(&name.parse().unwrap());
            let Changed::Destinations(keys) = &changed else { panic!("everything changed") };
            assert_eq!(found.iter().any(|key| keys.contains(key)), expected, "{name}");
        }
    }

    #[test]
    fn too_many_destinations_are_everything() {
        let mut changed = Changed::default();
        for number in 0..MAX_CHANGED_DESTINATIONS {
            changed.add(DestinationKey::Host(format!("h{number}").into()));
        }
        assert_ne!(changed, Changed::Everything);
        let mut other = Changed::default();
        other.add(DestinationKey::Inbound("shop".into()));
        changed.merge(other);
        assert_eq!(changed, Changed::Everything);
    }
}
