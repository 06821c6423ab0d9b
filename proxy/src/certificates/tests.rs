//! The life of a certificate against an authority that does what each test tells it, on a paused clock.

use std::sync::Mutex;
use std::time::SystemTime;

use outrigger_base::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use outrigger_model::inbound::{Inbound, MeshSettings, MtlsMode};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, date_time_ymd,
};
use tokio::sync::{mpsc, watch};
use tonic::{Response, Status};

use super::*;
use crate::snapshot::Snapshot;
use crate::xds::support::{metric, serve_in_memory, shared};

const OWN: &str = "spiffe://cluster.local/ns/shop/sa/web";
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// What the authority does next.
#[derive(Debug, Clone)]
enum Order {
    Sign(&'static str),
    WithoutRoot,
    Expired,
    Refuse,
}

/// An authority that tells of each call.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    order: Mutex<Order>,
    calls: mpsc::Sender<Call>,
}

#[derive(Debug)]
struct Call {
    at: Instant,
    names: Vec<SanType>,
    workload: String,
    authorization: String,
}

struct World {
    shared: Arc<Shared>,
    identity: Arc<LocalIdentity>,
    authority: Arc<Authority>,
    calls: mpsc::Receiver<Call>,
    issued: watch::Receiver<Option<Arc<Issued>>>,
    _token: tempfile::TempDir,
}

impl Authority {
    fn sign(&self, csr: &str, order: &Order) -> Result<Vec<String>, Status> {
        let (id, end) = match order {
            Order::Refuse => return Err(Status::unavailable("not today")),
            Order::Sign(id) => (*id, LIFE),
            Order::WithoutRoot => (OWN, LIFE),
            Order::Expired => (OWN, Duration::ZERO),
        };
        let csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        // A minute of grace for an authority whose certificates begin now; the expired one ended then.
        params.not_before = date_time_ymd(1970, 1, 1) + (now - Duration::from_secs(120));
        params.not_after = date_time_ymd(1970, 1, 1) + (now - Duration::from_secs(60) + end);
        let leaf = params.signed_by(&csr.public_key, &self.issuer).unwrap().pem();
        match order {
            Order::WithoutRoot => Ok(vec![leaf]),
            _ => Ok(vec![leaf, self.issuer.pem()]),
        }
    }
}

struct Service(Arc<Authority>);

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let authorization = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let IstioCertificateRequest { csr, metadata, .. } = request.into_inner();
        let workload = match &metadata.unwrap().fields[WORKLOAD].kind {
            Some(Kind::StringValue(workload)) => workload.clone(),
            other => panic!("{other:?}"),
        };
        let names = CertificateSigningRequestParams::from_pem(&csr).unwrap().params.subject_alt_names;
        let call = Call { at: Instant::now(), names, workload, authorization };
        self.0.calls.send(call).await.map_err(|_| Status::cancelled("the test is over"))?;
        let order = self.0.order.lock().unwrap().clone();
        let cert_chain = self.0.sign(&csr, &order)?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

fn root() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A workload whose trust domain is not known yet.
fn start(order: Order, file: Option<Arc<TrustFile>>) -> World {
    let (shared, _) = shared();
    let (sender, calls) = mpsc::channel(1);
    let authority = Arc::new(Authority { issuer: root(), order: Mutex::new(order), calls: sender });
    let service = IstioCertificateServiceServer::new(Service(authority.clone()));
    let channel = serve_in_memory(tonic::transport::Server::builder().add_service(service));
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("web.token");
    std::fs::write(&token, "secret").unwrap();
    let control_plane = ControlPlane::over(channel, Some(token));
    let workload =
        Workload { namespace: "shop".into(), service_account: "web".into(), node: "node-1".into() };
    let identity = LocalIdentity::new(shared.clone(), file);
    let issued = identity.issued();
    tokio::spawn(alarm::run(identity.clone()));
    tokio::spawn(Certificates::new(shared.clone(), identity.clone(), control_plane, workload).run());
    World { shared, identity, authority, calls, issued, _token: directory }
}

