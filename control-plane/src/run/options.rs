//! Flags of the control plane, and what follows from them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use outrigger_base::flags::parse_duration;
use outrigger_base::lifecycle::exit::ExitError;
use outrigger_base::telemetry::logs::LogFormat;

use crate::ca::files::Files;
use crate::ca::{LONGEST_LIFE, Lifetimes, SHORTEST_LIFE, serving};
use crate::injector::InjectorOptions;
use crate::kubernetes::names::DEFAULT_NAMESPACE;
use crate::source::kube::Scope;

/// What --shortest-certificate-ttl may be at least: certificates end at whole seconds.
const LEAST_LIFE: Duration = Duration::from_secs(5);

/// Flags of the control plane. The configuration comes from a directory or from a cluster; one of both is needed.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directory of YAML files that describe the mesh; watched for changes.
    #[arg(long, value_name = "DIR", env = "OUTRIGGER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Take everything from a Kubernetes cluster: objects, the root key, and the proof of who a workload is.
    #[arg(long, env = "OUTRIGGER_KUBERNETES", value_parser = FalseyValueParser::new())]
    pub kubernetes: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a flattened group has no help of its own")]
    pub cluster: ClusterOptions,
    /// Directory for the root key and other state, with --config [default: $XDG_STATE_HOME/outrigger or ~/.local/state/outrigger].
    #[arg(long, value_name = "DIR", env = "OUTRIGGER_DATA")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a flattened group has no help of its own")]
    pub authority: AuthorityOptions,
    /// Address of discovery and certificates without TLS; callers from loopback need no token.
    #[arg(long, value_name = "ADDR:PORT", env = "OUTRIGGER_XDS", default_value = "127.0.0.1:15010")]
    pub xds: SocketAddr,
    /// Address of discovery and certificates with TLS, for example 0.0.0.0:15012; off unless given.
    #[arg(long, value_name = "ADDR:PORT", env = "OUTRIGGER_XDS_TLS")]
    pub xds_tls: Option<SocketAddr>,
    /// Host name or address by which proxies dial the TLS port; repeatable.
    #[arg(long, value_name = "NAME", env = "OUTRIGGER_TLS_NAME", value_delimiter = ',')]
    pub tls_name: Vec<String>,
    /// Address of the webhooks /inject and /validate over HTTPS, for example 0.0.0.0:15017; off unless given.
    #[arg(long, value_name = "ADDR:PORT", env = "OUTRIGGER_WEBHOOK")]
    pub webhook: Option<SocketAddr>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a flattened group has no help of its own")]
    pub injector: InjectorOptions,
    /// Address of metrics, health and the JSON API.
    #[arg(long, value_name = "ADDR:PORT", env = "OUTRIGGER_HTTP", default_value = "127.0.0.1:15014")]
    pub http: SocketAddr,
    /// File that is written when the control plane is ready, with its addresses as JSON.
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_READY_FILE")]
    pub ready_file: Option<PathBuf>,
    /// Open file descriptor that gets the same line.
    #[arg(long, value_name = "N", env = "OUTRIGGER_READY_FD")]
    pub ready_fd: Option<i32>,
    /// Log format: auto (text on a terminal, JSON otherwise), text or json.
    #[arg(long, value_name = "FORMAT", env = "OUTRIGGER_LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,
    /// Log level, or a list of target=level.
    #[arg(long, value_name = "FILTER", env = "OUTRIGGER_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Flags of the certificate authority. Without a place of its own, it is made by the control plane itself.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AuthorityOptions {
    /// Certificate of the authority that signs, with the intermediates above it; watched for changes.
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_CA_CERT", requires = "ca_key")]
    pub ca_cert: Option<PathBuf>,
    /// Key of --ca-cert.
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_CA_KEY", requires = "ca_cert")]
    pub ca_key: Option<PathBuf>,
    /// Roots that workloads trust, the one above --ca-cert among them [default: the root in --ca-cert].
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_CA_BUNDLE", requires = "ca_cert")]
    pub ca_bundle: Option<PathBuf>,
    /// Directory with tls.crt, tls.key and ca.crt of the authority, as cert-manager writes them; watched for changes.
    #[arg(long, value_name = "DIR", env = "OUTRIGGER_CA_DIR", conflicts_with = "ca_cert")]
    pub ca_dir: Option<PathBuf>,
    /// How long certificates of workloads live, 5m to 168h [default: 24h].
    #[arg(long, value_name = "DURATION", env = "OUTRIGGER_CERTIFICATE_TTL", value_parser = parse_duration)]
    pub certificate_ttl: Option<Duration>,
    /// The least that --certificate-ttl may be; less than 5m is for tests.
    #[arg(long, value_name = "DURATION", env = "OUTRIGGER_SHORTEST_CERTIFICATE_TTL", hide = true, value_parser = parse_duration)]
    pub shortest_certificate_ttl: Option<Duration>,
}

