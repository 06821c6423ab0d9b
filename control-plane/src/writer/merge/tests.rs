//! What has to be written, from what is there and what should be.

use super::*;
use crate::status::ConditionType;

const BEFORE: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-02-02T00:00:00Z";
const GROUP: &str = "gateway.networking.k8s.io";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn accepted(status: bool, message: &str) -> Condition {
    let (type_, reason) = (ConditionType::Accepted, if status { "Accepted" } else { "NoMatchingParent" });
    Condition { type_, status, reason, message: message.to_owned(), observed_generation: 3 }
}

fn json_of(condition: &Condition, since: &str) -> Value {
    json!({
        "type": "Accepted", "status": if condition.status { "True" } else { "False" },
        "reason": condition.reason, "message": condition.message,
        "observedGeneration": 3, "lastTransitionTime": since,
    })
}

fn service(name: &str) -> Value {
    json!({"group": "", "kind": "Service", "name": name})
}

fn wanted(shape: Shape, entries: &[(&str, Condition)]) -> Wanted {
    let entry = |(name, condition): &(&str, Condition)| Entry {
        about: Some(service(name)),
        conditions: vec![condition.clone()],
    };
    Wanted { made: None, shape, entries: entries.iter().map(entry).collect() }
}

fn parent(name: &str, condition: Value) -> Value {
    json!({"parentRef": service(name), "controllerName": CONTROLLER_NAME, "conditions": [condition]})
}

fn foreign() -> Value {
    json!({"parentRef": {"group": GROUP, "kind": "Gateway", "name": "edge"}, "controllerName": "example.com/edge",
           "conditions": [{"type": "Accepted", "status": "True"}]})
}

#[test]
fn what_is_there_is_not_written_again() {
    let well = accepted(true, "");
    let object = json!({"status": {"parents": [foreign(), parent("a", json_of(&well, BEFORE))]}});
    assert_eq!(merge(&object, &wanted(Shape::Parents, &[("a", well)]), &now()), None);
}

#[test]
fn other_controllers_keep_their_entries() {
    let object = json!({"status": {"parents": [foreign()]}});
    let well = accepted(true, "");
    let update = merge(&object, &wanted(Shape::Parents, &[("a", well.clone())]), &now()).unwrap();
    assert_eq!(update.status, json!({"parents": [foreign(), parent("a", json_of(&well, NOW))]}));
    assert_eq!(update.news, []);
}

#[test]
fn a_route_that_is_not_for_us_is_not_touched() {
    for status in [json!({}), json!({"parents": [foreign()]})] {
        assert_eq!(merge(&json!({"status": status}), &wanted(Shape::Parents, &[]), &now()), None);
    }
}

#[test]
fn our_entry_for_a_parent_that_is_no_more_goes() {
    let object =
        json!({"status": {"parents": [foreign(), parent("a", json_of(&accepted(true, ""), BEFORE))]}});
    let update = merge(&object, &wanted(Shape::Parents, &[]), &now()).unwrap();
    assert_eq!(update.status, json!({"parents": [foreign()]}));
}

#[test]
fn the_time_is_that_of_the_last_change_of_status() {
    let object = json!({"status": {"parents": [parent("a", json_of(&accepted(false, "one"), BEFORE))]}});
    let table = [(accepted(false, "two"), BEFORE, 1), (accepted(true, ""), NOW, 0)];
    for (condition, since, news) in table {
        let update = merge(&object, &wanted(Shape::Parents, &[("a", condition.clone())]), &now()).unwrap();
        assert_eq!(update.status, json!({"parents": [parent("a", json_of(&condition, since))]}));
        assert_eq!(update.news.len(), news, "{condition:?}");
    }
}

#[test]
fn a_new_generation_is_no_news() {
    let bad = accepted(false, "one");
    let mut known = json_of(&bad, BEFORE);
    known["observedGeneration"] = json!(2);
    let object = json!({"status": {"parents": [parent("a", known)]}});
    let update = merge(&object, &wanted(Shape::Parents, &[("a", bad)]), &now()).unwrap();
    assert_eq!(update.news, []);
}

#[test]
fn an_object_that_could_not_be_read_says_so_of_each_service_it_names() {
    let edge = json!({"kind": "Gateway", "name": "edge"});
    let object = json!({"spec": {"parentRefs": [service("a"), edge, service("b")]}});
    let conditions = vec![Condition { observed_generation: 0, ..accepted(false, "spec: broken") }];
    let entries = vec![Entry { about: None, conditions }];
    let unread = Wanted { made: None, shape: Shape::Parents, entries };
    let update = merge(&object, &unread, &now()).unwrap();
    let names: Vec<_> =
        list(update.status.get("parents")).iter().map(|it| &it["parentRef"]["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(update.status.pointer("/parents/0/conditions/0/observedGeneration"), None);
}

#[test]
fn there_are_never_more_ancestors_than_the_schema_has_room_for() {
    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), accepted(true, ""))).collect();
    let object = json!({"status": {"ancestors": [{"ancestorRef": {"name": "edge"}, "controllerName": "example.com/edge"}]}});
    let update = merge(&object, &wanted(Shape::Ancestors, &entries), &now()).unwrap();
    let ancestors = list(update.status.get("ancestors"));
    assert_eq!(ancestors.len(), MAX_ANCESTORS);
    assert_eq!(ancestors[0]["ancestorRef"]["name"], "edge");
    let object = json!({"status": update.status});
    assert_eq!(merge(&object, &wanted(Shape::Ancestors, &entries), &now()), None, "it is not written again");
}

#[test]
fn our_own_kinds_have_one_list() {
    let conditions = vec![accepted(false, "no target")];
    let own =
        Wanted { made: None, shape: Shape::Conditions, entries: vec![Entry { about: None, conditions }] };
    let update = merge(&json!({}), &own, &now()).unwrap();
    assert_eq!(update.status, json!({"conditions": [json_of(&accepted(false, "no target"), NOW)]}));
    assert_eq!(update.news.len(), 1);
    assert_eq!(merge(&json!({"status": update.status}), &own, &now()), None);
}

#[test]
fn a_message_that_nobody_would_read_is_cut() {
    let long = accepted(false, &"ä".repeat(MAX_MESSAGE_BYTES));
    let update = merge(&json!({}), &wanted(Shape::Parents, &[("a", long.clone())]), &now()).unwrap();
    let message = update.status.pointer("/parents/0/conditions/0/message").and_then(Value::as_str).unwrap();
    assert_eq!(message.len(), MAX_MESSAGE_BYTES);
    let object = json!({"status": update.status});
    assert_eq!(
        merge(&object, &wanted(Shape::Parents, &[("a", long)]), &now()),
        None,
        "it is not written again"
    );
}
