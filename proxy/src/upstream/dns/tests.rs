//! Names resolved, again when their time is over, and kept when that fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use outrigger_model::cluster::Cluster as Config;
use tokio::task::yield_now;

use super::*;
use crate::upstream::support::{config, shared};

/// Answers what the test says, and counts how often it is asked.
#[derive(Clone, Default)]
struct Fake(Arc<FakeState>);

#[derive(Default)]
struct FakeState {
    answers: Mutex<HashMap<String, Result<Answer, String>>>,
    asked: AtomicUsize,
}

impl Lookup for Fake {
    async fn addresses(&self, host: &str) -> Result<Answer, String> {
        self.0.asked.fetch_add(1, Relaxed);
        let answers = self.0.answers.lock().unwrap();
        answers.get(host).cloned().unwrap_or_else(|| Err("no such name".to_owned()))
    }
}

impl Fake {
    fn answer(&self, host: &str, addresses: &[&str], ttl_seconds: u64) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let answer = Answer { addresses, ttl: Duration::from_secs(ttl_seconds) };
        self.0.answers.lock().unwrap().insert(host.to_owned(), Ok(answer));
    }

    fn fail(&self, host: &str) {
        self.0.answers.lock().unwrap().insert(host.to_owned(), Err("server failure".to_owned()));
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Relaxed)
    }
}

struct Mesh {
    shared: Arc<Shared>,
    fake: Fake,
    clusters: watch::Sender<Vec<Arc<Cluster>>>,
}

impl Mesh {
    fn start() -> Self {
        let (shared, fake) = (shared(), Fake::default());
        let (clusters, receiver) = watch::channel(Vec::new());
        tokio::spawn(resolve_all(shared.clone(), receiver, fake.clone()));
        Self { shared, fake, clusters }
    }

    fn cluster(&self, hosts: &[&str], previous: Option<&Cluster>) -> Arc<Cluster> {
        let name = |host: &&str| DnsName { host: (*host).into(), port: 443 };
        let discovery = Discovery::Dns(hosts.iter().map(name).collect());
        let config = config(|config: &mut Config| config.discovery = discovery);
        Cluster::new(config, previous, &self.shared.telemetry)
    }

    /// Lets time pass, a little at a time, and everything happen that is due.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds * 10 {
            tokio::time::advance(Duration::from_millis(100)).await;
            settle().await;
        }
    }
}

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.view(Instant::now()).endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn addresses_follow_the_records() {
    let mesh = Mesh::start();
    mesh.fake.answer("a.example", &["10.0.0.2", "10.0.0.1", "fd00::1"], 30);
    mesh.fake.answer("b.example", &["10.0.0.9"], 1000);
    let cluster = mesh.cluster(&["a.example", "b.example"], None);
    mesh.clusters.send(vec![cluster.clone()]).unwrap();
    settle().await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:443", "10.0.0.2:443", "[fd00::1]:443", "10.0.0.9:443"]);
    assert_eq!(mesh.fake.asked(), 2);

    mesh.fake.answer("a.example", &["10.0.0.3"], 30);
    mesh.pass(29).await;
    assert_eq!(mesh.fake.asked(), 2, "the records are still good");
    mesh.pass(2).await;
    assert_eq!(addresses(&cluster), ["10.0.0.3:443", "10.0.0.9:443"]);
    assert_eq!(mesh.fake.asked(), 3, "only the name that is due");
}

#[tokio::test(start_paused = true)]
async fn times_to_live_are_kept_within_bounds() {
    for (ttl, passed, asked) in [(0, 10, 10..=11), (100_000, 301, 2..=2)] {
        let mesh = Mesh::start();
        mesh.fake.answer("a.example", &["10.0.0.1"], ttl);
        mesh.clusters.send(vec![mesh.cluster(&["a.example"], None)]).unwrap();
        settle().await;
        mesh.pass(passed).await;
        assert!(asked.contains(&mesh.fake.asked()), "ttl {ttl}: asked {} times", mesh.fake.asked());
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_resolved_keeps_its_addresses() {
    let mesh = Mesh::start();
    mesh.fake.answer("a.example", &["10.0.0.1"], 5);
    mesh.fake.answer("b.example", &["10.0.0.2"], 5);
    let cluster = mesh.cluster(&["a.example", "b.example"], None);
    mesh.clusters.send(vec![cluster.clone()]).unwrap();
    settle().await;
    mesh.fake.fail("a.example");
    mesh.fake.answer("b.example", &[], 5);
    mesh.pass(60).await;
    assert_eq!(addresses(&cluster), ["10.0.0.1:443", "10.0.0.2:443"]);
    mesh.fake.answer("a.example", &["10.0.0.3"], 5);
    mesh.pass(3).await;
    assert_eq!(addresses(&cluster), ["10.0.0.3:443", "10.0.0.2:443"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_cluster_keeps_its_addresses_until_the_new_names_are_resolved() {
    let mesh = Mesh::start();
    mesh.fake.answer("a.example", &["10.0.0.1"], 300);
    let first = mesh.cluster(&["a.example"], None);
    mesh.clusters.send(vec![first.clone()]).unwrap();
    settle().await;

    let same_names = mesh.cluster(&["a.example"], Some(&first));
    mesh.clusters.send(vec![same_names.clone()]).unwrap();
    settle().await;
    assert_eq!(mesh.fake.asked(), 1, "nothing new to ask");

    let other_names = mesh.cluster(&["b.example"], Some(&same_names));
    mesh.clusters.send(vec![other_names.clone()]).unwrap();
    settle().await;
    assert_eq!(addresses(&other_names), ["10.0.0.1:443"]);
    mesh.fake.answer("b.example", &["10.0.0.2"], 300);
    mesh.pass(3).await;
    assert_eq!(addresses(&other_names), ["10.0.0.2:443"]);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_gone_is_not_resolved_any_more() {
    let mesh = Mesh::start();
    mesh.fake.answer("a.example", &["10.0.0.1"], 1);
    let cluster = mesh.cluster(&["a.example"], None);
    mesh.clusters.send(vec![cluster.clone()]).unwrap();
    settle().await;
    mesh.clusters.send(Vec::new()).unwrap();
    settle().await;
    let before = mesh.fake.asked();
    mesh.pass(10).await;
    assert_eq!(mesh.fake.asked(), before);
    assert_eq!(Arc::strong_count(&cluster), 1, "and not kept");
}

#[tokio::test]
async fn the_system_resolves_addresses_and_localhost_without_a_name_server() {
    let system = System::new();
    let answer = system.addresses("127.0.0.7").await.unwrap();
    assert_eq!(answer.addresses, ["127.0.0.7".parse::<IpAddr>().unwrap()]);
    let answer = system.addresses("localhost").await.unwrap();
    assert!(answer.addresses.contains(&"127.0.0.1".parse().unwrap()), "{answer:?}");
}
