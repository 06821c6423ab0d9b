//! `GET /api/v1/trust`: who is trusted, who signs, what was signed and is still good, and which proxies know the roots.
//! `outrigger certs` reads it; keys are stable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca::Authority;
use crate::ca::ledger::{Leaf, Ledger};
use crate::ca::root::{BACKDATE, fingerprint_text, hex};
use crate::ca::rotation::Journal;
use crate::xds::{Follower, Hub};

/// What the answer is made of.
#[derive(Debug)]
pub struct TrustView {
    /// What proxies are told.
    pub hub: Arc<Hub>,
    /// What signs.
    pub authority: Arc<Authority>,
    /// Where the authority is kept: `data`, `secret` or `files`.
    pub source: &'static str,
}

/// The answer. Fingerprints are SHA-256 in lower case hexadecimal, times are seconds of Unix time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustAnswer {
    /// The clock of this process.
    pub time: u64,
    /// Since when it remembers what it signs.
    pub since: u64,
    /// Where the authority is kept: `data`, `secret` or `files`.
    pub source: String,
    /// The trust domain of the mesh.
    pub trust_domain: String,
    /// The root under which this process signs now.
    pub signer: String,
    /// The longest life of a certificate, in seconds.
    pub longest_life_seconds: u64,
    /// Until when leaves live that are not listed, because there was no room.
    pub untracked_until: Option<u64>,
    /// The rotation that is under way.
    pub rotation: Option<Journal>,
    /// The roots that proxies are told to trust.
    pub roots: Vec<RootAnswer>,
    /// Connected proxies of ours.
    pub proxies: Vec<ProxyAnswer>,
    /// Leaves that this process signed and that are good.
    pub leaves: Vec<LeafAnswer>,
}

/// A root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootAnswer {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Its subject.
    pub subject: String,
    /// When it ends.
    pub not_after: u64,
    /// When it was made, where we made it: nothing was signed under it before.
    pub made_at: Option<u64>,
    /// Whether certificates are signed under it now.
    pub signs: bool,
    /// How many of the listed leaves stand under it.
    pub leaves: usize,
    /// When the last of them ends.
    pub last_leaf_ends: Option<u64>,
}

/// A connected proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyAnswer {
    /// Its `node.id`.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account, when it proved one.
    pub service_account: Option<String>,
    /// Since when it is connected.
    pub connected_at: u64,
    /// Whether the roots above are in force in it.
    pub acked: bool,
    /// The root of the last certificate that it was given by this process.
    pub leaf_root: Option<String>,
}

/// A leaf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafAnswer {
    /// Whose it is.
    pub identity: String,
    /// The namespace in the identity.
    pub namespace: String,
    /// The service account in the identity.
    pub service_account: String,
    /// The workload: the `node.id` of its proxy; empty when it did not say.
    pub workload: String,
    /// Its serial number.
    pub serial: String,
    /// The root it stands under.
    pub root: String,
    /// When it was signed.
    pub issued_at: u64,
    /// When it ends.
    pub not_after: u64,
}

pub(super) async fn trust(State(view): State<Arc<TrustView>>) -> Json<TrustAnswer> {
    let now = SystemTime::now();
    Json(view.authority.with_ledger(|ledger| answer(&view, ledger, now)))
}

fn answer(view: &TrustView, ledger: &Ledger, now: SystemTime) -> TrustAnswer {
    let (world, roots_since) = view.hub.roots_in_force();
    let leaves: Vec<LeafAnswer> = ledger.live(now).map(leaf).collect();
    let followers = view.hub.followers();
    let last = last_roots(&leaves);
    let proxies = followers.into_iter().map(|follower| proxy(follower, roots_since, &last)).collect();
    let facts = world.facts().roots.as_ref();
    let certificates = facts.map(|roots| roots.certificates.as_slice()).unwrap_or_default();
    let signer = fingerprint_text(view.authority.root().root_certificate());
    let is_ours = view.source == "data";
    let roots = certificates.iter().map(|der| {
        let root = root(der, &signer, &leaves);
        RootAnswer { made_at: root.made_at.filter(|_| is_ours), ..root }
    });
    let roots = roots.collect();
    TrustAnswer {
        time: seconds(now),
        since: seconds(ledger.since()),
        source: view.source.to_owned(),
        trust_domain: world.trust_domain().to_string(),
        signer,
        longest_life_seconds: view.authority.lifetimes().longest.as_secs(),
        untracked_until: ledger.untracked_until(now).map(seconds),
        rotation: view.authority.rotation(),
        roots,
        proxies,
        leaves,
    }
}

/// The root of the last leaf of each workload that said who it is.
fn last_roots(leaves: &[LeafAnswer]) -> BTreeMap<(&str, &str), &LeafAnswer> {
    let mut last: BTreeMap<(&str, &str), &LeafAnswer> = BTreeMap::new();
    for leaf in leaves.iter().filter(|leaf| !leaf.workload.is_empty()) {
        let known = last.entry((leaf.namespace.as_str(), leaf.workload.as_str())).or_insert(leaf);
        if leaf.issued_at > known.issued_at {
            *known = leaf;
        }
    }
    last
}

