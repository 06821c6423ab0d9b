//! The command lines of etcd, the API server and the controllers.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::process::Program;

use super::keys::Keys;

/// The port of the API server.
const API_PORT: u16 = 6443;
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
    address: IpAddr,
}

impl Servers {
    /// Servers on an address that nothing else listens on.
    pub(super) fn new(kubernetes: &Path, dir: &Path, address: IpAddr) -> Self {
        Self { bin: kubernetes.join("bin"), dir: dir.to_owned(), address }
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The directory with the CRDs of the Gateway API.
    pub(super) fn gateway_api(&self) -> PathBuf {
        self.bin.with_file_name("gateway-api")
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.at(API_PORT))
    }

    /// Storage that does not wait for the disk: what it holds ends with the test.
    pub(super) fn etcd(&self) -> Program {
        let clients = format!("http://{}", self.at(ETCD_PORT));
        let peers = format!("http://{}", self.at(ETCD_PEER_PORT));
        Program::at(self.program("etcd")).args([
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
        Program::at(self.program("kube-apiserver")).args([
            format!("--etcd-servers=http://{}", self.at(ETCD_PORT)),
            format!("--bind-address={}", self.address),
            format!("--advertise-address={}", self.address),
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
        Program::at(self.program("kube-controller-manager")).args([
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
        SocketAddr::new(self.address, port)
    }
}
