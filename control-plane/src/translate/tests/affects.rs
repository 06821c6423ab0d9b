//! A name that is not said to be affected translates as before.

use proptest::prelude::*;

use super::*;
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_changed_is_always_affected(
        batches in prop::collection::vec(prop::collection::vec(any_change(), 1..4), 1..14)
    ) {
        let names = names();
        let clients = clients();
        let mut world = World::default();
        for batch in batches {
            let (next, changed) = world.apply(batch.clone());
            for (kind, name) in names.iter().filter(|(kind, name)| !affects(&changed, *kind, name)) {
                for client in &clients {
                    let before = resource(&world, client, *kind, name);
                    let after = resource(&next, client, *kind, name);
                    prop_assert_eq!(before, after, "{:?} {} changed by {:?}", kind, name, batch);
                }
            }
            world = next;
        }
    }

    #[test]
    fn every_resource_survives_the_wire(
        changes in prop::collection::vec(any_change(), 1..20)
    ) {
        let (world, _) = World::default().apply(changes);
        for (kind, name) in names() {
            for client in clients() {
                let Some(made) = resource(&world, &client, kind, &name) else { continue };
                prop_assert_eq!(&*made.name(), name.as_str());
                let read = outrigger_model::codec::decode(&outrigger_model::codec::encode(&made));
                prop_assert_eq!(read.map_err(|error| error.to_string()), Ok(made));
            }
        }
    }
}
