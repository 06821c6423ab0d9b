//! The environment and the command line of a container.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::image::Image;
use super::services::list;

/// What a container has when it says nothing else.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where pods find the API server.
const API: [(&str, &str); 3] = [
    ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    ("KUBERNETES_SERVICE_PORT", "443"),
    ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
];

/// Variables, later ones over earlier ones; `$(NAME)` in a value is what stands before it.
pub(super) fn environment(pod: &Value, container: &Value) -> Result<BTreeMap<String, String>> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    variables.insert("PATH".into(), PATH.into());
    variables.insert("HOSTNAME".into(), field(pod, "metadata.name")?);
    variables.extend(API.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if !list(&container["envFrom"]).is_empty() {
        bail!("the test node does not know envFrom");
    }
    for variable in list(&container["env"]) {
        let name = variable["name"].as_str().context("a variable has a name")?;
        let value = match &variable["valueFrom"] {
            Value::Null => expanded(variable["value"].as_str().unwrap_or_default(), &variables),
            from => referred(pod, container, from).with_context(|| format!("the variable {name}"))?,
        };
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

/// The words of what runs.
pub(super) fn command_line(
    container: &Value,
    image: &Image,
    variables: &BTreeMap<String, String>,
) -> Vec<String> {
    let words = |value: &Value| -> Vec<String> {
        let words = list(value).iter().filter_map(Value::as_str);
        words.map(|word| expanded(word, variables)).collect()
    };
    let mut line = words(&container["command"]);
    if line.is_empty() {
        line.clone_from(&image.entrypoint);
    }
    line.extend(words(&container["args"]));
    line
}

/// A field of a pod by its path, as the downward API has it.
pub(super) fn field(pod: &Value, path: &str) -> Result<String> {
    if let Some((place, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let place = place.replace('.', "/");
        let found = pod.pointer(&format!("/{place}")).map(|map| &map[key]);
        return Ok(found.and_then(Value::as_str).unwrap_or_default().to_owned());
    }
    let pointer = match path {
        "status.podIPs" => "/status/podIP".to_owned(),
        path => format!("/{}", path.replace('.', "/")),
    };
    match pod.pointer(&pointer) {
        Some(Value::String(text)) => Ok(text.clone()),
        // One line for each, as in a file of the downward API.
        Some(Value::Object(map)) => {
            Ok(map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n"))
        }
        _ => bail!("the pod has no field {path}"),
    }
}

fn referred(pod: &Value, container: &Value, from: &Value) -> Result<String> {
    if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
        return field(pod, path);
    }
    if let Some(resource) = from["resourceFieldRef"]["resource"].as_str() {
        let pointer = format!("/resources/{}", resource.replacen('.', "/", 1));
        return Ok(container.pointer(&pointer).and_then(Value::as_str).unwrap_or("0").to_owned());
    }
    bail!("the test node does not know {from}")
}

/// Puts the values in the place of `$(NAME)`; what is not known stays, and `$$` is one `$`.
fn expanded(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
        if let Some(value) = name.and_then(|(name, _)| variables.get(name)) {
            out.push_str(value);
            rest = name.map_or("", |(_, after)| after);
        } else {
            out.push('$');
            rest = rest.strip_prefix("$$").unwrap_or(&rest[1..]);
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_come_from_values_fields_and_each_other() {
        let pod = json!({"metadata": {"name": "web-1", "labels": {"app": "web"}}, "status": {"podIP": "10.77.0.2"}});
        let container = json!({"args": ["--at=$(AT)", "$$(AT)", "$(NOBODY)"], "env": [
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "AT", "value": "$(APP)@$(IP)"},
        ]});
        let variables = environment(&pod, &container).unwrap();
        assert_eq!(variables["AT"], "web@10.77.0.2");
        let image = Image { entrypoint: vec!["run".into()], user: 0, program: None };
        let line = command_line(&container, &image, &variables);
        assert_eq!(line, ["run", "--at=web@10.77.0.2", "$(AT)", "$(NOBODY)"]);
    }
}
