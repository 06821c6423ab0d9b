//! What a rotation does next, and whom it waits for. Pure: what the control plane says and the time are arguments.

use std::collections::{BTreeMap, BTreeSet};

use outrigger_control_plane::ca::rotation::{Journal, Phase};
use outrigger_control_plane::http::trust::{LeafAnswer, ProxyAnswer, TrustAnswer};
use serde::Serialize;

/// How long a replica may take to see that another root signs, in seconds, and clocks may differ.
const SWITCH_SLACK_SECONDS: u64 = 60;

/// What is known of the mesh.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Where the root is kept says so.
    pub(super) journal: Option<Journal>,
    /// What each replica says, by its name.
    pub(super) replicas: Vec<(String, TrustAnswer)>,
    /// Things beside proxies that do not hold the new root yet, such as the ConfigMap of a namespace.
    pub(super) lagging: Vec<String>,
    /// Replicas that come and go share one root, so that each knows a part of the leaves only.
    pub(super) has_replicas: bool,
    /// Workloads are not waited for; the control plane is.
    pub(super) force: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Make the next root and trust it.
    Begin,
    /// Have it sign.
    Switch,
    /// Take the old one away.
    Settle,
    /// Look again later.
    Wait(Vec<Straggler>),
}

/// Somebody who is waited for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Straggler {
    /// Who.
    pub(super) who: String,
    /// Why.
    pub(super) why: String,
    /// Until when at most, in seconds of Unix time, when that is known.
    pub(super) until: Option<u64>,
    /// Whether it can be left behind.
    #[serde(skip)]
    part: Part,
}

/// The part of the mesh that somebody belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    ControlPlane,
    Workloads,
}

impl Straggler {
    /// A replica of the control plane, without which nothing goes on.
    pub(super) fn of_control_plane(who: &str, why: String) -> Self {
        Self { part: Part::ControlPlane, ..Self::new(who, why) }
    }

    fn new(who: impl Into<String>, why: impl Into<String>) -> Self {
        Self { who: who.into(), why: why.into(), until: None, part: Part::Workloads }
    }
}

/// What follows from what is known.
pub(super) fn next(view: &View, now: u64) -> Next {
    let Some(journal) = &view.journal else { return Next::Begin };
    let (mut waited_for, step) = match journal.phase {
        Phase::Trusting => (untold(view, journal, now), Next::Switch),
        Phase::Signing => (under_old(view, journal, now), Next::Settle),
        Phase::Settling => return Next::Settle,
    };
    if view.force {
        waited_for.retain(|straggler| straggler.part == Part::ControlPlane);
    }
    match waited_for.is_empty() {
        true => step,
        false => Next::Wait(waited_for),
    }
}

/// Who does not trust the new root yet.
fn untold(view: &View, journal: &Journal, now: u64) -> Vec<Straggler> {
    let mut found: Vec<Straggler> =
        view.lagging.iter().map(|what| Straggler::new(what, "does not hold the new root yet")).collect();
    for (name, answer) in &view.replicas {
        if !answer.roots.iter().any(|root| root.fingerprint == journal.new) {
            found.push(Straggler::of_control_plane(name, "has not taken the new root over yet".into()));
            continue;
        }
        let behind = answer.proxies.iter().filter(|proxy| !proxy.acked);
        found.extend(behind.map(|proxy| {
            let seconds = now.saturating_sub(proxy.connected_at);
            Straggler::new(
                named(proxy),
                format!("has not acknowledged the new root; connected for {seconds} s"),
            )
        }));
    }
    found.extend(away(view, now));
    found.sort();
    found
}

/// Whose certificate still stands under the old root.
fn under_old(view: &View, journal: &Journal, now: u64) -> Vec<Straggler> {
    let mut found = Vec::new();
    for (name, answer) in &view.replicas {
        if answer.signer != journal.new {
            found.push(Straggler::of_control_plane(name, "does not sign with the new root yet".into()));
        }
    }
    let leaves = latest(view, now);
    for leaf in leaves.values().filter(|leaf| leaf.root == journal.old) {
        let why = "has a certificate under the old root, unless it gets another before that ends";
        found.push(Straggler { until: Some(leaf.not_after), ..Straggler::new(owner(leaf), why) });
    }
    if let Some(until) = unknown_until(view, journal).filter(|until| *until > now) {
        found.extend(unknown(view, &leaves, until));
    }
    found.sort();
    found.dedup();
    found
}

