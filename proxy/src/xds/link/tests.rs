//! What is linked when: incomplete is pending, a change keeps the old, what did not change keeps its pointers.

use outrigger_model::authorization::{Authorization, AuthorizationAction, AuthorizationPolicy};
use outrigger_model::inbound::{Inbound, MtlsMode};
use outrigger_model::jwt::JwtRule;
use outrigger_model::resource::{Resource, ResourceType};
use tokio::time::Instant;

use super::super::held::Names;
use super::super::support::*;
use super::*;
use crate::demand::with_place;
use crate::snapshot::Action;

/// Held resources, and what was made of them.
struct World {
    held: Held,
    linker: Linker,
    snapshot: Snapshot,
    telemetry: Telemetry,
}

impl World {
    /// With one destination that is pending.
    fn new() -> Self {
        let (snapshot, _) = with_place(&Snapshot::empty(), REVIEWS.parse().unwrap());
        Self { held: Held::default(), linker: Linker::default(), snapshot, telemetry: telemetry() }
    }

    /// One that serves `REVIEWS` from one endpoint.
    fn live() -> Self {
        let mut world = Self::new();
        world.hold(&[
            http_listener(REVIEWS),
            routes(REVIEWS, &[(CLUSTER, 1)]),
            Resource::Cluster(cluster(CLUSTER)),
            endpoints(CLUSTER, &["10.0.0.1:80"]),
        ]);
        assert_eq!(world.state(), "http");
        world
    }

    fn hold(&mut self, resources: &[Resource]) {
        for resource in resources {
            let items = vec![item(resource, "1")];
            self.take(resource.kind(), &resource.name(), response(resource.kind(), items, &[]));
        }
    }

    fn remove(&mut self, kind: ResourceType, name: &str) {
        self.take(kind, name, response(kind, Vec::new(), &[name]));
    }

    fn reject(&mut self, kind: ResourceType, name: &str) {
        self.take(kind, name, response(kind, vec![broken(kind, name)], &[]));
    }

    fn take(
        &mut self,
        kind: ResourceType,
        name: &str,
        response: envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse,
    ) {
        let mut asked = Names::default();
        asked.insert(kind, &name.into());
        let applied = self.held.apply(kind, response, &asked);
        if kind == ResourceType::Endpoints {
            for name in applied.changed {
                self.linker.endpoints_changed(&name, &self.held, &self.telemetry);
            }
        }
        if let Some(next) = self.linker.link(&self.held, &self.snapshot, &self.telemetry) {
            self.snapshot = next;
        }
    }

    fn destination(&self) -> Arc<Destination> {
        self.snapshot.destinations[0].clone().unwrap()
    }

