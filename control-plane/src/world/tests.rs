//! The picture is right however it was made, cheap to change, and says what a change may alter.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::samples::{any_change, service, world};
use super::*;

fn upserts(yaml: &str) -> Vec<Change> {
    outrigger_resources::parse_yaml("test.yaml", yaml).objects.into_iter().map(Change::from).collect()
}

fn hosts(changed: &Changed) -> Vec<String> {
    let Changed::Destinations(keys) = changed else { return vec!["everything".to_owned()] };
    let shown = keys.iter().map(|key| match key {
        DestinationKey::Host(host) => host.to_string(),
        DestinationKey::Address(address) => address.to_string(),
        DestinationKey::Outside(port) => format!("*:{port}"),
        DestinationKey::Inbound(namespace) => format!("inbound of {namespace}"),
    });
    shown.collect()
}

#[test]
fn an_old_picture_stays_as_it_was() {
    let before = world(&service("reviews", 1));
    let (after, _) =
        before.apply(vec![Change::Delete(before.service("shop", "reviews").map(reference_of).unwrap())]);
    assert!(before.service("shop", "reviews").is_some() && after.service("shop", "reviews").is_none());
    assert!(
        before.service_at([10, 96, 0, 1].into()).is_some()
            && after.service_at([10, 96, 0, 1].into()).is_none()
    );
}

fn reference_of(service: &Service) -> ObjectRef {
    Object::Service(service.clone()).reference()
}

#[test]
fn a_change_names_the_destinations_it_may_alter() {
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\n\
                 spec: {parentRefs: [{group: '', kind: Service, name: reviews}], \
                 rules: [{backendRefs: [{name: v1, port: 80}]}]}\n---\n";
    let text = service("reviews", 1) + &service("v1", 2) + &service("ratings", 3) + route;
    let before = world(&text);
    let all = text.split("---\n");
    let of = |needle: &str| all.clone().find(|part| part.contains(needle)).unwrap().to_owned();
    for (change, expected) in [
        // A Service: itself, the routes that send to it, the addresses of its members.
        (
            of("name: v1,").replace("port: 80,", "port: 90,"),
            vec![
                "reviews.shop.svc.cluster.local",
                "v1.shop.svc.cluster.local",
                "10.0.0.2",
                "10.96.0.1",
                "10.96.0.2",
                "inbound of shop",
            ],
        ),
        // A workload: its address and the Services that pick it.
        (
            of("name: v1-1").replace("8080", "8081"),
            vec!["v1.shop.svc.cluster.local", "10.0.0.2", "10.96.0.2", "inbound of shop"],
        ),
        (
            of("kind: HTTPRoute").replace("port: 80", "port: 81"),
            vec!["reviews.shop.svc.cluster.local", "10.96.0.1"],
        ),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned(), vec!["everything"]),
        ("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x}\n".to_owned(), vec![]),
    ] {
        let (_, changed) = before.apply(upserts(&change));
        assert_eq!(hosts(&changed), expected, "{change}");
    }
    let (same, changed) = before.apply(upserts(&text));
    assert!(changed.is_empty(), "the same objects again changed {changed:?}");
    assert!(same == before);
}

#[test]
fn of_two_services_at_one_address_the_older_answers() {
    let young = service("young", 1).replace(
        "name: young, namespace: shop}",
        "name: young, namespace: shop, creationTimestamp: '2026-02-01T00:00:00Z'}",
    );
    let old = service("old", 1).replace(
        "name: old, namespace: shop}",
        "name: old, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}",
    );
    let world = world(&(young + &old));
    assert_eq!(&*world.service_at([10, 96, 0, 1].into()).unwrap().meta.name, "old");
}

#[test]
fn one_endpoint_among_many_is_applied_in_milliseconds() {
    let mut text = String::new();
    for number in 0..5_000 {
        text += &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: shop}}\n\
             spec: {{selector: {{app: s{number}}}, ports: [{{name: http, port: 80}}]}}\n---\n"
        );
        let mut endpoints = String::new();
        for endpoint in 0..5 {
            endpoints += &format!("{{addresses: [10.{}.{}.{endpoint}]}},", number / 250, number % 250);
        }
        text += &format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{number}-1, namespace: shop, labels: {{kubernetes.io/service-name: s{number}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints: [{endpoints}]\n---\n"
        );
    }
    // One text is bounded in size, so it is read in parts.
    let documents: Vec<_> = text.split_inclusive("---\n").collect();
    let changes = documents.chunks(100).flat_map(|part| upserts(&part.concat())).collect();
    let (big, _) = World::default().apply(changes);
    assert_eq!(big.counts().values().sum::<usize>(), 10_000);

    let change = documents
        .iter()
        .find(|text| text.contains("name: s4321-1"))
        .unwrap()
        .replace("10.17.71.0", "10.99.0.1");
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let changes = upserts(&change);
        let started = Instant::now();
        let (_, changed) = big.apply(changes);
        fastest = fastest.min(started.elapsed());
        assert_eq!(hosts(&changed), ["s4321.shop.svc.cluster.local"]);
    }
    // Unoptimised and on a busy machine; optimised it is a tenth of that.
    assert!(fastest < Duration::from_millis(20), "took {fastest:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_picture_made_step_by_step_is_the_one_made_at_once(
        batches in prop::collection::vec(prop::collection::vec(any_change(), 0..4), 0..12)
    ) {
        let mut stepwise = World::default();
        let mut left = BTreeMap::new();
        for batch in batches {
            for change in &batch {
                match change {
                    Change::Upsert(sourced) => left.insert(sourced.object.reference(), change.clone()),
                    Change::Delete(reference) => left.remove(reference),
                };
            }
            stepwise = stepwise.apply(batch).0;
        }
        let (at_once, _) = World::default().apply(left.into_values().collect());
        prop_assert!(stepwise == at_once);
    }
}
