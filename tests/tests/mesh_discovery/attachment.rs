//! Whose routes count for whom, and for what was dialled: the address decides, not what a request says of its host.

use std::net::{Ipv4Addr, SocketAddr};

use http::{Request, Version};
use outrigger_tests::client::{Answer, Client, empty};
use outrigger_tests::mesh::READY_WITHIN;
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{NAMESPACE, PORT, Town, outbound, plain, service};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// A namespace that has clients only.
const OTHER: &str = "other";

/// An HTTPRoute on the Service `a`; its one rule is for `/only` and sends to another Service of the shop.
fn route(namespace: &str, parent: &str, to: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: r, namespace: {namespace}, generation: 3}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: a, namespace: {NAMESPACE}{parent}}}]\n\
         \x20 rules: [{{matches: [{{path: {{value: /only}}}}], \
         backendRefs: [{{name: {to}, namespace: {NAMESPACE}, port: {PORT}}}]}}]\n"
    )
}

const GRANT: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\n\
                     metadata: {name: g, namespace: shop}\n\
                     spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}], \
                     to: [{group: '', kind: Service}]}\n";

async fn get(entrance: SocketAddr, path: &str, host: &str) -> Answer {
    let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
    client.send(Request::get(path).header("host", host).body(empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn routes_of_a_clients_own_namespace_replace_those_of_the_service_for_it_alone() {
    let mut yaml = String::new();
    let mut origins = Vec::new();
    for name in ["a", "b", "c"] {
        let origin = Origin::start(name, ANY).await.unwrap();
        yaml += &(service(name, "http") + &plain(&format!("{name}-1"), name, origin.address()));
        origins.push(origin);
    }
    yaml += &(route(NAMESPACE, "", "b") + &route(OTHER, ", sectionName: main", "c") + GRANT);
    let subnet = Subnet::claim();
    let (own, foreign) = (subnet.address(1, 9001), subnet.address(2, 9001));
    let town = Town::start(subnet, &yaml).await.unwrap();
    let _web = town.sidecar("web", &[outbound(own, "a")]).await.unwrap();
    let xds = town.control_plane.address("/xds").unwrap();
    let program = town.mesh.sidecar(xds, OTHER, "guest").await.unwrap().args([outbound(foreign, "a")]);
    let _guest = program.start_ready(READY_WITHIN).await.unwrap();

    for (entrance, expected) in [(own, "b"), (foreign, "c")] {
        // A host that lies, even one that the mesh knows, changes nothing.
        for host in ["a.shop", "c.shop", "nobody.example"] {
            assert_eq!(get(entrance, "/only", host).await.origin(), expected, "{entrance} {host}");
            let unmatched = get(entrance, "/else", host).await;
            assert_eq!((unmatched.status.as_u16(), unmatched.reason()), (404, "no_route"), "{host}");
        }
    }
    let status = town.status().await.unwrap();
    let routes = status["status"]["objects"].as_array().unwrap().iter();
    let routes: Vec<_> = routes.filter(|object| object["object"]["kind"] == "HTTPRoute").collect();
    assert_eq!(routes.len(), 2, "one parent each: {status}");
    for route in routes {
        assert_eq!(route["controllerName"], "outrigger.dev/mesh-controller");
        assert_eq!(route["parent"]["name"], "a");
        for condition in route["conditions"].as_array().unwrap() {
            assert_eq!(
                (&condition["status"], &condition["observedGeneration"]),
                (&true.into(), &3.into()),
                "{route}"
            );
        }
    }
}
