//! What one process keeps another one of the same workload takes over, and nothing else.

use std::path::Path;

use outrigger_base::keys::WorkloadKey;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, date_time_ymd,
};
use tempfile::TempDir;

use super::*;
use crate::state::Owner;
use crate::worker::Shared;
use crate::xds::support::shared;

const HOUR: Duration = Duration::from_secs(3600);

fn own() -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", "web").unwrap()
}

fn root() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of `web` that ends so long after an hour ago.
fn offer_for(root: &CertifiedIssuer<'static, KeyPair>, life: Duration) -> Offer {
    let key = WorkloadKey::generate().unwrap();
    let csr = CertificateSigningRequestParams::from_pem(&key.csr_pem(&own()).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(own().as_str().try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    params.not_before = date_time_ymd(1970, 1, 1) + (now - HOUR);
    params.not_after = date_time_ymd(1970, 1, 1) + (now - HOUR + life);
    let leaf = params.signed_by(&csr.public_key, root).unwrap();
    let trust = Trust::alone("cluster.local", [root.der().as_ref().into()]);
    Offer { chain: vec![leaf.der().clone()], key: key.private_key(), trust: OfferedTrust::Presumed(trust) }
}

fn state(path: &Path) -> StateDir {
    let owner = Owner {
        namespace: "shop".to_owned(),
        service_account: "web".to_owned(),
        workload: "web-1".to_owned(),
    };
    StateDir::open(path, owner, HOUR).unwrap()
}

/// What a process that took this certificate leaves behind.
fn left_by_process_with(offer: Offer) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let identity = LocalIdentity::new(shared().0, None);
    let issued = identity.take(&own(), offer).unwrap();
    write(&state(home.path()), &issued);
    home
}

/// A process that starts on this directory as `own`.
fn start(home: &TempDir, own: &SpiffeId) -> Arc<Shared> {
    let shared = shared().0;
    let identity = LocalIdentity::new(shared.clone(), None);
    restore(&state(home.path()), &identity, own, SystemTime::now());
    shared
}

#[test]
fn the_next_process_has_the_same_certificate_at_once() {
    let home = left_by_process_with(offer_for(&root(), 24 * HOUR));
    let next = start(&home, &own());
    assert_eq!(next.tls.load().as_ref().unwrap().identity(), &own());
    forget(&state(home.path())).unwrap();
    assert!(start(&home, &own()).tls.load().is_none());
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "no key is left");
}

#[test]
fn a_certificate_of_another_name_of_the_mesh_is_not_taken() {
    let home = left_by_process_with(offer_for(&root(), 24 * HOUR));
    let renamed = SpiffeId::new("other.example", "shop", "web").unwrap();
    assert!(start(&home, &renamed).tls.load().is_none());
}

#[test]
fn a_certificate_that_is_over_or_that_nobody_trusts_is_not_taken() {
    let (home, one, two) = (tempfile::tempdir().unwrap(), root(), root());
    let over = offer_for(&one, Duration::from_secs(60));
    let Offer { chain, key, .. } = offer_for(&two, 24 * HOUR);
    let stranger = Offer { chain, key, trust: offer_for(&one, HOUR).trust };
    for offer in [over, stranger] {
        let OfferedTrust::Presumed(trust) = &offer.trust else { panic!("it is presumed") };
        let content = Content {
            chain: offer.chain.iter().map(|der| STANDARD.encode(der)).collect(),
            key: STANDARD.encode(offer.key.secret_der()),
            trust: vec![Bundle {
                trust_domain: "cluster.local".to_owned(),
                roots: trust.bundles[0].roots.iter().map(|root| STANDARD.encode(root)).collect(),
            }],
        };
        let content = serde_json::to_vec(&content).unwrap();
        state(home.path()).write(FILE, &Kept { content, as_of: SystemTime::now() }).unwrap();
        assert!(start(&home, &own()).tls.load().is_none());
    }
}

#[test]
fn a_file_that_this_version_does_not_write_is_not_taken() {
    let home = tempfile::tempdir().unwrap();
    let odd: [&[u8]; 3] = [b"", br#"{"chain": 1}"#, br#"{"chain": ["!"], "key": "", "trust": []}"#];
    for content in odd {
        let kept = Kept { content: content.to_vec(), as_of: SystemTime::now() };
        state(home.path()).write(FILE, &kept).unwrap();
        assert!(start(&home, &own()).tls.load().is_none());
    }
}
