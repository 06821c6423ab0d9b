//! The schemas against a small check of ours and everything the parser accepts. The real API server is asked in the
//! whole-mesh tests.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::parse::{parse_value, yaml_values};
use crate::problem::Location;

/// Every field of every kind.
const EVERYTHING: &str = include_str!("everything.yaml");

/// Why a value is not what a schema says, one line each.
fn misfits(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let wrong = |what: String| vec![format!("{path}: {what}")];
    if schema["x-kubernetes-int-or-string"] == true {
        return if value.is_string() || value.is_i64() { vec![] } else { wrong(format!("{value}")) };
    }
    let number_in_range = || {
        let bound = |name: &str, other: f64| schema[name].as_f64().unwrap_or(other);
        let range = bound("minimum", f64::MIN)..=bound("maximum", f64::MAX);
        value.as_f64().is_some_and(|number| range.contains(&number))
    };
    let fits = match schema["type"].as_str() {
        Some("string") => text_fits(schema, value),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() && number_in_range(),
        Some("number") => number_in_range(),
        Some("array") => return list_misfits(schema, value, path),
        Some("object") => return mapping_misfits(schema, value, path),
        _ => schema["x-kubernetes-preserve-unknown-fields"] == true,
    };
    if fits { vec![] } else { wrong(format!("{value} is not {schema}")) }
}

fn text_fits(schema: &Value, value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let long_enough = schema["minLength"].as_u64().is_none_or(|least| text.len() as u64 >= least);
    let known = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let pattern = schema["pattern"].as_str().map(|pattern| regex::Regex::new(pattern).unwrap());
    long_enough && known && pattern.is_none_or(|pattern| pattern.is_match(text))
}

fn list_misfits(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let Some(items) = value.as_array() else { return vec![format!("{path}: {value} is no list")] };
    let bound = |name: &str, other: u64| schema[name].as_u64().unwrap_or(other);
    if !(bound("minItems", 0)..=bound("maxItems", u64::MAX)).contains(&(items.len() as u64)) {
        return vec![format!("{path}: {} entries", items.len())];
    }
    let each = items.iter().enumerate();
    each.flat_map(|(at, item)| misfits(&schema["items"], item, &format!("{path}[{at}]"))).collect()
}

fn mapping_misfits(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let Some(fields) = value.as_object() else { return vec![format!("{path}: {value} is no mapping")] };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let missing = required.filter(|name| !fields.contains_key(*name));
    let mut found: Vec<String> = missing.map(|name| format!("{path}.{name}: missing")).collect();
    for (name, field) in fields {
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        found.extend(known.into_iter().flat_map(|known| misfits(known, field, &format!("{path}.{name}"))));
    }
    found
}

fn schema_of(object: &Value) -> Option<Value> {
    let kind = object["kind"].as_str()?;
    let group = object["apiVersion"].as_str()?.split_once('/')?.0;
    let definition = all().into_iter().find(|definition| definition.kind.name() == kind)?;
    (group == OUTRIGGER_GROUP).then(|| definition.schema())
}

/// Asserts that every document of a text that the parser has nothing against is valid.
#[track_caller]
pub(crate) fn check_accepts(text: &str) {
    for object in yaml_values(text).unwrap_or_default() {
        let Some(schema) = schema_of(&object) else { continue };
        let parsed = parse_value(object.clone(), &Location { file: "f".into(), line: 1, column: 1 });
        if parsed.problems.is_empty() && !parsed.objects.is_empty() {
            assert_eq!(misfits(&schema, &object, ""), Vec::<String>::new(), "{object}");
        }
    }
}

/// The places of a schema at which a field may be written.
fn fields(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        fields(field, &path, found);
        found.insert(path);
    }
    if schema.get("items").is_some() {
        fields(&schema["items"], path, found);
    }
}

/// The places at which a value has a field that the schema knows.
fn written(schema: &Value, value: &Value, path: &str, found: &mut BTreeSet<String>) {
    for item in value.as_array().into_iter().flatten() {
        written(&schema["items"], item, path, found);
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let Some(known) = schema["properties"].get(name) else { continue };
        let path = format!("{path}.{name}");
        written(known, field, &path, found);
        found.insert(path);
    }
}

