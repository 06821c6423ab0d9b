//! Projected tokens against an API server of the test.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::fake_cluster::FakeCluster;

/// What the API says of a good token of service account `web` in namespace `shop`, bound to pod `web-1`.
fn good() -> Value {
    json!({
        "authenticated": true,
        "audiences": ["outrigger"],
        "user": {
            "username": "system:serviceaccount:shop:web",
            "extra": {POD_NAME: ["web-1"], POD_UID: ["u1"]},
        },
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut status = good();
    *status.pointer_mut(key).unwrap() = value;
    status
}

fn pod(uid: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "shop", "uid": uid},
        "spec": {"serviceAccountName": account, "containers": []},
    })
}

fn web() -> Caller {
    Caller { namespace: "shop".into(), service_account: "web".into() }
}

/// A token that says when it ends.
fn token(exp: u64) -> String {
    format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(json!({"exp": exp}).to_string()))
}

fn far() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600
}

fn reviews(api: &FakeCluster) -> usize {
    api.requests().iter().filter(|request| request.contains("tokenreviews")).count()
}

#[tokio::test]
async fn a_token_counts_when_its_pod_is_there_and_runs_as_its_account() {
    let (unbound, account) = ("system:serviceaccount:shop:web", "/user/username");
    for (what, status, pod, expected) in [
        ("good", good(), pod("u1", "web"), Ok(web())),
        ("not authenticated", with("/authenticated", json!(false)), pod("u1", "web"), Err("rejected")),
        ("for somebody else", with("/audiences", json!(["api"])), pod("u1", "web"), Err("audience")),
        ("no audiences", with("/audiences", json!([])), pod("u1", "web"), Err("audience")),
        ("a person", with(account, json!("alice")), pod("u1", "web"), Err("not_a_service_account")),
        (
            "no name",
            with(account, json!("system:serviceaccount:shop")),
            pod("u1", "web"),
            Err("not_a_service_account"),
        ),
        ("not bound", with("/user/extra", json!({})), pod("u1", "web"), Err("unbound")),
        (
            "bound to two",
            with("/user/extra/authentication.kubernetes.io~1pod-uid", json!(["u1", "u2"])),
            pod("u1", "web"),
            Err("unbound"),
        ),
        ("a pod of the same name", with(account, json!(unbound)), pod("u2", "web"), Err("no_such_pod")),
        ("another account", good(), pod("u1", "admin"), Err("other_account")),
    ] {
        let api = FakeCluster::new();
        api.put(pod);
        api.knows_token("t", status);
        let answer = Reviewer::new(api.client()).verify("t").await;
        assert_eq!(answer.map_err(|error| error.word()), expected, "{what}");
    }
}

#[tokio::test]
async fn a_pod_that_is_gone_and_a_token_that_nobody_knows_are_refused() {
    let api = FakeCluster::new();
    api.knows_token("t", good());
    let reviewer = Reviewer::new(api.client());
    assert_eq!(reviewer.verify("t").await, Err(ReviewError::NoSuchPod("shop/web-1".into())));
    assert_eq!(reviewer.verify("other").await, Err(ReviewError::Rejected("unknown token".into())));
    let long = "t".repeat(MAX_TOKEN_BYTES + 1);
    assert_eq!(reviewer.verify(&long).await.map_err(|error| error.word()), Err("rejected"));
    assert_eq!(reviews(&api), 2, "what cannot be a token is not asked about");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_a_minute_and_a_refusal_for_a_moment() {
    let api = FakeCluster::new();
    let (good_token, reviewer) = (token(far()), Reviewer::new(api.client()));
    api.put(pod("u1", "web"));
    api.knows_token(&good_token, good());
    for _ in 0..3 {
        assert_eq!(reviewer.verify(&good_token).await, Ok(web()));
        assert!(reviewer.verify("bad").await.is_err());
    }
    assert_eq!(reviews(&api), 2);
    tokio::time::advance(KEEP_REFUSAL).await;
    let _ = (reviewer.verify(&good_token).await, reviewer.verify("bad").await);
    assert_eq!(reviews(&api), 3, "the refusal was asked again");
    tokio::time::advance(KEEP).await;
    let _ = reviewer.verify(&good_token).await;
    assert_eq!(reviews(&api), 4, "the answer was asked again");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_kept_beyond_the_end_of_the_token() {
    let now = SystemTime::now();
    let secs = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(life_left(&token(secs + 10), now) <= Duration::from_secs(10));
    for ended in [token(secs - 1), token(u64::MAX), "no.token".to_owned(), String::new()] {
        assert_eq!(keep(&Ok(web()), life_left(&ended, now)), Some(Duration::ZERO), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_api_is_away_nobody_is_refused_for_good() {
    let api = FakeCluster::new();
    api.put(pod("u1", "web"));
    api.knows_token("t", good());
    let reviewer = Reviewer::new(api.client());
    api.set_away(true);
    assert_eq!(reviewer.verify("t").await.map_err(|error| error.word()), Err("away"));
    api.set_away(false);
    assert_eq!(reviewer.verify("t").await, Ok(web()));
}

#[tokio::test(start_paused = true)]
async fn no_more_answers_are_kept_than_there_is_room_for() {
    let reviewer = Reviewer::new(FakeCluster::new().client());
    let until = Instant::now() + KEEP;
    let kept = || reviewer.kept.lock().unwrap().len();
    for number in 0..=MAX_KEPT {
        reviewer.keep(fingerprint(&number.to_string()), Ok(web()), until);
    }
    assert_eq!(kept(), MAX_KEPT);
    tokio::time::advance(KEEP).await;
    reviewer.keep(fingerprint("new"), Ok(web()), Instant::now() + KEEP);
    assert_eq!(kept(), 1, "those that do not count any more made room");
}
