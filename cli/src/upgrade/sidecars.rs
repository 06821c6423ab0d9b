//! Which pods go on with another sidecar than a new pod would get, and how they are restarted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use outrigger_control_plane::kubernetes::names;

/// At most so many lines of advice.
const MAX_LINES: usize = 50;
/// The label by which a ReplicaSet tells its pods from those of its siblings; its own name ends with it.
const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// A pod with a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sidecar {
    namespace: String,
    /// The version that was injected; empty when the pod does not say.
    version: String,
    owner: Owner,
}

/// What makes a pod anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// `kubectl rollout restart` knows it: its kind and name.
    Restartable(&'static str, String),
    /// It ends by itself, or somebody made it by hand: the pod's own name.
    Pod(String),
}

impl Sidecar {
    /// The sidecar of a pod, if it has one.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        containers.find(|container| container.name == names::PROXY_CONTAINER)?;
        let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(names::INJECTED));
        Some(Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            version: annotation.cloned().unwrap_or_default(),
            owner: owner(pod),
        })
    }
}

fn owner(pod: &Pod) -> Owner {
    let owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else {
        return Owner::Pod(pod.metadata.name.clone().unwrap_or_default());
    };
    let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_TEMPLATE_HASH));
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    match (owner.kind.as_str(), deployment) {
        ("ReplicaSet", Some(deployment)) => Owner::Restartable("deployment", deployment.to_owned()),
        ("StatefulSet", _) => Owner::Restartable("statefulset", owner.name.clone()),
        ("DaemonSet", _) => Owner::Restartable("daemonset", owner.name.clone()),
        _ => Owner::Pod(pod.metadata.name.clone().unwrap_or_default()),
    }
}

/// One line for each thing to restart; none when every sidecar is of version `target`.
pub(super) fn advice(sidecars: &[Sidecar], target: &str) -> Vec<String> {
    let mut others: BTreeMap<(&str, &Owner), usize> = BTreeMap::new();
    for sidecar in sidecars.iter().filter(|sidecar| sidecar.version != target) {
        *others.entry((&sidecar.namespace, &sidecar.owner)).or_default() += 1;
    }
    if others.is_empty() {
        return Vec::new();
    }
    let pods: usize = others.values().sum();
    let head =
        format!("{pods} pods have sidecars of another version than {target}; when the control plane is new:");
    let lines = others.iter().take(MAX_LINES).map(|((namespace, owner), count)| match owner {
        Owner::Restartable(kind, name) => {
            format!("  kubectl -n {namespace} rollout restart {kind}/{name}   # {count} pods")
        }
        Owner::Pod(name) => format!(
            "  kubectl -n {namespace} delete pod {name}   # nothing makes it anew, unless it is of a Job"
        ),
    });
    let untold = others.len().saturating_sub(MAX_LINES);
    let rest = (untold > 0).then(|| format!("  and {untold} more"));
    std::iter::once(head).chain(lines).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, version: &str, owner: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "shop", "labels": {"pod-template-hash": "5d4"},
                "annotations": {"outrigger.dev/injected": version},
                "ownerReferences": owner,
            },
            "spec": {"containers": [{"name": "web"}], "initContainers": [{"name": "outrigger-proxy"}]},
        }))
        .unwrap()
    }

    fn owned(kind: &str, name: &str) -> serde_json::Value {
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1", "controller": true}])
    }

    #[test]
    fn pods_of_another_version_are_told_by_what_restarts_them() {
        let pods = [
            pod("web-5d4-a", "0.1.0", owned("ReplicaSet", "web-5d4")),
            pod("web-5d4-b", "0.1.0", owned("ReplicaSet", "web-5d4")),
            pod("db-0", "0.1.0", owned("StatefulSet", "db")),
            pod("new-5d4-a", "0.2.0", owned("ReplicaSet", "new-5d4")),
            pod("once-x", "0.1.0", owned("Job", "once")),
        ];
        let sidecars: Vec<_> = pods.iter().filter_map(Sidecar::of).collect();
        assert_eq!(
            advice(&sidecars, "0.2.0"),
            [
                "4 pods have sidecars of another version than 0.2.0; when the control plane is new:",
                "  kubectl -n shop rollout restart deployment/web   # 2 pods",
                "  kubectl -n shop rollout restart statefulset/db   # 1 pods",
                "  kubectl -n shop delete pod once-x   # nothing makes it anew, unless it is of a Job",
            ]
        );
        assert!(advice(&sidecars[3..4], "0.2.0").is_empty());
    }

    #[test]
    fn a_pod_without_a_sidecar_is_none_of_ours() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "web"}]}})).unwrap();
        assert_eq!(Sidecar::of(&pod), None);
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let pods = (0..60).map(|at| pod("a", "", owned("DaemonSet", &format!("d{at}"))));
        let sidecars: Vec<_> = pods.filter_map(|pod| Sidecar::of(&pod)).collect();
        let lines = advice(&sidecars, "0.2.0");
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (MAX_LINES + 2, Some("  and 10 more")));
    }
}
