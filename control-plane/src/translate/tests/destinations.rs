//! Ports, protocols, endpoints, workloads dialled directly, ExternalServices, and `inbound`.

use super::*;

fn bare_service(ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db, namespace: shop}}\nspec: {{ports: [{ports}]}}\n---\n"
    )
}

fn tcp_route(to: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {{name: t, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: db}}], rules: [{{backendRefs: [{to}]}}]}}\n---\n"
    )
}

#[test]
fn how_connections_are_handled_follows_from_what_is_declared() {
    let own = "Service/shop/db [outbound|90|db.shop.svc.cluster.local x1]";
    let http = "db.shop:90: http db.shop.svc.cluster.local:90".to_owned();
    let detect = format!("db.shop:90: detect db.shop.svc.cluster.local:90, else {own}");
    let opaque = format!("db.shop:90: opaque {own}");
    for (port, expected) in [
        ("{port: 90, name: http}", &http),
        ("{port: 90, appProtocol: grpc}", &http),
        ("{port: 90, name: tcp-x}", &opaque),
        ("{port: 90, name: x, appProtocol: https}", &opaque),
        ("{port: 90}", &detect),
        ("{port: 90, targetPort: 5432}", &opaque),
        ("{port: 90, targetPort: 5432, name: http}", &http),
        ("{port: 90, protocol: UDP}", &"none".to_owned()),
    ] {
        check(&bare_service(port), "listener db.shop:90", expected);
    }
}

#[test]
fn routes_say_what_an_undeclared_port_speaks() {
    let undeclared = bare_service("{port: 90}");
    let http = http_route("  rules: [{}]").replace("reviews", "db");
    check(
        &(undeclared.clone() + &http),
        "listener db.shop:90",
        "db.shop:90: http db.shop.svc.cluster.local:90",
    );
    let tcp =
        tcp_route("{name: db, port: 90, weight: 2}, {name: gone, port: 1}, {name: db, port: 90, weight: 0}");
    let opaque = "db.shop:90: opaque TCPRoute/shop/t [outbound|90|db.shop.svc.cluster.local x2, \
                  invalid|Service/shop/gone is not there x1]";
    check(&(undeclared.clone() + &tcp), "listener db.shop:90", opaque);
    check(
        &(undeclared + &tcp + &http),
        "listener db.shop:90",
        "db.shop:90: http db.shop.svc.cluster.local:90",
    );
    let declared = bare_service("{port: 90, name: tcp}");
    check(
        &(declared.clone() + &http),
        "listener db.shop:90",
        "db.shop:90: opaque Service/shop/db [outbound|90|db.shop.svc.cluster.local x1]",
    );
    check(&(declared + &tcp), "listener db.shop:90", opaque);
}

const PODS: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Pod
metadata: {name: ready, namespace: shop, labels: {app: db, topology.kubernetes.io/zone: z1}}
spec: {serviceAccountName: db, containers: [{name: outrigger-proxy}, {name: a, ports: [{name: web, containerPort: 8080}]}]}
status: {podIP: 10.1.0.2, phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: leaving, namespace: shop, labels: {app: db}, deletionTimestamp: '2026-01-01T00:00:00Z'}
spec: {containers: [{name: a, ports: [{name: web, containerPort: 8081}]}]}
status: {podIP: 10.1.0.1, phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: starting, namespace: shop, labels: {app: db}}
spec: {containers: [{name: a, ports: [{name: web, containerPort: 8080}]}]}
status: {podIP: 10.1.0.3, phase: Running, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, namespace: other, labels: {app: db}}
spec: {containers: [{name: a, ports: [{name: web, containerPort: 8080}]}]}
status: {podIP: 10.1.0.4, phase: Running, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.1.0.2], zone: ignored}
- {addresses: [10.1.0.4], targetRef: {kind: Pod, namespace: other, name: elsewhere}}
- {addresses: [10.1.0.5], zone: z2}
- {addresses: [10.1.0.6], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.1.0.7], conditions: {ready: false}}
";

#[test]
fn endpoints_come_from_selectors_and_slices_without_repetition() {
    check(
        PODS,
        "endpoints outbound|80|db.shop.svc.cluster.local",
        "outbound|80|db.shop.svc.cluster.local
         10.1.0.1:8081 draining shop/leaving plaintext
         10.1.0.2:8080 healthy /z1 shop/ready spiffe://cluster.local/ns/shop/sa/db
         10.1.0.4:8080 healthy other/elsewhere plaintext
         10.1.0.5:8080 healthy /z2 / plaintext
         10.1.0.6:8080 draining / plaintext",
    );
}

#[test]
fn a_meshed_workload_whose_identity_cannot_be_said_is_never_dialled() {
    let yaml = service("reviews", 1).replace("serviceAccount: reviews", "serviceAccount: 'no spaces'");
    let question = "endpoints outbound|80|reviews.shop.svc.cluster.local";
    assert!(!ask(&world(&yaml), question).contains("10.0.0.1"), "dialled without an identity");
}

#[test]
fn a_workload_can_be_dialled_by_its_own_address() {
    let yaml = service("reviews", 1) + PODS;
    let own = "Workload/shop/reviews-1";
    check(&yaml, "listener 10.0.0.1:8080", "10.0.0.1:8080: http 10.0.0.1:8080");
    check(&yaml, "route 10.0.0.1:8080", &format!("10.0.0.1:8080\n{own}: /* -> outbound|8080|10.0.0.1 x1"));
    let endpoint = "10.0.0.1:8080 healthy shop/reviews-1 spiffe://cluster.local/ns/shop/sa/reviews";
    check(&yaml, "endpoints outbound|8080|10.0.0.1", &format!("outbound|8080|10.0.0.1\n{endpoint}"));
    // A host may run anything on its other ports; all of a meshed Pod is captured.
    check(&yaml, "listener 10.0.0.1:22", "none");
    let opaque = "Pod/shop/ready [outbound|22|10.1.0.2 x1]";
    check(&yaml, "listener 10.1.0.2:22", &format!("10.1.0.2:22: detect 10.1.0.2:22, else {opaque}"));
    check(&yaml, "listener 10.1.0.3:22", "none");
}

