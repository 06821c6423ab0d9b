//! What the admin server answers, asked through its router.

use std::sync::OnceLock;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use outrigger_base::telemetry::logs::{LogFormat, LogOptions, init};
use outrigger_model::inbound::MtlsMode;
use outrigger_model::resource::Resource;
use tower::Service;

use super::*;
use crate::xds::support::{
    CLUSTER, REVIEWS, cluster, endpoints, http_listener, inbound, linked, routes, shared,
};

/// A process has one log.
static LOG: OnceLock<LogHandle> = OnceLock::new();

fn admin() -> (Router, Arc<Shared>, mpsc::Receiver<Wish>) {
    let log =
        LOG.get_or_init(|| init(&LogOptions { format: LogFormat::Json, filter: "error".into() }).unwrap());
    let (shared, _) = shared();
    let (wishes, wished) = mpsc::channel(1);
    let listeners = vec![ListenerView {
        direction: "outbound",
        address: "127.0.0.1:9001".parse().unwrap(),
        target: REVIEWS.to_owned(),
    }];
    let currency = watch::Sender::new(Currency::Never).subscribe();
    let log = log.clone();
    let admin = Admin { shared: shared.clone(), log, issued: None, currency, listeners, wishes };
    (router(admin), shared, wished)
}

async fn ask(router: &mut Router, method: &str, path: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = router.call(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn ask_json(router: &mut Router, path: &str) -> Value {
    let (status, text) = ask(router, "GET", path).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn the_configuration_in_force_is_shown() {
    let (mut router, shared, _wished) = admin();
    shared.snapshot.store(Arc::new(linked(
        &shared.telemetry,
        &[
            inbound(MtlsMode::Strict),
            http_listener(REVIEWS),
            routes(REVIEWS, &[(CLUSTER, 3)]),
            Resource::Cluster(cluster(CLUSTER)),
            endpoints(CLUSTER, &["10.0.0.1:80"]),
        ],
    )));
    let dump = ask_json(&mut router, "/config_dump").await;
    assert_eq!(dump["inbound"]["mtls"], "Strict");
    let destination = &dump["destinations"][0];
    assert_eq!((&destination["name"], &destination["state"]), (&json!(REVIEWS), &json!("http")));
    let backend = &destination["http"]["routes"][0]["forward"]["backends"][0];
    assert_eq!((&backend["cluster"], &backend["weight"]), (&json!(CLUSTER), &json!(3)));

    let clusters = ask_json(&mut router, "/clusters").await;
    assert_eq!((clusters.as_array().unwrap().len(), &clusters[0]["name"]), (1, &json!(CLUSTER)));
    assert_eq!(clusters[0]["endpoints"][0]["address"], "10.0.0.1:80");
    let (_, text) = ask(&mut router, "GET", "/clusters?format=text").await;
    assert!(text.starts_with(CLUSTER) && text.contains("10.0.0.1:80") && text.contains("healthy"), "{text}");
    assert_eq!(ask(&mut router, "GET", "/clusters?format=xml").await.0, 400);
}

#[tokio::test]
async fn index_listeners_and_the_missing_certificate_are_shown() {
    let (mut router, _, _wished) = admin();
    let (_, index) = ask(&mut router, "GET", "/").await;
    for line in index.lines() {
        let (method, path) = line.split_once(' ').unwrap();
        let path = path.split_whitespace().next().unwrap();
        assert_ne!(ask(&mut router, method, path).await.0, 404, "{line}");
    }
    assert_eq!(ask_json(&mut router, "/listeners").await[0]["target"], REVIEWS);
    let certs = ask_json(&mut router, "/certs").await;
    assert!(
        certs["identity"].is_null() && certs["why"].as_str().unwrap().contains("--token-file"),
        "{certs}"
    );
}

#[tokio::test]
async fn the_log_filter_is_changed_and_a_bad_one_is_refused() {
    let (mut router, _, _wished) = admin();
    assert_eq!(ask(&mut router, "POST", "/logging?level=warn").await, (200, "warn\n".to_owned()));
    assert_eq!(ask(&mut router, "GET", "/logging").await.1, "warn\n");
    let (status, text) = ask(&mut router, "POST", "/logging?level=a=b=c").await;
    assert!(status == 400 && text.contains("not a log filter"), "{text}");
    assert_eq!(ask(&mut router, "POST", "/logging").await.0, 400);
}

#[tokio::test]
async fn wishes_reach_the_owner_of_the_process_and_only_by_post() {
    let (mut router, _, mut wished) = admin();
    assert_eq!(ask(&mut router, "GET", "/quit").await.0, 405);
    assert_eq!(ask(&mut router, "POST", "/drain").await.0, 202);
    assert_eq!(ask(&mut router, "POST", "/quit").await.0, 503, "the queue has no bound");
    assert_eq!(wished.recv().await, Some(Wish::Drain));
    assert_eq!(ask(&mut router, "POST", "/quit").await.0, 202);
    assert_eq!(wished.recv().await, Some(Wish::Quit));
}
