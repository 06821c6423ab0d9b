//! Who leads, and when somebody else does.

use outrigger_base::lifecycle::drain;
use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::kubernetes::fake::FakeApi;

const PATH: &str =
    "/apis/coordination.k8s.io/v1/namespaces/outrigger-system/leases/outrigger-control-plane-leader";

fn lease(holder: Option<&str>, seconds: i32) -> Lease {
    let spec = json!({
        "holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": "2026-01-01T00:00:00.000000Z",
    });
    serde_json::from_value(json!({"metadata": {"name": LEADER_LEASE}, "spec": spec})).unwrap()
}

#[test]
fn what_to_do_about_a_lease() {
    let begin = Instant::now();
    let after = |seconds| begin + Duration::from_secs(seconds);
    let table = [
        (None, 0, Action::Create),
        (Some(lease(Some("me"), 15)), 0, Action::Renew),
        (Some(lease(Some("me"), 15)), 100, Action::Renew),
        (Some(lease(Some("other"), 15)), 14, Action::Wait),
        (Some(lease(Some("other"), 15)), 15, Action::TakeOver),
        (Some(lease(Some(""), 15)), 0, Action::TakeOver),
        (Some(lease(None, 15)), 0, Action::TakeOver),
        // Nonsense is brought into bounds.
        (Some(lease(Some("other"), 0)), 0, Action::Wait),
        (Some(lease(Some("other"), i32::MAX)), 60, Action::TakeOver),
        (Some(lease(Some("other"), -1)), 15, Action::TakeOver),
    ];
    for (found, seconds, expected) in table {
        let mut seen = Seen::nothing(begin);
        seen.observe(found.clone(), begin);
        assert_eq!(decide(after(seconds), &seen, "me"), expected, "{found:?} after {seconds} s");
    }
}

#[test]
fn a_lease_that_is_renewed_is_not_taken() {
    let begin = Instant::now();
    let mut seen = Seen::nothing(begin);
    seen.observe(Some(lease(Some("other"), 15)), begin);
    let mut renewed = lease(Some("other"), 15);
    renewed.spec.as_mut().unwrap().renew_time = None;
    seen.observe(Some(renewed), begin + Duration::from_secs(10));
    assert_eq!(decide(begin + Duration::from_secs(20), &seen, "me"), Action::Wait);
    assert_eq!(decide(begin + Duration::from_secs(25), &seen, "me"), Action::TakeOver);
}

#[test]
fn a_change_of_holders_is_counted_and_a_renewal_is_not() {
    let now = Timestamp::UNIX_EPOCH;
    let first = claim(None, "a", now);
    let second = claim(Some(&first), "b", now);
    let renewed = claim(Some(&second), "b", now);
    let holders = [first, second, renewed].map(|lease| lease.spec.unwrap().lease_transitions);
    assert_eq!(holders, [Some(0), Some(1), Some(1)]);
}

#[test]
fn waits_differ_by_a_fifth() {
    let wait = Duration::from_secs(5);
    assert_eq!(jittered(wait, 0.0), Duration::from_secs(4));
    assert_eq!(jittered(wait, 1.0), Duration::from_secs(6));
}

/// A replica that stands for election.
struct Replica {
    leadership: watch::Receiver<Leadership>,
    drain: Option<drain::DrainTrigger>,
    task: tokio::task::JoinHandle<()>,
}

impl Replica {
    fn start(api: &FakeApi, identity: &str) -> Self {
        let elector = Elector::new(api.client(), "outrigger-system", identity);
        let leadership = elector.leadership();
        let (trigger, drain) = drain::new(Duration::from_secs(5));
        Self { leadership, drain: Some(trigger), task: tokio::spawn(elector.run(drain)) }
    }

    async fn becomes(&mut self, wanted: Leadership) {
        let wait = self.leadership.wait_for(|now| *now == wanted);
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("in time").expect("an election");
    }

    fn leads(&self) -> bool {
        *self.leadership.borrow() == Leadership::Leading
    }
}

fn holder(api: &FakeApi) -> Value {
    api.get(PATH).unwrap()["spec"]["holderIdentity"].clone()
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_another_takes_over_when_it_dies() {
    let api = FakeApi::default();
    let mut first = Replica::start(&api, "first");
    first.becomes(Leadership::Leading).await;
    let mut second = Replica::start(&api, "second");
    advance(LEASE_DURATION * 3).await;
    assert!(first.leads() && !second.leads());
    assert_eq!(holder(&api), "first");
    first.task.abort();
    let died = Instant::now();
    second.becomes(Leadership::Leading).await;
    assert!(died.elapsed() >= RENEW_DEADLINE - RENEW_INTERVAL, "it took a Lease that was held");
    assert!(died.elapsed() <= LEASE_DURATION + LOOK_INTERVAL * 2, "{:?}", died.elapsed());
    assert_eq!(holder(&api), "second");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gives_the_lease_back() {
    let api = FakeApi::default();
    let mut first = Replica::start(&api, "first");
    first.becomes(Leadership::Leading).await;
    let mut second = Replica::start(&api, "second");
    advance(Duration::from_secs(1)).await;
    first.drain.take().unwrap().drain_and_wait().await;
    assert_eq!(holder(&api), "", "the drain waits until it is given back");
    let left = Instant::now();
    second.becomes(Leadership::Leading).await;
    assert!(left.elapsed() <= LOOK_INTERVAL * 2, "{:?}", left.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_to_lead_before_anybody_else_may_start() {
    let api = FakeApi::default();
    let mut first = Replica::start(&api, "first");
    first.becomes(Leadership::Leading).await;
    let begun = Instant::now();
    api.refuse(Some(500));
    first.becomes(Leadership::Following).await;
    let led = begun.elapsed();
    assert!(led >= RENEW_DEADLINE - RENEW_INTERVAL && led <= RENEW_DEADLINE + RENEW_INTERVAL, "{led:?}");
    api.refuse(None);
    first.becomes(Leadership::Leading).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_robbed_of_the_lease_follows() {
    let api = FakeApi::default();
    let mut first = Replica::start(&api, "first");
    first.becomes(Leadership::Leading).await;
    api.put(PATH, serde_json::to_value(lease(Some("other"), 15)).unwrap());
    first.becomes(Leadership::Following).await;
    assert_eq!(holder(&api), "other");
}
