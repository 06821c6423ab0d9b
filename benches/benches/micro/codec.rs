//! The codec: resources to and from the messages of xDS.

use divan::{Bencher, black_box};
use http::Method;
use outrigger_model::codec::{decode, encode};
use outrigger_model::resource::Resource;
use outrigger_model::route::{
    Action, Backend, BackendTarget, Forward, PathMatch, Route, RouteConfig, RouteMatch,
};

use crate::surroundings::{CLUSTER, cluster_config, endpoints};

const ROUTES: [usize; 2] = [1, 100];
const ENDPOINTS: [usize; 2] = [10, 1_000];

#[divan::bench(args = ROUTES)]
fn decode_route(bencher: Bencher<'_, '_>, count: usize) {
    decoding(bencher, &Resource::Route(routes(count)));
}

#[divan::bench]
fn decode_cluster(bencher: Bencher<'_, '_>) {
    decoding(bencher, &Resource::Cluster(cluster_config()));
}

#[divan::bench(args = ENDPOINTS)]
fn decode_endpoints(bencher: Bencher<'_, '_>, count: usize) {
    decoding(bencher, &Resource::Endpoints(endpoints(count)));
}

#[divan::bench(args = ROUTES)]
fn encode_route(bencher: Bencher<'_, '_>, count: usize) {
    encoding(bencher, &Resource::Route(routes(count)));
}

#[divan::bench(args = ENDPOINTS)]
fn encode_endpoints(bencher: Bencher<'_, '_>, count: usize) {
    encoding(bencher, &Resource::Endpoints(endpoints(count)));
}

fn decoding(bencher: Bencher<'_, '_>, resource: &Resource) {
    let any = encode(resource);
    assert_eq!(decode(&any).as_ref(), Ok(resource), "what is measured must be the way of what is understood");
    bencher.bench_local(|| decode(black_box(&any)));
}

fn encoding(bencher: Bencher<'_, '_>, resource: &Resource) {
    bencher.bench_local(|| encode(black_box(resource)));
}

fn routes(count: usize) -> RouteConfig {
    let backend = Backend::plain(BackendTarget::Cluster(CLUSTER.into()), 1);
    let route = |place: usize| {
        let matches = RouteMatch {
            path: PathMatch::Prefix(format!("/items-{place}").into()),
            method: Some(Method::GET),
            ..RouteMatch::default()
        };
        let forward = Forward::to(vec![backend.clone()]);
        Route::plain("HTTPRoute/shop/reviews".into(), matches, Action::Forward(forward))
    };
    RouteConfig { name: "reviews.shop:9080".into(), routes: (0..count).map(route).collect() }
}
