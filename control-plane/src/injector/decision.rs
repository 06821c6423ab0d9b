//! Whether a pod gets a sidecar, and if not, why not.

use std::fmt;

use serde_json::Value;

use super::{Mode, NamespaceFacts, Refusal, Settings, annotation, list, text};
use crate::kubernetes::names;

/// What the label of a namespace or the annotation of a pod says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// `enabled`.
    Enabled,
    /// `disabled`.
    Disabled,
    /// Nothing.
    #[default]
    Unsaid,
}

/// Why a pod stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Neither its namespace nor the pod asks for a sidecar.
    NotAsked,
    /// Its namespace or the pod says `disabled`.
    OptedOut,
    /// It lives where the cluster or the mesh itself lives.
    SystemNamespace,
    /// It has a sidecar.
    AlreadyInjected,
    /// It uses the network of its node.
    HostNetwork,
    /// It runs on another system than Linux.
    NotLinux,
    /// It is to end, which it never would beside a sidecar in `legacy` mode.
    WouldNotEnd,
}

impl Wish {
    /// Reads a label or an annotation; anything else than the two words says nothing.
    pub fn of_label(value: Option<&str>) -> Self {
        match value {
            Some("enabled") => Self::Enabled,
            Some("disabled") => Self::Disabled,
            _ => Self::Unsaid,
        }
    }
}

impl Skip {
    /// One word, for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::OptedOut => "opted_out",
            Self::SystemNamespace => "system_namespace",
            Self::AlreadyInjected => "already_injected",
            Self::HostNetwork => "host_network",
            Self::NotLinux => "not_linux",
            Self::WouldNotEnd => "would_not_end",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "neither its namespace nor the pod has outrigger.dev/inject: enabled",
            Self::OptedOut => "outrigger.dev/inject is disabled",
            Self::SystemNamespace => "pods of the cluster and of the mesh itself get no sidecar",
            Self::AlreadyInjected => "it has a sidecar already",
            Self::HostNetwork => {
                "it uses the network of its node (hostNetwork: true), whose traffic is not the pod's to redirect"
            }
            Self::NotLinux => "it does not run on Linux",
            Self::WouldNotEnd => {
                "it is meant to end (restartPolicy), and in legacy mode the sidecar would keep it alive; use native mode"
            }
        })
    }
}

/// Namespaces of the cluster itself. The webhook does not ask for them; this is the second lock on the same door.
pub const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Whether and why a pod stays as it is.
///
/// # Errors
/// When its annotation says neither `enabled` nor `disabled`.
pub fn decide(pod: &Value, settings: &Settings, namespace: &NamespaceFacts) -> Result<Option<Skip>, Refusal> {
    let name = namespace.name.as_str();
    if SYSTEM_NAMESPACES.contains(&name) || name == settings.mesh_namespace {
        return Ok(Some(Skip::SystemNamespace));
    }
    Ok(match (wish(pod)?, namespace.wish) {
        (Wish::Disabled, _) | (Wish::Unsaid, Wish::Disabled) => Some(Skip::OptedOut),
        (Wish::Unsaid, Wish::Unsaid) => Some(Skip::NotAsked),
        (Wish::Enabled, _) | (Wish::Unsaid, Wish::Enabled) => cannot(pod, settings.mode),
    })
}

fn wish(pod: &Value) -> Result<Wish, Refusal> {
    let written = annotation(pod, names::INJECT);
    match (Wish::of_label(written), written) {
        (Wish::Unsaid, Some(other)) => {
            let field = format!("metadata.annotations[{}]", names::INJECT);
            Err(Refusal::new(field, format!("{other:?} is neither enabled nor disabled; write one of them")))
        }
        (wish, _) => Ok(wish),
    }
}

fn cannot(pod: &Value, mode: Mode) -> Option<Skip> {
    let ends = text(pod, "/spec/restartPolicy").is_some_and(|policy| policy != "Always");
    let checks = [
        (is_injected(pod), Skip::AlreadyInjected),
        (pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)), Skip::HostNetwork),
        (text(pod, "/spec/os/name").is_some_and(|os| os != "linux"), Skip::NotLinux),
        (mode == Mode::Legacy && ends, Skip::WouldNotEnd),
    ];
    checks.into_iter().find_map(|(applies, skip)| applies.then_some(skip))
}

fn is_injected(pod: &Value) -> bool {
    let mut containers = list(pod, "/spec/initContainers").chain(list(pod, "/spec/containers"));
    let is_ours = |container: &Value| {
        text(container, "/name")
            .is_some_and(|name| matches!(name, names::PROXY_CONTAINER | names::REDIRECT_CONTAINER))
    };
    annotation(pod, names::INJECTED).is_some() || containers.any(is_ours)
}
