//! The Secret with the root, made, shared, exchanged and broken.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::ca::place::{Place, SECRET_INTERVAL};
use crate::ca::{Authority, Lifetimes};
use crate::kubernetes::fake_cluster::FakeCluster;

fn mesh() -> Arc<str> {
    "mesh".into()
}

fn secret(api: &FakeCluster) -> RootSecret {
    RootSecret::new(api.client(), &mesh())
}

/// The Secret of a root, as somebody else would have put it there.
fn holding(certificate: &str, key: &str, authorities: Option<&str>) -> Value {
    let made = MadeRoot { key: key.to_owned(), certificate: certificate.to_owned() };
    let mut secret = written(&made);
    let data = secret.data.as_mut().unwrap();
    match authorities {
        Some(text) => data.insert(AUTHORITIES_KEY.to_owned(), ByteString(text.as_bytes().to_vec())),
        None => data.remove(AUTHORITIES_KEY),
    };
    let mut json = serde_json::to_value(secret).unwrap();
    json["metadata"]["namespace"] = "mesh".into();
    json
}

fn made() -> MadeRoot {
    MadeRoot::new(SystemTime::now()).unwrap()
}

#[tokio::test]
async fn the_first_replica_makes_the_root_and_the_others_read_it() {
    let api = FakeCluster::new();
    let now = SystemTime::now();
    let (one, other) = tokio::join!(async { secret(&api).open(now).await.unwrap() }, async {
        secret(&api).open(now).await.unwrap()
    },);
    assert_eq!(one.pem(), other.pem());
    let created = api.requests().iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(created, 2, "both tried, one was told that it is there");
    assert_eq!(secret(&api).open(now).await.unwrap().pem(), one.pem());
}

#[tokio::test]
async fn a_root_of_the_users_own_is_taken_with_the_authorities_beside_it() {
    let (now, api) = (SystemTime::now(), FakeCluster::new());
    let (ours, old) = (made(), made());
    let both = format!("{}{}", ours.certificate, old.certificate);
    api.put(holding(&ours.certificate, &ours.key, Some(&both)));
    let root = secret(&api).open(now).await.unwrap();
    assert_eq!((root.authorities().len(), root.bundle()), (2, both.as_str()));
    api.put(holding(&ours.certificate, &ours.key, None));
    assert_eq!(secret(&api).open(now).await.unwrap().bundle(), ours.certificate);
}

#[tokio::test]
async fn a_broken_secret_is_refused_with_its_name_its_key_and_the_fix() {
    let (now, later) = (SystemTime::now(), SystemTime::now() + Duration::from_secs(3651 * 24 * 3600));
    let (one, two) = (made(), made());
    let not_utf8 = {
        let mut secret = holding(&one.certificate, &one.key, None);
        secret["data"]["tls.key"] = "/w==".into();
        secret
    };
    let empty =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": ROOT_SECRET, "namespace": "mesh"}});
    for (secret_object, at, part) in [
        (holding(&one.certificate, "garbage", None), now, "tls.key: is not a private key"),
        (holding("garbage", &one.key, None), now, "tls.crt: is not a PEM certificate"),
        (holding(&one.certificate, &two.key, None), now, "tls.crt: does not belong to the private key"),
        (holding(&one.certificate, &one.key, None), later, "tls.crt: has expired"),
        (holding(&one.certificate, &one.key, Some("garbage")), now, "ca.crt: does not have the certificate"),
        (
            holding(&one.certificate, &one.key, Some(&two.certificate)),
            now,
            "ca.crt: does not have the certificate",
        ),
        (not_utf8, now, "tls.key: is not PEM"),
        (empty, now, "tls.key: is missing"),
    ] {
        let api = FakeCluster::new();
        api.put(secret_object);
        let line = secret(&api).open(at).await.unwrap_err().to_string();
        assert!(line.contains("Secret/mesh/outrigger-ca") && line.contains(part), "{part}: {line}");
        assert!(line.contains("kubectl") && !line.contains('\n'), "the fix in one line: {line}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_root_is_taken_over_and_a_broken_or_lost_one_is_not() {
    let (now, api) = (SystemTime::now(), FakeCluster::new());
    let authority = Arc::new(Authority::new(secret(&api).open(now).await.unwrap(), Lifetimes::default()));
    let first = authority.root().pem().to_owned();
    let following = tokio::spawn(Place::Secret(Box::new(secret(&api))).follow(authority.clone()));
    let look = || tokio::time::sleep(SECRET_INTERVAL + Duration::from_secs(1));
    let other = made();
    api.put(holding(&other.certificate, "garbage", None));
    look().await;
    assert_eq!(authority.root().pem(), first);
    api.put(holding(&other.certificate, &other.key, None));
    look().await;
    assert_eq!(authority.root().pem(), other.certificate);
    api.delete(&holding(&other.certificate, &other.key, None).to_string());
    look().await;
    assert_eq!(authority.root().pem(), other.certificate);
    assert!(!following.is_finished());
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_an_api_that_is_away() {
    let api = FakeCluster::new();
    api.set_away(true);
    let opening = tokio::spawn({
        let secret = secret(&api);
        async move { secret.open(SystemTime::now()).await }
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!opening.is_finished());
    api.set_away(false);
    opening.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rotation_in_the_secret_is_followed_step_by_step() {
    let (now, api) = (SystemTime::now(), FakeCluster::new());
    let authority = Arc::new(Authority::new(secret(&api).open(now).await.unwrap(), Lifetimes::default()));
    let following = tokio::spawn(Place::Secret(Box::new(secret(&api))).follow(authority.clone()));
    let look = || tokio::time::sleep(SECRET_INTERVAL + Duration::from_secs(1));
    let first = made();
    let begun = State::of(first.clone()).begin(now).unwrap();
    let signing = begun.clone().switch(now).unwrap();
    let done = signing.clone().settle(now).unwrap().finish(now).unwrap();
    for (state, trusted, is_first) in [(&begun, 2, true), (&signing, 2, false), (&done, 1, false)] {
        let mut object = holding(&first.certificate, &first.key, None);
        object["data"] = serde_json::to_value(data_of(state)).unwrap();
        api.put(object.clone());
        assert_eq!(&state_of(&serde_json::from_value(object).unwrap()).unwrap().next, &state.next);
        look().await;
        let root = authority.root();
        assert_eq!(
            (root.authorities().len(), root.pem() == first.certificate),
            (trusted, is_first),
            "{state:?}"
        );
        assert_eq!(authority.rotation(), state.journal);
    }
    following.abort();
}
