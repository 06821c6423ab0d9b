//! Whose a stream is, and for how long: it is closed when its token or its identity is revoked.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use super::gate::Proven;
use super::records::Records;
use super::{Caller, TokenError};

/// What keeps a stream open.
#[derive(Debug)]
pub struct Standing {
    proven: Option<Proven>,
    records: Option<watch::Receiver<Arc<Records>>>,
}

impl Standing {
    pub(super) fn new(proven: Option<Proven>, records: Option<watch::Receiver<Arc<Records>>>) -> Self {
        Self { proven, records }
    }

    /// Who has the stream; `None` when nothing was proved.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.proven.as_ref().map(|proven| &proven.caller)
    }

    /// Resolves when the stream is to be closed. Safe to drop and to call again.
    pub(crate) async fn lost(&mut self) -> Status {
        let (Some(proven), Some(records)) = (&self.proven, &mut self.records) else {
            return std::future::pending().await;
        };
        loop {
            let judged = judge(&records.borrow_and_update(), proven);
            if let Err(error) = judged {
                return Status::unauthenticated(error.to_string());
            }
            if records.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

fn judge(records: &Records, proven: &Proven) -> Result<(), TokenError> {
    match &proven.token {
        Some(token) => records.judge_open(token),
        None => records.judge_identity(&proven.caller),
    }
}
