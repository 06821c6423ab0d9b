//! The requests of a node, on JSON as it is.

use anyhow::Result;
use http::Method;
use http::request::Builder;
use serde_json::Value;

/// A client for paths.
#[derive(Clone)]
pub(super) struct Api(kube::Client);

impl Api {
    pub(super) fn new(client: kube::Client) -> Self {
        Self(client)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.0.request(http::Request::get(path).body(Vec::new())?).await?)
    }

    /// The objects of a list.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut list = self.get(path).await?;
        let Value::Array(items) = list["items"].take() else { return Ok(Vec::new()) };
        Ok(items)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, body).await
    }

    pub(super) async fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.send(Method::DELETE, path, options).await
    }

    /// Changes the status of an object by a JSON merge patch.
    pub(super) async fn merge_status(&self, path: &str, patch: &Value) -> Result<Value> {
        let request = http::Request::patch(format!("{path}/status"));
        let request = request.header("content-type", "application/merge-patch+json");
        Ok(self.0.request(request.body(patch.to_string().into_bytes())?).await?)
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let request = Builder::new().method(method).uri(path).header("content-type", "application/json");
        Ok(self.0.request(request.body(body.to_string().into_bytes())?).await?)
    }
}
