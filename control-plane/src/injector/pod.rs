//! The pod with its sidecar: our containers in their places, the others as they were but for their probes.

use serde_json::{Map, Value};

use super::annotations::Wishes;
use super::probes::Probes;
use super::{Mode, Refusal, Settings, containers, list, scrape, text};
use crate::kubernetes::names;

/// The annotation by which kubectl knows whose logs are meant.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What would make a sidecar useless or impossible.
pub(super) fn check(pod: &Value) -> Result<(), Refusal> {
    if !pod.get("spec").is_some_and(Value::is_object) {
        return Err(Refusal::new("spec", "it is missing; a pod has a spec with containers"));
    }
    for group in ["initContainers", "containers"] {
        for container in list(pod, &format!("/spec/{group}")) {
            let name = text(container, "/name").unwrap_or_default();
            let at = |field: &str| format!("spec.{group}[{name}].{field}");
            check_user(pod, container, at)?;
            check_ports(container, at)?;
        }
    }
    Ok(())
}

/// The packets of the sidecar's user and group are not redirected.
fn check_user(pod: &Value, container: &Value, at: impl Fn(&str) -> String) -> Result<(), Refusal> {
    for (field, what) in [("runAsUser", "user"), ("runAsGroup", "group")] {
        let pointer = format!("/securityContext/{field}");
        let own = container.pointer(&pointer).filter(|id| !id.is_null());
        let of_pod = || pod.pointer(&format!("/spec{pointer}"));
        if own.or_else(of_pod).and_then(Value::as_i64) == Some(names::PROXY_UID) {
            let place = match own {
                Some(_) => at(&format!("securityContext.{field}")),
                None => format!("spec.securityContext.{field}"),
            };
            let message = format!(
                "{} is the {what} of the sidecar, whose traffic is not redirected: the container would bypass the mesh; \
                 choose another",
                names::PROXY_UID
            );
            return Err(Refusal::new(place, message));
        }
    }
    Ok(())
}

/// All containers of a pod share its ports.
fn check_ports(container: &Value, at: impl Fn(&str) -> String) -> Result<(), Refusal> {
    let numbers = list(container, "/ports").filter_map(|port| port.get("containerPort")?.as_u64());
    let mut taken = numbers.filter(|port| names::PROXY_PORTS.iter().any(|own| u64::from(*own) == *port));
    match taken.next() {
        None => Ok(()),
        Some(port) => {
            let message =
                format!("{port} is a port of the sidecar, and a pod has each port once; choose another");
            Err(Refusal::new(at("ports"), message))
        }
    }
}

/// The pod with a sidecar.
pub(super) fn with_sidecar(pod: &Value, settings: &Settings, wishes: &Wishes) -> Result<Value, Refusal> {
    let mut result = pod.clone();
    let probes = replace_probes(&mut result, settings.mode);
    let proxy = containers::proxy(pod, settings, wishes, &probes)?;
    let redirect = containers::redirect(settings, wishes)?;
    let spec = mapping(&mut result, "spec")?;
    let first = |list: &mut Vec<Value>, ours: Vec<Value>| drop(list.splice(..0, ours));
    match settings.mode {
        Mode::Native => first(items(spec, "initContainers")?, vec![redirect, proxy]),
        Mode::Legacy => {
            // Behind the others: between the redirect step and the start of the sidecar there is no network.
            items(spec, "initContainers")?.push(redirect);
            first(items(spec, "containers")?, vec![proxy]);
        }
    }
    items(spec, "volumes")?.extend(containers::volumes());
    annotate(&mut result, pod, settings)?;
    Ok(result)
}

fn annotate(result: &mut Value, pod: &Value, settings: &Settings) -> Result<(), Refusal> {
    let metadata = mapping(result, "metadata")?;
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    let annotations = empty_unless_given(annotations, Map::new().into()).as_object_mut();
    let annotations =
        annotations.ok_or_else(|| Refusal::new("metadata.annotations", "it is not a mapping"))?;
    annotations.insert(names::INJECTED.to_owned(), env!("CARGO_PKG_VERSION").into());
    if scrape::application(pod).is_some() {
        scrape::redirect(annotations);
    }
    let application = list(pod, "/spec/containers").find_map(|container| text(container, "/name"));
    if let (Mode::Legacy, Some(name)) = (settings.mode, application) {
        annotations.entry(DEFAULT_CONTAINER).or_insert_with(|| name.into());
    }
    Ok(())
}

/// In `legacy` mode init containers are over before the sidecar could ask for anything.
fn replace_probes(pod: &mut Value, mode: Mode) -> Probes {
    let groups: &[&str] = match mode {
        Mode::Native => &["/spec/initContainers", "/spec/containers"],
        Mode::Legacy => &["/spec/containers"],
    };
    let mut probes = Probes::default();
    for group in groups {
        let containers = pod.pointer_mut(group).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(|container| probes.replace(container));
    }
    probes
}

fn mapping<'v>(value: &'v mut Value, key: &str) -> Result<&'v mut Map<String, Value>, Refusal> {
    let whole =
        value.as_object_mut().ok_or_else(|| Refusal::new("", "a pod is a mapping with metadata and spec"))?;
    let inner = empty_unless_given(whole.entry(key).or_insert(Value::Null), Map::new().into());
    inner.as_object_mut().ok_or_else(|| Refusal::new(key, "it is not a mapping"))
}

fn items<'v>(spec: &'v mut Map<String, Value>, key: &str) -> Result<&'v mut Vec<Value>, Refusal> {
    let list = empty_unless_given(spec.entry(key).or_insert(Value::Null), Value::Array(Vec::new()));
    list.as_array_mut().ok_or_else(|| Refusal::new(format!("spec.{key}"), "it is not a list"))
}

/// `null` is nothing, as Kubernetes has it.
fn empty_unless_given(value: &mut Value, empty: Value) -> &mut Value {
    if value.is_null() {
        *value = empty;
    }
    value
}
