//! Whom a rotation waits for, and when it goes on.

use outrigger_control_plane::http::trust::RootAnswer;

use super::*;

const NOW: u64 = 100_000;
const LIFE: u64 = 3600;

fn journal(phase: Phase) -> Journal {
    Journal {
        phase,
        started: NOW - 10,
        switched_at: (phase != Phase::Trusting).then_some(NOW - 5),
        old: "old".into(),
        new: "new".into(),
    }
}

fn proxy(id: &str, acked: bool) -> ProxyAnswer {
    ProxyAnswer {
        id: id.into(),
        namespace: "shop".into(),
        service_account: Some("web".into()),
        connected_at: NOW - 50,
        acked,
        leaf_root: None,
    }
}

fn leaf(workload: &str, root: &str, issued_at: u64) -> LeafAnswer {
    LeafAnswer {
        identity: "spiffe://cluster.local/ns/shop/sa/web".into(),
        namespace: "shop".into(),
        service_account: "web".into(),
        workload: workload.into(),
        serial: format!("{workload}{issued_at}"),
        root: root.into(),
        issued_at,
        not_after: issued_at + LIFE,
    }
}

/// A control plane that has run for longer than anything it signed lives.
fn replica(proxies: Vec<ProxyAnswer>, leaves: Vec<LeafAnswer>) -> TrustAnswer {
    let root = |name: &str| RootAnswer { fingerprint: name.into(), ..RootAnswer::default() };
    TrustAnswer {
        since: NOW - 2 * LIFE,
        signer: "new".into(),
        longest_life_seconds: LIFE,
        roots: vec![root("old"), root("new")],
        proxies,
        leaves,
        ..TrustAnswer::default()
    }
}

fn view(phase: Phase, replicas: Vec<TrustAnswer>) -> View {
    let replicas = replicas.into_iter().enumerate().map(|(n, answer)| (format!("replica {n}"), answer));
    View { journal: Some(journal(phase)), replicas: replicas.collect(), ..View::default() }
}

