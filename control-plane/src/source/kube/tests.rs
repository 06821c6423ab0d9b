//! The source against an API server of the test, and against the directory source.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger_resources::Location;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::kubernetes::fake_cluster::FakeCluster;
use crate::source::dir;
use crate::world::{Change, World};

/// In the time of tests, which passes when nothing happens.
const DEADLINE: Duration = Duration::from_secs(600);

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n\
                       spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 9080}]}\n";
const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
                     metadata: {name: reviews, namespace: shop}\n\
                     spec: {parentRefs: [{group: '', kind: Service, name: reviews}]}\n";
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1, namespace: shop, labels: {app: web}}\n\
                   spec: {nodeName: n1, containers: [{name: app}]}\nstatus: {phase: Running, podIP: 10.0.0.1}\n";
const NODE: &str = "apiVersion: v1\nkind: Node\n\
                    metadata: {name: n1, labels: {topology.kubernetes.io/zone: eu-a, topology.kubernetes.io/region: eu}}\n";

/// A source at work, and the world as it was told.
struct Watching {
    updates: mpsc::Receiver<Update>,
    world: World,
    problems: Vec<String>,
    /// All changes so far.
    changes: Vec<String>,
    _task: JoinHandle<Result<(), SourceError>>,
}

impl Watching {
    /// After the first update.
    async fn start(api: &FakeCluster, scope: Scope) -> Self {
        let (sender, updates) = mpsc::channel(4);
        let task = tokio::spawn(watch(api.client(), scope, sender));
        let (world, problems, changes) = (World::default(), Vec::new(), Vec::new());
        let mut watching = Self { updates, world, problems, changes, _task: task };
        watching.next().await;
        watching
    }

    async fn next(&mut self) {
        let update =
            timeout(DEADLINE, self.updates.recv()).await.expect("an update").expect("a living source");
        let name = |change: &Change| match change {
            Change::Upsert(object) => format!("+{}", object.object.reference()),
            Change::Delete(reference) => format!("-{reference}"),
        };
        self.changes.extend(update.changes.iter().map(name));
        self.problems = update.problems.iter().map(ToString::to_string).collect();
        self.world = self.world.apply(update.changes).0;
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            assert!(self.changes.len() < 10_000, "{what}");
            self.next().await;
        }
    }

    fn has(&self, name: &str) -> bool {
        self.world.sorted().any(|(reference, _)| reference.to_string() == name)
    }

    fn labels(&self, pod: &str) -> BTreeMap<String, String> {
        let found = self.world.sorted().find(|(reference, _)| reference.to_string() == pod);
        found.map(|(_, held)| held.object.meta().labels.clone()).unwrap_or_default()
    }
}

/// Lets everything happen that needs no more than this much time.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn scope() -> Scope {
    Scope { own: "outrigger-system".into(), ..Scope::default() }
}

#[tokio::test(start_paused = true)]
async fn the_first_update_has_all_pages_and_later_ones_what_changes() {
    let api = FakeCluster::new();
    for number in 0..2 * PAGES {
        api.apply(&SERVICE.replace("reviews", &format!("s{number}")));
    }
    let mut watching = Watching::start(&api, scope()).await;
    assert_eq!(watching.changes.len(), 2 * PAGES);
    watching.changes.clear();
    api.apply(ROUTE);
    watching.until("the route", |seen| seen.has("HTTPRoute/shop/reviews")).await;
    api.delete(ROUTE);
    watching.until("its end", |seen| !seen.has("HTTPRoute/shop/reviews")).await;
    assert_eq!(watching.changes, ["+HTTPRoute/shop/reviews", "-HTTPRoute/shop/reviews"]);
}

/// More than one page of objects.
const PAGES: usize = 501;

