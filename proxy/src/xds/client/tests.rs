//! The stream against a control plane that does what each test tells it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use outrigger_model::inbound::MtlsMode;
use outrigger_model::name::INBOUND;
use outrigger_model::resource::Resource;
use tonic::transport::Channel;

use super::super::support::*;
use super::*;
use crate::demand::IDLE_AFTER;
use crate::snapshot::{DestinationId, Handling};
use crate::state::{Owner, StateDir};

const OTHER: &str = "ratings.shop:9080";

fn parts(shared: &Arc<Shared>, demanded: Demanded, channel: Channel) -> Parts {
    Parts {
        shared: shared.clone(),
        control_plane: ControlPlane::over(channel, None),
        identity: LocalIdentity::new(shared.clone(), None),
        node: Node { id: "sidecar~127.0.0.1~web-1.shop~d".into(), ..Node::default() },
        demanded,
        attended: watch::channel(Vec::new()).0,
        state: None,
        currency: watch::Sender::new(Currency::Never),
    }
}

/// A client with `REVIEWS` pinned, and its control plane.
fn start() -> (Arc<Shared>, FakeControlPlane) {
    let (shared, demanded) = shared();
    shared.demand.pin(REVIEWS.parse().unwrap());
    let (control_plane, channel) = FakeControlPlane::start();
    tokio::spawn(Client::new(parts(&shared, demanded, channel)).run());
    (shared, control_plane)
}

fn state(shared: &Shared) -> &'static str {
    match shared.snapshot.load().destination(DestinationId(0)).unwrap().handling {
        Handling::Pending => "pending",
        Handling::Unknown => "unknown",
        Handling::Http(_) => "http",
        Handling::Opaque(_) => "opaque",
        Handling::Detect { .. } => "detect",
    }
}

/// Brings `REVIEWS` into force.
async fn serve_reviews(stream: &mut ServerStream) {
    stream.expect_subscribe(ResourceType::Listener, &[INBOUND, REVIEWS]).await;
    stream.send_good(&[inbound(MtlsMode::Strict), http_listener(REVIEWS)], "l1").await;
    stream.expect_subscribe(ResourceType::Route, &[REVIEWS]).await;
    stream.send_good(&[routes(REVIEWS, &[(CLUSTER, 1)])], "r1").await;
    stream.expect_subscribe(ResourceType::Cluster, &[CLUSTER]).await;
    stream.expect_subscribe(ResourceType::Endpoints, &[CLUSTER]).await;
    stream.send_good(&[Resource::Cluster(cluster(CLUSTER))], "c1").await;
    stream.send_good(&[endpoints(CLUSTER, &["10.0.0.1:80"])], "e1").await;
}

