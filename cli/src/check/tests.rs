//! A cluster and an installation that are well, and what is said when each part of them is broken.

use std::time::{Duration, UNIX_EPOCH};

use outrigger_control_plane::kubernetes::{names, rbac};
use serde_json::{Value, json};

use super::gather::{Platform, Replica};
use super::*;

fn platform() -> Platform {
    let definition = |plural: &str| {
        json!({"metadata": {"name": format!("{plural}.gateway.networking.k8s.io"),
                            "annotations": {"gateway.networking.k8s.io/bundle-version": "v1.6.2"}}})
    };
    Platform {
        version: "v1.36.3".to_owned(),
        minor: 36,
        skew_seconds: Some(1),
        definitions: Ok(vec![definition("httproutes"), definition("grpcroutes")]),
        installed_in: None,
        denied: Vec::new(),
    }
}

/// Which check, how bad, a part of what is said, and what is broken.
type Case<T> = (&'static str, Outcome, &'static str, fn(&mut T));

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn role(rules: &[rbac::Rule]) -> Value {
    json!({"rules": rules})
}

fn webhooks(namespace: &str, bundle: &str) -> Value {
    use base64::Engine;
    let bundle = base64::engine::general_purpose::STANDARD.encode(bundle);
    json!({"webhooks": [{"clientConfig": {"caBundle": bundle, "service": {"namespace": namespace}}}]})
}

fn pod(name: &str, fields: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
        "status": {"phase": "Running"},
    });
    for (key, value) in fields.as_object().into_iter().flatten() {
        for (inner, value) in value.as_object().into_iter().flatten() {
            pod[key][inner] = value.clone();
        }
    }
    pod
}

fn meshed(name: &str) -> Value {
    let image = format!("outrigger/outrigger-proxy:{}", env!("CARGO_PKG_VERSION"));
    pod(name, json!({"spec": {"initContainers": [{"name": "outrigger-proxy", "image": image}]}}))
}

/// An installation that is well, of one replica with one proxy.
fn facts() -> Facts {
    let proxies = vec![json!({"id": "sidecar~10.0.0.7~web-1.shop~cluster.local"})];
    Facts {
        namespace: "outrigger-system".to_owned(),
        now: UNIX_EPOCH + Duration::from_secs(1_000_000),
        deployment: Ok(Some(json!({"spec": {"replicas": 1}, "status": {"availableReplicas": 1}}))),
        cluster_role: Ok(Some(role(rbac::CLUSTER))),
        role: Ok(Some(role(rbac::OWN_NAMESPACE))),
        injector: Ok(Some(webhooks("outrigger-system", PEM))),
        validator: Ok(Some(webhooks("outrigger-system", PEM))),
        rehearsal: Ok(meshed("outrigger-check")),
        bundles: Ok(Vec::new()),
        namespaces: Ok(vec![json!({"metadata": {"name": "shop", "labels": {names::INJECT: "enabled"}}})]),
        pods: Ok(vec![meshed("web-1")]),
        replicas: vec![Replica {
            pod: "outrigger-control-plane-1".to_owned(),
            version: Ok((json!({"version": "0.1.0", "time": 1_000_001}), 1_000_000)),
            proxies,
            status: json!({"objects": []}),
        }],
    }
}

fn all(facts: &Facts) -> Vec<Finding> {
    [control_plane::judge(facts), workloads::judge(facts)].concat()
}

#[test]
fn what_is_well_is_ok_and_says_so() {
    let findings = [
        platform::judge(&platform()),
        platform::judge_before(&platform(), "outrigger-system"),
        all(&facts()),
    ];
    for finding in findings.concat() {
        assert_eq!((finding.outcome, finding.fix.as_str()), (Outcome::Ok, ""), "{finding:?}");
    }
}

/// What the line of a check says after something was broken.
fn broken(check: &str, damage: impl FnOnce(&mut Facts)) -> Finding {
    let mut facts = facts();
    damage(&mut facts);
    let mut found = all(&facts).into_iter().filter(|finding| finding.outcome != Outcome::Ok);
    let finding = found.next().unwrap_or_else(|| panic!("{check}: nothing was noticed"));
    assert_eq!((finding.check, found.next()), (check, None));
    assert!(!finding.fix.is_empty(), "{finding:?}");
    finding
}

