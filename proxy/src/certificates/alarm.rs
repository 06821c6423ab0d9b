//! The alarm: a certificate that was not renewed in time, or is over. Whoever renews it, and whatever keeps them from it.

use std::sync::Arc;

use rustls::pki_types::UnixTime;
use tokio::time::{Instant, sleep_until};

use super::LocalIdentity;
use super::schedule::{alarm_at, expires_at};

/// Runs for ever.
pub async fn run(identity: Arc<LocalIdentity>) {
    let (mut issued, alarm) = (identity.issued(), identity.alarm());
    loop {
        let facts = issued.borrow_and_update().as_ref().map(|issued| issued.facts.clone());
        let Some(facts) = facts else {
            if issued.changed().await.is_err() {
                return;
            }
            continue;
        };
        let now = UnixTime::now();
        let (alarm_at, expires_at) = (alarm_at(&facts, now), expires_at(&facts, now));
        alarm.set(f64::from(Instant::now() >= alarm_at));
        let is_replaced = tokio::select! {
            () = sleep_until(alarm_at) => false,
            _ = issued.changed() => true,
        };
        if is_replaced {
            continue;
        }
        alarm.set(1.0);
        tracing::warn!(
            serial = facts.serial,
            expires = outrigger_base::identity::date(facts.not_after),
            "the certificate is not renewed yet and will soon be over"
        );
        let is_replaced = tokio::select! {
            () = sleep_until(expires_at) => false,
            _ = issued.changed() => true,
        };
        if is_replaced {
            continue;
        }
        tracing::error!(
            serial = facts.serial,
            "the certificate is over: peers refuse it until there is another"
        );
        // Readiness depends on it.
        identity.ring();
        if issued.changed().await.is_err() {
            return;
        }
    }
}
