//! A Kubernetes cluster as the commands see it: plain GETs and POSTs that answer JSON, with the rights of whoever types.
//!
//! The JSON API of the control plane is reached through the API server's proxy, with a token of the control plane's own
//! service account: whoever may make one may read the mesh. Nothing has to be opened or forwarded.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use outrigger_control_plane::http::TOKEN_HEADER;
use outrigger_control_plane::kubernetes::names;
use serde_json::{Value, json};

/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// How long a token for the JSON API is good, in seconds: the least that the API server gives.
const TOKEN_SECONDS: u64 = 600;

/// Which cluster, and which installation in it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ClusterArgs {
    /// The kubeconfig file [default: as kubectl chooses it].
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The namespace of the installation.
    #[arg(short, long, value_name = "NS", env = "OUTRIGGER_MESH_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    pub(crate) namespace: String,
}

/// A connection to the API server.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    /// The namespace of the installation.
    pub(crate) namespace: String,
}

/// What the API server answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The clock of the API server, as it wrote it.
    pub(crate) date: Option<String>,
    /// The body; text that is not JSON is a string.
    pub(crate) body: Value,
}

impl Cluster {
    /// Reads the kubeconfig; nothing is sent yet.
    pub(crate) async fn connect(args: &ClusterArgs) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = match &args.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(file)
                    .with_context(|| format!("--kubeconfig {} cannot be used", file.display()))?;
                Config::from_custom_kubeconfig(read, &options).await?
            }
            None if args.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await.context("no cluster is configured; say where with --kubeconfig")?,
        };
        Ok(Self { client: Client::try_from(config)?, namespace: args.namespace.clone() })
    }

    /// GET. An answer that is not a success is an error that says what was answered.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let answer = self.send(Request::get(path).body(Body::empty())?).await?;
        succeeded(path, answer)
    }

    /// GET of something that may be missing.
    pub(crate) async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let answer = self.send(Request::get(path).body(Body::empty())?).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        succeeded(path, answer).map(|answer| Some(answer.body))
    }

    /// POST of an object, with whatever is answered.
    pub(crate) async fn post(&self, path: &str, object: &Value) -> anyhow::Result<Answer> {
        let body = serde_json::to_vec(object)?;
        let request = Request::post(path).header("content-type", "application/json").body(body.into())?;
        self.send(request).await
    }

    /// PUT of an object, with whatever is answered.
    pub(crate) async fn put(&self, path: &str, object: &Value) -> anyhow::Result<Answer> {
        let body = serde_json::to_vec(object)?;
        let request = Request::put(path).header("content-type", "application/json").body(body.into())?;
        self.send(request).await
    }

    /// A token for the JSON API of the control plane.
    pub(crate) async fn api_token(&self) -> anyhow::Result<String> {
        let path =
            format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", self.namespace, names::CONTROL_PLANE);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [names::API_AUDIENCE], "expirationSeconds": TOKEN_SECONDS},
        });
        let answer = succeeded(&path, self.post(&path, &request).await?)?;
        let token = answer.body["status"]["token"].as_str().map(str::to_owned);
        token.ok_or_else(|| anyhow!("{path} gave no token"))
    }

    /// The pods of the control plane that its Service picks and that run.
    pub(crate) async fn control_planes(&self) -> anyhow::Result<Vec<String>> {
        let own = format!("/api/v1/namespaces/{}", self.namespace);
        let service = self.find(&format!("{own}/services/{}", names::CONTROL_PLANE)).await?;
        let service = service.ok_or_else(|| {
            anyhow!(
                "there is no control plane in namespace {}; say where it is with --namespace",
                self.namespace
            )
        })?;
        let selector = service["spec"]["selector"].as_object().cloned().unwrap_or_default();
        let pairs =
            selector.iter().map(|(key, value)| format!("{key}%3D{}", value.as_str().unwrap_or_default()));
        let selector = pairs.collect::<Vec<_>>().join(",").replace('/', "%2F");
        let pods = self.get(&format!("{own}/pods?labelSelector={selector}")).await?.body;
        let running = items(&pods).iter().filter(|pod| {
            text(pod, "/status/phase") == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
        });
        Ok(running.map(|pod| text(pod, "/metadata/name").to_owned()).collect())
    }

    /// GET from the JSON API of one pod of the control plane.
    pub(crate) async fn ask_control_plane(
        &self,
        pod: &str,
        path: &str,
        token: &str,
    ) -> anyhow::Result<Value> {
        let path =
            format!("/api/v1/namespaces/{}/pods/{pod}:{}/proxy{path}", self.namespace, names::HTTP_PORT);
        let request = Request::get(&path).header(TOKEN_HEADER, token).body(Body::empty())?;
        succeeded(&path, self.send(request).await?).map(|answer| answer.body)
    }

    async fn send(&self, request: Request<Body>) -> anyhow::Result<Answer> {
        let answer = self.client.send(request).await.context("the API server cannot be reached")?;
        read(answer).await
    }
}

async fn read(answer: Response<Body>) -> anyhow::Result<Answer> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| anyhow!("the answer of the API server was cut: {error}"))?.to_bytes();
    let text = || Value::from(String::from_utf8_lossy(&body).trim_end());
    Ok(Answer {
        status: head.status.as_u16(),
        date: head.headers.get("date").and_then(|date| date.to_str().ok()).map(str::to_owned),
        body: serde_json::from_slice(&body).unwrap_or_else(|_| text()),
    })
}

fn succeeded(path: &str, answer: Answer) -> anyhow::Result<Answer> {
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    Err(anyhow!("{path} answered {}: {}", answer.status, answer.said()))
}

impl Answer {
    /// What the API server says in words.
    pub(crate) fn said(&self) -> &str {
        self.body["message"].as_str().or(self.body.as_str()).unwrap_or("no reason given")
    }
}

/// The items of a list.
pub(crate) fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text somewhere in an object; empty when it is not there.
pub(crate) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
