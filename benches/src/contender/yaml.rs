//! The mesh that the measured sidecars are part of, in YAML: what a user would write who cares for a service.

use std::fmt::Write;
use std::net::SocketAddr;

use super::hop::Service;
use crate::scenario::{Protocol, Scenario};

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

/// Who may call the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// Anybody.
    None,
    /// A hundred rules: some forbid, the load is let in by one of many that allow.
    Hundred,
}

impl Rules {
    /// Those that a scenario is about.
    pub(super) fn of(scenario: Scenario) -> Self {
        if scenario == Scenario::S10 { Self::Hundred } else { Self::None }
    }
}

/// How many rules forbid, and how many allow.
const RULES: (usize, usize) = (20, 80);

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

/// The authorization policies of the origin. Every rule that allows is about the caller that the load is, so that none is
/// out of the question for its identity alone, and only the last one allows what it asks.
pub(super) fn authorization(rules: Rules) -> String {
    if rules == Rules::None {
        return String::new();
    }
    let policy = |name: &str, action: &str| {
        format!(
            "---\napiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\n\
             metadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
             spec:\n  targetRefs: [{{group: \"\", kind: Service, name: origin}}]\n  action: {action}\n  rules:\n"
        )
    };
    let mut text = policy("forbidden", "Deny");
    // Writing to a String cannot fail.
    for number in 0..RULES.0 {
        let _ = writeln!(
            text,
            "  - to: [{{methods: [GET, POST], paths: [/internal/{number}/*, /debug/{number}]}}]"
        );
    }
    text += &policy("callers", "Allow");
    for number in 0..RULES.1 {
        let last = number + 1 == RULES.1;
        let path = if last { "/items/*".to_owned() } else { format!("/items-{number}/*") };
        let _ = writeln!(
            text,
            "  - from: [{{identities: ['spiffe://cluster.local/ns/{NAMESPACE}/sa/client', \
             'spiffe://cluster.local/ns/team-{number}/sa/*'], namespaces: [{NAMESPACE}, team-{number}]}}]\n    \
             to: [{{methods: [GET], paths: ['{path}']}}]"
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
    fn a_hundred_rules_are_read_without_a_problem() {
        let text = authorization(Rules::Hundred);
        let parsed = outrigger_resources::parse_yaml("bench.yaml", &text);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        assert_eq!(text.matches("  - ").count(), 100);
        assert!(authorization(Rules::None).is_empty());
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
