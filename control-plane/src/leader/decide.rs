//! What to do about a Lease, from what was seen of it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use tokio::time::Instant;

use super::LEASE_DURATION;
use crate::kubernetes::names::LEADER_LEASE;

/// Bounds of what a Lease may say about its own duration: who writes nonsense must not lock everybody out.
const MIN_DURATION: Duration = Duration::from_secs(1);
const MAX_DURATION: Duration = Duration::from_secs(60);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// There is no Lease: make it.
    Create,
    /// It is ours: say that we are still here.
    Renew,
    /// It is nobody's, or of somebody who has not renewed it: take it.
    TakeOver,
    /// It is somebody else's.
    Wait,
}

/// The Lease as it was seen last, and since when it is so.
#[derive(Debug)]
pub(super) struct Seen {
    lease: Option<Lease>,
    since: Instant,
}

impl Seen {
    /// Nothing was seen yet.
    pub(super) fn nothing(now: Instant) -> Self {
        Self { lease: None, since: now }
    }

    /// Takes in what is there now. What was not renewed keeps its time.
    pub(super) fn observe(&mut self, lease: Option<Lease>, now: Instant) {
        if signs_of_life(self.lease.as_ref()) != signs_of_life(lease.as_ref()) {
            self.since = now;
        }
        self.lease = lease;
    }

    /// The Lease.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }
}

/// What changes when a Lease is renewed or goes to another holder.
fn signs_of_life(lease: Option<&Lease>) -> Option<(Option<&String>, Option<&MicroTime>)> {
    let spec = lease?.spec.as_ref()?;
    Some((spec.holder_identity.as_ref(), spec.renew_time.as_ref()))
}

/// What `me` should do about what was seen.
pub(super) fn decide(now: Instant, seen: &Seen, me: &str) -> Action {
    let Some(lease) = &seen.lease else { return Action::Create };
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    if holder == me {
        return Action::Renew;
    }
    let is_over = now.saturating_duration_since(seen.since) >= duration(spec);
    if holder.is_empty() || is_over { Action::TakeOver } else { Action::Wait }
}

fn duration(spec: Option<&LeaseSpec>) -> Duration {
    let written =
        spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    written.map_or(LEASE_DURATION, |seconds| Duration::from_secs(seconds).clamp(MIN_DURATION, MAX_DURATION))
}

/// The Lease as it should be when `me` holds it. It keeps the resource version of the one that was found, so that the
/// server refuses it when somebody else was quicker.
pub(super) fn claim(found: Option<&Lease>, me: &str, now: Timestamp) -> Lease {
    let mut lease = found.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(LEADER_LEASE.to_owned()), ..ObjectMeta::default() },
        spec: None,
    });
    let mut spec = lease.spec.take().unwrap_or_default();
    if spec.holder_identity.as_deref() != Some(me) {
        let holders = if found.is_some() { spec.lease_transitions.unwrap_or(0).saturating_add(1) } else { 0 };
        spec.lease_transitions = Some(holders);
        spec.acquire_time = Some(MicroTime(now));
    }
    spec.holder_identity = Some(me.to_owned());
    spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
    spec.renew_time = Some(MicroTime(now));
    lease.spec = Some(spec);
    lease
}

/// The Lease as it should be when its holder leaves.
pub(super) fn released(held: &Lease, now: Timestamp) -> Option<Lease> {
    let mut lease = held.clone();
    let spec = lease.spec.as_mut()?;
    spec.holder_identity = Some(String::new());
    spec.renew_time = Some(MicroTime(now));
    Some(lease)
}
