//! The control plane and what is installed with it: kinds, rights, webhooks, certificates, replicas.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger_base::keys::parse_chain_pem;
use outrigger_control_plane::kubernetes::{names, rbac};
use outrigger_resources::kubernetes::PROXY_CONTAINER;
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Finding;
use super::gather::{Facts, Found, Replica, unix_seconds};
use crate::cluster::text;

/// The fix of whatever is not as `outrigger install` made it.
const INSTALL_AGAIN: &str = "run `outrigger install | kubectl apply -f -`, or upgrade the Helm release";
/// A root is said to end soon when less than this is left, in days.
const ROOT_SOON_DAYS: u64 = 90;
/// Clocks of the control plane and of this host may differ by so much, in seconds.
const MAX_SKEW_SECONDS: u64 = 60;
const DAY_SECONDS: u64 = 24 * 3600;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![deployment(facts)];
    findings.extend(rights(facts));
    findings.push(webhook("injector", &facts.injector, facts));
    findings.push(webhook("validator", &facts.validator, facts));
    findings.push(rehearsal(facts));
    findings.push(root(facts));
    findings.extend(facts.replicas.iter().map(replica));
    if let Some(replica) = facts.replicas.iter().find(|replica| replica.version.is_ok()) {
        findings.push(policies(replica));
    }
    findings
}

fn deployment(facts: &Facts) -> Finding {
    let (check, name) = ("control plane", format!("Deployment {}/{}", facts.namespace, names::CONTROL_PLANE));
    let deployment = match &facts.deployment {
        Err(why) => return Finding::unknown(check, why),
        Ok(None) => {
            let message = format!("{name} is not there");
            return Finding::failed(
                check,
                message,
                "say where it is with --namespace, or install it: `outrigger install | kubectl apply -f -`",
            );
        }
        Ok(Some(deployment)) => deployment,
    };
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let (wanted, available) = (number("/spec/replicas"), number("/status/availableReplicas"));
    let message = format!("{name}: {available} of {wanted} replicas available");
    let fix =
        format!("see `kubectl -n {} describe pods` and the log of those that are not ready", facts.namespace);
    match available {
        0 => Finding::failed(check, message, fix),
        some if some < wanted => Finding::warning(check, message, fix),
        _ => Finding::ok(check, message),
    }
}

/// Whether the roles have every rule that the control plane needs.
fn rights(facts: &Facts) -> Vec<Finding> {
    let role = |check, found: &Found, rules: &[rbac::Rule]| match found {
        Err(why) => Finding::unknown(check, why),
        Ok(None) => Finding::failed(check, format!("{} is not there", names::CONTROL_PLANE), INSTALL_AGAIN),
        Ok(Some(role)) => {
            let missing: Vec<String> = rules.iter().filter(|rule| !grants(role, rule)).map(said).collect();
            match missing.as_slice() {
                [] => Finding::ok(check, "complete"),
                missing => Finding::failed(
                    check,
                    format!("rules are missing: {}", missing.join("; ")),
                    INSTALL_AGAIN,
                ),
            }
        }
    };
    vec![
        role("rights (ClusterRole)", &facts.cluster_role, rbac::CLUSTER),
        role("rights (Role)", &facts.role, rbac::OWN_NAMESPACE),
    ]
}

fn grants(role: &Value, rule: &rbac::Rule) -> bool {
    let wanted = serde_json::to_value(rule).unwrap_or_default();
    let covers = |given: &Value, key: &str| {
        let set = |rule: &Value| -> BTreeSet<String> {
            let items = rule[key].as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        set(given).is_superset(&set(&wanted))
    };
    let rules = role["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    rules.iter().any(|given| {
        let all_names = given["resourceNames"].as_array().is_none_or(Vec::is_empty);
        ["apiGroups", "resources", "verbs"].iter().all(|key| covers(given, key))
            && (all_names || (!rule.resource_names.is_empty() && covers(given, "resourceNames")))
    })
}

fn said(rule: &rbac::Rule) -> String {
    format!("{} {}", rule.verbs.join(","), rule.resources.join(","))
}

