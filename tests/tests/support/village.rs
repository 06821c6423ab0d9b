//! Three hosts on a bridge, each with an application and a sidecar that captures its traffic, and a control plane on the
//! bridge. Everything is a process of its own in a network namespace of its own; the sidecars run as user 1337.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::time::Duration;

use outrigger_tests::counterparts::{Counterpart, Found};
use outrigger_tests::eventually;
use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::network::{Namespace, Network};
use outrigger_tests::process::{Process, Program, Signal, cargo_bin};

const APPLICATION: &str = include_str!("../python/application.py");
/// Part of everything an application says or is told: what must not be readable on the wire.
pub(crate) const MARKER: &str = "marker-d41d8cd98f00b204";
/// How long a command or a start may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The names of the hosts, their workloads and their service accounts.
pub(crate) const HOSTS: [&str; 3] = ["web", "reviews-1", "reviews-2"];
/// The application in the hub, which has no sidecar.
pub(crate) const OUTSIDER: &str = "outsider";
/// The user that the sidecars run as, whose traffic is not redirected.
const PROXY: u32 = 1337;
const XDS_PORT: u16 = 15012;

/// Everything that runs. What is first here ends first.
pub(crate) struct Village {
    sidecars: Vec<Process>,
    applications: Vec<Process>,
    control_plane: Process,
    pub(crate) found: Found,
    proxy: PathBuf,
    mesh: Mesh,
    pub(crate) network: Network,
}

impl Village {
    /// Starts everything, and has the kernels of the hosts redirect.
    pub(crate) async fn start(found: Found) -> Self {
        let mut network = Network::new(found.path(Counterpart::Ip), "village").unwrap();
        for name in HOSTS {
            network.add_host(name).unwrap();
        }
        let mesh = Mesh::new().unwrap();
        mesh.write("shop.yaml", &shop(&network)).unwrap();
        let control_plane = start_control_plane(&mesh, network.hub()).await;
        // Another user may not be allowed to reach the place where programs are built.
        let proxy = mesh.path().join("outrigger-proxy");
        fs::copy(cargo_bin("outrigger-proxy"), &proxy).unwrap();
        let mut village = Self {
            sidecars: Vec::new(),
            applications: Vec::new(),
            control_plane,
            found,
            proxy,
            mesh,
            network,
        };
        for (host, name) in village.network.hosts().iter().zip(HOSTS) {
            let application = village.python(host, &[APPLICATION, name, MARKER]).start().unwrap();
            village.applications.push(application);
            village.sidecars.push(village.start_sidecar(host, name).await);
        }
        let outsider =
            village.python(village.network.hub(), &[APPLICATION, OUTSIDER, MARKER]).start().unwrap();
        village.applications.push(outsider);
        for application in &village.applications {
            let serving =
                eventually(PATIENCE, async || application.stdout().contains("serving").then_some(()));
            assert!(serving.await.is_some(), "{}", application.stderr());
        }
        village.redirect(&[]).await;
        village
    }

    /// The host of this name.
    pub(crate) fn host(&self, name: &str) -> &Namespace {
        let index = HOSTS.iter().position(|host| *host == name).expect("one of HOSTS");
        &self.network.hosts()[index]
    }

    /// Runs `outrigger-proxy redirect` on every host.
    pub(crate) async fn redirect(&self, args: &[&str]) {
        for host in self.network.hosts() {
            let said =
                host.program(&self.proxy).args(["redirect"]).args(args).output(PATIENCE).await.unwrap();
            assert!(said.contains("IPv4") && said.contains("IPv6"), "both families: {said}");
        }
    }

    /// The rules of both families that redirect on a host.
    pub(crate) async fn rules(&self, host: &Namespace) -> String {
        let mut rules = String::new();
        for program in ["iptables", "ip6tables"] {
            rules += &host.program(program).args(["-w", "-t", "nat", "-S"]).output(PATIENCE).await.unwrap();
        }
        rules
    }

    /// Ends the sidecars at once.
    pub(crate) fn kill_sidecars(&mut self) {
        for sidecar in &self.sidecars {
            sidecar.signal(Signal::Kill).unwrap();
        }
        self.sidecars.clear();
    }

    /// What curl writes when it asks for `url` from a host.
    pub(crate) async fn curl(&self, from: &Namespace, args: &[&str], url: &str) -> anyhow::Result<String> {
        let always = ["--silent", "--show-error", "--noproxy", "*", "--max-time", "10"];
        let curl = from.program(self.found.path(Counterpart::Curl)).args(always);
        curl.args(["--header", &format!("x-marker: {MARKER}")]).args(args).args([url]).output(PATIENCE).await
    }

