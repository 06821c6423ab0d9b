//! An API server of this process for tests: lists by page, watches, forgets its past, hangs up, goes away. It serves each
//! kind at one version and takes it at any, as a real one converts.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Request, Response, StatusCode};
use kube::Client;
use outrigger_resources::Kind;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tower::BoxError;

/// Events that a watch has not read; with more it ends, as a real one does.
const MAX_UNREAD: usize = 8192;

/// The API server.
#[derive(Clone, Default)]
pub(crate) struct FakeCluster {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    version: u64,
    away: bool,
    collections: BTreeMap<String, Collection>,
    /// What TokenReviews answer, by token.
    reviews: BTreeMap<String, Value>,
    requests: Vec<String>,
}

/// The objects of a kind.
#[derive(Default)]
struct Collection {
    api_version: String,
    kind: String,
    objects: BTreeMap<String, Value>,
    /// Every change with its version, for those who watch from the past.
    past: Vec<(u64, Value)>,
    /// Nothing before this version is known any more.
    since: u64,
    watches: Vec<mpsc::Sender<Value>>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl FakeCluster {
    /// An API server that serves all kinds of the mesh at their first version, and nodes.
    pub(crate) fn new() -> Self {
        let fake = Self::default();
        for kind in Kind::ALL {
            fake.install(kind);
        }
        fake.serve("v1", "Node", "nodes");
        fake.serve("v1", "Secret", "secrets");
        fake
    }

    /// Serves a kind from now on.
    pub(crate) fn install(&self, kind: Kind) {
        // As Gateway API's own definitions have them.
        let version = match kind {
            Kind::TcpRoute | Kind::TlsRoute => "v1alpha2",
            Kind::ReferenceGrant => "v1beta1",
            _ => kind.versions()[0],
        };
        let api_version =
            if kind.group().is_empty() { version.to_owned() } else { format!("{}/{version}", kind.group()) };
        self.serve(&api_version, kind.name(), &plural(kind.name()));
    }

    /// Serves a kind no longer.
    pub(crate) fn uninstall(&self, kind: Kind) {
        let plural = plural(kind.name());
        self.state().collections.retain(|path, _| !path.ends_with(&format!("/{plural}")));
    }

    fn serve(&self, api_version: &str, kind: &str, plural: &str) {
        let root = if api_version.contains('/') { "/apis" } else { "/api" };
        let collection =
            Collection { api_version: api_version.into(), kind: kind.into(), ..Collection::default() };
        self.state().collections.insert(format!("{root}/{api_version}/{plural}"), collection);
    }

    pub(crate) fn client(&self) -> Client {
        let fake = self.clone();
        Client::new(
            tower::service_fn(move |request| {
                let fake = fake.clone();
                async move { fake.answer(request).await }
            }),
            "default",
        )
    }

    /// Creates or changes the objects of a text of YAML.
    pub(crate) fn apply(&self, yaml: &str) {
        for object in objects(yaml) {
            self.put(object);
        }
    }

    pub(crate) fn put(&self, mut object: Value) {
        let cluster_wide = matches!(object["kind"].as_str(), Some("Namespace" | "Node"));
        if !cluster_wide && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = "default".into();
        }
        self.state().change(object, false);
    }

    pub(crate) fn delete(&self, yaml: &str) {
        for object in objects(yaml) {
            self.state().change(object, true);
        }
    }

    /// Removes an object of which nobody who watches is told, as if it happened while nobody watched.
    pub(crate) fn delete_unseen(&self, yaml: &str) {
        self.hang_up();
        self.delete(yaml);
        self.forget();
    }

    /// Forgets all changes so far: who watches from before must list anew.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.version += 1;
        let now = state.version;
        for collection in state.collections.values_mut() {
            collection.past.clear();
            collection.since = now;
        }
    }

    /// Ends all watches.
    pub(crate) fn hang_up(&self) {
        self.state().collections.values_mut().for_each(|collection| collection.watches.clear());
    }

    /// Whether connections are refused; those that are open break.
    pub(crate) fn set_away(&self, away: bool) {
        self.state().away = away;
        self.hang_up();
    }

    /// What the API says of a token.
    pub(crate) fn knows_token(&self, token: &str, status: Value) {
        self.state().reviews.insert(token.to_owned(), status);
    }

    /// `METHOD path` of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(self, request: Request<kube::client::Body>) -> Result<Answer, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let mut state = self.state();
        if state.away {
            return Err("connection refused".into());
        }
        let path = head.uri.path().to_owned();
        state.requests.push(format!("{} {path}", head.method));
        let query: BTreeMap<String, String> =
            head.uri.query().map(|query| pairs(query).collect()).unwrap_or_default();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(match head.method {
            Method::POST if path.ends_with("/tokenreviews") => state.review(sent),
            Method::POST => state.create(&path, sent),
            _ => state.get(&path, &query),
        })
    }
}