fn webhook(check: &'static str, found: &Found, facts: &Facts) -> Finding {
    let configuration = match found {
        Err(why) => return Finding::unknown(check, why),
        Ok(None) => return Finding::failed(check, "its webhook configuration is not there", INSTALL_AGAIN),
        Ok(Some(configuration)) => configuration,
    };
    let webhooks = configuration["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let elsewhere = webhooks.iter().map(|webhook| text(webhook, "/clientConfig/service/namespace"));
    if let Some(there) = elsewhere.into_iter().find(|there| *there != facts.namespace) {
        let message = format!("its webhooks call namespace {there:?}, which is another installation");
        return Finding::failed(
            check,
            message,
            format!("check that one with --namespace {there}; a cluster has one mesh"),
        );
    }
    let certified = webhooks.iter().all(|webhook| {
        STANDARD
            .decode(text(webhook, "/clientConfig/caBundle"))
            .is_ok_and(|pem| parse_chain_pem(&pem).is_ok())
    });
    if webhooks.is_empty() || !certified {
        return Finding::failed(
            check,
            "the API server has no certificate to verify it by (caBundle)",
            "the leading replica of the control plane writes it within a minute: see its log",
        );
    }
    Finding::ok(check, "configured, with a certificate to verify it by")
}

fn rehearsal(facts: &Facts) -> Finding {
    let check = "injection";
    let fix =
        "see the log of the control plane, and whether a NetworkPolicy keeps the API server from port 15017";
    match &facts.rehearsal {
        Err(why) => {
            Finding::failed(check, format!("a pod that asks for a sidecar cannot be created: {why}"), fix)
        }
        Ok(pod) if has_proxy(pod) => Finding::ok(check, "a rehearsed pod got its sidecar"),
        Ok(_) => Finding::failed(
            check,
            "a rehearsed pod got no sidecar: the webhook was not called",
            INSTALL_AGAIN,
        ),
    }
}

/// Whether a pod has a sidecar of ours.
pub(super) fn has_proxy(pod: &Value) -> bool {
    proxy_of(pod).is_some()
}

/// The sidecar of a pod.
pub(super) fn proxy_of(pod: &Value) -> Option<&Value> {
    let containers =
        ["initContainers", "containers"].into_iter().filter_map(|key| pod["spec"][key].as_array());
    containers.flatten().find(|container| container["name"] == PROXY_CONTAINER)
}

fn root(facts: &Facts) -> Finding {
    let check = "root certificate";
    let bundles = match &facts.bundles {
        Err(why) => return Finding::unknown(check, why),
        Ok(bundles) => bundles,
    };
    let mut texts: Vec<&str> =
        bundles.iter().filter_map(|bundle| bundle["data"][names::AUTHORITIES_KEY].as_str()).collect();
    let namespaces = texts.len();
    texts.sort_unstable();
    texts.dedup();
    match texts.as_slice() {
        [] => Finding::ok(check, "no namespace has meshed pods yet"),
        [bundle] => age_of_root(bundle, facts, namespaces),
        several => Finding::warning(
            check,
            format!("{} different bundles are trusted in {namespaces} namespaces", several.len()),
            "the leading replica of the control plane makes them one within a minute: see its log",
        ),
    }
}

fn age_of_root(bundle: &str, facts: &Facts, namespaces: usize) -> Finding {
    let check = "root certificate";
    let ends = parse_chain_pem(bundle.as_bytes()).ok().and_then(|chain| {
        let ends = chain.iter().filter_map(|der| X509Certificate::from_der(der).ok());
        ends.map(|(_, certificate)| certificate.validity().not_after.timestamp()).min()
    });
    let Some(ends) = ends else {
        let fix = format!("delete the ConfigMaps {}: they are written anew", names::TRUST_BUNDLE);
        return Finding::failed(check, "the trust bundle holds no certificate", fix);
    };
    let left = u64::try_from(ends).unwrap_or(0).saturating_sub(unix_seconds(facts.now)) / DAY_SECONDS;
    let message = format!("good for {left} more days, trusted in {namespaces} namespaces");
    match left {
        0 => Finding::failed(check, message, format!("replace the Secret {}", names::ROOT_SECRET)),
        1..ROOT_SOON_DAYS => Finding::warning(check, message, "plan to replace it before it ends"),
        _ => Finding::ok(check, message),
    }
}

fn replica(replica: &Replica) -> Finding {
    let (check, pod) = ("control plane replica", &replica.pod);
    let (version, our_time) = match &replica.version {
        Ok(version) => version,
        Err(why) => {
            let fix = format!(
                "see `kubectl logs` of {pod}; the API server must reach its port {}",
                names::HTTP_PORT
            );
            return Finding::warning(check, format!("{pod} cannot be asked: {why}"), fix);
        }
    };
    let theirs = version["time"].as_u64().unwrap_or(*our_time);
    let skew = theirs.abs_diff(*our_time);
    let said = format!(
        "{pod} runs version {} and serves {} proxies",
        text(version, "/version"),
        replica.proxies.len()
    );
    if skew > MAX_SKEW_SECONDS {
        let message = format!("{said}; its clock and that of this host differ by {skew} s");
        return Finding::warning(check, message, "set the clock of its node by NTP");
    }
    Finding::ok(check, said)
}

fn policies(replica: &Replica) -> Finding {
    let check = "policies and routes";
    let objects = replica.status["objects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bad = |object: &&Value| {
        let conditions = object["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_problem = |condition: &Value| {
            condition["status"].as_bool() == Some(condition["type"] == "PartiallyInvalid")
        };
        conditions.iter().any(is_problem)
    };
    let name = |object: &Value| {
        let part = |key: &str| text(&object["object"], &format!("/{key}")).to_owned();
        format!("{}/{}/{}", part("kind"), part("namespace"), part("name"))
    };
    let mut names: Vec<String> = objects.iter().filter(bad).map(name).collect();
    names.dedup();
    match names.as_slice() {
        [] => Finding::ok(check, "no problems"),
        names => Finding::warning(
            check,
            format!("{} objects have problems: {}", names.len(), first_few(names)),
            "see their conditions: `outrigger status --kubernetes --problems`, or `kubectl describe`",
        ),
    }
}

/// The most names in one line.
const MAX_NAMED: usize = 10;

pub(super) fn first_few(names: &[String]) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    let mut said = names[..names.len() - more].join(", ");
    if more > 0 {
        said.push_str(&format!(" and {more} more"));
    }
    said
}
