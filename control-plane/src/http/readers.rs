//! Who may read the JSON API. It shows the whole configuration, so in a cluster, where any pod reaches the port, callers from
//! other hosts show a token of the control plane's own service account, made for this audience: whoever may make one may read
//! the mesh. Loopback (`kubectl port-forward`) needs none, and neither does a control plane on plain hosts, whose port is
//! where its flags put it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use outrigger_base::admin::Caller;

use super::{ErrorAnswer, TOKEN_HEADER};
use crate::kubernetes::names;

/// The longest token that is passed on to be reviewed, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Who may read.
#[derive(Clone)]
pub enum Readers {
    /// Whoever reaches the port.
    Anybody,
    /// Loopback, and holders of a token of the control plane's service account.
    Trusted {
        /// Reviews tokens.
        client: Client,
        /// The namespace of the control plane.
        namespace: Arc<str>,
    },
}

/// Lets a request on to the API, or answers it.
pub(super) async fn admit(State(readers): State<Readers>, request: Request, next: Next) -> Response {
    let is_local = |caller: &Caller| caller.0.ip().to_canonical().is_loopback();
    let refused = match &readers {
        Readers::Anybody => None,
        Readers::Trusted { .. } if request.extensions().get::<Caller>().is_some_and(is_local) => None,
        Readers::Trusted { client, namespace } => {
            let token = request.headers().get(TOKEN_HEADER).and_then(|token| token.to_str().ok());
            review(client, namespace, token).await.err()
        }
    };
    match refused {
        None => next.run(request).await,
        Some((status, error)) => (status, Json(ErrorAnswer { error })).into_response(),
    }
}

async fn review(client: &Client, namespace: &str, token: Option<&str>) -> Result<(), (StatusCode, String)> {
    let wanted = format!("system:serviceaccount:{namespace}:{}", names::CONTROL_PLANE);
    let Some(token) = token.filter(|token| token.len() <= MAX_TOKEN_BYTES) else {
        let error = format!(
            "{TOKEN_HEADER} is needed: kubectl -n {namespace} create token {} --audience {}; or come by kubectl \
             port-forward",
            names::CONTROL_PLANE,
            names::API_AUDIENCE
        );
        return Err((StatusCode::UNAUTHORIZED, error));
    };
    let asked = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: Some(vec![names::API_AUDIENCE.to_owned()]),
        },
        ..TokenReview::default()
    };
    let reviewed = Api::all(client.clone()).create(&PostParams::default(), &asked).await;
    let status = reviewed.map_err(|error| {
        tracing::warn!(%error, "a token for the JSON API cannot be reviewed");
        (StatusCode::SERVICE_UNAVAILABLE, "the Kubernetes API does not review tokens now".to_owned())
    });
    let status = status?.status.unwrap_or_default();
    let names_us = status.audiences.iter().flatten().any(|audience| audience == names::API_AUDIENCE);
    let user = status.user.and_then(|user| user.username);
    match status.authenticated == Some(true) && names_us && user.as_ref() == Some(&wanted) {
        true => Ok(()),
        false => Err((StatusCode::FORBIDDEN, format!("the token is not one of {wanted} for this API"))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::body::Body;
    use axum::routing::get;
    use axum::{Router, middleware};
    use http_body_util::BodyExt;
    use kube::client::Body as KubeBody;
    use serde_json::json;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// An API server that reviews tokens: the token is what it says of its holder, as `user/audience`.
    fn readers() -> Readers {
        let service = service_fn(async |request: http::Request<KubeBody>| {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let review: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let (user, audience) = review["spec"]["token"].as_str().unwrap().split_once('/').unwrap();
            let answer = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
                "spec": review["spec"],
                "status": {"authenticated": true, "audiences": [audience], "user": {"username": user}},
            });
            Ok::<_, std::convert::Infallible>(http::Response::new(KubeBody::from(
                answer.to_string().into_bytes(),
            )))
        });
        Readers::Trusted { client: Client::new(service, "default"), namespace: "outrigger-system".into() }
    }

    async fn asked(caller: &str, token: Option<&str>) -> u16 {
        let router = Router::new()
            .route("/api/v1/status", get(async || "everything"))
            .layer(middleware::from_fn_with_state(readers(), admit));
        let mut request = http::Request::get("/api/v1/status");
        if let Some(token) = token {
            request = request.header(TOKEN_HEADER, token);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(Caller(caller.parse::<SocketAddr>().unwrap()));
        router.oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn only_loopback_and_holders_of_the_control_planes_own_token_read() {
        let own = "system:serviceaccount:outrigger-system:outrigger-control-plane";
        for (caller, token, status) in [
            ("127.0.0.1:1", None, 200),
            ("[::ffff:127.0.0.1]:1", None, 200),
            ("10.0.0.7:1", None, 401),
            ("10.0.0.7:1", Some(format!("{own}/outrigger-api")), 200),
            // What every meshed pod has.
            ("10.0.0.7:1", Some("system:serviceaccount:shop:web/outrigger".to_owned()), 403),
            ("10.0.0.7:1", Some("system:serviceaccount:shop:web/outrigger-api".to_owned()), 403),
            ("10.0.0.7:1", Some(format!("{own}/outrigger")), 403),
            ("10.0.0.7:1", Some("x".repeat(MAX_TOKEN_BYTES + 1)), 401),
        ] {
            assert_eq!(asked(caller, token.as_deref()).await, status, "{caller} {token:?}");
        }
    }
}
