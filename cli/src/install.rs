//! `outrigger install`: the objects of an installation, as YAML for `kubectl apply -f -`.
//!
//! [`objects`] is the one source: the chart and the kustomize base under `deploy/` are compared with it by tests, their
//! CRDs and rights are generated from it. It talks to no cluster; `kubectl` does, with the rights of who types it.

use clap::{Args as ClapArgs, ValueEnum};
use outrigger_control_plane::injector::InjectorOptions;
use outrigger_control_plane::kubernetes::names;
use serde_json::Value;

use crate::output;

mod deployment;
#[cfg(test)]
mod generated;
mod metadata;
mod monitoring;
mod objects;
mod rights;
mod webhooks;

pub(crate) use objects::{definitions, objects};

/// Where our images are unless told otherwise.
const REGISTRY: &str = "outrigger";
/// The version that is installed: that of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the objects of an installation as YAML. Nothing is changed: pipe it into kubectl.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "Example: outrigger install --ha | kubectl apply -f -")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Leave out the CustomResourceDefinitions.
    #[arg(long, conflicts_with = "crds_only")]
    skip_crds: bool,
    /// Print nothing but the CustomResourceDefinitions.
    #[arg(long)]
    crds_only: bool,
}

/// What an installation may be told; `upgrade` and `uninstall` take the same, so that they mean the same objects.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Flags {
    /// Namespace of the control plane.
    #[arg(long, short, value_name = "NAMESPACE", env = "OUTRIGGER_MESH_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    pub(crate) namespace: String,
    /// Three replicas of the control plane on different hosts and zones, of which two stay when nodes are drained.
    #[arg(long)]
    ha: bool,
    /// Where the images are.
    #[arg(long, value_name = "REGISTRY", default_value = REGISTRY)]
    image_registry: String,
    /// The tag of the images.
    #[arg(long, value_name = "TAG", default_value = VERSION)]
    image_tag: String,
    /// The whole image of the control plane, instead of registry and tag.
    #[arg(long, value_name = "IMAGE")]
    control_plane_image: Option<String>,
    #[command(flatten)]
    injector: InjectorOptions,
    /// Whether workloads let plaintext in, written as MeshConfig; Permissive unless a MeshConfig says otherwise.
    #[arg(long, value_name = "MODE")]
    mtls: Option<Mtls>,
    /// The trust domain of every identity, written as MeshConfig; cluster.local unless a MeshConfig says otherwise.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    /// The address that the control plane listens at; :: for a cluster with IPv6 only.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    listen: std::net::IpAddr,
    /// The PriorityClass of the control plane, for example system-cluster-critical.
    #[arg(long, value_name = "CLASS")]
    priority_class: Option<String>,
    /// Add a NetworkPolicy that lets only what the control plane serves through.
    #[arg(long)]
    network_policy: bool,
    /// Add a ServiceMonitor for the control plane (Prometheus Operator).
    #[arg(long)]
    service_monitor: bool,
    /// Add a PodMonitor for all sidecars (Prometheus Operator).
    #[arg(long)]
    pod_monitor: bool,
}

/// Whether plaintext is let in; the words of MeshConfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum Mtls {
    /// Mutual TLS only.
    Strict,
    /// Mutual TLS and plaintext.
    Permissive,
}

/// How many of the control plane there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    /// One, which comes back when its node is gone.
    Single,
    /// Three, far from each other.
    High,
}

/// Objects that not every cluster has use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    /// A NetworkPolicy of the control plane.
    NetworkPolicy,
    /// A ServiceMonitor of the control plane.
    ServiceMonitor,
    /// A PodMonitor of all sidecars.
    PodMonitor,
}

/// What an installation is, decided.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The namespace of the control plane.
    pub(crate) namespace: String,
    /// How many of the control plane there are.
    pub(crate) availability: Availability,
    /// The image of the control plane.
    pub(crate) control_plane_image: String,
    /// What every sidecar has; its image is there.
    pub(crate) injector: InjectorOptions,
    /// `mtls` of the MeshConfig.
    pub(crate) mtls: Option<Mtls>,
    /// `trustDomain` of the MeshConfig.
    pub(crate) trust_domain: Option<String>,
    /// The address that the control plane listens at.
    pub(crate) listen: std::net::IpAddr,
    /// The PriorityClass of the control plane.
    pub(crate) priority_class: Option<String>,
    /// Objects that not every cluster has use for.
    pub(crate) extras: Vec<Extra>,
}

impl Flags {
    /// What they come to.
    pub(crate) fn settings(&self) -> Settings {
        let image = |whole: &Option<String>, name: &str| {
            let registry = self.image_registry.trim_end_matches('/');
            whole.clone().unwrap_or_else(|| format!("{registry}/{name}:{}", self.image_tag))
        };
        let wanted = [
            (self.network_policy, Extra::NetworkPolicy),
            (self.service_monitor, Extra::ServiceMonitor),
            (self.pod_monitor, Extra::PodMonitor),
        ];
        Settings {
            namespace: self.namespace.clone(),
            availability: if self.ha { Availability::High } else { Availability::Single },
            control_plane_image: image(&self.control_plane_image, "outrigger-control-plane"),
            injector: InjectorOptions {
                proxy_image: Some(image(&self.injector.proxy_image, "outrigger-proxy")),
                ..self.injector.clone()
            },
            mtls: self.mtls,
            trust_domain: self.trust_domain.clone(),
            listen: self.listen,
            priority_class: self.priority_class.clone(),
            extras: wanted.into_iter().filter_map(|(wanted, extra)| wanted.then_some(extra)).collect(),
        }
    }
}

impl Flags {
    /// Everything that an installation in their namespace may have been given, of kinds that every cluster knows.
    pub(crate) fn everything(&self) -> Settings {
        let mut settings = self.settings();
        settings.availability = Availability::High;
        if !settings.extras.contains(&Extra::NetworkPolicy) {
            settings.extras.push(Extra::NetworkPolicy);
        }
        settings
    }
}

impl Settings {
    /// Whether the mesh is told something that a MeshConfig says.
    fn has_mesh_config(&self) -> bool {
        self.mtls.is_some() || self.trust_domain.is_some()
    }
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let settings = args.flags.settings();
    let objects = match (args.crds_only, args.skip_crds) {
        (true, _) => definitions(),
        (false, true) => objects(&settings),
        (false, false) => definitions().into_iter().chain(objects(&settings)).collect(),
    };
    if settings.has_mesh_config() && !args.skip_crds && !args.crds_only {
        eprintln!(
            "outrigger: kubectl looks kinds up before it makes any, so apply the kinds first, or run the same line twice:\n  \
             outrigger install --crds-only | kubectl apply -f -"
        );
    }
    output::write(&documents(&objects))
}

/// Objects as one text of YAML documents.
pub(crate) fn documents(objects: &[Value]) -> String {
    let texts: Vec<String> = objects.iter().map(output::yaml).collect();
    texts.join("---\n")
}

#[cfg(test)]
mod tests;
