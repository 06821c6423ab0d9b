//! The ways to install are one: `outrigger install`, the chart and kustomize make the same objects, and a real API server
//! takes every one of them.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use outrigger_resources::yaml_values;
use outrigger_tests::counterparts::{self, Counterpart};
use outrigger_tests::kube::Cluster;
use outrigger_tests::process::cargo_bin;
use serde_json::{Value, json};

/// What a chart cannot make: Helm makes the namespace of a release itself.
const NOT_OF_A_CHART: &str = "Namespace";
/// Group and version of our kinds.
const OUR_GROUP: &str = "outrigger.dev/v1alpha1";

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a program prints that must succeed.
fn printed(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn outrigger(args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("outrigger"));
    command.args(args).env_remove("KUBECONFIG").env_remove("OUTRIGGER_MESH_NAMESPACE");
    command
}

/// A program of the cluster, with nothing of the user's.
fn program(name: &str) -> Option<(Command, tempfile::TempDir)> {
    let found = counterparts::need_cluster(&[])?;
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(found.path(Counterpart::Kubernetes).join("bin").join(name));
    command.env("HOME", home.path()).env_remove("KUBECONFIG").current_dir(repository());
    Some((command, home))
}

fn objects(yaml: &str) -> Objects {
    let of = |object: Value| {
        let metadata = &object["metadata"];
        let place = format!("{}/{}/{}", object["kind"], metadata["namespace"], metadata["name"]);
        (place.replace('"', ""), object)
    };
    yaml_values(yaml).unwrap().into_iter().map(of).collect()
}

/// Places at which two values differ.
fn differences(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let keys: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            for key in keys {
                let (ours, theirs) = (ours.get(key), theirs.get(key));
                let (ours, theirs) = (ours.unwrap_or(&Value::Null), theirs.unwrap_or(&Value::Null));
                differences(ours, theirs, &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                differences(ours, theirs, &format!("{path}[{at}]"), found);
            }
        }
        (ours, theirs) if ours == theirs => {}
        (ours, theirs) => found.push(format!("{path}: install has {ours}, this has {theirs}")),
    }
}

