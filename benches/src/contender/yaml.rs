//! The mesh that the measured sidecars are part of, in YAML: what a user would write who cares for a service.

use std::fmt::Write;
use std::net::SocketAddr;

use super::hop::Service;
use crate::scenario::Protocol;

/// The service, as its clients call it.
pub(super) const SERVICE: &str = "origin.bench";
/// The port of every service.
pub(super) const SERVICE_PORT: u16 = 9080;
/// The namespace of everything.
pub(super) const NAMESPACE: &str = "bench";

/// Whether the origin has a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Plain,
    Meshed,
}

/// How the endpoints of a service are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Balancing {
    /// The default.
    PeakEwma,
    /// One after the other.
    RoundRobin,
}

/// The mesh. The access log is off, as it is unless a user asks for it.
const MESH: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: outrigger.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh, namespace: outrigger-system}
spec: {mtls: Strict}
";

/// Several rules, of which the last that could be missed is the one that is meant.
const HTTP_ROUTE: &str = "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: origin, namespace: bench}
spec:
  parentRefs: [{group: \"\", kind: Service, name: origin, port: 9080}]
  rules:
  - matches: [{path: {type: Exact, value: /healthz}}]
    backendRefs: [{name: origin, port: 9080}]
  - matches: [{path: {type: PathPrefix, value: /items}, headers: [{name: x-canary, value: always}]}]
    backendRefs: [{name: origin, port: 9080}]
  - matches: [{path: {type: PathPrefix, value: /items}, method: POST}]
    backendRefs: [{name: origin, port: 9080}]
  - matches: [{path: {type: PathPrefix, value: /items}}]
    timeouts: {request: 10s}
    backendRefs: [{name: origin, port: 9080}]
  - backendRefs: [{name: origin, port: 9080}]
";

/// The same for calls.
const GRPC_ROUTE: &str = "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: origin, namespace: bench}
spec:
  parentRefs: [{group: \"\", kind: Service, name: origin, port: 9080}]
  rules:
  - matches: [{method: {service: grpc.health.v1.Health}}]
    backendRefs: [{name: origin, port: 9080}]
  - matches: [{method: {service: bench.Items}, headers: [{name: x-canary, value: always}]}]
    backendRefs: [{name: origin, port: 9080}]
  - matches: [{method: {service: bench.Items, method: Put}}]
    backendRefs: [{name: origin, port: 9080}]
  - matches: [{method: {service: bench.Items}}]
    backendRefs: [{name: origin, port: 9080}]
  - backendRefs: [{name: origin, port: 9080}]
";

/// What there is to say of opaque connections.
const TCP_ROUTE: &str = "\
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: origin, namespace: bench}
spec:
  parentRefs: [{group: \"\", kind: Service, name: origin, port: 9080}]
  rules:
  - backendRefs: [{name: origin, port: 9080}]
";

/// The whole mesh: the service with its route and policy, and a workload for each endpoint. The values of the policy
/// are the defaults, written down, but for a balancing that a measurement needs.
pub(super) fn mesh(
    protocol: Protocol,
    origin: Origin,
    (balancing, endpoints): (Balancing, &[SocketAddr]),
) -> String {
    let (app_protocol, route) = match protocol {
        Protocol::Http1 => ("http", HTTP_ROUTE),
        Protocol::Http2 => ("kubernetes.io/h2c", HTTP_ROUTE),
        Protocol::Grpc => ("grpc", GRPC_ROUTE),
        Protocol::Tcp => ("tcp", TCP_ROUTE),
    };
    let mut text = format!(
        "{MESH}---\napiVersion: v1\nkind: Service\nmetadata: {{name: origin, namespace: {NAMESPACE}}}\n\
         spec:\n  selector: {{app: origin}}\n  ports: [{{name: main, port: {SERVICE_PORT}, targetPort: main, \
         appProtocol: {app_protocol}}}]\n{route}\
         ---\napiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {{name: origin, namespace: {NAMESPACE}}}\n\
         spec:\n  targetRefs: [{{group: \"\", kind: Service, name: origin}}]\n  \
         loadBalancer: {{algorithm: {balancing:?}}}\n  circuitBreaker: {{maxConnections: 1024, maxPendingRequests: 1024, \
         maxRequests: 1024, maxRetries: 3}}\n  retryBudget: {{percent: 20, minRetriesPerSecond: 10, interval: 10s}}\n"
    );
    for (place, endpoint) in endpoints.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: origin-{place}, namespace: {NAMESPACE}, labels: {{app: origin}}}}\n\
             spec: {{address: {}, ports: {{main: {}}}, serviceAccount: origin, meshed: {}}}\n",
            endpoint.ip(),
            endpoint.port(),
            origin == Origin::Meshed,
        );
    }
    text
}

/// A large mesh: each service with its endpoints, which have no sidecars, as Kubernetes would list them.
pub(super) fn large_mesh(services: &[Service]) -> String {
    let mut text = MESH.to_owned();
    for Service { name, endpoints } in services {
        let name = name.strip_suffix(&format!(".{NAMESPACE}")).unwrap_or(name);
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
             spec:\n  ports: [{{name: main, port: {SERVICE_PORT}, appProtocol: http}}]\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-1, namespace: {NAMESPACE}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: main, port: {}}}]\nendpoints:\n",
            endpoints.first().map_or(SERVICE_PORT, SocketAddr::port),
        );
        for endpoint in endpoints {
            let _ = writeln!(text, "- addresses: [{}]", endpoint.ip());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(number: u8) -> Vec<SocketAddr> {
        (1..=number).map(|host| SocketAddr::from(([127, 240, 0, host], 9080))).collect()
    }

    #[test]
    fn every_mesh_is_read_without_a_problem() {
        for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Grpc, Protocol::Tcp] {
            for (origin, balancing) in
                [(Origin::Plain, Balancing::PeakEwma), (Origin::Meshed, Balancing::RoundRobin)]
            {
                let text = mesh(protocol, origin, (balancing, &endpoints(2)));
                let parsed = outrigger_resources::parse_yaml("bench.yaml", &text);
                assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
                assert_eq!(parsed.objects.len(), 7);
            }
        }
    }

    #[test]
    fn a_large_mesh_is_read_without_a_problem() {
        let service = |i| Service { name: format!("service-{i}.{NAMESPACE}"), endpoints: endpoints(10) };
        let services: Vec<Service> = (0..20).map(service).collect();
        let parsed = outrigger_resources::parse_yaml("bench.yaml", &large_mesh(&services));
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        assert_eq!(parsed.objects.len(), 42);
    }
}