fn waited_for(view: &View) -> Vec<String> {
    match next(view, NOW) {
        Next::Wait(stragglers) => stragglers.into_iter().map(|straggler| straggler.who).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rotation_begins_and_one_that_was_cut_off_while_it_settled_ends() {
    assert_eq!(next(&View::default(), NOW), Next::Begin);
    assert_eq!(next(&view(Phase::Settling, vec![]), NOW), Next::Settle);
}

#[test]
fn nothing_is_signed_by_a_root_that_a_proxy_has_not_acknowledged() {
    let told = replica(vec![proxy("web-1", true)], vec![leaf("web-1", "old", NOW - 10)]);
    assert_eq!(next(&view(Phase::Trusting, vec![told.clone()]), NOW), Next::Switch);
    let behind = replica(vec![proxy("web-1", true), proxy("web-2", false)], vec![]);
    assert_eq!(waited_for(&view(Phase::Trusting, vec![told.clone(), behind])), ["web-2 in namespace shop"]);
    let late = TrustAnswer { roots: vec![], ..told.clone() };
    assert_eq!(waited_for(&view(Phase::Trusting, vec![told.clone(), late])), ["replica 1"]);
    let lagging = vec!["ConfigMap shop/outrigger-trust-bundle".to_owned()];
    let lagging = View { lagging, ..view(Phase::Trusting, vec![told]) };
    assert_eq!(waited_for(&lagging), ["ConfigMap shop/outrigger-trust-bundle"]);
}

#[test]
fn workloads_can_be_left_behind_and_the_control_plane_cannot() {
    let behind = replica(vec![proxy("web-2", false)], vec![]);
    let forced = View { force: true, ..view(Phase::Trusting, vec![behind.clone()]) };
    assert_eq!(next(&forced, NOW), Next::Switch);
    let late = TrustAnswer { roots: vec![], ..behind };
    let forced = View { force: true, ..view(Phase::Trusting, vec![late]) };
    assert_eq!(waited_for(&forced), ["replica 0"]);
}

#[test]
fn a_proxy_that_is_away_counts_until_its_certificate_ends() {
    let with = |leaf| vec![replica(vec![proxy("web-1", true)], vec![leaf])];
    let away = view(Phase::Trusting, with(leaf("web-2", "old", NOW - 10)));
    assert_eq!(waited_for(&away), ["web-2 in namespace shop"]);
    let over = view(Phase::Trusting, with(leaf("web-2", "old", NOW - LIFE)));
    assert_eq!(next(&over, NOW), Next::Switch);
    let elsewhere = replica(vec![proxy("web-2", true)], vec![]);
    let mut replicas = with(leaf("web-2", "old", NOW - 10));
    replicas.push(elsewhere);
    assert_eq!(
        next(&view(Phase::Trusting, replicas), NOW),
        Next::Switch,
        "it is connected to another replica"
    );
    let nameless = view(Phase::Trusting, with(leaf("", "old", NOW - 10)));
    assert_eq!(next(&nameless, NOW), Next::Switch, "one of its identity is connected");
}

#[test]
fn the_old_root_stays_while_the_last_leaf_of_anybody_stands_under_it() {
    let under = |leaves| view(Phase::Signing, vec![replica(vec![proxy("web-1", true)], leaves)]);
    let old = under(vec![leaf("web-1", "old", NOW - 10)]);
    assert_eq!(waited_for(&old), ["web-1 in namespace shop"]);
    let renewed = under(vec![leaf("web-1", "old", NOW - 10), leaf("web-1", "new", NOW - 3)]);
    assert_eq!(next(&renewed, NOW), Next::Settle);
    let first = replica(vec![], vec![leaf("web-1", "old", NOW - 10)]);
    let second = replica(vec![proxy("web-1", true)], vec![leaf("web-1", "new", NOW - 3)]);
    assert_eq!(
        next(&view(Phase::Signing, vec![first, second]), NOW),
        Next::Settle,
        "another replica renewed it"
    );
    let over = under(vec![leaf("web-1", "old", NOW - LIFE)]);
    assert_eq!(next(&over, NOW), Next::Settle);
    let slow = TrustAnswer { signer: "old".into(), ..replica(vec![], vec![]) };
    assert_eq!(waited_for(&view(Phase::Signing, vec![slow])), ["replica 0"]);
}

#[test]
fn leaves_that_nobody_remembers_are_waited_for_until_they_must_be_over() {
    let young = TrustAnswer { since: NOW - 100, ..replica(vec![proxy("web-1", true)], vec![]) };
    let found = next(&view(Phase::Signing, vec![young.clone()]), NOW);
    let Next::Wait(found) = found else { panic!("{found:?}") };
    assert_eq!(found.len(), 2, "the proxy, and those of whom nothing is known: {found:?}");
    assert!(found.iter().all(|straggler| straggler.until == Some(NOW - 100 + LIFE)), "{found:?}");
    let known = TrustAnswer { leaves: vec![leaf("web-1", "new", NOW - 2)], ..young };
    assert_eq!(waited_for(&view(Phase::Signing, vec![known.clone()])).len(), 1);
    let later = NOW - 5 + SWITCH_SLACK_SECONDS + LIFE;
    assert_eq!(next(&view(Phase::Signing, vec![known.clone()]), later), Next::Settle);
    let made = |at: u64| {
        let mut here = known.clone();
        here.roots[0].made_at = Some(at);
        next(&view(Phase::Signing, vec![here]), NOW)
    };
    assert_eq!(
        made(NOW - 100),
        Next::Settle,
        "all that was signed under a root of its own making is remembered"
    );
    assert!(matches!(made(NOW - 101), Next::Wait(_)));
    let old = replica(vec![], vec![]);
    let shared = View { has_replicas: true, ..view(Phase::Signing, vec![old]) };
    assert_eq!(waited_for(&shared).len(), 1, "a replica that is gone may have signed more");
}
