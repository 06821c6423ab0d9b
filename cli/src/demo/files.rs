//! The YAML the demo's control plane reads.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// The port everything in the shop is dialled at.
pub(super) const PORT: u16 = 9080;

/// A workload of the demo.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Its name, `reviews-v1-a`.
    pub(super) name: &'static str,
    /// Its service account and `app` label, `reviews`.
    pub(super) app: &'static str,
    /// Its `version` label.
    pub(super) version: &'static str,
    /// Where its sidecar is dialled.
    pub(super) address: Ipv4Addr,
}

/// Everything but the route: namespace, services, workloads, the mesh's settings.
pub(super) fn shop(members: &[Member]) -> String {
    let mut text = String::from(
        "# The demo's shop. Edit anything here while it runs.\n\
         apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n\
         ---\napiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh, namespace: outrigger-system}\n\
         spec: {mtls: Strict}\n",
    );
    for (service, selector) in [
        ("web", "app: web"),
        ("reviews", "app: reviews"),
        ("reviews-v1", "app: reviews, version: v1"),
        ("reviews-v2", "app: reviews, version: v2"),
        ("ratings", "app: ratings"),
    ] {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {service}, namespace: shop}}\n\
             spec:\n  selector: {{{selector}}}\n  ports: [{{name: http, port: {PORT}, appProtocol: http}}]\n",
        );
    }
    text.push_str(
        "---\n# Each instance gets its turn, so that one that is gone is found out at once.\n\
         apiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {name: reviews-v1, namespace: shop}\n\
         spec:\n  targetRefs: [{group: \"\", kind: Service, name: reviews-v1}]\n\
         \x20 loadBalancer: {algorithm: RoundRobin}\n  outlierDetection: {consecutiveErrors: 3, baseEjectionTime: 1s}\n",
    );
    for member in members {
        let Member { name, app, version, address } = member;
        let _ = write!(
            text,
            "---\napiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: {name}, namespace: shop, labels: {{app: {app}, version: {version}}}}}\n\
             spec: {{address: {address}, ports: {{http: {PORT}}}, serviceAccount: {app}, meshed: true}}\n",
        );
    }
    text
}

/// The route that shares `reviews` between its two versions, in percent.
pub(super) fn route(v1: u32, v2: u32) -> String {
    format!(
        "# How requests for reviews are shared between its versions.\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: reviews, port: {PORT}}}]\n  rules:\n  - name: split\n\
         \x20   retry: {{codes: [502, 503, 504], attempts: 2, backoff: 10ms}}\n    backendRefs:\n\
         \x20   - {{name: reviews-v1, port: {PORT}, weight: {v1}}}\n    - {{name: reviews-v2, port: {PORT}, weight: {v2}}}\n",
    )
}

/// The route to `web`, which may be tried again when an instance behind it was lost.
pub(super) fn entrance() -> String {
    format!(
        "# What the visitor calls.\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: web}}]\n  rules:\n\
         \x20 - timeouts: {{request: 5s}}\n    backendRefs: [{{name: web, port: {PORT}}}]\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_demo_writes_is_read_without_a_problem() {
        let members =
            [Member { name: "web", app: "web", version: "v1", address: Ipv4Addr::new(127, 0, 1, 1) }];
        for text in [shop(&members), route(90, 10), entrance()] {
            let parsed = outrigger_resources::parse_yaml("demo.yaml", &text);
            assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        }
    }
}
