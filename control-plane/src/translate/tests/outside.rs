//! Addresses and names outside the mesh: what is said on a connection decides, and egress where nothing else does.

use super::*;

fn external(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: ExternalService\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n"
    )
}

const DENY: &str = "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\n\
                    metadata: {name: mesh, namespace: outrigger-system}\nspec: {egress: Deny}\n---\n";
const MESH: &str = "MeshConfig/outrigger-system/mesh";

#[test]
fn tls_to_an_address_outside_goes_by_its_name() {
    let yaml = external(
        "a",
        "{hosts: [a.example, c.example], ports: [{port: 443, protocol: TLS}], resolution: DNS}",
    ) + &external(
        "b",
        "{hosts: ['*.example', a.example], ports: [{port: 443, protocol: HTTPS}], resolution: Passthrough}",
    ) + &external(
        "s",
        "{hosts: [s.example], ports: [{port: 443, protocol: TLS}], resolution: Static, endpoints: [192.0.2.7]}",
    );
    let named = "192.0.2.1:443: opaque tls a.example -> ExternalService/shop/a [outbound|443|a.example x1]
        tls c.example -> ExternalService/shop/a [outbound|443|c.example x1]
        tls *.example -> ExternalService/shop/b [outbound|443|192.0.2.1 x1]
        tls s.example -> ExternalService/shop/s [outbound|443|s.example x1]";
    let allowed = format!("{named}\n{MESH} [outbound|443|192.0.2.1 x1]");
    check(&yaml, "listener 192.0.2.1:443", &allowed);
    check(&(yaml.clone() + DENY), "listener 192.0.2.1:443", &format!("{named}\n{MESH} []"));
    // The addresses of a Static one are known without any name.
    let known =
        named.replace("192.0.2.1", "192.0.2.7") + "\nExternalService/shop/s [outbound|443|s.example x1]";
    check(&(yaml.clone() + DENY), "listener 192.0.2.7:443", &known);
    check(&yaml, "listener 192.0.2.1:444", "none");
    check(
        &yaml,
        "endpoints outbound|443|192.0.2.1",
        "outbound|443|192.0.2.1\n192.0.2.1:443 healthy / plaintext",
    );
    let cluster = ask(&world(&yaml), "cluster outbound|443|192.0.2.1");
    assert!(
        cluster.starts_with("outbound|443|192.0.2.1 ExternalService/shop/b Eds AsDownstream"),
        "{cluster}"
    );
    let only_dns =
        external("a", "{hosts: [a.example], ports: [{port: 443, protocol: TLS}], resolution: DNS}");
    let cluster = ask(&world(&only_dns), "cluster outbound|443|192.0.2.1");
    assert!(cluster.starts_with("outbound|443|192.0.2.1 Address//outside Eds"), "{cluster}");
}

#[test]
fn http_to_an_address_outside_goes_by_the_host_of_each_request() {
    let yaml = external(
        "w",
        "{hosts: ['*.example', '*.b.example'], ports: [{port: 80, protocol: HTTP}], resolution: Passthrough}",
    ) + &external(
        "a",
        "{hosts: [a.example], ports: [{port: 80, protocol: HTTP2}], resolution: DNS}",
    );
    check(
        &yaml,
        "listener 192.0.2.1:80",
        &format!("192.0.2.1:80: detect 192.0.2.1:80, else {MESH} [outbound|80|192.0.2.1 x1]"),
    );
    let to = |host: &str, object: &str, cluster: &str| {
        format!(
            "ExternalService/shop/{object}: /* host~(?i-u:{host})(?::[0-9]+)? -> outbound|80|{cluster} x1\n"
        )
    };
    let known = to("a\\.example", "a", "a.example")
        + &to("[-_.a-z0-9]+\\.b\\.example", "w", "192.0.2.1")
        + &to("[-_.a-z0-9]+\\.example", "w", "192.0.2.1");
    check(
        &yaml,
        "route 192.0.2.1:80",
        &format!("192.0.2.1:80\n{known}{MESH}: /* -> outbound|80|192.0.2.1 x1"),
    );
    check(&(yaml + DENY), "route 192.0.2.1:80", &format!("192.0.2.1:80\n{known}"));
}

