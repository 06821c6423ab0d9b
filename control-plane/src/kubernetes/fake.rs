//! An API server in memory, for tests: objects by path, resource versions, conflicts, and a record of what was written.
//! What only a real server can tell (validation, ownership of fields, watches that go on) is tested with a real one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Map, Value, json};

/// A whole answer, or a watch.
type Answer = Either<Full<Bytes>, StreamBody<stream::Pending<Result<Frame<Bytes>, Infallible>>>>;

/// The server. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<Write>,
    refusal: Option<u16>,
}

/// A write that was asked for, granted or not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// What is asked: the parts of a request that count here.
struct Asked {
    method: Method,
    path: String,
    watches: bool,
    body: Value,
}

impl FakeApi {
    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Puts an object at a path, as somebody else would.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.state().store(path, object);
    }

    /// Takes an object away.
    pub(crate) fn remove(&self, path: &str) {
        self.state().objects.remove(path);
    }

    /// The object at a path.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    /// Answers every call with an error from now on, or not any more.
    pub(crate) fn refuse(&self, code: Option<u16>) {
        self.state().refusal = code;
    }

    /// What was asked to be written since this was asked last.
    pub(crate) fn writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.state().writes)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let path = head.uri.path().to_owned();
        let watches = head.uri.query().is_some_and(|query| query.contains("watch=true"));
        let (code, answer) = self.state().answer(Asked { method: head.method, path, watches, body });
        let answer = Full::from(serde_json::to_vec(&answer).unwrap());
        // A watch never ends and never tells anything.
        let open = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let body = if watches && code == 200 { Either::Right(open) } else { Either::Left(answer) };
        Response::builder().status(StatusCode::from_u16(code).unwrap()).body(body).unwrap()
    }
}

impl State {
    fn answer(&mut self, asked: Asked) -> (u16, Value) {
        let Asked { method, path, watches, body } = asked;
        if method != Method::GET {
            self.writes.push(Write { method: method.clone(), path: path.clone(), body: body.clone() });
        }
        let object_path = path.strip_suffix("/status").unwrap_or(&path).to_owned();
        let found = self.objects.get(&object_path).cloned();
        if let Some(code) = self.refusal {
            return refusal(code, "refused by the test");
        }
        match (method, found) {
            (Method::GET, Some(found)) => (200, found),
            (Method::GET, None) if watches || is_collection(&path) => (200, self.list(&path)),
            (Method::POST, _) => {
                let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                let path = format!("{path}/{name}");
                match self.objects.contains_key(&path) {
                    true => refusal(409, "it is there already"),
                    false => (201, self.store(&path, body)),
                }
            }
            (Method::PUT | Method::PATCH, Some(found)) if is_stale(&found, &body) => {
                refusal(409, "the object has been modified")
            }
            (Method::PUT, Some(_)) => (200, self.store(&object_path, body)),
            (Method::PATCH, Some(mut found)) => {
                merge(&mut found, body);
                (200, self.store(&object_path, found))
            }
            (Method::PATCH, None) if object_path == path => (201, self.store(&path, body)),
            _ => refusal(404, "it is not there"),
        }
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    /// All objects of a collection, of whatever namespace.
    fn list(&self, path: &str) -> Value {
        let (group, plural) = path.rsplit_once('/').unwrap_or_default();
        let is_in = |key: &str| key.starts_with(group) && key.rsplit('/').nth(1) == Some(plural);
        let items: Vec<_> =
            self.objects.iter().filter(|(key, _)| is_in(key)).map(|(_, object)| object).collect();
        json!({
            "kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": self.version.to_string()},
        })
    }
}

/// Whether a path is one of those that tests list.
fn is_collection(path: &str) -> bool {
    ["configmaps", "routes", "policies"].iter().any(|plural| path.ends_with(plural))
}

fn is_stale(found: &Value, body: &Value) -> bool {
    let version = |object: &Value| object.pointer("/metadata/resourceVersion").cloned();
    version(body).is_some_and(|asked| Some(asked) != version(found))
}

fn refusal(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
}

/// Merges as server-side apply does with maps, and with lists whose items have names.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Object(Map::new())), value);
            }
        }
        (Value::Array(into), Value::Array(from)) if from.iter().all(|item| item.get("name").is_some()) => {
            for item in from {
                match into.iter_mut().find(|known| known.get("name") == item.get("name")) {
                    Some(known) => merge(known, item),
                    None => into.push(item),
                }
            }
        }
        (into, from) => *into = from,
    }
}