    fn state(&self) -> &'static str {
        match self.destination().handling {
            Handling::Pending => "pending",
            Handling::Unknown => "unknown",
            Handling::Http(_) => "http",
            Handling::Opaque(_) => "opaque",
            Handling::Detect { .. } => "detect",
        }
    }

    fn routes(&self) -> Arc<Routes> {
        match &self.destination().handling {
            Handling::Http(routes) => routes.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The clusters of the first route, with their weights; `-` where there is none.
    fn backends(&self) -> Vec<String> {
        let routes = self.routes();
        let Action::Forward(forward) = &routes.routes[0].action else { return vec!["no backend".into()] };
        let name = |cluster: &Arc<Cluster>| cluster.config().name.to_string();
        let shown = |b: &crate::snapshot::Backend| b.cluster.as_ref().map_or("-".to_owned(), name);
        forward.backends.iter().map(|backend| format!("{} {}", shown(backend), backend.weight)).collect()
    }

    fn cluster(&self) -> Arc<Cluster> {
        match &self.routes().routes[0].action {
            Action::Forward(forward) => forward.backends[0].cluster.clone().unwrap(),
            Action::Redirect(_) | Action::NoBackend => panic!("no backend"),
        }
    }

    fn addresses(&self) -> Vec<String> {
        let view = self.cluster().view(Instant::now());
        view.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
    }
}

#[tokio::test]
async fn a_destination_is_pending_until_the_last_piece_is_there_in_whatever_order() {
    let pieces = [
        http_listener(REVIEWS),
        routes(REVIEWS, &[(CLUSTER, 1)]),
        Resource::Cluster(cluster(CLUSTER)),
        endpoints(CLUSTER, &["10.0.0.1:80"]),
    ];
    for first in 0..pieces.len() {
        let mut world = World::new();
        for step in 0..pieces.len() {
            assert_eq!(world.state(), "pending", "after {step} pieces from {first}");
            world.hold(&pieces[(first + step) % pieces.len()..][..1]);
        }
        assert_eq!((world.state(), world.addresses()), ("http", vec!["10.0.0.1:80".to_owned()]));
    }
}

#[tokio::test]
async fn what_is_known_missing_is_not_waited_for() {
    let mut world = World::new();
    world.remove(ResourceType::Listener, REVIEWS);
    assert_eq!(world.state(), "unknown");
    world.hold(&[http_listener(REVIEWS)]);
    assert_eq!(world.state(), "unknown", "half a destination was shown");
    world.hold(&[
        routes(REVIEWS, &[(CLUSTER, 9), ("outbound|1|gone", 1)]),
        Resource::Cluster(cluster(CLUSTER)),
    ]);
    world.remove(ResourceType::Endpoints, CLUSTER);
    assert_eq!(world.state(), "unknown");
    world.remove(ResourceType::Cluster, "outbound|1|gone");
    assert_eq!(world.backends(), [format!("{CLUSTER} 9"), "- 1".to_owned()]);
    assert_eq!(world.addresses(), Vec::<String>::new());

    let mut world = World::new();
    world.hold(&[http_listener(REVIEWS)]);
    world.remove(ResourceType::Route, REVIEWS);
    assert_eq!((world.state(), world.routes().routes.len()), ("http", 0));
}

#[tokio::test]
async fn while_a_change_is_incomplete_the_old_stays() {
    let mut world = World::live();
    let before = world.destination();
    let other = "outbound|9080|reviews-v2.shop";
    world.hold(&[routes(REVIEWS, &[(CLUSTER, 1), (other, 1)])]);
    assert!(Arc::ptr_eq(&before, &world.destination()));
    world.hold(&[Resource::Cluster(cluster(other))]);
    assert!(Arc::ptr_eq(&before, &world.destination()));
    world.hold(&[endpoints(other, &["10.0.0.2:80"])]);
    assert_eq!(world.backends(), [format!("{CLUSTER} 1"), format!("{other} 1")]);
}

#[tokio::test]
async fn the_last_good_one_stays_when_a_new_one_cannot_be_read() {
    let mut world = World::live();
    let before = world.destination();
    world.reject(ResourceType::Route, REVIEWS);
    world.reject(ResourceType::Cluster, CLUSTER);
    world.reject(ResourceType::Endpoints, CLUSTER);
    world.reject(ResourceType::Listener, REVIEWS);
    assert!(Arc::ptr_eq(&before, &world.destination()));
    assert_eq!(world.addresses(), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn a_live_destination_does_not_change_to_a_cluster_that_was_never_good() {
    let mut world = World::live();
    let before = world.destination();
    world.hold(&[routes(REVIEWS, &[(CLUSTER, 1), ("outbound|1|bad", 1)])]);
    world.reject(ResourceType::Cluster, "outbound|1|bad");
    assert!(Arc::ptr_eq(&before, &world.destination()));
    // One that starts takes what there is: the bad share is answered for, the good one works.
    let mut world = World::new();
    world.reject(ResourceType::Cluster, "outbound|1|bad");
    world.hold(&[
        http_listener(REVIEWS),
        routes(REVIEWS, &[(CLUSTER, 1), ("outbound|1|bad", 1)]),
        Resource::Cluster(cluster(CLUSTER)),
        endpoints(CLUSTER, &["10.0.0.1:80"]),
    ]);
    assert_eq!(world.backends(), [format!("{CLUSTER} 1"), "- 1".to_owned()]);
}

#[tokio::test]
async fn endpoints_change_without_linking_anything() {
    let mut world = World::live();
    let (before, generation) = (world.destination(), world.snapshot.generation);
    world.hold(&[endpoints(CLUSTER, &["10.0.0.1:80", "10.0.0.2:80"])]);
    assert!(Arc::ptr_eq(&before, &world.destination()));
    assert_eq!((world.snapshot.generation, world.addresses().len()), (generation, 2));
    world.remove(ResourceType::Endpoints, CLUSTER);
    assert_eq!(world.addresses(), Vec::<String>::new());
}

#[tokio::test]
async fn what_did_not_change_keeps_its_pointers_and_what_did_keeps_its_state() {
    let mut world = World::live();
    let (before, routes_before, cluster_before) = (world.destination(), world.routes(), world.cluster());
    world.hold(&[
        routes(REVIEWS, &[(CLUSTER, 1)]),
        Resource::Cluster(cluster(CLUSTER)),
        http_listener(REVIEWS),
    ]);
    assert!(Arc::ptr_eq(&before, &world.destination()), "the same resource again is no change");
    world.hold(&[routes(REVIEWS, &[(CLUSTER, 2)])]);
    assert!(!Arc::ptr_eq(&routes_before, &world.routes()));
    assert!(Arc::ptr_eq(&cluster_before, &world.cluster()));

    let usage = before.usage.clone();
    let mut changed = cluster(CLUSTER);
    changed.limits.max_requests = 7;
    world.hold(&[Resource::Cluster(changed)]);
    assert!(!Arc::ptr_eq(&cluster_before, &world.cluster()));
    assert_eq!(world.addresses(), ["10.0.0.1:80"], "endpoints survive a change of their cluster");
    assert!(Arc::ptr_eq(&usage, &world.destination().usage));
}

#[tokio::test]
async fn sides_come_and_go() {
    let mut world = World::live();
    world.hold(&[opaque_listener(REVIEWS, CLUSTER)]);
    assert_eq!(world.state(), "opaque");
    let Handling::Opaque(route) = &world.destination().handling else { panic!() };
    assert_eq!((route.otherwise.total_weight, route.otherwise.backends.len()), (1, 1));
    assert_eq!(world.linker.names_in_force().len(), 1);
    world.remove(ResourceType::Listener, REVIEWS);
    assert_eq!((world.state(), world.linker.names_in_force().len()), ("unknown", 0));
}

#[tokio::test]
async fn shares_of_zero_get_nothing() {
    let mut world = World::live();
    world.hold(&[routes(REVIEWS, &[(CLUSTER, 0)])]);
    assert_eq!(world.backends(), ["no backend"]);
}

#[tokio::test]
async fn who_was_not_told_where_it_runs_takes_the_control_planes_word() {
    let at = |zone: &str| Locality { region: "eu".into(), zone: zone.into() };
    let told = Inbound { locality: at("eu-a"), ..Inbound::plain(MtlsMode::Strict) };
    for (own, expected) in [(Locality::default(), at("eu-a")), (at("eu-b"), at("eu-b"))] {
        let mut world = World { linker: Linker::at(own), ..World::new() };
        world.hold(&[Resource::Inbound(told.clone())]);
        assert_eq!(world.linker.client, expected);
    }
}

#[tokio::test]
async fn inbound_and_mesh_settings_are_taken_and_a_removal_fails_closed() {
    let mut world = World::new();
    world.hold(&[inbound(MtlsMode::Permissive)]);
    assert_eq!(world.snapshot.inbound.as_ref().unwrap().mtls, MtlsMode::Permissive);
    world.reject(ResourceType::Listener, "inbound");
    assert!(world.snapshot.inbound.is_some());
    world.remove(ResourceType::Listener, "inbound");
    assert!(world.snapshot.inbound.is_none());
}

#[tokio::test]
async fn who_may_call_is_kept_until_it_changes() {
    let mut world = World::new();
    world.hold(&[inbound(MtlsMode::Strict)]);
    assert!(world.snapshot.protection.is_none());
    let guarded = |mtls, policies: usize| {
        let policy = AuthorizationPolicy {
            name: "AuthorizationPolicy/shop/p".into(),
            action: AuthorizationAction::Deny,
            rules: Vec::new(),
        };
        let authorization = Authorization { policies: vec![policy; policies] };
        Resource::Inbound(Inbound { authorization: Some(Box::new(authorization)), ..Inbound::plain(mtls) })
    };
    world.hold(&[guarded(MtlsMode::Strict, 1)]);
    let first = world.snapshot.protection.clone().unwrap();
    world.hold(&[guarded(MtlsMode::Permissive, 1)]);
    assert!(Arc::ptr_eq(&first, world.snapshot.protection.as_ref().unwrap()), "nothing of it has changed");
    world.hold(&[guarded(MtlsMode::Permissive, 2)]);
    assert!(!Arc::ptr_eq(&first, world.snapshot.protection.as_ref().unwrap()));
    world.reject(ResourceType::Listener, "inbound");
    assert!(world.snapshot.protection.is_some());
    world.hold(&[inbound(MtlsMode::Permissive)]);
    assert!(world.snapshot.protection.is_none());
}

#[tokio::test]
async fn keys_of_tokens_are_read_once() {
    let mut world = World::new();
    let wanting = |mtls, issuer: &str| {
        let name = "InboundPolicy/shop/tokens".into();
        let rule = JwtRule { name, issuer: issuer.into(), audiences: Vec::new(), keys: None };
        Resource::Inbound(Inbound { jwt: Some(Box::new(rule)), ..Inbound::plain(mtls) })
    };
    world.hold(&[wanting(MtlsMode::Strict, "one")]);
    let first = world.snapshot.tokens.clone().unwrap();
    world.hold(&[wanting(MtlsMode::Permissive, "one")]);
    assert!(Arc::ptr_eq(&first, world.snapshot.tokens.as_ref().unwrap()), "the rule has not changed");
    world.hold(&[wanting(MtlsMode::Permissive, "two")]);
    assert!(!Arc::ptr_eq(&first, world.snapshot.tokens.as_ref().unwrap()));
    world.reject(ResourceType::Listener, "inbound");
    assert!(world.snapshot.tokens.is_some());
    world.hold(&[inbound(MtlsMode::Permissive)]);
    assert!(world.snapshot.tokens.is_none());
}