#[track_caller]
fn assert_same(ours: &Objects, theirs: &Objects) {
    let places = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(places(ours), places(theirs));
    let mut found = Vec::new();
    for (place, object) in ours {
        differences(object, &theirs[place], place, &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_chart_makes_what_install_prints() {
    for (flags, values) in [
        ("", ""),
        ("--ha", "ha=true"),
        ("-n mesh --listen ::", "controlPlane.listen=::"),
        (
            "--ha --mtls Strict --trust-domain corp.example --network-policy --service-monitor --pod-monitor \
             --image-registry r.example/mesh --image-tag v9 --priority-class system-cluster-critical \
             --injection-mode legacy",
            "ha=true,meshConfig.mtls=Strict,meshConfig.trustDomain=corp.example,networkPolicy.enabled=true,\
             serviceMonitor.enabled=true,podMonitor.enabled=true,image.registry=r.example/mesh,\
             image.tag=v9,controlPlane.priorityClassName=system-cluster-critical,injector.mode=legacy",
        ),
        ("--control-plane-image a:1 --proxy-image b:2", "controlPlane.image=a:1,proxy.image=b:2"),
        (
            "--proxy-image-pull-policy Never --proxy-control-plane https://cp.example:15012 --proxy-cpu-request 1000m \
             --proxy-cpu-limit 2000m --proxy-memory-request 1Gi --proxy-memory-limit 2Gi --proxy-log-level debug",
            "proxy.pullPolicy=Never,proxy.controlPlane=https://cp.example:15012,proxy.memoryRequest=1Gi,\
             proxy.memoryLimit=2Gi,proxy.logLevel=debug,proxy.cpuRequest=1000m,proxy.cpuLimit=2000m",
        ),
    ] {
        let Some((mut helm, _home)) = program("helm") else { return };
        let namespace = if flags.contains("-n mesh") { "mesh" } else { "outrigger-system" };
        helm.args(["template", "outrigger", "deploy/helm/outrigger", "--include-crds", "-n", namespace]);
        helm.args(["--set", values]);
        let mut line = vec!["install"];
        line.extend(flags.split_whitespace());
        let mut ours = objects(&printed(&mut outrigger(&line)));
        ours.retain(|place, _| !place.starts_with(NOT_OF_A_CHART));
        assert_same(&ours, &objects(&printed(&mut helm)));
    }
}

#[test]
fn kustomize_makes_what_install_prints() {
    for (flags, dir) in
        [(&["install"][..], "deploy/manifests"), (&["install", "--ha"], "deploy/manifests/ha")]
    {
        let Some((mut kubectl, _home)) = program("kubectl") else { return };
        let theirs = objects(&printed(kubectl.args(["kustomize", dir])));
        assert_same(&objects(&printed(&mut outrigger(flags))), &theirs);
    }
}

#[test]
fn the_chart_is_without_fault_and_its_values_are_checked() {
    let Some((mut helm, _home)) = program("helm") else { return };
    printed(helm.args(["lint", "--strict", "deploy/helm/outrigger", "--set", "ha=true"]));
    for (value, place) in [
        ("ha=sometimes", "/ha"),
        ("hA=true", "hA"),
        ("controlPlane.replicas=3", "replicas"),
        ("controlPlane.image=7", "/controlPlane/image"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("injector.mode=ambient", "/injector/mode"),
        ("meshConfig.mtls=strict", "/meshConfig/mtls"),
        ("meshConfig.opaquePorts={http}", "/meshConfig/opaquePorts"),
        ("networkPolicy=true", "/networkPolicy"),
    ] {
        let Some((mut helm, _home)) = program("helm") else { return };
        let output = run(helm.args(["template", "outrigger", "deploy/helm/outrigger", "--set", value]));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && complaint.contains(place), "{value}: {complaint}");
    }
}

/// A list of objects as kubectl takes it.
fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// Every object of ours in the examples, and one with every field of every kind.
fn samples() -> Vec<Value> {
    let everything = repository().join("config/resources/src/crd/everything.yaml");
    let examples = ["bookstore", "tasks"].map(|dir| repository().join("deploy/examples").join(dir));
    let files = examples.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap());
    let paths = files.map(|entry| entry.unwrap().path()).chain([everything]);
    let texts = paths.map(|path| std::fs::read_to_string(path).unwrap());
    let all = texts.flat_map(|text| yaml_values(&text).unwrap());
    all.filter(|object| object["apiVersion"] == OUR_GROUP).collect()
}

/// The definitions are there and mean what the parser means.
async fn check_definitions(cluster: &Cluster) {
    cluster.apply(&printed(&mut outrigger(&["install", "--crds-only"]))).await.unwrap();
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    cluster.kubectl(&wait).await.unwrap();
    let samples = samples();
    assert!(samples.len() > 30, "{}", samples.len());
    let mut namespaces: Vec<_> =
        samples.iter().filter_map(|it| it["metadata"]["namespace"].as_str()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    for namespace in namespaces {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        cluster.apply(&object.to_string()).await.unwrap();
    }
    // Examples of different tasks have objects of the same name.
    let renamed = samples.iter().enumerate().map(|(at, sample)| {
        let mut sample = sample.clone();
        sample["metadata"]["name"] = format!("sample-{at}").into();
        sample
    });
    cluster.apply(&list(&renamed.collect::<Vec<_>>())).await.unwrap();
    let wrong = "{apiVersion: outrigger.dev/v1alpha1, kind: InboundPolicy, metadata: {name: a, namespace: default}, \
                 spec: {mtls: strict}}";
    let refused = cluster.apply(wrong).await.unwrap_err().to_string();
    assert!(refused.contains("spec.mtls") && refused.contains("Strict"), "{refused}");
    cluster.kubectl(&["delete", "meshconfig", "--all", "-A"]).await.unwrap();
}

/// Upgrades an installation with `args`: whether it was allowed, what was printed, and what was told.
fn upgrade(cluster: &Cluster, args: &[&str]) -> (bool, String, String) {
    let kubeconfig = cluster.kubeconfig();
    let mut command = outrigger(&["upgrade"]);
    let output = run(command.arg("--kubeconfig").arg(kubeconfig).args(args));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// An upgrade keeps what is there, never goes back, and says who is to be restarted.
async fn check_upgrade(cluster: &Cluster) {
    let (allowed, printed_objects, told) = upgrade(cluster, &[]);
    assert!(!allowed && printed_objects.is_empty() && told.contains("say --ha"), "{told}");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "old", "namespace": "default", "annotations": {"outrigger.dev/injected": "0.0.1"}},
        "spec": {"containers": [{"name": "outrigger-proxy", "image": "p"}]},
    });
    cluster.apply(&pod.to_string()).await.unwrap();
    let (allowed, printed_objects, told) = upgrade(cluster, &["--ha"]);
    assert!(allowed && told.contains("kubectl -n default delete pod old"), "{told}");
    assert_eq!(objects(&printed_objects), objects(&printed(&mut outrigger(&["install", "--ha"]))));

    let label = |version: &str| format!("app.kubernetes.io/version={version}");
    let deployment = ["-n", "outrigger-system", "label", "--overwrite", "deployment/outrigger-control-plane"];
    cluster.kubectl(&[&deployment[..], &[&label("99.0.0")]].concat()).await.unwrap();
    let (allowed, _, told) = upgrade(cluster, &["--ha"]);
    assert!(!allowed && told.contains("a downgrade"), "{told}");
    let (allowed, printed_objects, told) = upgrade(cluster, &["--ha", "--force"]);
    assert!(
        allowed && printed_objects.contains("kind: Deployment") && told.contains("in spite of"),
        "{told}"
    );
    let (allowed, _, told) = upgrade(cluster, &["-n", "elsewhere", "--ha"]);
    assert!(
        !allowed && told.contains("use outrigger install") && told.contains("say -n outrigger-system"),
        "{told}"
    );
}

/// Deletes what uninstall prints.
async fn uninstall(cluster: &Cluster, flags: &[&str]) {
    let file = cluster.path().join("uninstall.yaml");
    let text = printed(outrigger(&["uninstall"]).args(flags));
    std::fs::File::create(&file).unwrap().write_all(text.as_bytes()).unwrap();
    let file = file.display().to_string();
    // What it tells people to type is what kubectl takes.
    let bundles = "metadata.name=outrigger-trust-bundle";
    cluster.kubectl(&["delete", "configmap", "-A", "--field-selector", bundles]).await.unwrap();
    let columns = r"custom-columns=POD:.metadata.name,VERSION:.metadata.annotations.outrigger\.dev/injected";
    let pods = cluster.kubectl(&["get", "pods", "-A", "-o", columns]).await.unwrap();
    assert!(pods.lines().any(|line| line.starts_with("old ") && line.ends_with("0.0.1")), "{pods}");
    cluster.kubectl(&["delete", "--ignore-not-found", "-f", &file]).await.unwrap();
}

/// What uninstall prints is what install made, but for what people wrote.
async fn check_uninstall(cluster: &Cluster) {
    uninstall(cluster, &[]).await;
    for object in objects(&printed(&mut outrigger(&["install", "--ha", "--skip-crds"]))).values() {
        let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        let found = cluster.get_json(kind, namespace, metadata["name"].as_str().unwrap()).await;
        assert_eq!(found.is_ok(), kind == "Namespace", "{kind}: {found:?}");
    }
    cluster.get_json("crd", "", "workloads.outrigger.dev").await.unwrap();
    uninstall(cluster, &["--crds"]).await;
    assert!(cluster.get_json("crd", "", "workloads.outrigger.dev").await.is_err());
}

/// The chart installs, a MeshConfig with it, although nobody validates that yet.
async fn check_chart(cluster: &Cluster) {
    let (mut helm, _home) = program("helm").unwrap();
    helm.args(["install", "outrigger", "deploy/helm/outrigger", "-n", "outrigger-system"]);
    helm.args(["--set", "meshConfig.mtls=Strict", "--kubeconfig"]).arg(cluster.kubeconfig());
    printed(&mut helm);
    let mesh = cluster.get_json("meshconfig", "outrigger-system", "mesh").await.unwrap();
    assert_eq!(mesh["spec"]["mtls"], "Strict");
}

#[tokio::test]
async fn a_real_api_server_takes_an_installation_from_its_first_day_to_its_last() {
    let Some(found) = counterparts::need_cluster(&[]) else { return };
    let cluster = Cluster::start(&found).await.unwrap();
    check_definitions(&cluster).await;
    let install = printed(&mut outrigger(&["install", "--ha", "--mtls", "Permissive", "--network-policy"]));
    for _ in 0..2 {
        cluster.apply(&install).await.unwrap();
    }
    // Restricted Pod Security has nothing against them, or there would be none.
    let pods =
        cluster.wait_for_list("pods", "outrigger-system", "app.kubernetes.io/name=outrigger", |pods| {
            pods.len() == 3
        });
    pods.await.unwrap();
    check_upgrade(&cluster).await;
    check_uninstall(&cluster).await;
    check_chart(&cluster).await;
}