#[test]
fn external_services_are_known_by_their_hosts() {
    let external = |spec: &str| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: ExternalService\nmetadata: {{name: e, namespace: shop}}\nspec: {spec}\n---\n"
        )
    };
    let dns =
        external("{hosts: [api.example], ports: [{name: h, port: 80, protocol: HTTP}], resolution: DNS}");
    check(&dns, "listener api.example:80", "api.example:80: http api.example:80");
    check(
        &dns,
        "route api.example:80",
        "api.example:80\nExternalService/shop/e: /* -> outbound|80|api.example x1",
    );
    check(&dns, "endpoints outbound|80|api.example", "none");
    let cluster = ask(&world(&dns), "cluster outbound|80|api.example");
    assert!(cluster.contains(r#"Dns([DnsName { host: "api.example", port: 80 }])"#), "{cluster}");

    let fixed = external(
        "{hosts: [api.example], ports: [{name: h, port: 443, protocol: TLS}], resolution: Static, endpoints: [10.9.0.2, 10.9.0.1]}",
    );
    check(
        &fixed,
        "listener api.example:443",
        "api.example:443: opaque ExternalService/shop/e [outbound|443|api.example x1]",
    );
    let listed = ask(&world(&fixed), "endpoints outbound|443|api.example");
    assert!(listed.contains("10.9.0.1:443") && listed.contains("10.9.0.2:443"), "{listed}");
}

#[test]
fn a_route_may_send_to_an_external_service() {
    let yaml = service("reviews", 1)
        + "apiVersion: outrigger.dev/v1alpha1\nkind: ExternalService\nmetadata: {name: e, namespace: shop}\n\
           spec: {hosts: [api.example], ports: [{name: h, port: 80, protocol: HTTP}], resolution: DNS}\n---\n"
        + &http_route(
            "  rules: [{backendRefs: [{group: outrigger.dev, kind: ExternalService, name: e, port: 80}]}]",
        );
    check(
        &yaml,
        "route reviews.shop:80",
        "reviews.shop:80\nHTTPRoute/shop/r: /* -> outbound|80|api.example x1",
    );
}

fn inbound_of(yaml: &str, client: &Client) -> String {
    let found = resource(&world(yaml), client, ResourceType::Listener, INBOUND).unwrap();
    show::show(&found)
}

#[test]
fn inbound_is_made_for_the_workload_that_asks() {
    let mesh = "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh, namespace: outrigger-system}\n\
                spec: {trustDomain: example.org, mtls: Strict, egress: Deny, accessLog: {format: text}}\n---\n";
    let yaml = service("reviews", 1) + mesh;
    let everywhere = "Strict example.org Deny log=Text";
    let port = "8080 Http1 reviews.shop.svc.cluster.local";
    let named = Client { name: "reviews-1".into(), ..client("shop") };
    let at_address = Client { address: Some([10, 0, 0, 1].into()), ..client("shop") };
    for known in [named, at_address] {
        assert_eq!(inbound_of(&yaml, &known), format!("{everywhere}\n{port}"));
    }
    let stranger = Client { address: Some([10, 0, 0, 1].into()), ..client("other") };
    assert_eq!(inbound_of(&yaml, &stranger), everywhere);
    let by_label = Client { labels: [("app".into(), "reviews".into())].into(), ..client("shop") };
    let by_number = yaml.replace("targetPort: web", "targetPort: 8080");
    assert_eq!(inbound_of(&by_number, &by_label), format!("{everywhere}\n{port}"));
    assert_eq!(inbound_of("", &client("")), "Permissive cluster.local Allow log=off");
}

#[test]
fn a_workload_says_by_annotations_which_ports_are_opaque_and_how_its_requests_are_logged() {
    let yaml = service("reviews", 1);
    let named = Client { name: "reviews-1".into(), ..client("shop") };
    let own = "8080 Http1 reviews.shop.svc.cluster.local";
    let text = "\n---\napiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\n\
                metadata: {name: mesh, namespace: outrigger-system}\nspec: {accessLog: {format: text}}\n";
    for (annotations, mesh, log, ports) in [
        (
            "outrigger.dev/opaque-ports: '8080, 9'",
            "",
            "off",
            "\n9 Opaque \n8080 Opaque reviews.shop.svc.cluster.local",
        ),
        ("outrigger.dev/opaque-ports: 'x,0'", "", "off", own),
        ("outrigger.dev/access-log: enabled", "", "Json", own),
        ("outrigger.dev/access-log: enabled", text, "Text", own),
        ("outrigger.dev/access-log: text", "", "Text", own),
        ("outrigger.dev/access-log: json", text, "Json", own),
        ("outrigger.dev/access-log: disabled", text, "off", own),
        ("outrigger.dev/access-log: perhaps", text, "Text", own),
    ] {
        let at = "metadata: {name: reviews-1, ";
        assert!(yaml.contains(at), "{yaml}");
        let yaml = yaml.replacen(at, &format!("{at}annotations: {{{annotations}}}, "), 1) + mesh;
        let want = format!("Permissive cluster.local Allow log={log}\n{}", ports.trim_start_matches('\n'));
        assert_eq!(inbound_of(&yaml, &named), want, "{annotations}");
    }
}
