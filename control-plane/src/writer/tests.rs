//! What a writer does with an API server, in memory.

use outrigger_base::lifecycle::drain::{self, DrainTrigger};
use outrigger_base::telemetry::metrics::Registry;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::*;
use crate::http::meters::Meters;
use crate::kubernetes::fake::FakeApi;
use crate::status::CONTROLLER_NAME;
use crate::world::World;
use crate::world::samples::{service, world};

const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/r";
const BUNDLE: &str = "/api/v1/namespaces/shop/configmaps/outrigger-trust-bundle";
const INJECTOR: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/outrigger-injector";

/// A route to a Service that is there or not, in a namespace that wants sidecars.
fn shop(backend: &str) -> World {
    let route = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: r, namespace: shop, generation: 2, creationTimestamp: '2026-01-01T00:00:00Z'}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: a}}]\n  \
         rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]\n---\n"
    );
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {outrigger.dev/inject: enabled}}}\n";
    world(&(service("a", 1) + &route + namespace))
}

/// A server that has our kinds of objects, and the objects of [`shop`].
fn server() -> FakeApi {
    let api = FakeApi::default();
    let resource = json!({"name": "httproutes", "singularName": "", "namespaced": true, "kind": "HTTPRoute",
                          "verbs": ["get"]});
    api.put(
        "/apis/gateway.networking.k8s.io/v1",
        json!({"kind": "APIResourceList", "groupVersion": "gateway.networking.k8s.io/v1", "resources": [resource]}),
    );
    api.put(
        ROUTE,
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "r", "namespace": "shop", "generation": 2, "uid": "u"},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "a"}]},
        }),
    );
    let webhook = json!({"name": "namespace.inject.outrigger.dev", "clientConfig": {
        "service": {"name": "outrigger-control-plane", "namespace": "outrigger-system"}}});
    api.put(
        INJECTOR,
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "outrigger-injector"}, "webhooks": [webhook],
        }),
    );
    api
}

/// A control plane of which only the writer runs.
struct Replica {
    hub: Arc<Hub>,
    authorities: watch::Sender<Arc<str>>,
    drain: DrainTrigger,
}

impl Replica {
    fn start(api: &FakeApi, world: World) -> Self {
        let hub = Hub::new(Arc::new(world), Meters::new(Registry::new()));
        let authorities = watch::Sender::new(Arc::from("root one"));
        let installation = Installation {
            namespace: "outrigger-system".into(),
            replica: "replica".into(),
            authorities: authorities.subscribe(),
        };
        let (trigger, drain) = drain::new(Duration::from_secs(10));
        tokio::spawn(Writer::new(api.client(), hub.clone(), installation).run(drain.clone()));
        let pushing = hub.clone();
        tokio::spawn(async move { pushing.run(drain).await });
        Self { hub, authorities, drain: trigger }
    }

    fn publish(&self, world: World) {
        self.hub.publish(Arc::new(world), crate::world::Changed::default());
    }
}

/// Waits for something to be true of the server; the clock is paused, so that this takes no time.
async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let waiting = async {
        while !is() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(Duration::from_secs(120), waiting).await.is_ok(), "{what}");
}

/// The paths that were written, the Lease apart.
fn written(api: &FakeApi) -> Vec<String> {
    let paths = api.writes().into_iter().map(|write| write.path);
    paths.filter(|path| !path.contains("/leases")).collect()
}

