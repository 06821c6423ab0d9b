//! A name that is not said to be affected translates as before.

use proptest::prelude::*;

use super::*;
use crate::world::Changed;
use crate::world::samples::any_change;

/// Every name that objects of [`any_change`] can give a meaning to, and some that have none.
fn names() -> Vec<(ResourceType, String)> {
    let mut destinations = Vec::new();
    for service in ["s0", "s1", "gone"] {
        for namespace in ["a", "b"] {
            for form in ["", ".svc", ".svc.cluster.local"] {
                destinations
                    .extend(["80", "81", "90"].map(|port| format!("{service}.{namespace}{form}:{port}")));
            }
        }
    }
    for host in ["one.example", "two.example", "10.96.0.1", "10.96.0.2", "10.0.0.1", "10.0.0.2"] {
        destinations.extend(["80", "81", "8080", "8081"].map(|port| format!("{host}:{port}")));
    }
    let mut names = vec![(ResourceType::Listener, INBOUND.to_owned())];
    for destination in destinations {
        let cluster = destination.parse::<Destination>().unwrap().cluster_name();
        names.extend([ResourceType::Cluster, ResourceType::Endpoints].map(|kind| (kind, cluster.clone())));
        names.extend([ResourceType::Listener, ResourceType::Route].map(|kind| (kind, destination.clone())));
    }
    names
}

fn clients() -> Vec<Client> {
    let by_name = |name: &str| Client { name: name.into(), ..client("a") };
    let labels = [("app".to_owned(), "x".to_owned())].into();
    let at = Client { address: Some([10, 0, 0, 1].into()), ..client("b") };
    vec![by_name("w0"), by_name("p1"), at, Client { labels, ..client("a") }, client("")]
}

/// Clusters and endpoints are the same for everybody.
fn asking(clients: &[Client], kind: ResourceType) -> &[Client] {
    match kind {
        ResourceType::Listener | ResourceType::Route => clients,
        ResourceType::Cluster | ResourceType::Endpoints => &clients[..1],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn what_changed_is_always_affected(
        first in prop::collection::vec(any_change(), 20..40),
        then in prop::collection::vec(any_change(), 10..20),
    ) {
        // A crowded world first, so that most later changes meet something that depends on them.
        let (mut world, _) = World::default().apply(first);
        let (names, clients) = (names(), clients());
        for change in then {
            let (next, changed) = world.apply(vec![change.clone()]);
            let Changed::Destinations(keys) = changed else {
                world = next;
                continue;
            };
            for (kind, name) in &names {
                for client in asking(&clients, *kind) {
                    if follows(client, *kind, name).iter().any(|key| keys.contains(key)) {
                        continue;
                    }
                    let before = resource(&world, client, *kind, name);
                    let after = resource(&next, client, *kind, name);
                    prop_assert_eq!(before, after, "{:?} {} changed by {:?}", kind, name, change);
                }
            }
            world = next;
        }
    }

    #[test]
    fn every_resource_survives_the_wire(changes in prop::collection::vec(any_change(), 1..40)) {
        let (world, _) = World::default().apply(changes);
        for (kind, name) in names() {
            for client in asking(&clients(), kind) {
                let Some(made) = resource(&world, client, kind, &name) else { continue };
                prop_assert_eq!(&*made.name(), name.as_str());
                let read = outrigger_model::codec::decode(&outrigger_model::codec::encode(&made));
                prop_assert_eq!(read.map_err(|error| error.to_string()), Ok(made));
            }
        }
    }
}
