//! The volumes of a pod as directories: what the kubelet makes of ConfigMaps, Secrets, tokens and the pod's own fields.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::api::Api;
use super::environment::field;
use super::services::list;

/// How long a token lives unless the volume says so, in seconds.
const TOKEN_SECONDS: u64 = 3607;

/// Makes and refreshes the volumes of a pod below a directory.
#[derive(Debug)]
pub(super) struct Volumes {
    dir: PathBuf,
}

impl Volumes {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Writes everything once.
    ///
    /// # Errors
    /// When something is not there that is not optional: the kubelet then waits, and so does who called.
    pub(super) async fn make(&self, api: &Api, pod: &Value) -> Result<()> {
        for volume in list(&pod["spec"]["volumes"]) {
            let name = volume["name"].as_str().context("a volume has a name")?;
            self.fill(api, pod, volume, true)
                .await
                .with_context(|| format!("the volume {name} is not ready"))?;
        }
        Ok(())
    }

    /// Writes anew what may have changed since.
    pub(super) async fn refresh(&self, api: &Api, pod: &Value) -> Result<()> {
        for volume in list(&pod["spec"]["volumes"]) {
            self.fill(api, pod, volume, false).await?;
        }
        Ok(())
    }

    /// The directory of a volume.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    async fn fill(&self, api: &Api, pod: &Value, volume: &Value, with_tokens: bool) -> Result<()> {
        let dir = self.path(volume["name"].as_str().unwrap_or_default());
        fs::create_dir_all(&dir)?;
        if !volume["emptyDir"].is_null() {
            return Ok(fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?);
        }
        let sources = match &volume["projected"]["sources"] {
            Value::Array(sources) => sources.as_slice(),
            _ => std::slice::from_ref(volume),
        };
        for source in sources {
            for (name, text) in files(api, pod, source, with_tokens).await? {
                write(&dir.join(name), &text)?;
            }
        }
        Ok(())
    }
}

/// The files of a volume, or of one source of a projected one.
async fn files(
    api: &Api,
    pod: &Value,
    source: &Value,
    with_tokens: bool,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut files = BTreeMap::new();
    if let Value::Object(_) = &source["configMap"] {
        let data = keyed(api, namespace, "configmaps", &source["configMap"]).await?;
        files.extend(data.into_iter().map(|(name, text)| (name, text.into_bytes())));
    } else if let Value::Object(_) = &source["secret"] {
        for (name, text) in keyed(api, namespace, "secrets", &source["secret"]).await? {
            files.insert(name, decoded(&text)?);
        }
    } else if let Value::Object(token) = &source["serviceAccountToken"] {
        if with_tokens {
            let path = token.get("path").and_then(Value::as_str).unwrap_or("token").to_owned();
            files.insert(path, token_of(api, pod, &source["serviceAccountToken"]).await?.into_bytes());
        }
    } else if let Value::Object(_) = &source["downwardAPI"] {
        for item in list(&source["downwardAPI"]["items"]) {
            let path = item["path"].as_str().unwrap_or_default().to_owned();
            let wanted = item["fieldRef"]["fieldPath"].as_str().unwrap_or_default();
            files.insert(path, field(pod, wanted)?.into_bytes());
        }
    } else {
        bail!("the test node has no volumes of this kind: {source}");
    }
    Ok(files)
}

/// The entries of a ConfigMap or Secret that a source names.
async fn keyed(api: &Api, namespace: &str, plural: &str, source: &Value) -> Result<BTreeMap<String, String>> {
    let name = source["name"].as_str().or_else(|| source["secretName"].as_str()).unwrap_or_default();
    let found = match api.get(&format!("/api/v1/namespaces/{namespace}/{plural}/{name}")).await {
        Ok(found) => found,
        Err(_) if source["optional"] == true => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.context(format!("{plural} {namespace}/{name}"))),
    };
    let data = found["data"].as_object().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list(&source["items"]);
    if items.is_empty() {
        return Ok(data.iter().map(|(key, value)| (key.clone(), text(value))).collect());
    }
    items
        .iter()
        .map(|item| {
            let key = item["key"].as_str().unwrap_or_default();
            let value = data.get(key).with_context(|| format!("{plural} {name} has no key {key}"))?;
            Ok((text(&item["path"]), text(value)))
        })
        .collect()
}

/// A token that is bound to the pod, as the kubelet asks for it.
async fn token_of(api: &Api, pod: &Value, source: &Value) -> Result<String> {
    let (namespace, name) = (&pod["metadata"]["namespace"], &pod["metadata"]["name"]);
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let audiences: Vec<_> = source["audience"].as_str().into_iter().collect();
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
        "audiences": audiences,
        "expirationSeconds": source["expirationSeconds"].as_u64().unwrap_or(TOKEN_SECONDS),
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"]},
    }});
    let namespace = namespace.as_str().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let answer = api.post(&path, &request).await?;
    answer["status"]["token"].as_str().map(str::to_owned).context("the answer has no token")
}

/// Replaces a file at once, unless it is the same: programs watch it.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

/// The bytes of Base64 (RFC 4648, section 4), as Secrets have them.
fn decoded(text: &str) -> Result<Vec<u8>> {
    use k8s_openapi::ByteString;
    let bytes: ByteString = serde_json::from_value(Value::String(text.to_owned()))?;
    Ok(bytes.0)
}