/// Flags that say which cluster, and which part of it.
#[derive(Debug, Clone, clap::Args)]
pub struct ClusterOptions {
    /// File that says where the cluster is and who we are, with --kubernetes [default: the pod's own service account,
    /// else what kubectl would use].
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the control plane: of its Secret with the root, its Lease, and the MeshConfig that counts.
    #[arg(long, value_name = "NAMESPACE", env = "OUTRIGGER_MESH_NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    pub mesh_namespace: String,
    /// Namespaces whose objects count, separated by commas, beside the control plane's own [default: all].
    #[arg(long, value_name = "NAMESPACES", env = "OUTRIGGER_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Labels of the namespaces whose objects count, like mesh=yes,team=shop; all of them must be there.
    #[arg(long, value_name = "LABELS", env = "OUTRIGGER_NAMESPACE_SELECTOR", value_delimiter = ',')]
    pub namespace_selector: Vec<String>,
}

/// Where objects come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// YAML files.
    Directory(PathBuf),
    /// The API of a cluster.
    Kubernetes,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            mesh_namespace: DEFAULT_NAMESPACE.to_owned(),
            watch_namespaces: Vec::new(),
            namespace_selector: Vec::new(),
        }
    }
}

impl AuthorityOptions {
    /// The files of an authority that was given.
    pub(super) fn files(&self) -> Option<Files> {
        match (&self.ca_dir, &self.ca_cert, &self.ca_key) {
            (Some(directory), _, _) => Some(Files::of_directory(directory)),
            (None, Some(certificate), Some(key)) => {
                Some(Files::named(certificate.clone(), key.clone(), self.ca_bundle.clone()))
            }
            _ => None,
        }
    }

    /// How long certificates live.
    pub(super) fn lifetimes(&self) -> Result<Lifetimes, ExitError> {
        let shortest = self.shortest_certificate_ttl.unwrap_or(SHORTEST_LIFE).clamp(LEAST_LIFE, LONGEST_LIFE);
        let longest = self.certificate_ttl.unwrap_or(Lifetimes::default().longest);
        match (shortest..=LONGEST_LIFE).contains(&longest) {
            true => Ok(Lifetimes { shortest, longest }),
            false => Err(ExitError::usage(format_args!(
                "--certificate-ttl is {longest:?}; certificates live 5m to 168h (7 days), and 24h is usual"
            ))),
        }
    }
}

impl ClusterOptions {
    /// Which part of the cluster counts.
    pub(super) fn scope(&self) -> Result<Scope, ExitError> {
        let mut labels = BTreeMap::new();
        for text in &self.namespace_selector {
            let label = text.split_once('=').filter(|(key, _)| !key.is_empty() && !key.ends_with('!'));
            let Some((key, value)) = label else {
                return Err(ExitError::usage(format_args!(
                    "--namespace-selector: {text:?} is not a label; write key=value, several of them separated by commas"
                )));
            };
            labels.insert(key.to_owned(), value.to_owned());
        }
        let namespaces = self.watch_namespaces.iter().cloned().collect();
        Ok(Scope { own: self.mesh_namespace.as_str().into(), namespaces, labels })
    }
}

impl Options {
    /// Where objects come from; an error of usage unless exactly one place is named.
    pub(super) fn origin(&self) -> Result<Origin, ExitError> {
        match (&self.config, self.kubernetes) {
            (Some(directory), false) => Ok(Origin::Directory(directory.clone())),
            (None, true) => Ok(Origin::Kubernetes),
            (None, false) => Err(ExitError::usage(
                "say where the configuration comes from: --config DIR for a directory of YAML files, or --kubernetes \
                 for a cluster",
            )),
            (Some(_), true) => Err(ExitError::usage(
                "--config and --kubernetes exclude each other; the configuration comes from one of both",
            )),
        }
    }

    /// What is logged. The client of the Kubernetes API says each of its failures as an error, also those that are only
    /// tried again; ours say once what it means, so that it is heard only when it is named.
    pub(super) fn log_filter(&self) -> String {
        match self.log_level.contains("kube_") {
            true => self.log_level.clone(),
            false => format!("{},kube_client=off,kube_runtime=off", self.log_level),
        }
    }

    /// Names and addresses of the TLS ports: those of the Service in the control plane's namespace, and the given ones.
    pub(super) fn tls_names(&self) -> Vec<String> {
        let usual = serving::service_names(&self.cluster.mesh_namespace);
        usual.into_iter().chain(self.tls_name.iter().cloned()).collect()
    }
}

