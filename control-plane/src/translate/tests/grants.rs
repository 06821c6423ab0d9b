//! Routes that send to other namespaces: only where a ReferenceGrant of that namespace lets them.

use super::*;
use crate::world::{Change, Changed, DestinationKey};

fn grant(from: &str, to: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n\
         metadata: {{name: g, namespace: other}}\nspec: {{from: [{from}], to: [{to}]}}\n---\n"
    )
}

const HTTP: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}";
const ANY: &str = "{group: '', kind: Service}";

/// A route of `shop` that sends to `v1` of the namespace `other`.
fn across() -> String {
    service("reviews", 1)
        + &service("v1", 2).replace("namespace: shop", "namespace: other")
        + &http_route("  rules: [{backendRefs: [{name: v1, namespace: other, port: 80}]}]")
}

#[test]
fn a_backend_of_another_namespace_needs_a_grant_there() {
    let way = "reviews.shop:80\nHTTPRoute/shop/r: /* -> outbound|80|v1.other.svc.cluster.local x1";
    let refused = "reviews.shop:80\nHTTPRoute/shop/r: /* -> 500 Service/other/v1 is in another namespace and no \
                   ReferenceGrant there lets HTTPRoute of shop refer to it";
    let question = "route reviews.shop:80";
    check(&across(), question, refused);
    for (from, to, expected) in [
        (HTTP, ANY, way),
        (HTTP, "{group: '', kind: Service, name: v1}", way),
        (HTTP, "{group: '', kind: Service, name: v2}", refused),
        (HTTP, "{group: outrigger.dev, kind: ExternalService}", refused),
        (&HTTP.replace("HTTPRoute", "GRPCRoute"), ANY, refused),
        (&HTTP.replace("shop", "elsewhere"), ANY, refused),
    ] {
        check(&(across() + &grant(from, to)), question, expected);
    }
    let elsewhere = grant(HTTP, ANY).replace("namespace: other", "namespace: shop");
    check(&(across() + &elsewhere), question, refused);
}

#[test]
fn a_grant_counts_for_connections_too() {
    let yaml = across().replace("name: http,", "name: tcp,").replace("HTTPRoute", "TCPRoute");
    let refused = ask(&world(&yaml), "listener reviews.shop:80");
    assert!(refused.contains("invalid|Service/other/v1 is in another namespace"), "{refused}");
    check(
        &(yaml + &grant(&HTTP.replace("HTTPRoute", "TCPRoute"), ANY)),
        "listener reviews.shop:80",
        "reviews.shop:80: opaque TCPRoute/shop/r [outbound|80|v1.other.svc.cluster.local x1]",
    );
}

#[test]
fn a_consumer_route_needs_no_grant_for_its_parent() {
    let yaml = service("reviews", 1)
        + &service("mine", 2).replace("namespace: shop", "namespace: web")
        + &http_route("  rules: [{backendRefs: [{name: mine, port: 80}]}]")
            .replace("namespace: shop", "namespace: web")
            .replace("name: reviews}", "name: reviews, namespace: shop}");
    check(
        &yaml,
        "route@web reviews.shop:80",
        "reviews.shop:80\nHTTPRoute/web/r: /* -> outbound|80|mine.web.svc.cluster.local x1",
    );
}

#[test]
fn a_grant_that_comes_or_goes_concerns_the_parents_of_routes_across() {
    let before = world(&across());
    let yaml = grant(HTTP, ANY);
    let objects = outrigger_resources::parse_yaml("grant.yaml", &yaml).objects;
    let reference = objects[0].object.reference();
    let parents = ["reviews.shop.svc.cluster.local"].map(|host| DestinationKey::Host(host.into()));
    let expected = |changed: &Changed| match changed {
        Changed::Destinations(keys) => parents.iter().all(|key| keys.contains(key)) && keys.len() == 2,
        Changed::Everything => false,
    };
    let (granted, came) = before.apply(objects.into_iter().map(Change::from).collect());
    let (_, went) = granted.apply(vec![Change::Delete(reference)]);
    for changed in [came, went] {
        assert!(expected(&changed), "{changed:?}");
    }
}
