//! The YAML of one shop: `reviews` in two versions, `v1` and `v2`, outside of any sidecar.

use std::fmt::Write;
use std::net::SocketAddr;

/// The port of the Services.
pub(crate) const PORT: u16 = 9080;

/// The Services; `app_protocol` is what their port speaks.
pub(crate) fn services(app_protocol: &str) -> String {
    let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned();
    for (name, selector) in [
        ("reviews", "app: reviews"),
        ("v1", "app: reviews, version: v1"),
        ("v2", "app: reviews, version: v2"),
    ] {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  selector: {{{selector}}}\n\
             \x20 ports: [{{name: main, port: {PORT}, targetPort: main, appProtocol: {app_protocol}}}]\n",
        );
    }
    text
}

/// One instance of each version.
pub(crate) fn workloads(v1: SocketAddr, v2: SocketAddr) -> String {
    let instances = [("v1", v1), ("v2", v2)].map(|(version, address)| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: reviews-{version}, namespace: shop, labels: {{app: reviews, version: {version}}}}}\n\
             spec: {{address: {}, ports: {{main: {}}}, serviceAccount: reviews, meshed: false}}\n",
            address.ip(),
            address.port(),
        )
    });
    instances.join("---\n")
}

/// The backendRefs of a rule that shares between the versions by weight.
pub(crate) fn backends(v1: u32, v2: u32) -> String {
    format!("[{{name: v1, port: {PORT}, weight: {v1}}}, {{name: v2, port: {PORT}, weight: {v2}}}]")
}