#[tokio::test(start_paused = true)]
async fn what_vanished_while_nobody_watched_is_gone_after_the_list_and_nothing_is_repeated() {
    let api = FakeCluster::new();
    api.apply(SERVICE);
    api.apply(ROUTE);
    let mut watching = Watching::start(&api, scope()).await;
    watching.changes.clear();
    pass(1).await;
    api.delete_unseen(ROUTE);
    watching.until("the end of the route", |seen| !seen.has("HTTPRoute/shop/reviews")).await;
    pass(60).await;
    assert!(watching.updates.try_recv().is_err(), "nothing else changed");
    assert_eq!(watching.changes, ["-HTTPRoute/shop/reviews"]);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_takes_nothing_away_and_what_happens_meanwhile_is_not_lost() {
    let api = FakeCluster::new();
    api.apply(SERVICE);
    let mut watching = Watching::start(&api, scope()).await;
    watching.changes.clear();
    api.set_away(true);
    api.apply(ROUTE);
    pass(60).await;
    assert!(watching.updates.try_recv().is_err() && watching.has("Service/shop/reviews"));
    api.set_away(false);
    watching.until("the route", |seen| seen.has("HTTPRoute/shop/reviews")).await;
    pass(60).await;
    assert!(watching.updates.try_recv().is_err());
    assert_eq!(watching.changes, ["+HTTPRoute/shop/reviews"]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_is_waited_for_and_one_that_goes_takes_its_objects_along() {
    let api = FakeCluster::new();
    api.uninstall(Kind::HttpRoute);
    api.apply(SERVICE);
    let mut watching = Watching::start(&api, scope()).await;
    assert!(watching.has("Service/shop/reviews"), "the other kinds do not wait");
    api.install(Kind::HttpRoute);
    api.apply(ROUTE);
    watching.until("the route", |seen| seen.has("HTTPRoute/shop/reviews")).await;
    api.uninstall(Kind::HttpRoute);
    watching.until("its end", |seen| !seen.has("HTTPRoute/shop/reviews")).await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_missing_for_a_moment_keeps_its_objects() {
    let api = FakeCluster::new();
    api.apply(ROUTE);
    let mut watching = Watching::start(&api, scope()).await;
    api.uninstall(Kind::HttpRoute);
    pass(4).await;
    api.install(Kind::HttpRoute);
    api.apply(ROUTE);
    pass(60).await;
    assert!(watching.updates.try_recv().is_err() && watching.has("HTTPRoute/shop/reviews"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_turns_bad_keeps_its_last_good_version_until_it_is_mended() {
    let api = FakeCluster::new();
    let policy = |algorithm: &str| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {{name: p, namespace: shop}}\n\
             spec: {{targetRefs: [{{group: '', kind: Service, name: reviews}}], loadBalancer: {{algorithm: {algorithm}}}}}\n"
        )
    };
    api.apply(&policy("Random"));
    let mut watching = Watching::start(&api, scope()).await;
    assert_eq!(watching.problems, [""; 0]);
    api.apply(&policy("Dice"));
    watching.until("the problem", |seen| !seen.problems.is_empty()).await;
    assert!(watching.has("BackendPolicy/shop/p"), "{:?}", watching.problems);
    let line = &watching.problems[0];
    for part in ["kubernetes: BackendPolicy/shop/p: spec.loadBalancer.algorithm", "stays in force"] {
        assert!(line.contains(part), "{line}");
    }
    api.apply(&policy("RoundRobin"));
    watching.until("the end of the problem", |seen| seen.problems.is_empty()).await;
    api.delete(&policy("RoundRobin"));
    watching.until("the end", |seen| !seen.has("BackendPolicy/shop/p")).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_was_never_good_closes_and_one_that_was_stays_as_it_was() {
    let api = FakeCluster::new();
    let policy = |action: &str| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\n\
             spec: {{action: {action}}}\n"
        )
    };
    let is_stand_in = |seen: &Watching| {
        let found = seen.world.objects().find(|held| held.object.kind() == Kind::AuthorizationPolicy);
        found.unwrap().object.is_stand_in()
    };
    api.apply(&policy("Forbid"));
    let mut watching = Watching::start(&api, scope()).await;
    assert!(
        is_stand_in(&watching) && watching.problems[0].ends_with("is refused"),
        "{:?}",
        watching.problems
    );
    api.apply(&policy("Allow"));
    watching.until("the end of the problem", |seen| seen.problems.is_empty()).await;
    assert!(!is_stand_in(&watching));
    api.apply(&policy("Forbid"));
    watching.until("the problem", |seen| !seen.problems.is_empty()).await;
    assert!(
        !is_stand_in(&watching) && watching.problems[0].ends_with("stays in force"),
        "{:?}",
        watching.problems
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_where_its_node_is_and_ends_when_it_has_finished() {
    let api = FakeCluster::new();
    api.apply(POD);
    let mut watching = Watching::start(&api, scope()).await;
    assert_eq!(watching.labels("Pod/shop/web-1").len(), 1);
    api.apply(NODE);
    watching.until("the zone", |seen| seen.labels("Pod/shop/web-1").len() == 3).await;
    assert_eq!(watching.labels("Pod/shop/web-1")["topology.kubernetes.io/zone"], "eu-a");
    api.apply(&NODE.replace("eu-a", "eu-b"));
    let zone = |seen: &Watching| seen.labels("Pod/shop/web-1").remove("topology.kubernetes.io/zone");
    watching.until("the other zone", |seen| zone(seen).as_deref() == Some("eu-b")).await;
    watching.changes.clear();
    api.apply(&POD.replace("10.0.0.1", "10.0.0.2"));
    watching.until("the address", |seen| !seen.changes.is_empty()).await;
    assert_eq!(zone(&watching).as_deref(), Some("eu-b"), "a change of the pod does not move it");
    api.apply(&POD.replace("Running", "Succeeded"));
    watching.until("the end", |seen| !seen.has("Pod/shop/web-1")).await;
}

#[tokio::test(start_paused = true)]
async fn only_config_maps_with_authorities_are_kept() {
    let api = FakeCluster::new();
    let map = |name: &str, data: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata: {data}\n"
        )
    };
    api.apply(&map("ca", "{ca.crt: pem}"));
    api.apply(&map("settings", "{a: b}"));
    let watching = Watching::start(&api, scope()).await;
    assert_eq!(watching.changes, ["+ConfigMap/shop/ca"]);
}

#[tokio::test(start_paused = true)]
async fn only_the_namespaces_asked_for_and_our_own_count() {
    let namespace = |name: &str, labels: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n")
    };
    let api = FakeCluster::new();
    for name in ["shop", "bank", "outrigger-system"] {
        api.apply(&namespace(name, "{}"));
        api.apply(&SERVICE.replace("namespace: shop", &format!("namespace: {name}")));
    }
    let named = Scope { namespaces: ["shop".to_owned()].into(), ..scope() };
    let watching = Watching::start(&api, named).await;
    assert_eq!(
        watching.changes,
        [
            "+Namespace/outrigger-system",
            "+Namespace/shop",
            "+Service/outrigger-system/reviews",
            "+Service/shop/reviews"
        ]
    );
    let labelled = Scope { labels: [("mesh".to_owned(), "yes".to_owned())].into(), ..scope() };
    let mut watching = Watching::start(&api, labelled).await;
    assert_eq!(watching.changes, ["+Namespace/outrigger-system", "+Service/outrigger-system/reviews"]);
    api.apply(&namespace("bank", "{mesh: 'yes'}"));
    watching.until("the bank", |seen| seen.has("Service/bank/reviews") && seen.has("Namespace/bank")).await;
    api.apply(&namespace("bank", "{mesh: 'no'}"));
    watching.until("its end", |seen| !seen.has("Service/bank/reviews") && !seen.has("Namespace/bank")).await;
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_who_listens() {
    let api = FakeCluster::new();
    let Watching { updates, _task: task, .. } = Watching::start(&api, scope()).await;
    drop(updates);
    timeout(DEADLINE, task).await.unwrap().unwrap().unwrap();
}

#[test]
fn nothing_is_said_before_every_kind_is_listed_or_known_to_be_absent() {
    let mut store = Store::new(scope());
    let all: Vec<Watched> = Watched::all().collect();
    for watched in &all {
        assert!(store.update().is_none(), "{watched} is not known yet");
        let event = if *watched == Watched::Objects(Kind::HttpRoute) { Event::Absent } else { Event::Listed };
        store.take(event(*watched));
    }
    assert!(store.update().is_some(), "the first update comes even if it is empty");
    assert!(store.update().is_none());
}

#[test]
fn what_the_api_notes_in_an_object_is_not_kept() {
    let object = json!({
        "metadata": {
            "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
            "creationTimestamp": "2026-01-31T12:00:00Z", "managedFields": [{"manager": "kubectl"}],
            "labels": {"app": "a"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "outrigger.dev/inject": "enabled"},
        },
        "spec": {"ports": [{"port": 80}]}, "status": {"loadBalancer": {}},
    });
    let resource = ::kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&());
    let reading = read::object(Kind::Service, &resource, serde_json::from_value(object).unwrap());
    assert_eq!(reading.problems, []);
    let meta = reading.object.unwrap().object.meta().clone();
    assert_eq!(meta.annotations.into_keys().collect::<Vec<_>>(), ["outrigger.dev/inject"]);
    assert_eq!((meta.generation, meta.labels.len(), meta.creation_timestamp.is_some()), (3, 1, true));
}

/// The same objects from files and from a cluster.
#[tokio::test]
async fn the_same_objects_make_the_same_world_whatever_the_source() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let folders = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    let files =
        folders.filter(|folder| folder.is_dir()).flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut compared = 0;
    for example in files.map(|entry| entry.unwrap().path()) {
        if example.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let objects = dated(&std::fs::read_to_string(&example).unwrap());
        let home = tempfile::tempdir().unwrap();
        let api = FakeCluster::new();
        for (number, object) in objects.iter().enumerate() {
            std::fs::write(home.path().join(format!("{number:04}.json")), object.to_string()).unwrap();
            api.put(object.clone());
        }
        let (from_files, from_cluster) =
            (of_directory(home.path()).await, Watching::start(&api, scope()).await.world);
        let shown = |world: &World| -> Vec<String> {
            world.sorted().map(|(_, held)| format!("{:?} {:?}", held.age, held.object)).collect()
        };
        assert_eq!(shown(&from_files), shown(&from_cluster), "{}", example.display());
        let said = |world: &World| -> Vec<String> {
            let mut said: Vec<_> = world.problems().iter().map(without_place).collect();
            said.sort();
            said
        };
        assert_eq!(said(&from_files), said(&from_cluster), "{}", example.display());
        compared += shown(&from_files).len();
    }
    assert!(compared > 30, "only {compared} objects were compared");
}

fn without_place(problem: &outrigger_resources::Problem) -> String {
    let location: Option<Location> = None;
    outrigger_resources::Problem { location, ..problem.clone() }.to_string()
}

async fn of_directory(directory: &Path) -> World {
    let (sender, mut updates) = mpsc::channel(4);
    let directory = PathBuf::from(directory);
    let task = tokio::spawn(async move { dir::watch(&directory, sender).await });
    let update = updates.recv().await.unwrap();
    task.abort();
    World::default().apply(update.changes).0.with_problems(update.problems)
}

/// The objects of a text, each a second younger than the one before it, as an API server would date them.
fn dated(yaml: &str) -> Vec<Value> {
    let mut objects = crate::kubernetes::fake_cluster::objects(yaml);
    // An example may have objects that are not the mesh's, like Deployments; nobody watches those.
    let group =
        |object: &Value| object["apiVersion"].as_str()?.rsplit_once('/').map(|(group, _)| group.to_owned());
    let known = |object: &Value| Kind::find(&group(object).unwrap_or_default(), object["kind"].as_str()?);
    objects.retain(|object| known(object).is_some());
    for (number, object) in objects.iter_mut().enumerate() {
        object["metadata"]["creationTimestamp"] =
            format!("2026-01-31T12:{:02}:{:02}Z", number / 60, number % 60).into();
    }
    objects
}
