//! What others are told of the authority: the world learns its roots whenever they change, and people that it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outrigger_base::identity::date;
use rustls::pki_types::UnixTime;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::ca::Authority;
use crate::ca::root::Root;
use crate::http::meters::Meters;
use crate::world::Fact;

/// How often the end of the authority is looked at, and said when it is near.
const END_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Tells of `authority` until nobody listens any more.
pub async fn tell(authority: Arc<Authority>, facts: mpsc::Sender<Fact>, meters: Meters) {
    let mut changes = authority.bundles();
    loop {
        let root = authority.root();
        meters.authority_ends(root.root_ends(), root.signer_ends());
        if let Some(line) = alarm(&root, SystemTime::now()) {
            tracing::warn!("{line}");
        }
        tokio::select! {
            Ok(()) = changes.changed() => {
                if facts.send(Fact::Roots(authority.root().fact())).await.is_err() {
                    return;
                }
            }
            () = sleep(END_INTERVAL) => {}
        }
    }
}

/// What is said when the end of the authority is near.
fn alarm(root: &Root, now: SystemTime) -> Option<String> {
    if now < root.alarm_from() {
        return None;
    }
    let end = root.not_after().duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = date(UnixTime::since_unix_epoch(end));
    Some(format!(
        "the certificate authority ends on {end}, and nothing that it signs lives longer; have another root take over with \
         outrigger certs rotate-root, or renew the one that was given"
    ))
}

#[cfg(test)]
mod tests {
    use outrigger_base::telemetry::metrics::{Format, Registry};

    use super::*;
    use crate::ca::Lifetimes;
    use crate::ca::root::MadeRoot;
    use crate::ca::rotation::State;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn the_end_is_said_from_a_month_before() {
        let now = SystemTime::now();
        let root = State::of(MadeRoot::new(now).unwrap()).authority(now).unwrap();
        assert_eq!(alarm(&root, root.not_after() - 31 * DAY), None);
        let line = alarm(&root, root.not_after() - 29 * DAY).unwrap();
        assert!(line.contains("rotate-root"), "{line}");
    }

    #[tokio::test]
    async fn the_world_learns_of_every_change() {
        let now = SystemTime::now();
        let state = State::of(MadeRoot::new(now).unwrap());
        let authority = Arc::new(Authority::new(state.authority(now).unwrap(), Lifetimes::default()));
        let (facts, mut learned) = mpsc::channel(4);
        let registry = Registry::new();
        let telling = tokio::spawn(tell(authority.clone(), facts, Meters::new(registry.clone())));
        tokio::task::yield_now().await;
        let state = state.begin(now).unwrap();
        assert!(authority.replace(state.authority(now).unwrap()));
        let Some(Fact::Roots(roots)) = learned.recv().await else { panic!("no roots") };
        let old = roots.signer;
        assert_eq!(roots.certificates.len(), 2);
        assert!(authority.replace(state.switch(now).unwrap().authority(now).unwrap()));
        let Some(Fact::Roots(roots)) = learned.recv().await else { panic!("no roots") };
        assert_ne!(roots.signer, old);
        let metrics = registry.render(Format::Prometheus);
        assert!(metrics.contains("outrigger_control_plane_root_expiration_timestamp_seconds "), "{metrics}");
        telling.abort();
    }
}