impl World {
    fn started(order: Order) -> Self {
        let world = start(order, None);
        world.trust_domain("cluster.local");
        world
    }

    fn trust_domain(&self, name: &str) {
        let mesh = MeshSettings { trust_domain: name.into(), ..MeshSettings::default() };
        let inbound = Inbound { mesh: mesh.clone(), ..Inbound::plain(MtlsMode::Strict) };
        let snapshot =
            Snapshot { inbound: Some(Arc::new(inbound)), mesh: Arc::new(mesh), ..Snapshot::empty() };
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.demand.changes().ring();
    }

    fn order(&self, order: Order) {
        *self.authority.order.lock().unwrap() = order;
    }

    async fn call(&mut self) -> Call {
        self.calls.recv().await.unwrap()
    }

    async fn issued(&mut self) -> Arc<Issued> {
        self.issued.changed().await.unwrap();
        self.issued.borrow_and_update().clone().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn it_asks_with_its_token_once_the_trust_domain_is_known_and_publishes_both_sides() {
    let mut world = start(Order::Sign(OWN), None);
    assert!(timeout(Duration::from_secs(60), world.calls.recv()).await.is_err(), "asked for too early");
    world.trust_domain("cluster.local");
    let call = world.call().await;
    assert_eq!((call.authorization.as_str(), call.workload.as_str()), ("Bearer secret", "node-1"));
    assert_eq!(call.names, [SanType::URI(OWN.try_into().unwrap())]);
    let issued = world.issued().await;
    let tls = world.shared.tls.load_full().unwrap();
    assert!(Arc::ptr_eq(&tls, &issued.tls));
    assert_eq!(tls.identity().as_str(), OWN);
    assert_eq!((issued.chain.len(), issued.roots.len(), issued.roots[0].len()), (1, 1, 64));
    let expires = metric(&world.shared, "outrigger_certificate_expiration_timestamp_seconds");
    assert_eq!(expires, issued.facts.not_after.as_secs() as f64);
}

#[tokio::test(start_paused = true)]
async fn it_renews_at_two_thirds_of_life() {
    let mut world = World::started(Order::Sign(OWN));
    let first = world.call().await.at;
    let before = world.issued().await;
    let second = world.call().await.at;
    let share = (second - first).as_secs_f64() / LIFE.as_secs_f64();
    assert!((0.56..0.77).contains(&share), "renewed after {share} of its life");
    let after = world.issued().await;
    assert_ne!(before.facts.serial, after.facts.serial);
    assert!(Arc::ptr_eq(&world.shared.tls.load_full().unwrap(), &after.tls));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_keeps_what_is_valid_and_is_tried_again() {
    let mut world = World::started(Order::Sign(OWN));
    world.call().await;
    let before = world.issued().await;
    world.order(Order::Refuse);
    let mut waits = Vec::new();
    let mut last = world.call().await.at;
    for _ in 0..12 {
        let at = world.call().await.at;
        waits.push((at - last).as_secs_f64());
        last = at;
    }
    assert!(waits[0] <= 1.1 && waits[11] > 100.0 && waits[11] <= 301.0, "{waits:?}");
    assert!(Arc::ptr_eq(&world.shared.tls.load_full().unwrap(), &before.tls));
    for wrong in [Order::Expired, Order::WithoutRoot, Order::Sign("spiffe://cluster.local/ns/shop/sa/root")] {
        world.order(wrong);
        world.call().await;
        world.call().await;
        assert!(Arc::ptr_eq(&world.shared.tls.load_full().unwrap(), &before.tls));
    }
    world.order(Order::Sign(OWN));
    assert!(!Arc::ptr_eq(&world.issued().await.tls, &before.tls));
}

#[tokio::test(start_paused = true)]
async fn the_certificate_of_another_is_refused_and_while_there_is_none_it_does_not_wait_long() {
    let mut world = World::started(Order::Sign("spiffe://cluster.local/ns/shop/sa/reviews"));
    let mut last = world.call().await.at;
    for _ in 0..8 {
        let at = world.call().await.at;
        assert!(at - last <= FIRST_BACKOFF_MAX + Duration::from_secs(1), "{:?}", at - last);
        last = at;
    }
    assert!(world.shared.tls.load().is_none());
    world.order(Order::Sign(OWN));
    assert_eq!(world.issued().await.tls.identity().as_str(), OWN);
}

#[tokio::test(start_paused = true)]
async fn with_a_bundle_the_root_of_the_answer_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bundle.pem");
    std::fs::write(&path, root().pem()).unwrap();
    let mut world = start(Order::Sign(OWN), Some(Arc::new(TrustFile::open(&path).unwrap())));
    world.trust_domain("cluster.local");
    world.call().await;
    world.call().await;
    assert!(world.shared.tls.load().is_none());
    // The file is read again.
    std::fs::write(&path, world.authority.issuer.pem()).unwrap();
    world.call().await;
    assert_eq!(world.issued().await.roots.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_trust_domain_means_another_certificate_at_once() {
    let mut world = World::started(Order::Sign(OWN));
    let first = world.call().await.at;
    world.issued().await;
    world.order(Order::Sign("spiffe://mesh.example/ns/shop/sa/web"));
    world.trust_domain("mesh.example");
    assert_eq!(world.call().await.at, first);
    assert_eq!(world.issued().await.tls.identity().trust_domain(), "mesh.example");
}

fn trust(roots: &[&CertifiedIssuer<'static, KeyPair>]) -> Trust {
    Trust::alone("cluster.local", roots.iter().map(|root| root.der().to_vec().into()))
}

fn signed_by(signer: &CertifiedIssuer<'static, KeyPair>, trust: Trust) -> Arc<Trust> {
    let signer = issued::sha256(signer.der());
    Arc::new(Trust { signer: Some(signer.try_into().unwrap()), ..trust })
}

#[tokio::test(start_paused = true)]
async fn trust_of_the_configuration_is_in_force_at_once_with_the_same_certificate() {
    let mut world = World::started(Order::Sign(OWN));
    world.call().await;
    let before = world.issued().await;
    let next = root();
    let both = Arc::new(trust(&[&world.authority.issuer, &next]));
    world.identity.trust(Some(&both)).unwrap();
    let after = world.shared.tls.load_full().unwrap();
    assert!(!Arc::ptr_eq(&after, &before.tls));
    assert_eq!(after.facts(), before.tls.facts());
    assert_eq!(world.issued().await.roots.len(), 2);
    // The same again changes nothing: sessions go on.
    world.identity.trust(Some(&Arc::new(Trust::clone(&both)))).unwrap();
    assert!(Arc::ptr_eq(&world.shared.tls.load_full().unwrap(), &after));
}

#[tokio::test(start_paused = true)]
async fn trust_that_our_certificate_is_not_good_for_waits_for_another_one() {
    let mut world = World::started(Order::Sign(OWN));
    world.call().await;
    let before = world.issued().await;
    world.order(Order::Refuse);
    let refused = world.identity.trust(Some(&Arc::new(trust(&[&root()])))).unwrap_err().to_string();
    assert!(refused.contains("our own certificate would be refused"), "{refused}");
    assert!(Arc::ptr_eq(&world.shared.tls.load_full().unwrap(), &before.tls));
    let asked = world.call().await.at;
    assert_eq!(asked, Instant::now(), "another certificate is asked for at once");
    world.identity.trust(Some(&Arc::new(trust(&[&world.authority.issuer])))).unwrap();
    assert!(!Arc::ptr_eq(&world.shared.tls.load_full().unwrap(), &before.tls));
}

#[tokio::test(start_paused = true)]
async fn a_mesh_with_another_name_is_trusted_with_the_certificate_of_that_name() {
    let mut world = World::started(Order::Sign(OWN));
    world.call().await;
    let before = world.issued().await;
    let renamed = Trust::alone("mesh.example", [world.authority.issuer.der().to_vec().into()]);
    world.identity.trust(Some(&Arc::new(renamed))).unwrap();
    assert!(Arc::ptr_eq(&world.shared.tls.load_full().unwrap(), &before.tls));
    world.order(Order::Sign("spiffe://mesh.example/ns/shop/sa/web"));
    world.trust_domain("mesh.example");
    assert_eq!(world.issued().await.tls.identity().trust_domain(), "mesh.example");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_under_a_root_that_signs_no_more_is_renewed_soon() {
    let mut world = World::started(Order::Sign(OWN));
    let first = world.call().await.at;
    world.issued().await;
    let next = root();
    let roots = || trust(&[&world.authority.issuer, &next]);
    let by_ours = signed_by(&world.authority.issuer, roots());
    let by_next = signed_by(&next, roots());
    world.identity.trust(Some(&by_ours)).unwrap();
    assert!(!world.identity.is_under_an_old_root(UnixTime::now()));
    assert!(timeout(Duration::from_secs(3600), world.calls.recv()).await.is_err(), "renewed without need");
    world.identity.trust(Some(&by_next)).unwrap();
    assert!(world.identity.is_under_an_old_root(UnixTime::now()));
    let moved = world.call().await.at - first - Duration::from_secs(3600);
    assert!(moved <= Duration::from_secs(301), "{moved:?}");
}

#[tokio::test(start_paused = true)]
async fn the_alarm_is_raised_well_before_the_end_and_ends_with_a_renewal() {
    const ALARM: &str = "outrigger_certificate_alarm";
    let mut world = World::started(Order::Sign(OWN));
    world.call().await;
    world.issued().await;
    world.order(Order::Refuse);
    let begin = Instant::now();
    let raised = loop {
        world.call().await;
        if metric(&world.shared, ALARM) > 0.0 {
            break begin.elapsed().as_secs_f64() / LIFE.as_secs_f64();
        }
    };
    assert!((0.83..0.85).contains(&raised), "raised after {raised} of its life");
    let mut changes = world.shared.demand.changes().listen();
    timeout(LIFE, changes.changed()).await.expect("readiness is told of the end").unwrap();
    assert!(begin.elapsed() > LIFE - Duration::from_secs(120));
    assert_eq!(metric(&world.shared, ALARM), 1.0);
    assert!(world.shared.tls.load().is_some(), "it is tried again; peers refuse what is over");
    world.order(Order::Sign(OWN));
    loop {
        tokio::select! {
            _ = world.issued.changed() => break,
            _ = world.calls.recv() => {}
        }
    }
    tokio::task::yield_now().await;
    assert_eq!(metric(&world.shared, ALARM), 0.0);
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let own: SpiffeId = OWN.parse().unwrap();
    let key = WorkloadKey::generate().unwrap();
    let (sender, _) = mpsc::channel(1);
    let authority = Authority { issuer: root(), order: Mutex::new(Order::Refuse), calls: sender };
    let csr = key.csr_pem(&own).unwrap();
    let identity = LocalIdentity::new(shared().0, None);
    let refused = |order: Order, key: &WorkloadKey| {
        let chain = parse_chain_pem(authority.sign(&csr, &order).unwrap().join("\n").as_bytes()).unwrap();
        let trust = presumed_trust(&own, &chain);
        identity.take(&own, Offer { chain, key: key.private_key(), trust }).unwrap_err().to_string()
    };
    let other = refused(Order::Sign("spiffe://cluster.local/ns/shop/sa/reviews"), &key);
    assert!(other.contains("sa/reviews") && other.contains("sa/web"), "{other}");
    let foreign = refused(Order::Sign("spiffe://other.example/ns/shop/sa/web"), &key);
    assert!(foreign.contains("another trust domain"), "{foreign}");
    assert!(refused(Order::Expired, &key).contains("expired"));
    assert!(refused(Order::WithoutRoot, &key).contains("--trust-bundle"));
    let stranger = WorkloadKey::generate().unwrap();
    assert!(refused(Order::Sign(OWN), &stranger).contains("does not belong"));
    assert!(identity.issued().borrow().is_none());
}
