//! The mesh that the measured sidecars are part of, in YAML: what a user would write who cares for a service.

use std::fmt::Write;
use std::net::SocketAddr;

/// The service, as its clients call it.
pub(super) const SERVICE: &str = "origin.bench";
/// Its port.
pub(super) const SERVICE_PORT: u16 = 9080;
/// The namespace of everything.
pub(super) const NAMESPACE: &str = "bench";

/// Whether the origin has a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Plain,
    Meshed,
}

/// Everything but the workloads. The access log is off, as it is unless a user asks for it; the values of the
/// BackendPolicy are the defaults, written down.
const SERVICE_AND_POLICY: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: outrigger.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh, namespace: outrigger-system}
spec: {mtls: Strict}
---
apiVersion: v1
kind: Service
metadata: {name: origin, namespace: bench}
spec:
  selector: {app: origin}
  ports: [{name: http, port: 9080, targetPort: http, appProtocol: http}]
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
---
apiVersion: outrigger.dev/v1alpha1
kind: BackendPolicy
metadata: {name: origin, namespace: bench}
spec:
  targetRefs: [{group: \"\", kind: Service, name: origin}]
  loadBalancer: {algorithm: PeakEwma}
  circuitBreaker: {maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3}
  retryBudget: {percent: 20, minRetriesPerSecond: 10, interval: 10s}
";

/// The whole mesh: the service with its route and policy, and a workload for each endpoint.
pub(super) fn mesh(origin: Origin, endpoints: &[SocketAddr]) -> String {
    let mut text = SERVICE_AND_POLICY.to_owned();
    for (place, endpoint) in endpoints.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\napiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: origin-{place}, namespace: {NAMESPACE}, labels: {{app: origin}}}}\n\
             spec: {{address: {}, ports: {{http: {}}}, serviceAccount: origin, meshed: {}}}\n",
            endpoint.ip(),
            endpoint.port(),
            origin == Origin::Meshed,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mesh_is_read_without_a_problem() {
        let endpoints = ["127.240.0.1:9080".parse().unwrap(), "127.240.0.2:9080".parse().unwrap()];
        for origin in [Origin::Plain, Origin::Meshed] {
            let parsed = outrigger_resources::parse_yaml("bench.yaml", &mesh(origin, &endpoints));
            assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
            assert_eq!(parsed.objects.len(), 7);
        }
    }
}
