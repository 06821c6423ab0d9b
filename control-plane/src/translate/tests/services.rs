//! Services of every kind: which addresses and names they have, and which endpoints.

use super::*;

/// A Service `db` of `app: db`, port 80 to the port named `web`, with more of its spec.
fn db(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db, namespace: shop}}\n\
         spec: {{{spec}, ports: [{{name: main, port: 80, targetPort: web}}]}}\n---\n"
    )
}

/// A Pod of `app: db` that is not in the mesh; `conditions` are ready ones unless they say otherwise.
fn pod(name: &str, address: &str, port: u16, ready: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: db}}}}\n\
         spec: {{containers: [{{name: a, ports: [{{name: web, containerPort: {port}}}]}}]}}\n\
         status: {{podIPs: [{address}], phase: Running, conditions: [{{type: Ready, status: '{ready}'}}]}}\n---\n"
    )
}

fn slice(name: &str, kind: &str, port: &str, endpoints: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: db}}}}\n\
         addressType: {kind}\nports: [{port}]\nendpoints: [{endpoints}]\n---\n"
    )
}

const MAIN: &str = "{name: main, port: 8080}";
const OWN: &str = "outbound|80|db.shop.svc.cluster.local";

/// The endpoints of `db`, each on a line without its workload and identity.
#[track_caller]
fn endpoints(yaml: &str, expected: &[&str]) {
    let shown = ask(&world(yaml), &format!("endpoints {OWN}"));
    let found: Vec<_> = shown.lines().skip(1).map(|line| line.split(" /").next().unwrap().trim()).collect();
    let found: Vec<_> = found.iter().map(|line| line.split(" shop/").next().unwrap()).collect();
    assert_eq!(found, expected, "{yaml}");
}

#[test]
fn a_named_target_port_is_that_of_each_endpoint() {
    let yaml = db("selector: {app: db}")
        + &pod("a", "{ip: 10.1.0.1}", 8080, "True")
        + &pod("b", "{ip: 10.1.0.2}", 9090, "True");
    endpoints(&yaml, &["10.1.0.1:8080 healthy", "10.1.0.2:9090 healthy"]);
    endpoints(
        &yaml.replace("targetPort: web", "targetPort: 7000"),
        &["10.1.0.1:7000 healthy", "10.1.0.2:7000 healthy"],
    );
    endpoints(&yaml.replace("targetPort: web", "targetPort: other"), &[]);
}

#[test]
fn what_is_not_ready_takes_nothing_unless_it_is_published_all_the_same() {
    let starting = pod("a", "{ip: 10.1.0.1}", 8080, "False");
    let ending = pod("b", "{ip: 10.1.0.2}", 8080, "True")
        .replace("labels:", "deletionTimestamp: '2026-01-01T00:00:00Z', labels:");
    let ended = pod("c", "{ip: 10.1.0.3}", 8080, "True").replace("Running", "Succeeded");
    let pods = starting + &ending + &ended;
    endpoints(&(db("selector: {app: db}") + &pods), &["10.1.0.2:8080 draining"]);
    let all = db("selector: {app: db}, publishNotReadyAddresses: true");
    endpoints(&(all + &pods), &["10.1.0.1:8080 healthy", "10.1.0.2:8080 draining"]);
}

#[test]
fn without_a_selector_endpoint_slices_say_who_serves() {
    let conditions = "{addresses: [10.2.0.1]}, {addresses: [10.2.0.2], conditions: {}}, \
                      {addresses: [10.2.0.3], conditions: {ready: null}}, {addresses: [10.2.0.4], conditions: {ready: false}}, \
                      {addresses: [10.2.0.5], conditions: {ready: false, serving: true, terminating: true}}, \
                      {addresses: [10.2.0.6], conditions: {ready: false, serving: false, terminating: true}}";
    let yaml = db("clusterIP: 10.96.0.9") + &slice("db-1", "IPv4", MAIN, conditions);
    let ready =
        ["10.2.0.1:8080 healthy", "10.2.0.2:8080 healthy", "10.2.0.3:8080 healthy", "10.2.0.5:8080 draining"];
    endpoints(&yaml, &ready);
    let all = yaml.replace("clusterIP: 10.96.0.9", "clusterIP: 10.96.0.9, publishNotReadyAddresses: true");
    let published =
        [&ready[..3], &["10.2.0.4:8080 healthy"], &ready[3..], &["10.2.0.6:8080 draining"]].concat();
    endpoints(&all, &published);
    // A slice counts by the name of its port, over TCP, and for its own Service.
    for port in ["{name: other, port: 8080}", "{name: main, port: 8080, protocol: UDP}"] {
        endpoints(&(db("clusterIP: None") + &slice("db-1", "IPv4", port, conditions)), &[]);
    }
    endpoints(&yaml.replace("service-name: db}", "service-name: dc}"), &[]);
}

