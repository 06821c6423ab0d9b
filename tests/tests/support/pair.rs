//! Two sidecars with mutual TLS between them: the way from a client on loopback to one server.

use std::net::SocketAddr;
use std::time::Duration;

use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program};

/// How long a command may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 9080;

/// A running pair. The server behind it belongs to the test.
pub(crate) struct Pair {
    /// Where clients dial.
    pub(crate) entrance: SocketAddr,
    /// Where the server's sidecar is dialled: it takes mutual TLS only.
    pub(crate) inbound: SocketAddr,
    _sidecars: [Process; 2],
    _control_plane: Process,
    _mesh: Mesh,
    _subnet: Subnet,
}

impl Pair {
    /// The way to the server at this address.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let subnet = Subnet::claim();
        let (entrance, inbound) = (subnet.address(1, 9001), subnet.address(2, PORT));
        let mesh = Mesh::new().unwrap();
        mesh.write("shop.yaml", &shop(inbound)).unwrap();
        let control_plane = mesh.start_control_plane().await.unwrap();
        let xds = control_plane.address("/xds").unwrap();
        let files = mesh.sidecar(xds, "shop", "files").await.unwrap();
        let files = files
            .args(["--inbound", &format!("{inbound}={server}")])
            .start_ready(READY_WITHIN)
            .await
            .unwrap();
        let web = mesh.sidecar(xds, "shop", "web").await.unwrap();
        let outbound = format!("{entrance}=files.shop:{PORT}");
        let web = web.args(["--outbound", &outbound]).start_ready(READY_WITHIN).await.unwrap();
        Self {
            entrance,
            inbound,
            _sidecars: [web, files],
            _control_plane: control_plane,
            _mesh: mesh,
            _subnet: subnet,
        }
    }
}

/// Runs a client to its end; what it wrote.
pub(crate) async fn run(program: Program) -> String {
    program.output(PATIENCE).await.unwrap()
}

fn shop(inbound: SocketAddr) -> String {
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: mesh, namespace: outrigger-system}}\n\
         spec: {{mtls: Strict}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: files, namespace: shop}}\n\
         spec:\n  selector: {{app: files}}\n  ports: [{{name: http, port: {PORT}, targetPort: http}}]\n\
         ---\napiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
         metadata: {{name: files, namespace: shop, labels: {{app: files}}}}\n\
         spec: {{address: {}, ports: {{http: {}}}, serviceAccount: files, meshed: true}}\n",
        inbound.ip(),
        inbound.port(),
    )
}
