//! The record of a request: opened with its head, told what happened, closed into a counter and a histogram.

use std::rc::Rc;

use divan::{Bencher, black_box};
use http::{StatusCode, Version};
use outrigger_proxy::telemetry::{RequestRecord, Way};
use outrigger_proxy::worker::Worker;
use tokio::time::Instant;

use crate::surroundings::shared;

#[divan::bench]
fn open_to_close(bencher: Bencher<'_, '_>) {
    records(bencher, 1);
}

/// Requests take turns among this many routes: as many sets of metrics.
#[divan::bench(args = [10, 1_000])]
fn of_many_routes(bencher: Bencher<'_, '_>, routes: u32) {
    records(bencher, routes);
}

fn records(bencher: Bencher<'_, '_>, routes: u32) {
    let worker = Worker::new(0, shared());
    let telemetry = &worker.shared.telemetry;
    let labels: Vec<u32> =
        (0..routes).map(|place| telemetry.label(&format!("HTTPRoute/shop/route-{place}"))).collect();
    // The first request of a route makes its metrics; all others find them.
    labels.iter().for_each(|label| close(&worker, *label));
    let mut turn = labels.iter().cycle();
    bencher.bench_local(|| close(&worker, turn.next().copied().unwrap_or_default()));
}

fn close(worker: &Rc<Worker>, route: u32) {
    let mut record = RequestRecord::open(worker, Way::Outbound, black_box(Version::HTTP_11), Instant::now());
    record.route(route);
    record.status(black_box(StatusCode::OK));
    record.add_bytes(1024);
}
