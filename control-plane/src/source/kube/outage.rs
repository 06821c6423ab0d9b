//! When the API does not answer: said once when it begins and once when it is over, not for each attempt.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Event, Watched, read};
use crate::kubernetes::calls;

/// Why the API could not be read.
#[derive(Debug)]
pub(super) struct Failure {
    /// Whether it is away, and not only unwilling.
    away: bool,
    line: String,
}

impl Failure {
    pub(super) fn of(error: &::kube::Error) -> Self {
        let refused = matches!(error, ::kube::Error::Api(status) if matches!(status.code, 401 | 403));
        Self { away: !refused, line: calls::line(error) }
    }
}

/// The kinds that cannot be read now.
#[derive(Debug, Default)]
pub(super) struct Outages {
    away: BTreeMap<Watched, Instant>,
    refused: BTreeMap<Watched, String>,
}

impl Outages {
    /// Takes in what a follower says, and logs what is new of it.
    pub(super) fn note(&mut self, event: &Event, now: Instant) {
        match event {
            // A list that begins has not succeeded yet.
            Event::Listing(_) => {}
            Event::Failed(watched, failure) if failure.away => self.lost(*watched, &failure.line, now),
            Event::Failed(watched, failure) => self.refused(*watched, &failure.line),
            Event::There(reading) => self.heard(reading.name().watched(), now),
            Event::Gone(name) => self.heard(read::Name::watched(name), now),
            Event::Listed(watched) | Event::Absent(watched) => self.heard(*watched, now),
        }
    }

    fn lost(&mut self, watched: Watched, line: &str, now: Instant) {
        if self.away.is_empty() {
            tracing::warn!("the Kubernetes API is away: {line}; everything stays as it was last read");
        }
        self.away.entry(watched).or_insert(now);
    }

    fn refused(&mut self, watched: Watched, line: &str) {
        if self.refused.insert(watched, line.to_owned()).as_deref() != Some(line) {
            tracing::error!(
                "{watched} objects cannot be read, so the mesh is not configured by them: {line}; the ClusterRole of the \
                 control plane is missing or old: apply the manifests of this version again"
            );
        }
    }

    fn heard(&mut self, watched: Watched, now: Instant) {
        if self.refused.remove(&watched).is_some() {
            tracing::info!("{watched} objects can be read again");
        }
        if let Some(since) = self.away.remove(&watched)
            && self.away.is_empty()
        {
            let seconds = now.duration_since(since).as_secs();
            tracing::info!("the Kubernetes API is back after {seconds} s");
        }
    }
}