impl State {
    fn change(&mut self, mut object: Value, gone: bool) -> Value {
        self.version += 1;
        let version = self.version;
        let collection = self.collections.values_mut().find(|collection| {
            object["kind"] == *collection.kind
                && group(&object) == group(&json!({"apiVersion": collection.api_version}))
        });
        let collection = collection.unwrap_or_else(|| panic!("not served: {object}"));
        object["apiVersion"] = collection.api_version.clone().into();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let key = key(&object);
        let before = match gone {
            true => collection.objects.remove(&key),
            false => collection.objects.insert(key, object.clone()),
        };
        let what = if gone {
            "DELETED"
        } else if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let event = json!({"type": what, "object": object.clone()});
        collection.past.push((version, event.clone()));
        collection.watches.retain(|watch| watch.try_send(event.clone()).is_ok());
        object
    }

    fn create(&mut self, path: &str, mut object: Value) -> Answer {
        let namespace = path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next());
        object["metadata"]["namespace"] = namespace.unwrap_or_default().into();
        let taken = self.collections.values().any(|collection| {
            object["kind"] == *collection.kind && collection.objects.contains_key(&key(&object))
        });
        match taken {
            true => failure(StatusCode::CONFLICT, "AlreadyExists"),
            false => json_answer(StatusCode::CREATED, &self.change(object, false)),
        }
    }

    fn review(&mut self, mut review: Value) -> Answer {
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        let unknown = json!({"authenticated": false, "error": "unknown token"});
        review["status"] = self.reviews.get(token).cloned().unwrap_or(unknown);
        json_answer(StatusCode::CREATED, &review)
    }

    fn get(&mut self, path: &str, query: &BTreeMap<String, String>) -> Answer {
        if let Some(collection) = self.collections.get_mut(path) {
            return match query.contains_key("watch") {
                true => collection.watch(query),
                false => collection.list(self.version, query),
            };
        }
        let served: Vec<Value> = self.collections.iter().filter_map(|(known, collection)| {
            let plural = known.strip_prefix(path)?.strip_prefix('/').filter(|rest| !rest.contains('/'))?;
            Some(json!({"name": plural, "kind": collection.kind, "namespaced": true, "singularName": "", "verbs": []}))
        }).collect();
        if !served.is_empty() {
            let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "", "resources": served});
            return json_answer(StatusCode::OK, &list);
        }
        match self.one(path) {
            Some(object) => json_answer(StatusCode::OK, object),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    /// The object at `/<root>/namespaces/<namespace>/<plural>/<name>`.
    fn one(&self, path: &str) -> Option<&Value> {
        let (root, rest) = path.split_once("/namespaces/")?;
        let mut rest = rest.split('/');
        let (namespace, plural, name) = (rest.next()?, rest.next()?, rest.next()?);
        self.collections.get(&format!("{root}/{plural}"))?.objects.get(&format!("{namespace}/{name}"))
    }
}

impl Collection {
    fn list(&self, version: u64, query: &BTreeMap<String, String>) -> Answer {
        let limit: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let skip: usize = query.get("continue").map_or(0, |place| place.parse().unwrap());
        let items: Vec<&Value> = self.objects.values().skip(skip).take(limit).collect();
        let more = skip + items.len() < self.objects.len();
        let next = if more { (skip + items.len()).to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
        let kind = format!("{}List", self.kind);
        let list =
            json!({"apiVersion": self.api_version, "kind": kind, "metadata": metadata, "items": items});
        json_answer(StatusCode::OK, &list)
    }

    fn watch(&mut self, query: &BTreeMap<String, String>) -> Answer {
        let from: u64 = query["resourceVersion"].parse().unwrap();
        let (events, heard) = mpsc::channel(MAX_UNREAD);
        if from < self.since {
            let gone = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old", "status": "Failure"});
            let _ = events.try_send(json!({"type": "ERROR", "object": gone}));
        }
        for (_, event) in self.past.iter().filter(|(version, _)| *version > from) {
            let _ = events.try_send(event.clone());
        }
        self.watches.push(events);
        let lines = ReceiverStream::new(heard);
        let frames = lines.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(BodyExt::boxed(StreamBody::new(frames)))
    }
}

/// The objects of a text of YAML as JSON.
pub(crate) fn objects(yaml: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(yaml);
    let objects = documents.map(|document| Value::deserialize(document).unwrap());
    objects.filter(|object| !object.is_null()).collect()
}

fn group(object: &Value) -> Option<String> {
    object["apiVersion"].as_str()?.rsplit_once('/').map(|(group, _)| group.to_owned())
}

fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
        _ => format!("{kind}s"),
    }
}

fn key(object: &Value) -> String {
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned()))
}

fn failure(status: StatusCode, reason: &str) -> Answer {
    let code = status.as_u16();
    let body =
        json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code});
    json_answer(status, &body)
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())).boxed());
    *answer.status_mut() = status;
    answer
}