#[test]
fn what_is_broken_is_named_with_the_way_to_mend_it() {
    let cases: [Case<Facts>; 13] = [
        ("control plane", Outcome::Failed, "not there", |facts| facts.deployment = Ok(None)),
        ("control plane", Outcome::Warning, "1 of 3", |facts| {
            facts.deployment = Ok(Some(json!({"spec": {"replicas": 3}, "status": {"availableReplicas": 1}})));
        }),
        ("rights (ClusterRole)", Outcome::Failed, "create tokenreviews", |facts| {
            let rules =
                rbac::CLUSTER.iter().filter(|rule| !rule.resources.contains(&"tokenreviews")).copied();
            facts.cluster_role = Ok(Some(role(&rules.collect::<Vec<_>>())));
        }),
        ("rights (Role)", Outcome::Warning, "forbidden", |facts| facts.role = Err("forbidden".to_owned())),
        ("injector", Outcome::Failed, "caBundle", |facts| {
            facts.injector = Ok(Some(webhooks("outrigger-system", "")));
        }),
        ("validator", Outcome::Failed, "\"elsewhere\"", |facts| {
            facts.validator = Ok(Some(webhooks("elsewhere", PEM)));
        }),
        ("injection", Outcome::Failed, "no route", |facts| facts.rehearsal = Err("no route".to_owned())),
        ("injection", Outcome::Failed, "was not called", |facts| facts.rehearsal = Ok(pod("x", json!({})))),
        ("control plane replica", Outcome::Warning, "differ by 3600 s", |facts| {
            facts.replicas[0].version = Ok((json!({"version": "0.1.0", "time": 1_003_600}), 1_000_000));
        }),
        ("policies and routes", Outcome::Warning, "HTTPRoute/shop/web", |facts| {
            facts.replicas[0].status = json!({"objects": [{
                "object": {"kind": "HTTPRoute", "namespace": "shop", "name": "web"},
                "conditions": [{"type": "Accepted", "status": false}],
            }]});
        }),
        ("pods without a sidecar", Outcome::Warning, "shop/old", |facts| {
            facts.pods = Ok(vec![meshed("web-1"), pod("old", json!({}))]);
        }),
        ("sidecar versions", Outcome::Warning, "1 with 0.0.9", |facts| {
            let image = "registry.example:5000/outrigger-proxy:0.0.9@sha256:00";
            let containers =
                json!({"spec": {"initContainers": [{"name": "outrigger-proxy", "image": image}]}});
            facts.pods = Ok(vec![pod("web-1", containers)]);
        }),
        ("sidecar connections", Outcome::Warning, "1 not: shop/web-2", |facts| {
            facts.pods = Ok(vec![meshed("web-1"), meshed("web-2")]);
        }),
    ];
    for (check, outcome, said, damage) in cases {
        let finding = broken(check, damage);
        assert_eq!(finding.outcome, outcome, "{finding:?}");
        assert!(finding.message.contains(said), "{finding:?}");
    }
}

#[test]
fn who_wants_no_sidecar_has_not_missed_it() {
    let no = |key: &str, value: Value| pod("x", json!({key: value}));
    for pod in [
        no("metadata", json!({"annotations": {names::INJECT: "disabled"}})),
        no("metadata", json!({"namespace": "other"})),
        no("metadata", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
        no("spec", json!({"hostNetwork": true})),
        no("status", json!({"phase": "Succeeded"})),
    ] {
        let facts = Facts { pods: Ok(vec![pod.clone()]), ..facts() };
        assert!(workloads::missed(&facts).is_empty(), "{pod}");
    }
    let declined = json!({"metadata": {"name": "shop", "labels": {names::INJECT: "disabled"}}});
    let asked = pod("x", json!({"metadata": {"annotations": {names::INJECT: "enabled"}}}));
    let facts = Facts { namespaces: Ok(vec![declined]), pods: Ok(vec![asked]), ..self::facts() };
    assert!(workloads::missed(&facts).is_empty(), "the namespace declines");
    let asked =
        pod("x", json!({"metadata": {"namespace": "other", "annotations": {names::INJECT: "enabled"}}}));
    let facts = Facts { pods: Ok(vec![asked]), ..self::facts() };
    assert_eq!(workloads::missed(&facts).len(), 1);
}

#[test]
fn a_cluster_that_is_not_fit_is_told_why() {
    let cases: [Case<Platform>; 6] = [
        ("kubernetes api", Outcome::Warning, "legacy", |platform| platform.minor = 28),
        ("kubernetes api", Outcome::Failed, "1.29", |platform| platform.minor = 24),
        ("clock", Outcome::Warning, "NTP", |platform| platform.skew_seconds = Some(-90)),
        ("gateway api", Outcome::Warning, "standard channel", |platform| {
            platform.definitions = Ok(Vec::new())
        }),
        ("rights to install", Outcome::Failed, "administrator", |platform| {
            platform.denied = vec!["clusterroles".to_owned()];
        }),
        ("other installations", Outcome::Failed, "--namespace mesh", |platform| {
            platform.installed_in = Some("mesh".to_owned());
        }),
    ];
    for (check, outcome, fix, damage) in cases {
        let mut platform = platform();
        damage(&mut platform);
        let findings =
            [platform::judge(&platform), platform::judge_before(&platform, "outrigger-system")].concat();
        let bad: Vec<_> = findings.iter().filter(|finding| finding.outcome != Outcome::Ok).collect();
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert_eq!((bad[0].check, bad[0].outcome), (check, outcome));
        assert!(bad[0].fix.contains(fix), "{:?}", bad[0]);
    }
}

#[test]
fn the_table_ends_in_a_count() {
    let report = Report::new(vec![Finding::ok("a", "fine"), Finding::failed("b", "broken", "mend it")]);
    assert_eq!(report.outcome, Outcome::Failed);
    let table = table(&report);
    assert!(table.contains("failed   b: broken\n           to do: mend it"), "{table}");
    assert!(table.ends_with("1 ok, 0 warnings, 1 failed"), "{table}");
}
