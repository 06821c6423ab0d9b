//! Calls of the Kubernetes API that must succeed in the end, and what their failures mean.

use std::fmt;
use std::time::Duration;

use kube::Error;
use tokio::time::sleep;

/// How long to wait before a call is tried again; doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A call that the API refused, which trying again does not change.
#[derive(Debug, thiserror::Error)]
#[error("{about}: the Kubernetes API refused: {why}{}", advice(.error))]
pub struct Refused {
    about: &'static str,
    why: String,
    #[source]
    error: Error,
}

impl Refused {
    /// A call about something failed.
    pub(crate) fn new(about: &'static str, error: Error) -> Self {
        Self { about, why: line(&error), error }
    }
}

/// Whether a call may succeed later: the API cannot be reached or has too much to do.
pub(crate) fn is_away(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code == 429 || status.code >= 500,
        Error::HyperError(_) | Error::Service(_) | Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// The failure in one line, without what libraries put around it.
pub(crate) fn line(error: &Error) -> String {
    match error {
        Error::Api(status) => format!("{} ({})", status.message, status.code),
        Error::Service(source) => deepest(source.as_ref()).to_string(),
        other => deepest(other).to_string(),
    }
}

/// Tries until the API answers. That it does not is said once, not each time.
pub(crate) async fn patiently<T, F>(about: &'static str, mut call: impl FnMut() -> F) -> Result<T, Refused>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) if is_away(&error) => {
                if pause == FIRST_PAUSE {
                    tracing::warn!("waiting for the Kubernetes API to read {about}: {}", line(&error));
                }
            }
            Err(error) => return Err(Refused::new(about, error)),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn deepest<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest
}

/// What to do about it, where that is known.
fn advice(error: &Error) -> impl fmt::Display {
    match error {
        Error::Api(status) if status.code == 403 => {
            "; the roles of the control plane are missing or old: apply the manifests of this version again"
        }
        Error::Api(status) if status.code == 401 => {
            "; the token or certificate of the control plane is not valid there"
        }
        _ => "",
    }
}