#[tokio::test(start_paused = true)]
async fn subscriptions_follow_what_is_held_and_an_ack_means_in_force() {
    let (shared, mut control_plane) = start();
    let mut stream = control_plane.stream().await;
    let first = stream.expect_subscribe(ResourceType::Listener, &[INBOUND, REVIEWS]).await;
    assert_eq!(first.node.unwrap().id, "sidecar~127.0.0.1~web-1.shop~d");
    assert!(first.initial_resource_versions.is_empty());
    stream.send_good(&[inbound(MtlsMode::Strict), http_listener(REVIEWS)], "l1").await;
    assert!(shared.snapshot.load().inbound.is_some(), "acknowledged before it was in force");
    let routes_asked = stream.expect_subscribe(ResourceType::Route, &[REVIEWS]).await;
    assert_eq!(routes_asked.node, None);
    stream.send_good(&[routes(REVIEWS, &[(CLUSTER, 1)])], "r1").await;
    stream.expect_subscribe(ResourceType::Cluster, &[CLUSTER]).await;
    stream.expect_subscribe(ResourceType::Endpoints, &[CLUSTER]).await;
    stream.send_good(&[Resource::Cluster(cluster(CLUSTER))], "c1").await;
    assert_eq!(state(&shared), "pending");
    stream.send_good(&[endpoints(CLUSTER, &["10.0.0.1:80"])], "e1").await;
    assert_eq!(state(&shared), "http", "acknowledged before it was in force");
    assert_eq!(metric(&shared, "outrigger_xds_connected"), 1.0);
    assert_eq!(metric(&shared, "outrigger_xds_acks_total{type=\"route\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_route_to_a_cluster_that_is_not_here_yet_is_acknowledged_when_it_is() {
    const NEW: &str = "outbound|9080|reviews-v2.shop";
    let (_shared, mut control_plane) = start();
    let mut stream = control_plane.stream().await;
    serve_reviews(&mut stream).await;
    let split = item(&routes(REVIEWS, &[(NEW, 1)]), "r2");
    let early = stream.push(response(ResourceType::Route, vec![split], &[])).await;
    stream.expect_subscribe(ResourceType::Cluster, &[NEW]).await;
    stream.expect_subscribe(ResourceType::Endpoints, &[NEW]).await;
    stream.send_good(&[Resource::Cluster(cluster(NEW))], "c2").await;
    let last = stream
        .push(response(ResourceType::Endpoints, vec![item(&endpoints(NEW, &["10.0.0.2:80"]), "e2")], &[]))
        .await;
    let answers = [stream.request().await, stream.request().await];
    let nonces: Vec<_> =
        answers.iter().filter(|a| a.error_detail.is_none()).map(|a| &a.response_nonce).collect();
    assert_eq!(nonces, [&early, &last]);
}

#[tokio::test(start_paused = true)]
async fn a_route_to_a_cluster_that_never_comes_is_acknowledged_all_the_same() {
    let (_shared, mut control_plane) = start();
    let mut stream = control_plane.stream().await;
    serve_reviews(&mut stream).await;
    let split = item(&routes(REVIEWS, &[("outbound|9080|slow.shop", 1)]), "r2");
    let nonce = stream.push(response(ResourceType::Route, vec![split], &[])).await;
    let begun = Instant::now();
    stream.expect_subscribe(ResourceType::Cluster, &["outbound|9080|slow.shop"]).await;
    stream.expect_subscribe(ResourceType::Endpoints, &["outbound|9080|slow.shop"]).await;
    assert_eq!(stream.request().await.response_nonce, nonce);
    assert!((ANSWER_WITHIN / 2..ANSWER_WITHIN * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_bad_item_is_refused_by_name_and_the_good_ones_beside_it_are_taken() {
    let (shared, mut control_plane) = start();
    let mut stream = control_plane.stream().await;
    serve_reviews(&mut stream).await;
    let items = vec![item(&inbound(MtlsMode::Permissive), "l2"), broken(ResourceType::Listener, REVIEWS)];
    let answer = stream.send(response(ResourceType::Listener, items, &[])).await;
    let detail = answer.error_detail.unwrap();
    assert_eq!(detail.code, tonic::Code::InvalidArgument as i32);
    assert!(
        detail.message.contains(REVIEWS) && detail.message.contains("cannot be read"),
        "{}",
        detail.message
    );
    assert_eq!(shared.snapshot.load().inbound.as_ref().unwrap().mtls, MtlsMode::Permissive);
    assert_eq!(state(&shared), "http");
    assert_eq!(metric(&shared, "outrigger_xds_nacks_total{type=\"listener\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_resource_under_another_name_and_one_nobody_asked_for_change_nothing() {
    let (shared, mut control_plane) = start();
    let mut stream = control_plane.stream().await;
    stream.expect_subscribe(ResourceType::Listener, &[INBOUND, REVIEWS]).await;
    let mut disguised = item(&http_listener(OTHER), "1");
    disguised.name = REVIEWS.to_owned();
    let answer = stream.send(response(ResourceType::Listener, vec![disguised], &[])).await;
    assert!(answer.error_detail.unwrap().message.contains(OTHER));
    let unasked = vec![item(&http_listener(OTHER), "1")];
    let answer = stream.send(response(ResourceType::Listener, unasked, &[])).await;
    assert_eq!((answer.error_detail, state(&shared)), (None, "pending"));
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_it_comes_back_with_the_versions_it_holds_and_never_those_it_refused() {
    let (shared, mut control_plane) = start();
    let mut stream = control_plane.stream().await;
    serve_reviews(&mut stream).await;
    stream.send(response(ResourceType::Route, vec![broken(ResourceType::Route, REVIEWS)], &[])).await;
    drop(stream);
    let lost = Instant::now();
    let mut stream = control_plane.stream().await;
    assert!(lost.elapsed() < Duration::from_secs(1), "{:?}", lost.elapsed());
    assert_eq!(state(&shared), "http", "the loss changed traffic");
    for (kind, names, versions) in [
        (ResourceType::Cluster, vec![CLUSTER], vec![(CLUSTER, "c1")]),
        (ResourceType::Endpoints, vec![CLUSTER], vec![(CLUSTER, "e1")]),
        (ResourceType::Listener, vec![INBOUND, REVIEWS], vec![(INBOUND, "l1"), (REVIEWS, "l1")]),
        (ResourceType::Route, vec![REVIEWS], vec![(REVIEWS, "r1")]),
    ] {
        let request = stream.expect_subscribe(kind, &names).await;
        assert_eq!(request.node.is_some(), kind == ResourceType::Cluster);
        let expected = versions.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
        assert_eq!(request.initial_resource_versions, expected.collect());
    }
    stream.send_good(&[routes(REVIEWS, &[(CLUSTER, 5)])], "r3").await;
    assert_eq!(metric(&shared, "outrigger_xds_connected"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn while_it_is_lost_the_age_grows_and_questions_get_a_place() {
    let (shared, mut control_plane) = start();
    let mut stream = control_plane.stream().await;
    serve_reviews(&mut stream).await;
    drop((stream, control_plane));
    let asked = Instant::now();
    let id = shared.demand.destination(OTHER.parse().unwrap()).await;
    assert_eq!((id, asked.elapsed()), (Some(DestinationId(1)), crate::demand::DEMAND_TIMEOUT));
    assert_eq!((metric(&shared, "outrigger_xds_connected"), state(&shared)), (0.0, "http"));
}

#[tokio::test(start_paused = true)]
async fn what_is_dialled_is_asked_for_and_what_goes_idle_is_dropped() {
    let (shared, mut control_plane) = start();
    let mut stream = control_plane.stream().await;
    stream.expect_subscribe(ResourceType::Listener, &[INBOUND, REVIEWS]).await;
    let asking = tokio::spawn({
        let shared = shared.clone();
        async move { shared.demand.destination(OTHER.parse().unwrap()).await }
    });
    stream.expect_subscribe(ResourceType::Listener, &[OTHER]).await;
    stream.send(response(ResourceType::Listener, Vec::new(), &[OTHER])).await;
    let answered = Instant::now();
    let id = asking.await.unwrap().unwrap();
    assert!(matches!(shared.snapshot.load().destination(id).unwrap().handling, Handling::Unknown));
    let request = stream.request().await;
    assert_eq!(request.resource_names_unsubscribe, [OTHER]);
    assert!(
        (answered + IDLE_AFTER..answered + IDLE_AFTER + Duration::from_secs(5)).contains(&Instant::now())
    );
    assert!(shared.snapshot.load().destination(id).is_none());
    assert_eq!(shared.snapshot.load().lookup(&OTHER.parse().unwrap()), None);
    assert_eq!(state(&shared), "pending", "a pinned destination was dropped");
}

#[tokio::test(start_paused = true)]
async fn what_nothing_points_at_any_more_is_unsubscribed() {
    let (shared, mut control_plane) = start();
    let mut stream = control_plane.stream().await;
    serve_reviews(&mut stream).await;
    stream.send(response(ResourceType::Listener, Vec::new(), &[REVIEWS])).await;
    assert_eq!(state(&shared), "unknown");
    for (kind, name) in
        [(ResourceType::Cluster, CLUSTER), (ResourceType::Endpoints, CLUSTER), (ResourceType::Route, REVIEWS)]
    {
        let request = stream.request().await;
        assert_eq!(
            (request.type_url.as_str(), request.resource_names_unsubscribe),
            (kind.url(), vec![name.to_owned()])
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_goes_with_the_stream() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("web.token");
    std::fs::write(&token, "secret\n").unwrap();
    let (shared, demanded) = shared();
    let (mut control_plane, channel) = FakeControlPlane::start();
    let mut parts = parts(&shared, demanded, channel.clone());
    parts.control_plane = ControlPlane::over(channel, Some(token));
    tokio::spawn(Client::new(parts).run());
    assert_eq!(control_plane.stream().await.authorization.as_deref(), Some("Bearer secret"));
}

fn state_dir(path: &Path) -> Arc<StateDir> {
    let owner = Owner {
        namespace: "shop".to_owned(),
        service_account: "web".to_owned(),
        workload: "web-1".to_owned(),
    };
    Arc::new(StateDir::open(path, owner, Duration::from_secs(3600)).unwrap())
}

/// What a client that starts on this directory has in force before it has heard anything.
fn restored(path: &Path) -> (Arc<Shared>, Currency) {
    let (shared, demanded) = shared();
    let mut restoring = parts(&shared, demanded, FakeControlPlane::start().1);
    restoring.state = Some(state_dir(path));
    let currency = restoring.currency.subscribe();
    drop(Client::new(restoring));
    let currency = *currency.borrow();
    (shared, currency)
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_on_disk_is_in_force_before_anything_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let (first, demanded) = shared();
    first.demand.pin(REVIEWS.parse().unwrap());
    let (mut control_plane, channel) = FakeControlPlane::start();
    let mut keeping = parts(&first, demanded, channel);
    keeping.state = Some(state_dir(directory.path()));
    let running = tokio::spawn(Client::new(keeping).run());
    let mut stream = control_plane.stream().await;
    serve_reviews(&mut stream).await;
    // The first complete configuration is kept at once, not when the next changes are gathered.
    while state(&first) != "http" {
        tokio::task::yield_now().await;
    }
    running.abort();

    let (second, demanded) = shared();
    let (mut control_plane, channel) = FakeControlPlane::start();
    let mut restoring = parts(&second, demanded, channel);
    restoring.state = Some(state_dir(directory.path()));
    let client = Client::new(restoring);
    assert_eq!(state(&second), "http");
    tokio::spawn(client.run());
    let request = control_plane.stream().await.request().await;
    assert_eq!(request.initial_resource_versions.get(CLUSTER).map(String::as_str), Some("c1"));

    let (third, currency) = restored(directory.path());
    assert_eq!(state(&third), "http");
    assert!(matches!(currency, Currency::Since(_)), "{currency:?}");
    let file = directory.path().join("configuration");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (fourth, currency) = restored(directory.path());
    assert_eq!(
        (fourth.snapshot.load().generation, currency),
        (0, Currency::Never),
        "damaged: not used at all"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_stays_young_while_the_control_plane_is_there_and_is_written_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (trigger, drain) = outrigger_base::lifecycle::drain::new(Duration::from_secs(1));
    let (mut shared, demanded) = shared();
    Arc::get_mut(&mut shared).unwrap().drains.inbound = drain;
    shared.demand.pin(REVIEWS.parse().unwrap());
    let (mut control_plane, channel) = FakeControlPlane::start();
    let mut keeping = parts(&shared, demanded, channel);
    keeping.state = Some(state_dir(directory.path()));
    tokio::spawn(Client::new(keeping).run());
    let mut stream = control_plane.stream().await;
    serve_reviews(&mut stream).await;
    let file = directory.path().join("configuration");
    let written = || std::fs::metadata(&file).map(|found| found.ino()).ok();
    while written().is_none() {
        tokio::task::yield_now().await;
    }
    let first = written();
    tokio::time::sleep(Duration::from_secs(3600 / 8 - 10)).await;
    assert_eq!(written(), first, "nothing has changed");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_ne!(written(), first, "it was good until now");

    let second = written();
    stream.send_good(&[endpoints(CLUSTER, &["10.0.0.2:80"])], "e2").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(written(), second, "changes gather");
    trigger.start();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_ne!(written(), second, "the end is near");
}

mod trusting {
    use outrigger_model::inbound::Inbound;
    use outrigger_model::trust::Trust;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    };

    use super::*;
    use crate::certificates::{Offer, OfferedTrust};

    const OWN: &str = "spiffe://cluster.local/ns/shop/sa/web";

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn trust(roots: &[&Ca]) -> Trust {
        Trust::alone("cluster.local", roots.iter().map(|root| root.der().as_ref().into()))
    }

    fn offer(ca: &Ca) -> Offer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(OWN.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let chain = vec![params.signed_by(&key, ca).unwrap().der().clone()];
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Offer { chain, key, trust: OfferedTrust::Presumed(trust(&[ca])) }
    }

    fn says(trust: Trust, version: &str) -> DeltaDiscoveryResponse {
        let inbound = Inbound { trust: Some(Arc::new(trust)), ..Inbound::plain(MtlsMode::Strict) };
        response(ResourceType::Listener, vec![item(&Resource::Inbound(inbound), version)], &[])
    }

    #[tokio::test(start_paused = true)]
    async fn trust_is_in_force_before_it_is_acknowledged_and_what_cannot_be_is_refused_by_name() {
        let (shared, demanded) = shared();
        let (mut control_plane, channel) = FakeControlPlane::start();
        let parts = parts(&shared, demanded, channel);
        let identity = parts.identity.clone();
        let (old, new) = (ca(), ca());
        identity.take(&OWN.parse().unwrap(), offer(&old)).unwrap();
        tokio::spawn(Client::new(parts).run());
        let mut stream = control_plane.stream().await;
        stream.expect_subscribe(ResourceType::Listener, &[INBOUND]).await;
        let roots = || identity.issued().borrow().as_ref().unwrap().roots.len();

        let before = identity.in_force().unwrap();
        assert_eq!(stream.send(says(trust(&[&old, &new]), "1")).await.error_detail, None);
        assert_eq!(roots(), 2, "acknowledged before it was in force");
        let both = identity.in_force().unwrap();
        assert!(!Arc::ptr_eq(&before, &both));

        // One that is none leaves what is held as it is.
        let garbage = Trust::alone("cluster.local", [Arc::from(b"hello".as_slice())]);
        let refused =
            stream.send(says(trust(&[&old]).united(&garbage), "2")).await.error_detail.unwrap().message;
        assert!(refused.contains("inbound") && refused.contains("root certificate 2"), "{refused}");
        // And one that our own certificate is not good for is not in force.
        let refused = stream.send(says(trust(&[&new]), "3")).await.error_detail.unwrap().message;
        assert!(
            refused.contains("trust") && refused.contains("our own certificate would be refused"),
            "{refused}"
        );
        assert!(Arc::ptr_eq(&both, &identity.in_force().unwrap()));
        // It is with another certificate.
        identity.take(&OWN.parse().unwrap(), offer(&new)).unwrap();
        assert_eq!(roots(), 1);
    }
}
