//! One call of the Kubernetes API: it ends in time, and its errors can be read by people.

use std::fmt;
use std::time::Duration;

use super::calls;

/// How long one call may take. A server that is slower is as good as away.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server said no, or could not be reached.
    Failed(Box<kube::Error>),
    /// There was no answer in this time.
    TimedOut(Duration),
}

/// Makes a call, for [`CALL_TIMEOUT`] at most.
pub(crate) async fn call<T>(work: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    call_within(CALL_TIMEOUT, work).await
}

/// Makes a call, for `timeout` at most.
pub(crate) async fn call_within<T>(
    timeout: Duration,
    work: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(timeout, work).await {
        Ok(outcome) => outcome.map_err(|error| CallError::Failed(Box::new(error))),
        Err(_) => Err(CallError::TimedOut(timeout)),
    }
}

impl CallError {
    /// Whether what was asked for is not there.
    pub(crate) fn is_missing(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether somebody else was quicker.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Failed(error) => match &**error {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::TimedOut(_) => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(&calls::line(error)),
            Self::TimedOut(timeout) => write!(f, "the API server did not answer within {timeout:?}"),
        }
    }
}

impl std::error::Error for CallError {}
