//! What an installation decides about every sidecar, and a pod may change for itself by annotations.

use crate::kubernetes::names;

/// How the sidecar stands in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// An init container that keeps running (Kubernetes 1.29 and newer): it is there before the others and ends after
    /// them, and Jobs end.
    #[default]
    Native,
    /// An ordinary container, the first one, for older clusters.
    Legacy,
}

/// Requests and limits of the sidecar, as Kubernetes writes quantities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyResources {
    /// CPU that is set aside.
    pub cpu_request: String,
    /// CPU that is not exceeded; no limit when `None`.
    pub cpu_limit: Option<String>,
    /// Memory that is set aside.
    pub memory_request: String,
    /// Memory that is not exceeded; no limit when `None`.
    pub memory_limit: Option<String>,
}

/// What an installation decides about every sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How the sidecar stands in a pod.
    pub mode: Mode,
    /// The image of the sidecar and of the redirect step.
    pub image: String,
    /// When the image is pulled; the cluster decides when `None`.
    pub image_pull_policy: Option<String>,
    /// The namespace of the control plane; pods in it get no sidecar.
    pub mesh_namespace: String,
    /// Where sidecars reach the control plane.
    pub control_plane: String,
    /// What is set aside for the sidecar.
    pub resources: ProxyResources,
    /// What the sidecar logs, as its `--log-level`; its own default when `None`.
    pub log_level: Option<String>,
}

impl Default for ProxyResources {
    fn default() -> Self {
        Self {
            cpu_request: "50m".to_owned(),
            cpu_limit: None,
            memory_request: "32Mi".to_owned(),
            memory_limit: None,
        }
    }
}

impl Settings {
    /// What an installation in `mesh_namespace` has unless told otherwise.
    pub fn of(mesh_namespace: &str) -> Self {
        let (service, port) = (names::CONTROL_PLANE, names::XDS_TLS_PORT);
        Self {
            mode: Mode::default(),
            image: format!("{}:{}", names::PROXY_IMAGE, env!("CARGO_PKG_VERSION")),
            image_pull_policy: None,
            mesh_namespace: mesh_namespace.to_owned(),
            control_plane: format!("https://{service}.{mesh_namespace}.svc:{port}"),
            resources: ProxyResources::default(),
            log_level: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(names::DEFAULT_NAMESPACE)
    }
}