#[test]
fn https_is_http_for_which_a_sidecar_starts_tls_and_bytes_never_get_there() {
    let https = |resolution: &str| {
        external(
            "h",
            &format!("{{hosts: [a.example], ports: [{{port: 443, protocol: HTTPS}}], {resolution}}}"),
        ) + DENY
    };
    let fixed = https("resolution: Static, endpoints: [192.0.2.1]");
    check(&fixed, "listener 192.0.2.1:443", &format!("192.0.2.1:443: detect 192.0.2.1:443, else {MESH} []"));
    let route = "ExternalService/shop/h: /* host~(?i-u:a\\.example)(?::[0-9]+)? -> outbound|443|a.example x1";
    check(&fixed, "route 192.0.2.1:443", &format!("192.0.2.1:443\n{route}"));
    // Without knowing a name nobody but the application can start it.
    check(
        &https("resolution: Passthrough"),
        "listener 192.0.2.1:443",
        &format!(
            "192.0.2.1:443: opaque tls a.example -> ExternalService/shop/h [outbound|443|192.0.2.1 x1]\n{MESH} []"
        ),
    );
}

#[test]
fn bytes_on_a_port_that_is_passed_through_go_where_they_were_sent() {
    let tcp = external("t", "{hosts: [db.example], ports: [{port: 5432}], resolution: Passthrough}");
    let passed = "192.0.2.1:5432: opaque ExternalService/shop/t [outbound|5432|192.0.2.1 x1]";
    check(&(tcp + DENY), "listener 192.0.2.1:5432", passed);
    let looked_up = external("t", "{hosts: [db.example], ports: [{port: 5432}], resolution: DNS}");
    check(&(looked_up + DENY), "listener 192.0.2.1:5432", &format!("192.0.2.1:5432: opaque {MESH} []"));
}

#[test]
fn what_the_mesh_has_at_an_address_comes_first() {
    let yaml = service("reviews", 1)
        + &external(
            "e",
            "{hosts: ['*.example'], ports: [{port: 80}, {port: 8080}], resolution: Passthrough}",
        );
    check(&yaml, "listener 10.96.0.1:80", "10.96.0.1:80: http reviews.shop.svc.cluster.local:80");
    check(&yaml, "listener 10.96.0.1:8080", "none");
    check(&yaml, "listener 10.0.0.1:8080", "10.0.0.1:8080: http 10.0.0.1:8080");
}

#[test]
fn a_name_that_is_dialled_as_such_is_looked_up() {
    let yaml =
        external("w", "{hosts: ['*.example'], ports: [{port: 443, protocol: TLS}], resolution: Passthrough}")
            + &external(
                "n",
                "{hosts: ['*.b.example'], ports: [{port: 443, protocol: TLS}], resolution: Passthrough}",
            );
    for (host, object) in
        [("a.example", "w"), ("x.b.example", "n"), ("b.example", "w"), ("y.x.b.example", "n")]
    {
        let listener = format!("{host}:443: opaque ExternalService/shop/{object} [outbound|443|{host} x1]");
        check(&yaml, &format!("listener {host}:443"), &listener);
        let cluster = ask(&world(&yaml), &format!("cluster outbound|443|{host}"));
        assert!(cluster.contains(&format!("Dns([DnsName {{ host: {host:?}, port: 443 }}])")), "{cluster}");
    }
    for nobody in ["example", "a.example.org", "aexample"] {
        check(&yaml, &format!("listener {nobody}:443"), "none");
    }
    assert!(wildcard(&world(&yaml), ResourceType::Cluster).is_empty(), "a star is no cluster");
}

#[test]
fn several_hosts_and_ports_are_destinations_of_their_own() {
    let yaml = external(
        "e",
        "{hosts: [a.example, b.example], ports: [{port: 80, protocol: HTTP}, {port: 443, protocol: TLS}, {port: 90, protocol: GRPC}]}",
    );
    for (name, expected) in [
        ("a.example:80", "http a.example:80"),
        ("b.example:90", "http b.example:90"),
        ("b.example:443", "opaque ExternalService/shop/e [outbound|443|b.example x1]"),
    ] {
        check(&yaml, &format!("listener {name}"), &format!("{name}: {expected}"));
    }
    assert_eq!(wildcard(&world(&yaml), ResourceType::Cluster).len(), 6);
}

#[test]
fn a_backend_ref_to_one_that_is_passed_through_needs_a_whole_name() {
    let route =
        http_route("  rules: [{backendRefs: [{group: outrigger.dev, kind: ExternalService, name: e}]}]");
    let to = |hosts: &str| {
        let spec =
            format!("{{hosts: [{hosts}], ports: [{{port: 80, protocol: HTTP}}], resolution: Passthrough}}");
        ask(&world(&(service("reviews", 1) + &external("e", &spec) + &route)), "route reviews.shop:80")
    };
    assert!(to("'*.example', a.example").ends_with("-> outbound|80|a.example x1"));
    assert!(to("'*.example'").contains("has no whole name that could be looked up"));
}
