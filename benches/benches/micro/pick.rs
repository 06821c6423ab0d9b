//! Pick: lease an endpoint of a cluster, say how it went, and give the lease back.

use divan::{Bencher, black_box};
use outrigger_model::policy::LoadBalancer;
use outrigger_proxy::upstream::{Affinity, Cluster, Outcome, PickContext};
use tokio::time::Instant;

use crate::surroundings::{cluster_config, endpoints, telemetry};

const ENDPOINTS: [usize; 4] = [1, 2, 10, 1_000];

#[divan::bench(args = ENDPOINTS)]
fn peak_ewma(bencher: Bencher<'_, '_>, count: usize) {
    lease(bencher, LoadBalancer::default(), count);
}

#[divan::bench(args = ENDPOINTS)]
fn least_request(bencher: Bencher<'_, '_>, count: usize) {
    lease(bencher, LoadBalancer::LeastRequest, count);
}

#[divan::bench(args = ENDPOINTS)]
fn round_robin(bencher: Bencher<'_, '_>, count: usize) {
    lease(bencher, LoadBalancer::RoundRobin, count);
}

fn lease(bencher: Bencher<'_, '_>, load_balancer: LoadBalancer, count: usize) {
    let telemetry = telemetry();
    let mut config = cluster_config();
    config.load_balancer = load_balancer;
    let cluster = Cluster::new(config.into(), None, &telemetry);
    cluster.set_endpoints(&endpoints(count), &telemetry);
    // The same draws in every run.
    let mut rng = fastrand::Rng::with_seed(1);
    let now = Instant::now();
    bencher.bench_local(|| {
        let lease = cluster.lease(&mut PickContext {
            now: black_box(now),
            rng: &mut rng,
            tried: &[],
            affinity: Affinity::default(),
        });
        lease.map(|lease| lease.outcome(now, Outcome::Success))
    });
}
