//! What the API server asks before it takes an object: `/inject` for pods, `/validate` for our kinds.
//!
//! [`review`] is the language, [`pods`] and [`kinds`] are the answers, [`listen`] is the port. Both answers are pure and
//! have no side effects, so a dry run is answered like any other. Who asks does not matter: an answer tells nothing that
//! the question did not hold.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::http::meters::Meters;
use crate::injector::Settings;
use review::{Answer, Question};

mod kinds;
pub(crate) mod listen;
mod pods;
mod review;

/// The largest review, in bytes. An API server takes objects of 3 MiB, and an update has the old one with it.
pub const MAX_REVIEW_BYTES: usize = 8 << 20;
/// Reviews that are read at a time; more wait.
pub const MAX_REVIEWS: usize = 16;
/// How long a review may take to come, and how long it may wait for its turn: no API server waits longer.
pub const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// What the webhooks answer with.
#[derive(Debug)]
struct Webhooks {
    settings: Settings,
    meters: Meters,
    turns: Semaphore,
}

/// A review that is answered with a status and a sentence.
struct Unanswerable(StatusCode, String);

/// `POST /inject` and `POST /validate`.
pub fn router(settings: Settings, meters: Meters) -> Router {
    let state = Arc::new(Webhooks { settings, meters, turns: Semaphore::new(MAX_REVIEWS) });
    Router::new().route("/inject", post(inject)).route("/validate", post(validate)).with_state(state)
}

async fn inject(State(webhooks): State<Arc<Webhooks>>, request: Request) -> Response {
    let answered = webhooks.answer(request, |question| pods::answer(question, &webhooks.settings)).await;
    let outcome = answered.as_ref().map_or(pods::MALFORMED, |answered| answered.1);
    webhooks.meters.injection(outcome);
    respond(answered.map(|answered| answered.0))
}

async fn validate(State(webhooks): State<Arc<Webhooks>>, request: Request) -> Response {
    respond(webhooks.answer(request, kinds::answer).await)
}

impl Webhooks {
    async fn answer<T>(
        &self,
        request: Request,
        answer: impl FnOnce(&Question) -> T,
    ) -> Result<T, Unanswerable> {
        let in_time = async {
            // Nobody closes the semaphore.
            let _turn = self.turns.acquire().await;
            let question = Question::read(&read(request).await?)
                .map_err(|message| Unanswerable(StatusCode::BAD_REQUEST, message))?;
            Ok(answer(&question))
        };
        let late = || Unanswerable(StatusCode::REQUEST_TIMEOUT, "the review did not come in time".to_owned());
        timeout(REVIEW_TIMEOUT, in_time).await.unwrap_or_else(|_| Err(late()))
    }
}

async fn read(request: Request) -> Result<Value, Unanswerable> {
    let written =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = written.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let message = format!("the content type is {written:?}; a review is application/json");
        return Err(Unanswerable(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = Limited::new(request.into_body(), MAX_REVIEW_BYTES).collect().await.map_err(|error| {
        match error.is::<LengthLimitError>() {
            true => {
                let message = format!("a review of more than {MAX_REVIEW_BYTES} bytes");
                Unanswerable(StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            false => Unanswerable(StatusCode::BAD_REQUEST, format!("the review broke off: {error}")),
        }
    })?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| Unanswerable(StatusCode::BAD_REQUEST, format!("the review is not JSON: {error}")))
}

fn respond(answered: Result<Answer, Unanswerable>) -> Response {
    match answered {
        Ok(answer) => axum::Json(answer.into_review()).into_response(),
        Err(Unanswerable(status, message)) => {
            tracing::warn!(%status, "a webhook was asked something that cannot be answered: {message}");
            (status, message + "\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests;
