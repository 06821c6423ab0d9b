//! When the proxy is ready: its certificate is there, what applies inbound, and every destination it was told of.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use outrigger_base::admin::Readiness;
use outrigger_base::lifecycle::supervisor::Supervisor;
use outrigger_model::name::Destination;
use tokio::sync::watch;

use crate::flags::RunArgs;
use crate::snapshot::{Handling, Snapshot};
use crate::worker::Shared;

/// What has to be there.
#[derive(Debug, Clone)]
struct Needs {
    certificate: bool,
    destinations: Vec<Destination>,
}

/// Keeps readiness what it is, until the proxy drains. Once ready it stays so: what was in force stays in force.
pub(super) fn watch(
    args: &RunArgs,
    shared: &Arc<Shared>,
    supervisor: &mut Supervisor,
) -> Arc<watch::Sender<Readiness>> {
    let needs = Needs {
        certificate: args.has_identity(),
        destinations: args.outbound.iter().map(|flag| flag.destination.clone()).collect(),
    };
    let readiness = Arc::new(watch::Sender::new(judge(&needs, &shared.snapshot.load(), false)));
    let (sender, shared) = (readiness.clone(), shared.clone());
    supervisor.spawn("readiness", async move {
        follow(&needs, &shared, &sender).await;
        std::future::pending::<Result<(), Infallible>>().await
    });
    readiness
}

async fn follow(needs: &Needs, shared: &Shared, readiness: &watch::Sender<Readiness>) {
    let mut changes = shared.demand.changes().listen();
    loop {
        let now = judge(needs, &shared.snapshot.load(), shared.tls.load().is_some());
        let is_over = readiness.borrow().clone() == Readiness::Draining;
        if is_over {
            return;
        }
        let is_ready = now == Readiness::Ready;
        readiness.send_if_modified(|known| {
            let differs = *known != now && *known != Readiness::Draining;
            if differs {
                *known = now;
            }
            differs
        });
        if is_ready || changes.changed().await.is_err() {
            return;
        }
    }
}

fn judge(needs: &Needs, snapshot: &Snapshot, has_certificate: bool) -> Readiness {
    let waiting = |what: Cow<'static, str>| Readiness::Waiting(what);
    if snapshot.inbound.is_none() {
        return waiting("the first configuration from the control plane".into());
    }
    if needs.certificate && !has_certificate {
        return waiting("a certificate from the control plane".into());
    }
    let is_pending = |name: &&Destination| {
        let destination = snapshot.lookup(name).and_then(|id| snapshot.destination(id));
        destination.is_none_or(|destination| matches!(destination.handling, Handling::Pending))
    };
    match needs.destinations.iter().find(is_pending) {
        Some(name) => waiting(format!("the configuration of {name} (--outbound)").into()),
        None => Readiness::Ready,
    }
}

#[cfg(test)]
mod tests {
    use outrigger_model::inbound::{Inbound, MtlsMode};

    use super::*;
    use crate::demand::with_place;

    #[test]
    fn it_says_what_it_waits_for() {
        let name: Destination = "reviews.shop:9080".parse().unwrap();
        let needs = Needs { certificate: true, destinations: vec![name.clone()] };
        let mut snapshot = with_place(&Snapshot::empty(), name.clone()).0;
        let said = |snapshot: &Snapshot, certificate| match judge(&needs, snapshot, certificate) {
            Readiness::Waiting(what) => what.into_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(said(&snapshot, false), "the first configuration from the control plane");
        let inbound = Inbound::plain(MtlsMode::Strict);
        snapshot.inbound = Some(Arc::new(inbound));
        assert_eq!(said(&snapshot, false), "a certificate from the control plane");
        assert_eq!(said(&snapshot, true), "the configuration of reviews.shop:9080 (--outbound)");
        let known = crate::snapshot::Destination { name, handling: Handling::Unknown, usage: Arc::default() };
        snapshot.destinations[0] = Some(Arc::new(known));
        assert_eq!(said(&snapshot, true), "Ready");
    }
}
