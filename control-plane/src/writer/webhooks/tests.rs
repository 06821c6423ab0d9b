//! What is written into the configurations of the webhooks.

use super::*;

fn configuration(authorities: [&str; 2], namespace: &str) -> DynamicObject {
    let webhook = |name, authority| {
        json!({"name": name, "clientConfig": {
            "caBundle": authority, "service": {"name": "outrigger-control-plane", "namespace": namespace},
        }})
    };
    let webhooks = [webhook("a", authorities[0]), webhook("b", authorities[1])];
    serde_json::from_value(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": INJECTOR_WEBHOOK, "resourceVersion": "7"}, "webhooks": webhooks,
    }))
    .unwrap()
}

fn corrected(found: &DynamicObject) -> Correction {
    let resource = ApiResource::erase::<MutatingWebhookConfiguration>(&());
    correction(&resource, found, "outrigger-system", "cm9vdA==")
}

#[test]
fn what_is_right_is_left_alone() {
    assert_eq!(corrected(&configuration(["cm9vdA=="; 2], "outrigger-system")), Correction::None);
}

#[test]
fn all_webhooks_are_named_when_one_is_wrong() {
    let Correction::Apply(body) = corrected(&configuration(["cm9vdA==", ""], "outrigger-system")) else {
        panic!("nothing is written")
    };
    assert_eq!(
        body,
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": INJECTOR_WEBHOOK, "resourceVersion": "7"},
            "webhooks": [
                {"name": "a", "clientConfig": {"caBundle": "cm9vdA=="}},
                {"name": "b", "clientConfig": {"caBundle": "cm9vdA=="}},
            ],
        })
    );
}

#[test]
fn the_webhooks_of_another_installation_are_left_alone() {
    assert_eq!(corrected(&configuration(["", ""], "elsewhere")), Correction::Foreign("elsewhere".to_owned()));
}
