//! What the status of objects should say.

use super::*;
use crate::world::samples::{service, world};

fn route(parents: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}\n\
         spec:\n  parentRefs: {parents}\n  rules: [{{backendRefs: [{{name: a, port: 80}}]}}]\n---\n"
    )
}

fn of_kind(yaml: &str, kind: Kind) -> Wanted {
    let world = world(yaml);
    let all = wanted(&world);
    let found: Vec<_> = all.into_iter().filter(|(object, _)| object.kind == kind).collect();
    let [(_, wanted)] = <[_; 1]>::try_from(found).unwrap();
    wanted
}

/// What entries are about, and which of their conditions are problems.
fn summary(wanted: &Wanted) -> Vec<(Value, Vec<ConditionType>)> {
    let problems = |entry: &Entry| {
        let problems = entry.conditions.iter().filter(|it| it.is_problem());
        problems.map(|condition| condition.type_).collect()
    };
    wanted.entries.iter().map(|entry| (entry.about.clone().unwrap_or_default(), problems(entry))).collect()
}

#[test]
fn a_route_says_it_for_each_parent_as_the_user_wrote_it() {
    let parents = "[{group: '', kind: Service, name: a, port: 80}, {name: edge}, \
                    {group: '', kind: Service, name: a, port: 81}, \
                    {group: '', kind: Service, name: gone, namespace: shop, sectionName: http}]";
    let wanted = of_kind(&(service("a", 1) + &route(parents)), Kind::HttpRoute);
    let refused = vec![ConditionType::Accepted];
    assert_eq!(wanted.shape, Shape::Parents);
    assert_eq!(
        summary(&wanted),
        [
            (json!({"group": "", "kind": "Service", "name": "a", "port": 80}), vec![]),
            (json!({"group": "", "kind": "Service", "name": "a", "port": 81}), refused.clone()),
            (
                json!({"group": "", "kind": "Service", "name": "gone", "namespace": "shop", "sectionName": "http"}),
                refused
            ),
        ]
    );
}

#[test]
fn a_route_for_gateways_alone_has_nothing_of_ours() {
    assert_eq!(summary(&of_kind(&route("[{name: edge}]"), Kind::HttpRoute)), []);
}

#[test]
fn kinds_of_kubernetes_have_no_status_of_ours() {
    let all = wanted(&world(&service("a", 1)));
    let kinds: Vec<_> = all.keys().map(|object| object.kind).collect();
    assert_eq!(kinds, [Kind::Workload]);
}

fn policy(targets: &str) -> Vec<Condition> {
    let policy = format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {{name: p, namespace: shop}}\n\
         spec: {{targetRefs: [{targets}], loadBalancer: {{algorithm: Random}}}}"
    );
    let wanted = of_kind(&(service("a", 1) + &policy), Kind::BackendPolicy);
    assert_eq!(wanted.shape, Shape::Conditions);
    wanted.entries.into_iter().flat_map(|entry| entry.conditions).collect()
}

#[test]
fn a_policy_of_ours_is_in_force_when_it_is_so_anywhere() {
    let (there, gone) = ("{group: '', kind: Service, name: a}", "{group: '', kind: Service, name: gone}");
    let table = [
        (there.to_owned(), true, None),
        (gone.to_owned(), false, None),
        (format!("{there}, {gone}"), true, Some("Service/shop/gone: Service/shop/gone is not there")),
    ];
    for (targets, in_force, partly) in table {
        let conditions = policy(&targets);
        let find = |type_| conditions.iter().find(|condition| condition.type_ == type_);
        assert_eq!(find(ConditionType::Accepted).map(|it| it.status), Some(in_force), "{targets}");
        let told = find(ConditionType::PartiallyInvalid).map(|it| it.message.as_str());
        assert_eq!(told, partly, "{targets}");
        assert!(conditions.is_sorted_by_key(|condition| condition.type_), "{targets}");
    }
}

#[test]
fn a_policy_that_cannot_be_read_says_so() {
    let yaml = "{apiVersion: outrigger.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop}, \
                spec: {action: Forbid}}";
    let wanted = of_kind(yaml, Kind::AuthorizationPolicy);
    let accepted = &wanted.entries[0].conditions[0];
    assert_eq!((accepted.type_, accepted.status), (ConditionType::Accepted, false));
    let message = "spec.action: unknown value \"Forbid\"; write Allow, Deny, Audit; until it is mended everything that \
                   it is about is refused";
    assert_eq!(accepted.message, message);
}