/// Leaves under the old root that nobody remembers end at this time at the latest.
fn unknown_until(view: &View, journal: &Journal) -> Option<u64> {
    let life = view.replicas.iter().map(|(_, answer)| answer.longest_life_seconds).max()?;
    let switched = journal.switched_at? + SWITCH_SLACK_SECONDS + life;
    // One process that has run for a whole life remembers them all.
    let since = view.replicas.iter().map(|(_, answer)| answer.since).max()? + life;
    let untracked = view.replicas.iter().filter_map(|(_, answer)| answer.untracked_until).max().unwrap_or(0);
    Some(match view.has_replicas {
        true => switched,
        false if was_made_here(view, journal) => untracked,
        false => switched.min(since.max(untracked)),
    })
}

/// Whether the old root was made after each process began: then everything that was signed under it is remembered.
fn was_made_here(view: &View, journal: &Journal) -> bool {
    let made_after_begin = |answer: &TrustAnswer| {
        let old = answer.roots.iter().find(|root| root.fingerprint == journal.old);
        old.and_then(|root| root.made_at).is_some_and(|made| made >= answer.since)
    };
    view.replicas.iter().all(|(_, answer)| made_after_begin(answer))
}

/// Who may have a certificate that nobody remembers.
fn unknown(view: &View, leaves: &BTreeMap<Key<'_>, &LeafAnswer>, until: u64) -> Vec<Straggler> {
    let known: BTreeSet<(&str, &str)> =
        leaves.values().map(|leaf| (leaf.namespace.as_str(), leaf.workload.as_str())).collect();
    let has_identity = |proxy: &&ProxyAnswer| proxy.service_account.is_some();
    let connected = view.replicas.iter().flat_map(|(_, answer)| &answer.proxies).filter(has_identity);
    let mut found: Vec<Straggler> = connected
        .filter(|proxy| !known.contains(&(proxy.namespace.as_str(), proxy.id.as_str())))
        .map(|proxy| Straggler {
            until: Some(until),
            ..Straggler::new(
                named(proxy),
                "has a certificate that nobody remembers; it is about to get a new one",
            )
        })
        .collect();
    found.push(Straggler {
        until: Some(until),
        ..Straggler::new(
            "certificates from before the control plane was started",
            "nobody remembers whether some stand under the old root",
        )
    });
    found
}

/// A workload as leaves name it; its serial number when they do not.
type Key<'v> = (&'v str, &'v str, Option<&'v str>);

/// The last leaf of each workload, over all replicas, that is good.
fn latest(view: &View, now: u64) -> BTreeMap<Key<'_>, &LeafAnswer> {
    let mut latest: BTreeMap<Key<'_>, &LeafAnswer> = BTreeMap::new();
    let leaves = view.replicas.iter().flat_map(|(_, answer)| &answer.leaves);
    for leaf in leaves.filter(|leaf| leaf.not_after > now) {
        let serial = leaf.workload.is_empty().then_some(leaf.serial.as_str());
        let known = latest.entry((leaf.identity.as_str(), leaf.workload.as_str(), serial)).or_insert(leaf);
        if leaf.issued_at > known.issued_at {
            *known = leaf;
        }
    }
    latest
}

/// Workloads with a certificate that is good whose proxy is not connected to any replica.
fn away(view: &View, now: u64) -> Vec<Straggler> {
    let proxies = || view.replicas.iter().flat_map(|(_, answer)| &answer.proxies);
    let ids: BTreeSet<(&str, &str)> =
        proxies().map(|proxy| (proxy.namespace.as_str(), proxy.id.as_str())).collect();
    let accounts: BTreeSet<(&str, Option<&str>)> =
        proxies().map(|proxy| (proxy.namespace.as_str(), proxy.service_account.as_deref())).collect();
    let is_away = move |leaf: &&LeafAnswer| match leaf.workload.as_str() {
        // It does not say which of the workloads of its identity it is.
        "" => !accounts.contains(&(leaf.namespace.as_str(), Some(leaf.service_account.as_str()))),
        id => !ids.contains(&(leaf.namespace.as_str(), id)),
    };
    let why =
        "is not connected, and would refuse peers whose root it does not know while its certificate is good";
    let straggler =
        |leaf: &LeafAnswer| Straggler { until: Some(leaf.not_after), ..Straggler::new(owner(leaf), why) };
    latest(view, now).into_values().filter(is_away).map(straggler).collect()
}

fn named(proxy: &ProxyAnswer) -> String {
    format!("{} in namespace {}", proxy.id, proxy.namespace)
}

fn owner(leaf: &LeafAnswer) -> String {
    match leaf.workload.as_str() {
        "" => format!("{} (certificate {})", leaf.identity, leaf.serial),
        workload => format!("{workload} in namespace {}", leaf.namespace),
    }
}

#[cfg(test)]
mod tests;