fn condition(api: &FakeApi, type_: &str) -> Option<String> {
    let route = api.get(ROUTE)?;
    let parent = route.pointer("/status/parents/0")?;
    assert_eq!(parent["controllerName"], CONTROLLER_NAME);
    let conditions = parent["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == type_)?;
    Some(format!("{} {}", found["status"].as_str()?, found["reason"].as_str()?))
}

fn is_told(api: &FakeApi) -> bool {
    condition(api, "Accepted").is_some() && api.get(BUNDLE).is_some() && authority(api) == "cm9vdCBvbmU="
}

fn authority(api: &FakeApi) -> Value {
    let found = api.get(INJECTOR).and_then(|it| it.pointer("/webhooks/0/clientConfig/caBundle").cloned());
    found.unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_leader_writes_what_differs_once_and_its_successor_nothing() {
    let api = server();
    let first = Replica::start(&api, shop("a"));
    eventually("status, roots and authority are written", || is_told(&api)).await;
    assert_eq!(condition(&api, "Accepted").as_deref(), Some("True Accepted"));
    assert_eq!(condition(&api, "ResolvedRefs").as_deref(), Some("True ResolvedRefs"));
    let mut paths = written(&api);
    paths.sort();
    assert_eq!(paths, [BUNDLE.to_owned(), INJECTOR.to_owned(), format!("{ROUTE}/status")]);

    first.publish(shop("a"));
    sleep(Duration::from_secs(2000)).await;
    assert_eq!(written(&api), <[String; 0]>::default(), "nothing has changed");

    let second = Replica::start(&api, shop("a"));
    first.drain.drain_and_wait().await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(written(&api), <[String; 0]>::default(), "the successor repeats nothing");
    second.publish(shop("gone"));
    eventually("the successor writes", || {
        condition(&api, "ResolvedRefs").as_deref() == Some("False BackendNotFound")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_follows_writes_nothing() {
    let api = server();
    let lease =
        json!({"metadata": {"name": "outrigger-control-plane-leader"}, "spec": {"holderIdentity": "other"}});
    let path =
        "/apis/coordination.k8s.io/v1/namespaces/outrigger-system/leases/outrigger-control-plane-leader";
    api.put(path, lease);
    let _replica = Replica::start(&api, shop("a"));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(api.writes(), []);
}

#[tokio::test(start_paused = true)]
async fn a_problem_is_told_by_one_event() {
    let api = server();
    let replica = Replica::start(&api, shop("gone"));
    let events = |api: &FakeApi| -> Vec<Value> {
        let writes = api.writes().into_iter().filter(|write| write.path.ends_with("/namespaces/shop/events"));
        writes.map(|write| write.body).collect()
    };
    let mut told = Vec::new();
    eventually("an event is written", || {
        told.extend(events(&api));
        !told.is_empty()
    })
    .await;
    replica.publish(shop("gone"));
    sleep(Duration::from_secs(60)).await;
    told.extend(events(&api));
    let [event] = told.as_slice() else { panic!("{told:#?}") };
    assert_eq!(event["reason"], "BackendNotFound");
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["regarding"]["uid"], "u");
    assert_eq!(event["regarding"]["kind"], "HTTPRoute");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_gets_the_newest_state_when_it_is_back() {
    let api = server();
    let replica = Replica::start(&api, shop("a"));
    eventually("all is written", || is_told(&api)).await;
    api.refuse(Some(503));
    replica.publish(shop("gone"));
    sleep(Duration::from_secs(5)).await;
    replica.publish(shop("elsewhere"));
    sleep(Duration::from_secs(60)).await;
    written(&api);
    api.refuse(None);
    eventually("the newest state is written", || {
        condition(&api, "ResolvedRefs").as_deref() == Some("False BackendNotFound")
    })
    .await;
    let route = api.get(ROUTE).unwrap().to_string();
    assert!(route.contains("elsewhere") && !route.contains("gone"), "{route}");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_is_forgotten() {
    let api = server();
    api.remove(ROUTE);
    let _replica = Replica::start(&api, shop("a"));
    eventually("the rest is written", || authority(&api) != Value::Null && api.get(BUNDLE).is_some()).await;
    sleep(Duration::from_secs(300)).await;
    assert!(!written(&api).iter().any(|path| path.contains("httproutes")));
}

#[tokio::test(start_paused = true)]
async fn another_root_is_written_everywhere() {
    let api = server();
    let replica = Replica::start(&api, shop("a"));
    eventually("all is written", || is_told(&api)).await;
    replica.authorities.send_replace("root two".into());
    eventually("the new root is there", || {
        let bundle = api.get(BUNDLE).unwrap();
        bundle["data"]["ca.crt"] == "root two" && authority(&api) == "cm9vdCB0d28="
    })
    .await;
}
