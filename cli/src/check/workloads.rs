//! The pods: who has a sidecar, who missed it, which version each runs, and who is not connected.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_control_plane::kubernetes::names;
use serde_json::Value;

use super::Finding;
use super::control_plane::{first_few, has_proxy, proxy_of};
use super::gather::Facts;
use crate::cluster::text;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let pods = match (&facts.pods, &facts.namespaces) {
        (Ok(pods), Ok(_)) => pods,
        (Err(why), _) | (_, Err(why)) => return vec![Finding::unknown("pods", why)],
    };
    vec![missing(facts), versions(pods), connections(pods, facts)]
}

/// Pods that asked for a sidecar and have none, as `namespace/name`.
pub(super) fn missed(facts: &Facts) -> Vec<&Value> {
    let (Ok(pods), Ok(namespaces)) = (&facts.pods, &facts.namespaces) else { return Vec::new() };
    let said = |namespace| text(namespace, "/metadata/name");
    let labels = |namespace: &'_ Value| namespace["metadata"]["labels"][names::INJECT].clone();
    let labelled =
        Labelled(namespaces.iter().map(|namespace| (said(namespace), labels(namespace))).collect());
    pods.iter().filter(|pod| wants_proxy(pod, &labelled) && !has_proxy(pod) && !is_finished(pod)).collect()
}

/// What each namespace says of injection.
struct Labelled<'a>(BTreeMap<&'a str, Value>);

impl Labelled<'_> {
    fn asks(&self, namespace: &str) -> bool {
        self.0.get(namespace).is_some_and(|label| label == "enabled")
    }

    fn declines(&self, namespace: &str) -> bool {
        self.0.get(namespace).is_some_and(|label| label == "disabled")
    }
}

fn wants_proxy(pod: &Value, labelled: &Labelled<'_>) -> bool {
    if pod["spec"]["hostNetwork"] == true {
        return false;
    }
    let namespace = text(pod, "/metadata/namespace");
    match pod["metadata"]["annotations"][names::INJECT].as_str() {
        // Nobody asks us about pods of a namespace that declines.
        Some(said) => said == "enabled" && !labelled.declines(namespace),
        None => labelled.asks(namespace),
    }
}

fn is_finished(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
        || !pod["metadata"]["deletionTimestamp"].is_null()
}

pub(super) fn name(pod: &Value) -> String {
    format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"))
}

fn missing(facts: &Facts) -> Finding {
    let check = "pods without a sidecar";
    let names: Vec<String> = missed(facts).into_iter().map(name).collect();
    match names.as_slice() {
        [] => Finding::ok(check, "none that asked for one"),
        names => Finding::warning(
            check,
            format!("{} asked for one: {}", names.len(), first_few(names)),
            "they were made before the namespace was labelled or while the injector was away: `kubectl rollout restart` \
             their owners, or run this with --evict",
        ),
    }
}

/// The version in the tag of an image; the whole image where it has none.
fn version_of(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once('@').map_or(name, |(name, _)| name).split_once(':').map_or(image, |(_, tag)| tag)
}

fn versions(pods: &[Value]) -> Finding {
    let check = "sidecar versions";
    let mut by_version: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !is_finished(pod)) {
        if let Some(proxy) = proxy_of(pod) {
            by_version.entry(version_of(text(proxy, "/image"))).or_default().push(name(pod));
        }
    }
    let own = env!("CARGO_PKG_VERSION");
    let others: Vec<String> = by_version
        .iter()
        .filter(|(version, _)| **version != own)
        .flat_map(|(_, pods)| pods.clone())
        .collect();
    let counts: Vec<String> =
        by_version.iter().map(|(version, pods)| format!("{} with {version}", pods.len())).collect();
    match (counts.is_empty(), others.as_slice()) {
        (true, _) => Finding::ok(check, "no pod has a sidecar yet"),
        (false, []) => Finding::ok(check, counts.join(", ")),
        (false, others) => Finding::warning(
            check,
            format!("{}; not {own}: {}", counts.join(", "), first_few(others)),
            "`kubectl rollout restart` their owners when the control plane is upgraded",
        ),
    }
}

/// Running pods with a sidecar of which no replica of the control plane has a connection.
fn connections(pods: &[Value], facts: &Facts) -> Finding {
    let check = "sidecar connections";
    let answered: Vec<_> = facts.replicas.iter().filter(|replica| replica.version.is_ok()).collect();
    if answered.is_empty() || answered.len() < facts.replicas.len() {
        return Finding::unknown(check, "not every replica of the control plane can be asked");
    }
    // sidecar~10.0.0.7~web-1.shop~cluster.local
    let connected: BTreeSet<&str> = answered
        .iter()
        .flat_map(|replica| &replica.proxies)
        .filter_map(|proxy| text(proxy, "/id").split('~').nth(2))
        .collect();
    let running = pods
        .iter()
        .filter(|pod| has_proxy(pod) && text(pod, "/status/phase") == "Running" && !is_finished(pod));
    let id = |pod: &Value| format!("{}.{}", text(pod, "/metadata/name"), text(pod, "/metadata/namespace"));
    let (here, away): (Vec<&Value>, Vec<&Value>) =
        running.partition(|pod| connected.contains(id(pod).as_str()));
    let away: Vec<String> = away.into_iter().map(name).collect();
    match away.as_slice() {
        [] => Finding::ok(check, format!("{} connected", here.len())),
        away => Finding::warning(
            check,
            format!("{} connected, {} not: {}", here.len(), away.len(), first_few(away)),
            "they go on with the configuration they have; see the log of their container outrigger-proxy",
        ),
    }
}
