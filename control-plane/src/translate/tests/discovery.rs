//! TLSRoutes: which names lead where, and whose word counts.

use super::*;

const DB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: shop}\nspec: {ports: [{port: 90}]}\n---\n";

fn tls_route(name: &str, hostnames: &str, to: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TLSRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: db}}], hostnames: [{hostnames}], \
         rules: [{{backendRefs: [{to}]}}]}}\n---\n"
    )
}

fn other_route(kind: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: other, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: db}}], rules: [{{backendRefs: [{{name: db, port: 90}}]}}]}}\n---\n"
    )
}

const OWN: &str = "outbound|90|db.shop.svc.cluster.local";

#[test]
fn tls_goes_by_name_and_everything_else_is_closed() {
    let yaml = DB.to_owned()
        + &tls_route(
            "a",
            "'A.example.', '*.example'",
            "{name: db, port: 90, weight: 3}, {name: gone, port: 1}",
        )
        + &tls_route("b", "", "{name: db, port: 90}");
    let expected = format!(
        "db.shop:90: opaque tls a.example *.example -> TLSRoute/shop/a [{OWN} x3, invalid|Service/shop/gone is not there x1]
         tls any -> TLSRoute/shop/b [{OWN} x1]
         Service/shop/db []"
    );
    check(&yaml, "listener db.shop:90", &expected);
}

#[test]
fn a_name_is_that_of_the_older_route() {
    let yaml = DB.to_owned()
        + &tls_route("a", "x.example, y.example", "{name: db, port: 90}")
        + &tls_route("b", "y.example, z.example", "{name: db, port: 90}")
        + &tls_route("c", "x.example, z.example", "{name: db, port: 90}");
    let expected = format!(
        "db.shop:90: opaque tls x.example y.example -> TLSRoute/shop/a [{OWN} x1]
         tls z.example -> TLSRoute/shop/b [{OWN} x1]
         Service/shop/db []"
    );
    check(&yaml, "listener db.shop:90", &expected);
}

#[test]
fn a_tls_route_stands_between_http_and_tcp() {
    let tls = tls_route("a", "a.example", "{name: db, port: 90}");
    let by_name =
        format!("db.shop:90: opaque tls a.example -> TLSRoute/shop/a [{OWN} x1]\nService/shop/db []");
    let http = "db.shop:90: http db.shop.svc.cluster.local:90".to_owned();
    for (kind, expected) in [("TCPRoute", &by_name), ("HTTPRoute", &http), ("GRPCRoute", &http)] {
        check(&(DB.to_owned() + &tls + &other_route(kind)), "listener db.shop:90", expected);
    }
    // A port that is declared HTTP is not for TLS of the application's own.
    let declared = DB.replace("{port: 90}", "{port: 90, name: http}");
    check(&(declared + &tls), "listener db.shop:90", &http);
    for word in ["tls", "https", "tcp"] {
        let declared = DB.replace("{port: 90}", &format!("{{port: 90, appProtocol: {word}}}"));
        check(&(declared + &tls), "listener db.shop:90", &by_name);
    }
}
