//! When the proxy is ready: its certificate is there, what applies inbound, and every destination it was told of.
//!
//! What was in force stays in force, so that a proxy that was ready once waits for nothing any more. It is not ready again
//! only when its certificate is over, or when its configuration is older than it was told to bear (`--max-staleness`).

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outrigger_base::admin::Readiness;
use outrigger_base::identity::date;
use outrigger_base::lifecycle::supervisor::Supervisor;
use outrigger_model::name::Destination;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::flags::RunArgs;
use crate::snapshot::{Handling, Snapshot};
use crate::worker::Shared;
use crate::xds::Currency;

/// How often it is looked whether something has become too old.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What has to be there.
#[derive(Debug, Clone)]
struct Needs {
    certificate: bool,
    destinations: Vec<Destination>,
    max_staleness: Option<Duration>,
}

/// What there is.
struct Found<'a> {
    snapshot: &'a Snapshot,
    /// When the certificate ends, if there is one.
    expires: Option<UnixTime>,
    currency: Currency,
    now: SystemTime,
    /// Whether it was ready at any time before.
    was_ready: bool,
}

/// Keeps readiness what it is, until the proxy drains.
pub(super) fn watch(
    args: &RunArgs,
    shared: &Arc<Shared>,
    currency: watch::Receiver<Currency>,
    supervisor: &mut Supervisor,
) -> Arc<watch::Sender<Readiness>> {
    let needs = Needs {
        certificate: args.has_identity(),
        destinations: args.outbound.iter().map(|flag| flag.destination.clone()).collect(),
        max_staleness: args.max_staleness,
    };
    let first = judge(&needs, &Found::of(shared, &shared.snapshot.load(), &currency));
    let readiness = Arc::new(watch::Sender::new(first));
    let (sender, shared) = (readiness.clone(), shared.clone());
    supervisor.spawn("readiness", async move {
        follow(&needs, &shared, currency, &sender).await;
        std::future::pending::<Result<(), Infallible>>().await
    });
    readiness
}

async fn follow(
    needs: &Needs,
    shared: &Shared,
    mut currency: watch::Receiver<Currency>,
    readiness: &watch::Sender<Readiness>,
) {
    let mut changes = shared.demand.changes().listen();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_ready = false;
    loop {
        let snapshot = shared.snapshot.load_full();
        let now = judge(needs, &Found { was_ready, ..Found::of(shared, &snapshot, &currency) });
        drop(snapshot);
        was_ready |= now == Readiness::Ready;
        if !say(readiness, now) {
            return;
        }
        tokio::select! {
            Ok(()) = changes.changed() => {}
            Ok(()) = currency.changed() => {}
            _ = look.tick() => {}
        }
    }
}

/// Says it, unless the proxy drains: then nothing is to be said any more. A change after ready is told to people.
fn say(readiness: &watch::Sender<Readiness>, now: Readiness) -> bool {
    let mut is_over = false;
    readiness.send_if_modified(|known| {
        is_over = *known == Readiness::Draining;
        let differs = *known != now && !is_over;
        if differs {
            match (&*known, &now) {
                (_, Readiness::Unfit(why)) if !matches!(known, Readiness::Unfit(_)) => {
                    tracing::warn!("not ready any more: {why}");
                }
                (Readiness::Unfit(_), Readiness::Ready) => tracing::info!("ready again"),
                _ => {}
            }
            *known = now;
        }
        differs
    });
    !is_over
}

impl<'a> Found<'a> {
    fn of(shared: &Shared, snapshot: &'a Snapshot, currency: &watch::Receiver<Currency>) -> Self {
        let expires = shared.tls.load().as_ref().map(|tls| tls.facts().not_after);
        let currency = *currency.borrow();
        Self { snapshot, expires, currency, now: SystemTime::now(), was_ready: false }
    }
}

fn judge(needs: &Needs, found: &Found<'_>) -> Readiness {
    let missing = if found.was_ready { None } else { missing(needs, found) };
    if let Some(what) = missing {
        return Readiness::Waiting(what);
    }
    match expired(needs, found).or_else(|| stale(needs, found)) {
        Some(why) => Readiness::Unfit(why.into()),
        None => Readiness::Ready,
    }
}