#[test]
fn every_field_is_one_that_the_parser_knows_and_takes() {
    let (mut said, mut known) = (BTreeSet::new(), BTreeSet::new());
    for object in yaml_values(EVERYTHING).unwrap() {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let parsed = parse_value(object.clone(), &Location { file: "f".into(), line: 1, column: 1 });
        let taken = parsed.problems.is_empty() && parsed.objects.len() == 1;
        assert!(taken, "{object}: {:?}", parsed.problems);
        let schema = schema_of(&object).unwrap();
        assert_eq!(misfits(&schema, &object, &kind), Vec::<String>::new());
        written(&schema["properties"]["spec"], &object["spec"], &kind, &mut said);
        fields(&schema["properties"]["spec"], &kind, &mut known);
    }
    let missing: Vec<_> = known.difference(&said).collect();
    assert!(missing.is_empty(), "no object of everything.yaml has {missing:#?}");
    assert_eq!(definitions().len(), 7);
}

#[test]
fn every_example_is_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    let mut ours = 0;
    for dir in ["bookstore", "tasks"] {
        for entry in std::fs::read_dir(examples.join(dir)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            check_accepts(&text);
            ours += yaml_values(&text).unwrap().iter().filter(|object| schema_of(object).is_some()).count();
        }
    }
    assert!(ours > 20, "{ours}");
}

#[test]
fn wrong_types_words_and_numbers_are_refused() {
    for (kind, spec, place) in [
        ("Workload", "{address: 10}", ".spec.address"),
        ("Workload", "{ports: {http: 80}}", ".spec.address"),
        ("Workload", "{address: a, ports: {http: web}}", ".spec.ports.http"),
        ("Workload", "{address: a, weight: 0}", ".spec.weight"),
        ("ExternalService", "{hosts: [], ports: [{port: 1}]}", ".spec.hosts"),
        ("ExternalService", "{hosts: [a], ports: [{port: 1, protocol: udp}]}", ".spec.ports[0].protocol"),
        (
            "BackendPolicy",
            "{targetRefs: [{kind: Service, name: a}], slowStart: {window: 30}}",
            ".spec.slowStart.window",
        ),
        (
            "BackendPolicy",
            "{targetRefs: [{kind: Service, name: a}], slowStart: {window: 1d}}",
            ".spec.slowStart.window",
        ),
        ("RoutePolicy", "{retry: {attempts: two}}", ".spec.retry.attempts"),
        ("RoutePolicy", "{retry: {on: 5xx}}", ".spec.retry.on"),
        ("InboundPolicy", "{mtls: strict}", ".spec.mtls"),
        ("MeshConfig", "{tracing: {otlpEndpoint: a, samplePercent: 101}}", ".spec.tracing.samplePercent"),
        ("AuthorizationPolicy", "{rules: [{to: [{ports: [http]}]}]}", ".spec.rules[0].to[0].ports[0]"),
    ] {
        let text = format!("{{apiVersion: outrigger.dev/v1alpha1, kind: {kind}, spec: {spec}}}");
        let object = yaml_values(&text).unwrap().remove(0);
        let found = misfits(&schema_of(&object).unwrap(), &object, "");
        assert!(found.len() == 1 && found[0].starts_with(&format!("{place}: ")), "{spec}: {found:?}");
    }
}

/// What a structural schema must not be without (Kubernetes: CustomResourceDefinitions, structural schemas).
fn check_structural(schema: &Value, path: &str) {
    let kept = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let shaped = schema["type"].is_string() || schema["x-kubernetes-int-or-string"] == true || kept;
    assert!(shaped, "{path} has no type");
    let both = schema.get("properties").is_some() && schema.get("additionalProperties").is_some();
    assert!(!both, "{path} has properties and additionalProperties");
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        check_structural(field, &format!("{path}.{name}"));
    }
    for inner in ["items", "additionalProperties"] {
        schema.get(inner).into_iter().for_each(|inside| check_structural(inside, &format!("{path}[]")));
    }
}

#[test]
fn definitions_are_structural_and_named_as_the_kinds() {
    for definition in definitions() {
        let version = &definition["spec"]["versions"][0];
        check_structural(&version["schema"]["openAPIV3Schema"], "");
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        assert_eq!(Kind::find(OUTRIGGER_GROUP, kind).unwrap().versions(), [VERSION]);
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap();
        assert_eq!(definition["metadata"]["name"], format!("{plural}.outrigger.dev"));
    }
    let ours = Kind::ALL.into_iter().filter(|kind| kind.group() == OUTRIGGER_GROUP);
    let defined: BTreeSet<_> = all().iter().map(|definition| definition.kind).collect();
    assert_eq!(ours.collect::<BTreeSet<_>>(), defined);
}
