//! What the control plane may do in a cluster: no more than it does. `outrigger install`, the chart and `outrigger check`
//! are made of these rules, and a test runs the control plane with nothing else.

use serde::Serialize;

/// One rule of a role, as RBAC writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// API groups; empty is Kubernetes' own first.
    pub api_groups: &'static [&'static str],
    /// Resources, with `/` before a subresource.
    pub resources: &'static [&'static str],
    /// Only objects of these names; all when empty.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub resource_names: &'static [&'static str],
    /// What may be done.
    pub verbs: &'static [&'static str],
}

const fn rule(
    api_groups: &'static [&'static str],
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
) -> Rule {
    Rule { api_groups, resources, resource_names: &[], verbs }
}

impl Rule {
    const fn named(self, resource_names: &'static [&'static str]) -> Self {
        Self { resource_names, ..self }
    }
}

const WATCH: &[&str] = &["get", "list", "watch"];

/// Rules for the whole cluster.
pub const CLUSTER: &[Rule] = &[
    rule(&[""], &["configmaps", "namespaces", "nodes", "pods", "serviceaccounts", "services"], WATCH),
    rule(&["discovery.k8s.io"], &["endpointslices"], WATCH),
    rule(
        &["gateway.networking.k8s.io"],
        &["backendtlspolicies", "grpcroutes", "httproutes", "referencegrants", "tcproutes", "tlsroutes"],
        WATCH,
    ),
    rule(&["gateway.networking.x-k8s.io"], &["xbackendtrafficpolicies"], WATCH),
    rule(&["outrigger.dev"], &["*"], WATCH),
    // Server-side apply is a patch.
    rule(
        &["gateway.networking.k8s.io"],
        &[
            "backendtlspolicies/status",
            "grpcroutes/status",
            "httproutes/status",
            "tcproutes/status",
            "tlsroutes/status",
        ],
        &["patch"],
    ),
    rule(&["gateway.networking.x-k8s.io"], &["xbackendtrafficpolicies/status"], &["patch"]),
    rule(&["outrigger.dev"], &["*/status"], &["patch"]),
    // The trust bundle of every namespace with meshed pods; a rule for names cannot let them be made.
    rule(&[""], &["configmaps"], &["create"]),
    rule(&[""], &["configmaps"], &["patch"]).named(&[super::names::TRUST_BUNDLE]),
    rule(&["", "events.k8s.io"], &["events"], &["create", "patch"]),
    rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
    rule(
        &["admissionregistration.k8s.io"],
        &["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
        &["get", "patch"],
    )
    .named(&[super::names::INJECTOR_WEBHOOK, super::names::VALIDATOR_WEBHOOK]),
];

/// Rules for the namespace of the installation.
pub const OWN_NAMESPACE: &[Rule] = &[
    rule(&[""], &["secrets"], &["create"]),
    rule(&[""], &["secrets"], &["get"]).named(&[super::names::ROOT_SECRET]),
    rule(&["coordination.k8s.io"], &["leases"], &["create"]),
    rule(&["coordination.k8s.io"], &["leases"], &["get", "update", "patch"])
        .named(&[super::names::LEADER_LEASE]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_read_beyond_the_own_namespace() {
        for rule in CLUSTER {
            assert!(!rule.resources.contains(&"secrets"), "{rule:?}");
            assert!(!rule.verbs.contains(&"*") && !rule.api_groups.contains(&"*"), "{rule:?}");
        }
    }

    #[test]
    fn a_rule_is_written_as_rbac_writes_it() {
        let json = serde_json::to_value(OWN_NAMESPACE[1]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["outrigger-ca"],
                "verbs": ["get"],
            })
        );
    }
}