/// The data directory to use: the one given, or the one in the user's state home.
pub fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, ExitError> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    given
        .or_else(|| absolute("XDG_STATE_HOME").map(|home| home.join("outrigger")))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state/outrigger")))
        .ok_or_else(|| {
            ExitError::usage("there is no home directory for state; give a directory with --data DIR")
        })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(flags: &[&str]) -> Options {
        Cli::try_parse_from(["run"].iter().chain(flags)).unwrap().options
    }

    #[test]
    fn flags_are_read_with_their_defaults() {
        let options = options(&["--config", "mesh", "--tls-name", "a,b"]);
        assert_eq!((options.xds.to_string().as_str(), options.xds_tls), ("127.0.0.1:15010", None));
        assert_eq!((options.http.to_string().as_str(), options.tls_name.len()), ("127.0.0.1:15014", 2));
        assert_eq!((options.webhook, options.cluster.mesh_namespace.as_str()), (None, DEFAULT_NAMESPACE));
        assert_eq!(options.origin().unwrap(), Origin::Directory("mesh".into()));
    }

    #[test]
    fn an_authority_is_given_by_a_directory_or_by_its_files() {
        let given = |flags: &[&str]| Cli::try_parse_from(["run"].iter().chain(flags));
        let files = |flags: &[&str]| given(flags).unwrap().options.authority.files();
        assert_eq!(files(&[]), None);
        assert_eq!(files(&["--ca-dir", "ca"]), Some(Files::of_directory("ca".as_ref())));
        let named = Files::named("c".into(), "k".into(), Some("b".into()));
        assert_eq!(files(&["--ca-cert", "c", "--ca-key", "k", "--ca-bundle", "b"]), Some(named));
        for bad in [&["--ca-cert", "c"][..], &["--ca-key", "k"], &["--ca-bundle", "b"]] {
            assert!(given(bad).is_err(), "{bad:?}");
        }
        assert!(given(&["--ca-dir", "d", "--ca-cert", "c", "--ca-key", "k"]).is_err());
    }

    #[test]
    fn certificates_live_five_minutes_to_seven_days() {
        let lives =
            |flags: &[&str]| options(flags).authority.lifetimes().map(|lives| lives.longest.as_secs());
        assert_eq!(lives(&[]).unwrap(), 24 * 3600);
        assert_eq!(lives(&["--certificate-ttl", "5m"]).unwrap(), 300);
        assert_eq!(lives(&["--certificate-ttl", "168h"]).unwrap(), 7 * 24 * 3600);
        for bad in ["4m59s", "168h1s", "0s"] {
            let error = lives(&["--certificate-ttl", bad]).unwrap_err();
            assert!(error.to_string().contains("--certificate-ttl") && error.code() == 2, "{bad}: {error}");
        }
        assert_eq!(lives(&["--certificate-ttl", "30s", "--shortest-certificate-ttl", "30s"]).unwrap(), 30);
    }

    #[test]
    fn the_configuration_comes_from_exactly_one_place() {
        assert_eq!(options(&["--kubernetes"]).origin().unwrap(), Origin::Kubernetes);
        for flags in [&[][..], &["--kubernetes", "--config", "mesh"]] {
            let error = options(flags).origin().unwrap_err();
            let line = error.to_string();
            assert!(
                line.contains("--config") && line.contains("--kubernetes") && error.code() == 2,
                "{line}"
            );
        }
    }

    #[test]
    fn the_client_of_the_api_is_heard_only_when_it_is_named() {
        let filter = |level| options(&["--kubernetes", "--log-level", level]).log_filter();
        assert_eq!(filter("info"), "info,kube_client=off,kube_runtime=off");
        assert_eq!(filter("warn,kube_client=debug"), "warn,kube_client=debug");
    }

    #[test]
    fn a_part_of_a_cluster_is_chosen_by_name_or_label() {
        let flags =
            ["--kubernetes", "--watch-namespaces", "shop,bank", "--namespace-selector", "mesh=yes,team="];
        let scope = options(&flags).cluster.scope().unwrap();
        assert_eq!((scope.namespaces.len(), &*scope.own), (2, DEFAULT_NAMESPACE));
        assert_eq!((scope.labels["mesh"].as_str(), scope.labels["team"].as_str()), ("yes", ""));
        for bad in ["mesh", "=yes", "mesh!=yes"] {
            let error = options(&["--kubernetes", "--namespace-selector", bad]).cluster.scope().unwrap_err();
            assert!(error.to_string().contains("key=value") && error.code() == 2, "{bad}: {error}");
        }
    }

    #[test]
    fn the_service_of_the_chosen_namespace_is_a_name_of_the_tls_ports() {
        let names = options(&["--kubernetes", "--mesh-namespace", "mesh", "--tls-name", "a"]).tls_names();
        for name in
            ["outrigger-control-plane.mesh.svc", "outrigger-control-plane.mesh.svc.cluster.local", "a"]
        {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("outrigger-system")), "{names:?}");
    }
}
