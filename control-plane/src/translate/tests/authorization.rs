//! AuthorizationPolicies: which are about a workload, and that none is lost on the way.

use outrigger_model::authorization::{
    Authorization, AuthorizationAction, Condition, Operation, Rule, Source, Subject, TextPattern,
};
use outrigger_model::inbound::Inbound;

use super::*;

fn policy(place: (&str, &str), spec: &str) -> String {
    let (namespace, name) = place;
    format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn inbound(yaml: &str, workload: &str) -> Inbound {
    let client = Client { name: workload.into(), ..client("shop") };
    match resource(&world(yaml), &client, ResourceType::Listener, "inbound") {
        Some(Resource::Inbound(inbound)) => inbound,
        other => panic!("{other:?}"),
    }
}

/// The policies about a workload, as `name action`.
fn about(yaml: &str, workload: &str) -> Vec<String> {
    let policies = inbound(yaml, workload).authorization.map(|held| held.policies).unwrap_or_default();
    policies
        .iter()
        .map(|policy| format!("{} {:?} {}", policy.name, policy.action, policy.rules.len()))
        .collect()
}

#[test]
fn all_policies_about_a_workload_count_together_in_the_order_of_their_names() {
    let base = service("reviews", 1) + &service("ratings", 2);
    assert_eq!(inbound(&base, "reviews-1").authorization, None);
    let yaml = base
        + &policy(("shop", "namespace"), "rules: [{}]")
        + &policy(("shop", "labels"), "selector: {matchLabels: {app: reviews}}, action: Deny")
        + &policy(
            ("shop", "a-service"),
            "targetRefs: [{kind: Service, name: reviews}], action: Audit, rules: [{}, {}]",
        )
        + &policy(("shop", "gone"), "targetRefs: [{kind: Service, name: gone}]")
        + &policy(("other", "other"), "rules: [{}]")
        + &policy(("other", "labels"), "selector: {matchLabels: {app: reviews}}")
        + &policy(("outrigger-system", "mesh"), "action: Deny")
        + &policy(("outrigger-system", "labels"), "selector: {matchLabels: {app: reviews}}");
    assert_eq!(
        about(&yaml, "reviews-1"),
        [
            "AuthorizationPolicy/outrigger-system/mesh Deny 0",
            "AuthorizationPolicy/shop/a-service Audit 2",
            "AuthorizationPolicy/shop/labels Deny 0",
            "AuthorizationPolicy/shop/namespace Allow 1",
        ]
    );
    assert_eq!(
        about(&yaml, "ratings-1"),
        ["AuthorizationPolicy/outrigger-system/mesh Deny 0", "AuthorizationPolicy/shop/namespace Allow 1"]
    );
}

#[test]
fn every_field_arrives_as_it_was_written() {
    let yaml = service("reviews", 1)
        + &policy(
            ("shop", "a"),
            "action: Deny, rules: [{from: [{identities: ['spiffe://d/ns/a/*'], namespaces: [b], sourceIps: [10.0.0.0/8]}], \
             to: [{methods: [GET], paths: [/a/*], ports: [8080]}], \
             when: [{claim: realm.roles, values: [admin]}, {header: X-A}]}]",
        );
    let Authorization { policies } = *inbound(&yaml, "reviews-1").authorization.unwrap();
    let expected = Rule {
        from: vec![Source {
            identities: vec![TextPattern::written("spiffe://d/ns/a/*")],
            namespaces: vec![TextPattern::written("b")],
            networks: vec!["10.0.0.0/8".parse().unwrap()],
        }],
        to: vec![Operation {
            methods: vec![TextPattern::written("GET")],
            paths: vec![TextPattern::written("/a/*")],
            ports: vec![8080],
        }],
        when: vec![
            Condition {
                subject: Subject::Claim(vec!["realm".into(), "roles".into()]),
                values: vec![TextPattern::written("admin")],
            },
            Condition {
                subject: Subject::Header(::http::HeaderName::from_static("x-a")),
                values: Vec::new(),
            },
        ],
    };
    assert_eq!(
        (policies[0].action, policies[0].rules.as_slice()),
        (AuthorizationAction::Deny, [expected].as_slice())
    );
}

#[test]
fn a_policy_that_cannot_be_read_closes_what_it_is_about() {
    let base = service("reviews", 1) + &service("ratings", 2);
    let target = "targetRefs: [{kind: Service, name: reviews}]";
    let yaml = base.clone() + &policy(("shop", "bad"), &format!("{target}, action: Forbid"));
    assert_eq!(about(&yaml, "reviews-1"), ["AuthorizationPolicy/shop/bad Deny 1"]);
    assert_eq!(inbound(&yaml, "reviews-1").authorization.unwrap().policies[0].rules, [Rule::default()]);
    assert_eq!(about(&yaml, "ratings-1"), [""; 0]);
    let misspelt = base.clone() + &policy(("shop", "bad"), "targetRef: []");
    assert_eq!(about(&misspelt, "ratings-1"), ["AuthorizationPolicy/shop/bad Deny 1"]);
    // A rule of Allow that cannot be read allows nothing, and the policy still forbids the rest.
    let rules = base.clone() + &policy(("shop", "bad"), "rules: [{to: [{ports: [http]}]}]");
    assert_eq!(about(&rules, "reviews-1"), ["AuthorizationPolicy/shop/bad Allow 0"]);
    let inbound_policy = policy(("shop", "bad"), &format!("{target}, mtls: Closed"))
        .replace("kind: AuthorizationPolicy", "kind: InboundPolicy");
    let yaml = base + &inbound_policy;
    assert_eq!(inbound(&yaml, "reviews-1").closed_by.as_deref(), Some("InboundPolicy/shop/bad"));
    assert_eq!(inbound(&yaml, "ratings-1").closed_by, None);
}