#[test]
fn slices_of_both_families_are_joined_and_an_address_counts_once() {
    let yaml = db("selector: {app: db}, clusterIPs: [10.96.0.9, 'fd00::9']")
        + &slice("db-1", "IPv4", MAIN, "{addresses: [10.2.0.1]}, {addresses: [10.1.0.1]}")
        + &slice("db-2", "IPv6", MAIN, "{addresses: ['fd00::1']}")
        + &slice("db-3", "IPv4", MAIN, "{addresses: [10.2.0.1], zone: other}")
        + &pod("a", "{ip: 10.1.0.1}, {ip: 'fd00::2'}", 8080, "True");
    endpoints(&yaml, &["10.1.0.1:8080 healthy", "10.2.0.1:8080 healthy", "[fd00::1]:8080 healthy"]);
    for name in ["10.96.0.9:80", "[fd00::9]:80"] {
        let detect = format!("{name}: detect db.shop.svc.cluster.local:80, else Service/shop/db [{OWN} x1]");
        check(&yaml, &format!("listener {name}"), &detect);
        check(&yaml, &format!("route {name}"), &format!("{name}\nService/shop/db: /* -> {OWN} x1"));
    }
}

#[test]
fn routes_are_for_the_virtual_address_and_not_for_an_endpoints_own() {
    let route =
        http_route("  rules: [{matches: [{path: {value: /only}}], backendRefs: [{name: db, port: 80}]}]")
            .replace("reviews", "db");
    let yaml =
        db("selector: {app: db}, clusterIP: 10.96.0.9") + &pod("a", "{ip: 10.1.0.1}", 8080, "True") + &route;
    let routed = format!("HTTPRoute/shop/r: /only/* -> {OWN} x1");
    for name in ["10.96.0.9:80", "db.shop:80"] {
        check(&yaml, &format!("route {name}"), &format!("{name}\n{routed}"));
    }
    let direct = "10.1.0.1:8080\nPod/shop/a: /* -> outbound|8080|10.1.0.1 x1";
    check(&yaml, "route 10.1.0.1:8080", direct);
    // A headless Service has no address of its own: whoever dials one of its endpoints is not routed either.
    let headless = yaml.replace("clusterIP: 10.96.0.9", "clusterIP: None");
    check(&headless, "route 10.1.0.1:8080", direct);
    check(&headless, "route db.shop:80", &format!("db.shop:80\n{routed}"));
    check(&headless, "listener 10.96.0.9:80", "none");
}

#[test]
fn an_external_name_is_looked_up_and_one_of_the_mesh_is_that_service() {
    let alias = |to: &str| db(&format!("type: ExternalName, externalName: {to}"));
    let yaml = alias("db.example.org");
    check(
        &yaml,
        "listener db.shop:80",
        &format!("db.shop:80: detect db.shop.svc.cluster.local:80, else Service/shop/db [{OWN} x1]"),
    );
    let cluster = ask(&world(&yaml), &format!("cluster {OWN}"));
    assert!(cluster.contains(r#"Dns([DnsName { host: "db.example.org", port: 80 }])"#), "{cluster}");
    check(&yaml, &format!("endpoints {OWN}"), "none");
    // Dialled under either name it is the same Service, with its endpoints, identities and routes.
    let yaml = alias("reviews.shop.svc.cluster.local") + &service("reviews", 1);
    check(&yaml, "listener db.shop:80", "db.shop:80: http reviews.shop.svc.cluster.local:80");
    check(
        &yaml,
        &format!("endpoints {OWN}"),
        &format!("{OWN}\n10.0.0.1:8080 healthy shop/reviews-1 spiffe://cluster.local/ns/shop/sa/reviews"),
    );
    // One that renames itself, or another that renames, is a name like any other.
    let round = ask(&world(&alias("db.shop.svc.cluster.local")), &format!("cluster {OWN}"));
    assert!(round.contains("Dns("), "{round}");
}

#[test]
fn a_change_of_a_service_reaches_those_who_rename_it() {
    let yaml =
        db("type: ExternalName, externalName: reviews.shop.svc.cluster.local") + &service("reviews", 1);
    let before = world(&yaml);
    let deleted = before
        .service("shop", "reviews")
        .map(|service| Object::Service(service.clone()).reference())
        .unwrap();
    let (_, changed) = before.apply(vec![crate::world::Change::Delete(deleted)]);
    let crate::world::Changed::Destinations(keys) = changed else { panic!("everything changed") };
    assert!(keys.contains(&DestinationKey::Host("db.shop.svc.cluster.local".into())), "{keys:?}");
}
