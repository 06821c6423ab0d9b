//! Authorization: a decision about one request among rules that all might have been about it.

use std::net::{IpAddr, Ipv4Addr};

use divan::{Bencher, black_box};
use http::HeaderMap;
use outrigger_model::authorization::{
    Authorization, AuthorizationAction, AuthorizationPolicy, Operation, Rule, Source, TextPattern,
};
use outrigger_model::identity::SpiffeId;
use outrigger_proxy::authorization::{Authorizer, Call, Caller};

const RULES: [usize; 3] = [1, 100, 1_000];
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// The caller is one of many that are named.
#[divan::bench(args = RULES)]
fn by_identity(bencher: Bencher<'_, '_>, count: usize) {
    deciding(bencher, policies(count, Whom::EachItsOwn), "/items-0/5");
}

/// Every rule is about the caller: the path alone tells which.
#[divan::bench(args = RULES)]
fn by_path(bencher: Bencher<'_, '_>, count: usize) {
    deciding(bencher, policies(count, Whom::Anybody), "/items-0/5");
}

/// A path that can be read in several ways.
#[divan::bench(args = RULES)]
fn by_path_that_must_be_read(bencher: Bencher<'_, '_>, count: usize) {
    deciding(bencher, policies(count, Whom::Anybody), "/items%2D0/a%20b");
}

/// Once a connection.
#[divan::bench(args = RULES)]
fn standing_of_a_connection(bencher: Bencher<'_, '_>, count: usize) {
    let authorizer = Authorizer::compile(&policies(count, Whom::EachItsOwn), "cluster.local");
    let identity = identity();
    bencher.bench_local(|| authorizer.standing(black_box(&caller(&identity))));
}

/// Whom a rule is about.
enum Whom {
    Anybody,
    EachItsOwn,
}

fn deciding(bencher: Bencher<'_, '_>, policies: Authorization, path: &str) {
    let authorizer = Authorizer::compile(&policies, "cluster.local");
    let identity = identity();
    let standing = authorizer.standing(&caller(&identity));
    let headers = HeaderMap::new();
    let call =
        Call { method: "GET", path: Some(path), authority: "reviews", headers: &headers, claims: None };
    assert!(
        authorizer.decide(&standing, Some(&call)).is_allowed(),
        "what is measured must be the way of what is let in"
    );
    bencher.bench_local(|| authorizer.decide(black_box(&standing), Some(black_box(&call))).is_allowed());
}

fn identity() -> SpiffeId {
    WEB.parse().expect("it is a SPIFFE id of a workload")
}

fn caller(identity: &SpiffeId) -> Caller<'_> {
    Caller { identity: Some(identity), source: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 9080 }
}

/// A Deny and an Allow with this many rules each.
fn policies(count: usize, whom: Whom) -> Authorization {
    let rule = |place: usize, path: &str| {
        let identity = match whom {
            Whom::EachItsOwn if place > 0 => format!("{WEB}-{place}"),
            Whom::EachItsOwn | Whom::Anybody => WEB.to_owned(),
        };
        let from = Source { identities: vec![TextPattern::written(&identity)], ..Source::default() };
        let to = Operation {
            methods: vec![TextPattern::written("GET")],
            paths: vec![TextPattern::written(&format!("/{path}-{place}/*"))],
            ports: Vec::new(),
        };
        Rule { from: vec![from], to: vec![to], when: Vec::new() }
    };
    let policy = |action, path| AuthorizationPolicy {
        name: "AuthorizationPolicy/shop/reviews".into(),
        action,
        rules: (0..count).map(|place| rule(place, path)).collect(),
    };
    let (deny, allow) = (AuthorizationAction::Deny, AuthorizationAction::Allow);
    Authorization { policies: vec![policy(deny, "hidden"), policy(allow, "items")] }
}
