//! A pod in, the pod with its sidecar out, or why not.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::names;

fn shop() -> NamespaceFacts {
    NamespaceFacts { name: "shop".to_owned(), wish: Wish::Enabled }
}

fn web() -> Value {
    json!({
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web", "version": "v1"}},
        "spec": {
            "serviceAccountName": "web",
            "initContainers": [{"name": "migrate", "image": "migrate"}],
            "containers": [{
                "name": "web", "image": "web", "ports": [{"name": "http", "containerPort": 8080}],
                "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 7},
                "readinessProbe": {"exec": {"command": ["true"]}},
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

/// The pod after `change`, with a sidecar.
fn injected_with(settings: &Settings, change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = web();
    change(&mut pod);
    match inject(&pod, settings, &shop()) {
        Ok(Outcome::Injected(after)) => after,
        other => panic!("{other:?}"),
    }
}

fn injected(change: impl FnOnce(&mut Value)) -> Value {
    injected_with(&Settings::default(), change)
}

fn annotate(key: &'static str, value: &'static str) -> impl FnOnce(&mut Value) {
    move |pod| pod["metadata"]["annotations"][key] = value.into()
}

fn container<'v>(pod: &'v Value, name: &str) -> &'v Value {
    let mut all = list(pod, "/spec/initContainers").chain(list(pod, "/spec/containers"));
    all.find(|container| container["name"] == name).unwrap()
}

fn names_of(pod: &Value, group: &str) -> Vec<String> {
    list(pod, &format!("/spec/{group}")).map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// The value of a variable of the sidecar.
fn variable(pod: &Value, name: &str) -> Option<String> {
    let mut variables = list(container(pod, names::PROXY_CONTAINER), "/env");
    let found = variables.find(|variable| variable["name"] == name)?;
    Some(
        found["value"]
            .as_str()
            .unwrap_or_else(|| found["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap())
            .into(),
    )
}

#[test]
fn native_sidecars_stand_behind_the_redirect_step_and_before_everything_else() {
    let pod = injected(|_| {});
    assert_eq!(names_of(&pod, "initContainers"), ["outrigger-redirect", "outrigger-proxy", "migrate"]);
    assert_eq!(names_of(&pod, "containers"), ["web"]);
    let proxy = container(&pod, "outrigger-proxy");
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(proxy["startupProbe"]["httpGet"], json!({"path": "/healthz/ready", "port": 15021}));
    assert_eq!(
        names_of(&pod, "volumes"),
        ["data", "outrigger-token", "outrigger-trust-bundle", "outrigger-state"]
    );
    assert_eq!(pod["metadata"]["annotations"][names::INJECTED], env!("CARGO_PKG_VERSION"));
}

#[test]
fn in_legacy_mode_the_sidecar_is_the_first_container_and_the_redirect_step_the_last_init_container() {
    let settings = Settings { mode: Mode::Legacy, ..Settings::default() };
    let pod = injected_with(&settings, |_| {});
    assert_eq!(names_of(&pod, "initContainers"), ["migrate", "outrigger-redirect"]);
    assert_eq!(names_of(&pod, "containers"), ["outrigger-proxy", "web"]);
    let proxy = container(&pod, "outrigger-proxy");
    assert_eq!(proxy.get("restartPolicy"), None);
    assert_eq!(
        proxy["lifecycle"]["postStart"]["exec"]["command"][1], "wait",
        "the others start when it is ready"
    );
    assert_eq!(pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"], "web");
    let mut job = web();
    job["spec"]["restartPolicy"] = "Never".into();
    assert_eq!(inject(&job, &settings, &shop()), Ok(Outcome::Skipped(Skip::WouldNotEnd)));
    assert!(matches!(inject(&job, &Settings::default(), &shop()), Ok(Outcome::Injected(_))));
}

#[test]
fn our_containers_have_no_more_rights_than_they_need_whatever_the_pod_says() {
    let pod = injected(|pod| {
        pod["spec"]["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000});
    });
    let of = |name: &str| container(&pod, name)["securityContext"].clone();
    for name in ["outrigger-proxy", "outrigger-redirect"] {
        let context = of(name);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{name}");
    }
    assert_eq!(
        (&of("outrigger-proxy")["runAsUser"], &of("outrigger-proxy")["runAsNonRoot"]),
        (&json!(1337), &json!(true))
    );
    assert_eq!(of("outrigger-proxy")["capabilities"].get("add"), None);
    assert_eq!(
        (&of("outrigger-redirect")["runAsUser"], &of("outrigger-redirect")["runAsNonRoot"]),
        (&json!(0), &json!(false))
    );
    assert_eq!(of("outrigger-redirect")["capabilities"]["add"], json!(["NET_ADMIN", "NET_RAW"]));
    assert_eq!(pod["spec"]["securityContext"]["fsGroup"], 2000);
}

#[test]
fn the_sidecar_is_told_who_and_where_it_is() {
    let settings = Settings { log_level: Some("warn".to_owned()), ..Settings::of("mesh") };
    let pod = injected_with(&settings, |_| {});
    for (name, want) in [
        ("OUTRIGGER_CONTROL_PLANE", "https://outrigger-control-plane.mesh.svc:15012"),
        ("OUTRIGGER_NAMESPACE", "metadata.namespace"),
        ("OUTRIGGER_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ("OUTRIGGER_WORKLOAD", "metadata.name"),
        ("OUTRIGGER_ADDRESS", "status.podIP"),
        ("OUTRIGGER_TOKEN_FILE", "/var/run/secrets/outrigger/token"),
        ("OUTRIGGER_TRUST_BUNDLE", "/var/run/outrigger/trust-bundle/ca.crt"),
        ("OUTRIGGER_STATE_DIR", "/var/lib/outrigger/proxy"),
        ("OUTRIGGER_STATE_IDENTITY", "true"),
        ("OUTRIGGER_LABEL", "app=web,version=v1"),
        ("OUTRIGGER_LOG_LEVEL", "warn"),
        ("OUTRIGGER_WORKERS", "2"),
    ] {
        assert_eq!(variable(&pod, name).as_deref(), Some(want), "{name}");
    }
    let mounts: Vec<_> =
        list(container(&pod, "outrigger-proxy"), "/volumeMounts").map(|it| &it["mountPath"]).collect();
    assert_eq!(
        mounts,
        ["/var/run/secrets/outrigger", "/var/run/outrigger/trust-bundle", "/var/lib/outrigger"]
    );
    let token = &pod["spec"]["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(*token, json!({"audience": "outrigger", "expirationSeconds": 3600, "path": "token"}));
}

#[test]
fn annotations_change_the_sidecar_of_one_pod() {
    let redirect = |pod: &Value| container(pod, "outrigger-redirect")["args"].clone();
    let resources = |pod: &Value| container(pod, "outrigger-proxy")["resources"].clone();
    let pod = injected(annotate(annotations::SKIP_INBOUND_PORTS, "22, 9100-9110"));
    assert_eq!(redirect(&pod), json!(["redirect", "--skip-inbound-ports=22,9100-9110"]));
    let pod = injected(annotate(annotations::SKIP_OUTBOUND_PORTS, "3306"));
    assert_eq!(redirect(&pod), json!(["redirect", "--skip-outbound-ports=3306"]));
    let pod = injected(annotate(annotations::SKIP_OUTBOUND_CIDRS, "10.9.0.0/16,fd09::/16"));
    assert_eq!(redirect(&pod), json!(["redirect", "--skip-outbound-cidrs=10.9.0.0/16,fd09::/16"]));
    let pod = injected(annotate(annotations::CPU_LIMIT, "2500m"));
    assert_eq!(
        resources(&pod),
        json!({"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "2500m"}})
    );
    assert_eq!(variable(&pod, "OUTRIGGER_WORKERS").as_deref(), Some("3"));
    let pod = injected(annotate(annotations::MEMORY_LIMIT, "16Mi"));
    assert_eq!(
        resources(&pod)["requests"]["memory"],
        "16Mi",
        "a request above its limit is refused by Kubernetes"
    );
    let pod = injected(annotate(annotations::MEMORY_REQUEST, "1Gi"));
    assert_eq!(resources(&pod)["requests"]["memory"], "1Gi");
    let pod = injected(annotate(annotations::LOG_LEVEL, "outrigger_proxy=debug,warn"));
    assert_eq!(variable(&pod, "OUTRIGGER_LOG_LEVEL").as_deref(), Some("outrigger_proxy=debug,warn"));
    assert_eq!(redirect(&injected(|_| {})), json!(["redirect"]));
}

#[test]
fn annotations_that_cannot_be_read_are_refused_with_the_fix() {
    use annotations::*;
    for (key, value, fix) in [
        (names::INJECT, "true", "enabled"),
        (SKIP_INBOUND_PORTS, "http", "9100-9110"),
        (SKIP_INBOUND_PORTS, "9-1", "9100-9110"),
        (SKIP_OUTBOUND_PORTS, "0", "9100-9110"),
        (SKIP_OUTBOUND_PORTS, "+1", "9100-9110"),
        (SKIP_OUTBOUND_CIDRS, "10.9.0.0/33", "10.9.0.0/16"),
        (SKIP_OUTBOUND_CIDRS, "example.org", "10.9.0.0/16"),
        (OPAQUE_PORTS, "1-2", "3306"),
        (CPU_REQUEST, "lots", "100m"),
        (CPU_LIMIT, "-1", "100m"),
        (MEMORY_REQUEST, "64MB", "64Mi"),
        (MEMORY_LIMIT, "100m", "64Mi"),
        (LOG_LEVEL, "loud", "debug"),
        (LOG_LEVEL, "", "debug"),
        (ACCESS_LOG, "yes", "disabled"),
    ] {
        let mut pod = web();
        annotate(key, value)(&mut pod);
        let refusal = inject(&pod, &Settings::default(), &shop()).unwrap_err().to_string();
        assert!(refusal.contains(key) && refusal.contains(value) && refusal.contains(fix), "{refusal}");
    }
    let mut pod = web();
    annotate(CPU_REQUEST, "2")(&mut pod);
    annotate(CPU_LIMIT, "1")(&mut pod);
    let refusal = inject(&pod, &Settings::default(), &shop()).unwrap_err().to_string();
    assert!(refusal.contains(CPU_REQUEST) && refusal.contains("limit of 1"), "{refusal}");
    let many = vec!["1"; 257].join(",");
    pod["metadata"]["annotations"] = json!({SKIP_INBOUND_PORTS: many});
    assert!(inject(&pod, &Settings::default(), &shop()).unwrap_err().to_string().contains("257 items"));
}

#[test]
fn pods_are_skipped_for_a_reason() {
    let facts = |name: &str, wish| NamespaceFacts { name: name.to_owned(), wish };
    let pod = |change: fn(&mut Value)| {
        let mut pod = web();
        change(&mut pod);
        pod
    };
    let plain = pod(|_| {});
    let off = pod(|pod| annotate(names::INJECT, "disabled")(pod));
    let on = pod(|pod| annotate(names::INJECT, "enabled")(pod));
    for (pod, namespace, want) in [
        (&plain, facts("shop", Wish::Unsaid), Some(Skip::NotAsked)),
        (&plain, facts("shop", Wish::Disabled), Some(Skip::OptedOut)),
        (&off, facts("shop", Wish::Enabled), Some(Skip::OptedOut)),
        (&on, facts("shop", Wish::Unsaid), None),
        (&on, facts("shop", Wish::Disabled), None),
        (&on, facts("kube-system", Wish::Enabled), Some(Skip::SystemNamespace)),
        (&on, facts("outrigger-system", Wish::Enabled), Some(Skip::SystemNamespace)),
        (&pod(|pod| pod["spec"]["hostNetwork"] = true.into()), shop(), Some(Skip::HostNetwork)),
        (&pod(|pod| pod["spec"]["os"]["name"] = "windows".into()), shop(), Some(Skip::NotLinux)),
        (
            &pod(|pod| pod["spec"]["containers"][0]["name"] = "outrigger-proxy".into()),
            shop(),
            Some(Skip::AlreadyInjected),
        ),
    ] {
        assert_eq!(decide(pod, &Settings::default(), &namespace), Ok(want), "{pod} {namespace:?}");
    }
}

#[test]
fn injecting_twice_is_injecting_once() {
    for mode in [Mode::Native, Mode::Legacy] {
        let settings = Settings { mode, ..Settings::default() };
        let once = injected_with(&settings, |_| {});
        assert_eq!(inject(&once, &settings, &shop()), Ok(Outcome::Skipped(Skip::AlreadyInjected)));
    }
}

#[test]
fn containers_that_would_bypass_or_disturb_the_sidecar_are_refused() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 5] = [
        ("spec.containers[web].securityContext.runAsUser: 1337", |pod| {
            pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = 1337.into();
        }),
        ("spec.initContainers[migrate].securityContext.runAsGroup: 1337", |pod| {
            pod["spec"]["initContainers"][0]["securityContext"]["runAsGroup"] = 1337.into();
        }),
        ("spec.securityContext.runAsUser: 1337", |pod| {
            pod["spec"]["securityContext"]["runAsUser"] = 1337.into();
        }),
        ("spec.containers[web].ports: 15021", |pod| {
            pod["spec"]["containers"][0]["ports"][0]["containerPort"] = 15021.into();
        }),
        ("spec: it is missing", |pod| drop(pod.as_object_mut().unwrap().remove("spec"))),
    ];
    for (want, change) in cases {
        let mut pod = web();
        change(&mut pod);
        let refusal = inject(&pod, &Settings::default(), &shop()).unwrap_err().to_string();
        assert!(refusal.starts_with(want), "{refusal}");
    }
    // Containers that say otherwise are not held by what the pod says.
    injected(|pod| {
        pod["spec"]["securityContext"]["runAsUser"] = 1337.into();
        pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = 1000.into();
        pod["spec"]["initContainers"][0]["securityContext"]["runAsUser"] = 1000.into();
    });
}

#[test]
fn probes_over_the_network_ask_the_sidecar_which_knows_what_they_asked_for() {
    let pod = injected(|pod| {
        let header = json!({"name": "a", "value": "$(b)"});
        pod["spec"]["containers"][0]["startupProbe"] = json!({"httpGet": {"port": 8081, "scheme": "HTTPS", "httpHeaders": [header]}, "timeoutSeconds": 4});
        pod["spec"]["containers"].as_array_mut().unwrap().push(json!({
            "name": "db",
            "startupProbe": {"tcpSocket": {"port": 5432}},
            "livenessProbe": {"grpc": {"port": 5433}},
            "readinessProbe": {"tcpSocket": {"port": 5432, "host": "elsewhere"}},
        }));
    });
    let web = container(&pod, "web");
    let asked = json!({"path": "/app-health/web/liveness", "port": 15021});
    assert_eq!(web["livenessProbe"], json!({"httpGet": asked, "periodSeconds": 7}));
    assert_eq!(web["readinessProbe"], json!({"exec": {"command": ["true"]}}));
    assert_eq!(web["startupProbe"]["timeoutSeconds"], 4);
    let db = container(&pod, "db");
    assert_eq!(db["startupProbe"], json!({"httpGet": {"path": "/app-health/db/startup", "port": 15021}}));
    assert_eq!(db["readinessProbe"]["tcpSocket"]["host"], "elsewhere");
    let probes = variable(&pod, "OUTRIGGER_PROBES").unwrap();
    assert!(probes.contains("$$(b)"), "Kubernetes would replace it: {probes}");
    let probes: Value = serde_json::from_str(&probes.replace("$$", "$")).unwrap();
    let http = |port: u16, path: &str, scheme: &str, headers: Value| json!({"port": port, "path": path, "scheme": scheme, "host": "", "httpHeaders": headers});
    assert_eq!(
        probes,
        json!({
            "web/startup": {"httpGet": http(8081, "/", "HTTPS", json!([{"name": "a", "value": "$(b)"}])), "timeoutSeconds": 4},
            "web/liveness": {"httpGet": http(8080, "/live", "HTTP", json!([])), "timeoutSeconds": 1},
            "db/startup": {"tcpSocket": {"port": 5432}, "timeoutSeconds": 1},
            "db/liveness": {"grpc": {"port": 5433, "service": ""}, "timeoutSeconds": 1},
        })
    );
    let none =
        injected(|pod| drop(pod["spec"]["containers"][0].as_object_mut().unwrap().remove("livenessProbe")));
    assert_eq!(variable(&none, "OUTRIGGER_PROBES"), None);
}

#[test]
fn scrapers_are_led_to_the_sidecar_which_knows_where_the_application_is() {
    let scraped = |more: Value| {
        injected(|pod| {
            pod["metadata"]["annotations"] = json!({"prometheus.io/scrape": "true"});
            for (key, value) in more.as_object().unwrap() {
                pod["metadata"]["annotations"][key] = value.clone();
            }
        })
    };
    for (more, want) in [
        (json!({"prometheus.io/port": "9102", "prometheus.io/path": "/m"}), Some("http://127.0.0.1:9102/m")),
        (json!({"prometheus.io/port": "9102", "prometheus.io/path": "m"}), Some("http://127.0.0.1:9102/m")),
        (json!({}), Some("http://127.0.0.1:8080/metrics")),
        (json!({"prometheus.io/scheme": "https"}), None),
        (json!({"prometheus.io/port": "metrics"}), None),
        (json!({"prometheus.io/port": "15020"}), None),
        (json!({"prometheus.io/scrape": "false"}), None),
    ] {
        let pod = scraped(more.clone());
        assert_eq!(variable(&pod, "OUTRIGGER_APPLICATION_METRICS").as_deref(), want, "{more}");
        let annotations = &pod["metadata"]["annotations"];
        if want.is_some() {
            assert_eq!(
                (&annotations["prometheus.io/port"], &annotations["prometheus.io/path"]),
                (&json!("15020"), &json!("/metrics"))
            );
        } else {
            assert_eq!(annotations.get("prometheus.io/port"), more.get("prometheus.io/port"));
        }
    }
}

#[test]
fn what_a_pod_leaves_out_or_writes_as_null_is_no_obstacle() {
    let bare = json!({"metadata": {"annotations": null}, "spec": {"containers": [{"name": "web"}], "volumes": null, "initContainers": null}});
    let Ok(Outcome::Injected(pod)) = inject(&bare, &Settings::default(), &shop()) else {
        panic!("not injected")
    };
    assert_eq!(names_of(&pod, "initContainers"), ["outrigger-redirect", "outrigger-proxy"]);
    assert_eq!(variable(&pod, "OUTRIGGER_LABEL"), None);
    for (pod, field) in [
        (json!([]), "spec"),
        (json!({"spec": []}), "spec"),
        (json!({"spec": {"initContainers": {}}}), "spec.initContainers"),
        (json!({"spec": {"containers": []}, "metadata": 1}), "metadata"),
        (json!({"spec": {"volumes": 1}}), "spec.volumes"),
    ] {
        assert_eq!(inject(&pod, &Settings::default(), &shop()).unwrap_err().field, field, "{pod}");
    }
}

#[test]
fn a_patch_makes_the_pod_the_injected_one() {
    for mode in [Mode::Native, Mode::Legacy] {
        let settings = Settings { mode, ..Settings::default() };
        let (mut pod, want) = (web(), injected_with(&settings, |_| {}));
        let patch = serde_json::to_value(patch::diff(&pod, &want)).unwrap();
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
        assert_eq!(pod, want);
    }
}

#[test]
fn the_templates_of_all_kinds_are_found() {
    let pod = json!({"spec": {"containers": []}});
    let object = |version: &str, kind: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
    let template = json!({"template": pod});
    for (object, want) in [
        (object("v1", "Pod", json!({})), vec![""]),
        (object("apps/v1", "Deployment", template.clone()), vec!["/spec/template"]),
        (object("apps/v1", "StatefulSet", template.clone()), vec!["/spec/template"]),
        (object("apps/v1", "DaemonSet", template.clone()), vec!["/spec/template"]),
        (object("apps/v1", "ReplicaSet", template.clone()), vec!["/spec/template"]),
        (object("batch/v1", "Job", template.clone()), vec!["/spec/template"]),
        (
            object("batch/v1", "CronJob", json!({"jobTemplate": {"spec": template}})),
            vec!["/spec/jobTemplate/spec/template"],
        ),
        (object("apps/v1", "Deployment", json!({})), vec![]),
        (object("example.org/v1", "Deployment", template.clone()), vec![]),
        (
            json!({"apiVersion": "v1", "kind": "List", "items": [
                object("v1", "Service", json!({})), object("batch/v1", "Job", template.clone()),
                {"apiVersion": "v1", "kind": "List", "items": [object("v1", "Pod", json!({}))]},
            ]}),
            vec!["/items/1/spec/template", "/items/2/items/0"],
        ),
    ] {
        let found = template::find(&object);
        assert_eq!(found.iter().map(|it| it.pointer.as_str()).collect::<Vec<_>>(), want, "{object}");
        assert!(
            found.iter().all(|it| object.pointer(&it.pointer).is_some() && it.object.contains("/shop/web"))
        );
    }
}