fn proxy(follower: Follower, roots_since: u64, last: &BTreeMap<(&str, &str), &LeafAnswer>) -> ProxyAnswer {
    let leaf = last.get(&(follower.namespace.as_str(), follower.id.as_str()));
    ProxyAnswer {
        acked: follower.in_force >= roots_since,
        leaf_root: leaf.map(|leaf| leaf.root.clone()),
        id: follower.id,
        namespace: follower.namespace,
        service_account: follower.service_account,
        connected_at: follower.connected_at,
    }
}

fn leaf(leaf: &Leaf) -> LeafAnswer {
    LeafAnswer {
        identity: leaf.identity.to_string(),
        namespace: leaf.identity.namespace().to_owned(),
        service_account: leaf.identity.service_account().to_owned(),
        workload: leaf.workload.to_string(),
        serial: leaf.serial.to_string(),
        root: hex(&leaf.root),
        issued_at: seconds(leaf.issued_at),
        not_after: seconds(leaf.not_after),
    }
}

fn root(der: &[u8], signer: &str, leaves: &[LeafAnswer]) -> RootAnswer {
    let fingerprint = fingerprint_text(&der.into());
    let parsed = X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed);
    let not_after = parsed.as_ref().map_or(0, |parsed| parsed.validity().not_after.timestamp());
    let not_before =
        parsed.as_ref().and_then(|parsed| u64::try_from(parsed.validity().not_before.timestamp()).ok());
    let under = leaves.iter().filter(|leaf| leaf.root == fingerprint);
    RootAnswer {
        subject: parsed.map(|parsed| parsed.subject().to_string()).unwrap_or_default(),
        not_after: u64::try_from(not_after).unwrap_or(0),
        made_at: not_before.map(|begin| begin + BACKDATE.as_secs()),
        signs: fingerprint == signer,
        leaves: under.clone().count(),
        last_leaf_ends: under.map(|leaf| leaf.not_after).max(),
        fingerprint,
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrigger_base::telemetry::metrics::Registry;
    use outrigger_model::identity::SpiffeId;

    use super::*;
    use crate::ca::Lifetimes;
    use crate::ca::root::MadeRoot;
    use crate::ca::rotation;
    use crate::http::meters::Meters;
    use crate::world::{Fact, World};

    fn follower(id: &str, in_force: u64) -> Follower {
        Follower {
            id: id.to_owned(),
            namespace: "shop".to_owned(),
            service_account: Some("web".to_owned()),
            connected_at: 1,
            in_force,
        }
    }

    #[test]
    fn roots_are_shown_with_what_stands_under_them() {
        let now = SystemTime::now();
        let state = rotation::State::of(MadeRoot::new(now).unwrap()).begin(now).unwrap();
        let root = state.authority(now).unwrap();
        let (world, _) = World::default().learn(Fact::Roots(root.fact()));
        let hub = Hub::new(Arc::new(world), Meters::new(Registry::new()));
        let authority = Arc::new(Authority::new(root, Lifetimes::default()));
        authority.set_rotation(state.journal);
        let old = authority.root().fact().signer;
        let view = TrustView { hub, authority, source: "data" };
        let mut ledger = Ledger::new(now);
        for (workload, seconds) in [("web-1", 60), ("web-2", 90)] {
            ledger.note(Leaf {
                identity: SpiffeId::new("cluster.local", "shop", "web").unwrap(),
                workload: workload.into(),
                serial: "1".into(),
                root: old,
                issued_at: now,
                not_after: now + Duration::from_secs(seconds),
            });
        }
        let shown = answer(&view, &ledger, now);
        let [first, second] = &shown.roots[..] else { panic!("{shown:?}") };
        assert_eq!((first.signs, first.leaves, first.last_leaf_ends), (true, 2, Some(seconds(now) + 90)));
        assert_eq!((second.signs, second.leaves, second.last_leaf_ends), (false, 0, None));
        assert_eq!(first.subject, "O=Outrigger, CN=Outrigger");
        let journal = shown.rotation.clone().unwrap();
        assert_eq!((&journal.old, &journal.new), (&first.fingerprint, &second.fingerprint));
        let json = serde_json::to_string(&shown).unwrap();
        assert_eq!(serde_json::from_str::<TrustAnswer>(&json).unwrap(), shown);
    }

    #[test]
    fn a_proxy_knows_the_roots_when_settings_that_are_as_new_are_in_force_in_it() {
        let leaves = [
            LeafAnswer { root: "old".into(), issued_at: 1, ..of("web-1") },
            LeafAnswer { root: "new".into(), issued_at: 2, ..of("web-1") },
            LeafAnswer { root: "odd".into(), issued_at: 3, ..of("") },
        ];
        let last = last_roots(&leaves);
        let shown = proxy(follower("web-1", 7), 7, &last);
        assert_eq!((shown.acked, shown.leaf_root.as_deref()), (true, Some("new")));
        let shown = proxy(follower("web-2", 6), 7, &last);
        assert_eq!((shown.acked, shown.leaf_root), (false, None));
    }

    fn of(workload: &str) -> LeafAnswer {
        LeafAnswer { namespace: "shop".into(), workload: workload.into(), ..LeafAnswer::default() }
    }
}