/// What has never been there.
fn missing(needs: &Needs, found: &Found<'_>) -> Option<Cow<'static, str>> {
    let snapshot = found.snapshot;
    if snapshot.inbound.is_none() {
        return Some("the first configuration from the control plane".into());
    }
    if needs.certificate && found.expires.is_none() {
        return Some("a certificate from the control plane".into());
    }
    // Who started on what was kept of an earlier process does not wait for what that one did not know.
    if matches!(found.currency, Currency::Since(_)) {
        return None;
    }
    let is_pending = |name: &&Destination| {
        let destination = snapshot.lookup(name).and_then(|id| snapshot.destination(id));
        destination.is_none_or(|destination| matches!(destination.handling, Handling::Pending))
    };
    let pending = needs.destinations.iter().find(is_pending)?;
    Some(format!("the configuration of {pending} (--outbound)").into())
}

fn expired(needs: &Needs, found: &Found<'_>) -> Option<String> {
    let end = found.expires.filter(|_| needs.certificate)?;
    let now = found.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    (end.as_secs() < now)
        .then(|| format!("the certificate of this workload has expired ({}) and was not renewed", date(end)))
}

fn stale(needs: &Needs, found: &Found<'_>) -> Option<String> {
    let (age, max) = (found.currency.age(found.now)?, needs.max_staleness?);
    let whole = |duration: Duration| humantime::format_duration(Duration::from_secs(duration.as_secs()));
    (age > max).then(|| {
        // Said in whole units of the limit's size, so that it is not another line each second.
        let shown = if age.as_secs() >= 120 { Duration::from_secs(age.as_secs() / 60 * 60) } else { age };
        format!("the configuration is {} old, more than --max-staleness {}", whole(shown), whole(max))
    })
}

#[cfg(test)]
mod tests {
    use outrigger_model::inbound::{Inbound, MtlsMode};

    use super::*;
    use crate::demand::with_place;

    const NOW: u64 = 1_800_000_000;
    const REVIEWS: &str = "reviews.shop:9080";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn needs() -> Needs {
        Needs { certificate: true, destinations: vec![REVIEWS.parse().unwrap()], max_staleness: None }
    }

    /// With everything there but the configuration of `REVIEWS`.
    fn pending() -> Snapshot {
        let mut snapshot = with_place(&Snapshot::empty(), REVIEWS.parse().unwrap()).0;
        snapshot.inbound = Some(Arc::new(Inbound::plain(MtlsMode::Strict)));
        snapshot
    }

    fn complete() -> Snapshot {
        let mut snapshot = pending();
        let name = REVIEWS.parse().unwrap();
        let known = crate::snapshot::Destination { name, handling: Handling::Unknown, usage: Arc::default() };
        snapshot.destinations[0] = Some(Arc::new(known));
        snapshot
    }

    fn found(snapshot: &Snapshot) -> Found<'_> {
        let expires = Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW + 60)));
        Found { snapshot, expires, currency: Currency::Current, now: at(NOW), was_ready: false }
    }

    fn said(readiness: Readiness) -> String {
        match readiness {
            Readiness::Waiting(what) => format!("waiting for {what}"),
            Readiness::Unfit(why) => why.into_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn it_says_what_it_waits_for() {
        let (empty, pending, complete) = (Snapshot::empty(), pending(), complete());
        let judged = |found| said(judge(&needs(), &found));
        assert_eq!(judged(found(&empty)), "waiting for the first configuration from the control plane");
        let without = |snapshot| Found { expires: None, ..found(snapshot) };
        assert_eq!(judged(without(&complete)), "waiting for a certificate from the control plane");
        assert_eq!(
            judged(found(&pending)),
            "waiting for the configuration of reviews.shop:9080 (--outbound)"
        );
        assert_eq!(judged(found(&complete)), "Ready");
    }

    #[test]
    fn who_starts_alone_does_not_wait_for_what_nobody_kept() {
        let pending = pending();
        let alone = |snapshot| Found { currency: Currency::Since(at(NOW - 60)), ..found(snapshot) };
        assert_eq!(said(judge(&needs(), &alone(&pending))), "Ready");
        let empty = Snapshot::empty();
        assert!(said(judge(&needs(), &alone(&empty))).contains("first configuration"));
    }

    #[test]
    fn what_was_ready_once_waits_for_nothing_any_more() {
        let pending = pending();
        assert_eq!(said(judge(&needs(), &Found { was_ready: true, ..found(&pending) })), "Ready");
    }

    #[test]
    fn a_configuration_that_is_too_old_is_not_ready_when_a_limit_is_set() {
        let complete = complete();
        let since =
            |ago| Found { currency: Currency::Since(at(NOW - ago)), was_ready: true, ..found(&complete) };
        let limited = Needs { max_staleness: Some(Duration::from_secs(3600)), ..needs() };
        assert_eq!(said(judge(&needs(), &since(1_000_000))), "Ready", "there is no limit unless it is set");
        assert_eq!(said(judge(&limited, &since(3600))), "Ready");
        let why = "the configuration is 3h old, more than --max-staleness 1h";
        assert_eq!(said(judge(&limited, &since(3 * 3600 + 7))), why);
        let current = Found { was_ready: true, ..found(&complete) };
        assert_eq!(said(judge(&limited, &current)), "Ready", "again, once the control plane is back");
    }

    #[test]
    fn a_certificate_that_is_over_is_not_ready_for_who_has_an_identity() {
        let complete = complete();
        let late = || Found { now: at(NOW + 61), was_ready: true, ..found(&complete) };
        assert!(said(judge(&needs(), &late())).contains("has expired"));
        let anonymous = Needs { certificate: false, ..needs() };
        assert_eq!(said(judge(&anonymous, &late())), "Ready");
    }
}