    /// What a Python program says that runs on a host: its text, then its arguments.
    pub(crate) fn python(&self, host: &Namespace, args: &[&str]) -> Program {
        host.program(self.found.path(Counterpart::GrpcPython)).args(["-c"]).args(args)
    }

    /// What the sidecars and the control plane have logged, for a failure.
    pub(crate) fn logs(&self) -> String {
        let all =
            self.sidecars.iter().zip(HOSTS).map(|(sidecar, host)| format!("{host}:\n{}", sidecar.stderr()));
        all.collect::<String>() + &self.control_plane.stderr()
    }

    async fn start_sidecar(&self, host: &Namespace, name: &str) -> Process {
        let token = self.mesh.token("shop", name).await.unwrap();
        let own = self.mesh.path().join(name);
        fs::create_dir(&own).unwrap();
        chown(&own, Some(PROXY), Some(PROXY)).unwrap();
        let (bundle, ready) = (self.mesh.path().join("root-cert.pem"), own.join("ready.json"));
        let control_plane = format!("https://{}:{XDS_PORT}", self.network.hub().ipv4());
        let sidecar = host
            .program_as(PROXY, &self.proxy)
            .args(["run", "--control-plane", &control_plane, "--namespace", "shop"])
            .args(["--service-account", name, "--workload", name, "--log-level", "info", "--token-file"])
            .args([token.as_os_str(), "--trust-bundle".as_ref(), bundle.as_os_str()])
            .args(["--ready-file".as_ref(), ready.as_os_str()])
            .start()
            .unwrap();
        let written = eventually(READY_WITHIN, async || fs::read(&ready).ok());
        assert!(written.await.is_some(), "the sidecar of {name} is not ready:\n{}", sidecar.stderr());
        sidecar
    }
}

async fn start_control_plane(mesh: &Mesh, hub: &Namespace) -> Process {
    let address = SocketAddr::new(hub.ipv4().into(), XDS_PORT).to_string();
    let program = hub.program(cargo_bin("outrigger")).args(mesh.control_plane_args());
    let program = program.args(["--xds-tls", &address, "--tls-name", &hub.ipv4().to_string()]);
    let control_plane = program.start_ready(READY_WITHIN).await.unwrap();
    fs::copy(mesh.data().join("root-cert.pem"), mesh.path().join("root-cert.pem")).unwrap();
    control_plane
}

/// `web` has one instance, `reviews` two that take turns, so that a few requests meet both; `archive` is reached by IPv6 alone.
fn shop(network: &Network) -> String {
    let mut text = "apiVersion: outrigger.dev/v1alpha1\nkind: MeshConfig\n\
                    metadata: {name: mesh, namespace: outrigger-system}\nspec: {mtls: Strict}\n"
        .to_owned();
    for (number, app) in [(1, "web"), (2, "reviews"), (3, "archive")] {
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {app}, namespace: shop}}\nspec:\n\
             \x20 selector: {{app: {app}}}\n  clusterIPs: [10.96.0.{number}, 'fd96::{number}']\n  ports:\n\
             \x20 - {{name: http, port: 80, targetPort: 8080, appProtocol: http}}\n\
             \x20 - {{name: plain, port: 8080}}\n  - {{name: grpc, port: 8081, appProtocol: grpc}}\n\
             \x20 - {{name: opaque, port: 7000, appProtocol: tcp}}\n  - {{name: silent, port: 7001}}\n",
        );
    }
    for (host, name) in network.hosts().iter().zip(HOSTS) {
        let app = name.trim_end_matches(|c: char| !c.is_alphabetic());
        text += &workload(name, app, name, &host.ipv4().to_string());
    }
    text += "---\napiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {name: reviews, namespace: shop}\n\
             spec:\n  targetRefs: [{group: '', kind: Service, name: reviews}]\n  loadBalancer: {algorithm: RoundRobin}\n";
    text + &workload("archive", "archive", "reviews-1", &network.hosts()[1].ipv6().to_string())
}

fn workload(name: &str, app: &str, service_account: &str, address: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: Workload\n\
         metadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}}}\nspec:\n  address: '{address}'\n\
         \x20 ports: {{http: 8080, grpc: 8081, opaque: 7000, silent: 7001}}\n\
         \x20 serviceAccount: {service_account}\n  meshed: true\n",
    )
}
