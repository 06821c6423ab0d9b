//! The command lines of etcd, the API server and the controllers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::process::Program;

use super::keys::Keys;

/// The port of the API server.
pub(super) const API_PORT: u16 = 6443;
/// The port of etcd for the API server.
const ETCD_PORT: u16 = 2379;
/// The port of etcd for other etcds, of which there are none.
const ETCD_PEER_PORT: u16 = 2380;
/// Where Services get their addresses.
const CLUSTER_IPS: &str = "10.96.0.0/16";
/// Who issues the tokens of service accounts.
const ISSUER: &str = "https://kubernetes.default.svc";
/// Everything but what judges nodes by heartbeats, which nothing here sends.
const CONTROLLERS: &str =
    "*,-node-lifecycle-controller,-node-ipam-controller,-persistentvolume-attach-detach-controller";

/// Where the servers of a cluster are, and how they are started.
#[derive(Debug)]
pub(super) struct Servers {
    bin: PathBuf,
    dir: PathBuf,
    place: Place,
}

/// Where servers listen, and where tests find the API server.
#[derive(Debug)]
pub(super) struct Place {
    /// The address of all servers.
    pub(super) address: IpAddr,
    /// Where the API server answers tests.
    pub(super) seen_at: SocketAddr,
    /// The network namespace of the servers, unless it is that of the test.
    pub(super) namespace: Option<PathBuf>,
}

impl Servers {
    /// Servers on an address that nothing else listens on.
    pub(super) fn new(kubernetes: &Path, dir: &Path, place: Place) -> Self {
        Self { bin: kubernetes.join("bin"), dir: dir.to_owned(), place }
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The directory with the CRDs of the Gateway API.
    pub(super) fn gateway_api(&self) -> PathBuf {
        self.bin.with_file_name("gateway-api")
    }

    /// The API server, for tests.
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.place.seen_at)
    }

    /// The API server, for what runs where the servers do.
    pub(super) fn inner_url(&self) -> String {
        format!("https://{}", self.at(API_PORT))
    }

    fn server(&self, name: &str) -> Program {
        let program = self.program(name);
        let Some(namespace) = &self.place.namespace else { return Program::at(program) };
        Program::at("nsenter")
            .args([format!("--net={}", namespace.display()).into(), program.into_os_string()])
    }

    /// Storage that does not wait for the disk: what it holds ends with the test.
    pub(super) fn etcd(&self) -> Program {
        let clients = format!("http://{}", self.at(ETCD_PORT));
        let peers = format!("http://{}", self.at(ETCD_PEER_PORT));
        self.server("etcd").args([
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--data-dir={}", self.dir.join("etcd").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
        ])
    }

    pub(super) fn api(&self, keys: &Keys) -> Program {
        let file = |flag: &str, name: &str| format!("--{flag}={}", keys.path(name).display());
        self.server("kube-apiserver").args([
            format!("--etcd-servers=http://{}", self.at(ETCD_PORT)),
            format!("--bind-address={}", self.place.address),
            format!("--advertise-address={}", self.place.address),
            format!("--secure-port={API_PORT}"),
            file("cert-dir", "api-certificates"),
            file("tls-cert-file", "api.crt"),
            file("tls-private-key-file", "api.key"),
            file("client-ca-file", "ca.crt"),
            file("service-account-key-file", "service-accounts.pub"),
            file("service-account-signing-key-file", "service-accounts.key"),
            format!("--service-account-issuer={ISSUER}"),
            format!("--service-cluster-ip-range={CLUSTER_IPS}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            // Webhooks that name a Service are dialled at the addresses of its pods: the server has no kube-proxy.
            "--enable-aggregator-routing=true".to_owned(),
            // The endpoints of the Service `kubernetes` belong to whoever makes that Service reachable.
            "--endpoint-reconciler-type=none".to_owned(),
        ])
    }

    pub(super) fn controllers(&self, kubeconfig: &Path) -> Program {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.dir.join(name).display());
        self.server("kube-controller-manager").args([
            format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--controllers={CONTROLLERS}"),
            // As fast as the machine is: tests wait for what these do.
            "--kube-api-qps=400".to_owned(),
            "--kube-api-burst=800".to_owned(),
            "--concurrent-service-endpoint-syncs=10".to_owned(),
            file("service-account-private-key-file", "service-accounts.key"),
            file("root-ca-file", "ca.crt"),
        ])
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.place.address, port)
    }
}
