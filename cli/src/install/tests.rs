//! What is promised of the objects whoever renders them; how they are rendered elsewhere is compared in the whole-mesh
//! tests.

use clap::Parser;
use outrigger_resources::yaml_values;

use super::*;

const EVERY_SIDECAR_FLAG: &str = "--injection-mode legacy --proxy-image p:1 --proxy-image-pull-policy Never \
    --proxy-control-plane https://cp.example:15012 --proxy-cpu-request 1 --proxy-cpu-limit 2 --proxy-memory-request 1Gi \
    --proxy-memory-limit 2Gi --proxy-log-level debug";

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: Args,
}

fn settings(words: &str) -> Settings {
    let line = ["install"].into_iter().chain(words.split_whitespace());
    Program::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).args.flags.settings()
}

impl Settings {
    /// What an installation in a namespace is unless told otherwise.
    pub(crate) fn of(namespace: &str) -> Self {
        settings(&format!("-n {namespace}"))
    }
}

fn find<'v>(objects: &'v [Value], kind: &str) -> &'v Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn pod(objects: &[Value]) -> &Value {
    &find(objects, "Deployment")["spec"]["template"]["spec"]
}

#[test]
fn what_is_printed_is_read_back_as_it_is() {
    let objects: Vec<Value> = definitions()
        .into_iter()
        .chain(objects(&settings("--ha --mtls Strict --network-policy --service-monitor --pod-monitor")))
        .collect();
    assert_eq!(yaml_values(&documents(&objects)).unwrap(), objects);
}

#[test]
fn the_control_plane_is_all_that_a_restricted_namespace_asks_for() {
    let objects = objects(&settings(""));
    let labels = &find(&objects, "Namespace")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    let (pod, container) = (pod(&objects), &pod(&objects)["containers"][0]["securityContext"]);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"], serde_json::json!({"drop": ["ALL"]}));
}

#[test]
fn the_control_plane_understands_its_own_line() {
    #[derive(Parser)]
    struct ControlPlane {
        #[command(flatten)]
        options: outrigger_control_plane::run::Options,
    }
    for words in ["", "--listen ::"] {
        let objects = objects(&settings(words));
        let args = pod(&objects)["containers"][0]["args"].as_array().unwrap().clone();
        let line = args.iter().map(|word| word.as_str().unwrap().to_owned());
        let parsed = ControlPlane::try_parse_from(std::iter::once("x".to_owned()).chain(line));
        let options = parsed.unwrap_or_else(|error| panic!("{error}")).options;
        assert_eq!(options.http.port(), names::HTTP_PORT);
        assert_eq!(options.xds_tls.map(|address| address.port()), Some(names::XDS_TLS_PORT));
        assert!(options.xds.ip().is_loopback());
    }
    let command = <ControlPlane as clap::CommandFactory>::command();
    let known: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_env).collect();
    let objects = objects(&settings(EVERY_SIDECAR_FLAG));
    for variable in pod(&objects)["containers"][0]["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(known.iter().any(|known| *known == name), "no flag is set by {name}");
    }
    let told =
        known.iter().filter(|name| name.to_str().is_some_and(|name| name.starts_with("OUTRIGGER_PROXY_")));
    let variables = pod(&objects)["containers"][0]["env"].as_array().unwrap().len();
    // Beside them the namespace and the mode.
    assert_eq!(variables, told.count() + 2);
}

#[test]
fn every_port_of_the_service_is_one_of_the_container() {
    let objects = objects(&settings(""));
    let ports = pod(&objects)["containers"][0]["ports"].as_array().unwrap();
    for port in find(&objects, "Service")["spec"]["ports"].as_array().unwrap() {
        assert!(ports.iter().any(|open| open["name"] == port["targetPort"]), "{port}");
    }
}

#[test]
fn high_availability_has_three_replicas_of_which_two_stay() {
    let single = objects(&settings(""));
    assert!(!single.iter().any(|object| object["kind"] == "PodDisruptionBudget"));
    let high = objects(&settings("--ha --priority-class system-cluster-critical"));
    assert_eq!(find(&high, "Deployment")["spec"]["replicas"], 3);
    assert_eq!(find(&high, "PodDisruptionBudget")["spec"]["minAvailable"], 2);
    assert_eq!(pod(&high)["priorityClassName"], "system-cluster-critical");
    assert!(pod(&high)["affinity"].is_object() && pod(&high)["containers"] == pod(&single)["containers"]);
}

#[test]
fn the_injector_never_stands_before_what_the_cluster_needs_or_before_itself() {
    let objects = objects(&settings("-n mesh"));
    for webhook in find(&objects, "MutatingWebhookConfiguration")["webhooks"].as_array().unwrap() {
        let expressions = webhook["namespaceSelector"]["matchExpressions"].as_array().unwrap();
        let names = expressions.iter().find(|it| it["key"] == "kubernetes.io/metadata.name").unwrap();
        assert_eq!(names["operator"], "NotIn");
        let never = serde_json::json!(["kube-system", "kube-public", "kube-node-lease", "mesh"]);
        assert_eq!(names["values"], never);
        assert_eq!(webhook["failurePolicy"], "Fail");
        assert_eq!(webhook["clientConfig"]["service"]["namespace"], "mesh");
    }
}

#[test]
fn images_come_from_one_registry_or_one_by_one() {
    let image = |words: &str| {
        let settings = settings(words);
        (settings.control_plane_image, settings.injector.proxy_image.unwrap_or_default())
    };
    let own = |name: &str| format!("outrigger/{name}:{VERSION}");
    assert_eq!(image(""), (own("outrigger-control-plane"), own("outrigger-proxy")));
    let (control_plane, proxy) = image("--image-registry r.example/m/ --image-tag 9 --proxy-image p:1");
    assert_eq!((control_plane.as_str(), proxy.as_str()), ("r.example/m/outrigger-control-plane:9", "p:1"));
}

#[test]
fn a_mesh_config_is_there_when_it_says_something_and_says_what_the_parser_takes() {
    assert!(!objects(&settings("")).iter().any(|object| object["kind"] == "MeshConfig"));
    let objects = objects(&settings("-n mesh --mtls Strict --trust-domain corp.example"));
    let parsed = outrigger_resources::parse_yaml("f", &documents(&[find(&objects, "MeshConfig").clone()]));
    let [object] = parsed.objects.as_slice() else { panic!("{:?}", parsed.problems) };
    let outrigger_resources::Object::MeshConfig(mesh) = &object.object else { panic!("a MeshConfig") };
    assert_eq!((&*mesh.meta.namespace, &*mesh.spec.trust_domain), ("mesh", "corp.example"));
    assert_eq!(mesh.spec.mtls, outrigger_resources::mesh_config::Mtls::Strict);
}

#[test]
fn everything_lives_in_the_chosen_namespace_or_in_none() {
    for object in objects(&settings("-n mesh --ha --network-policy --service-monitor --pod-monitor")) {
        let namespace = &object["metadata"]["namespace"];
        assert!(namespace.is_null() || namespace == "mesh", "{object}");
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/part-of"], "outrigger", "{object}");
    }
}
