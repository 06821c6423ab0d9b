//! Ways that are good, and everything that makes one bad.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;
type Der = CertificateDer<'static>;
/// What is different about an authority.
type Change = Box<dyn Fn(&mut CertificateParams)>;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The certificate of an authority with a name, changed by `change`.
fn params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    params
}

fn root(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issuer {
    Issuer::self_signed(params(name, change), KeyPair::generate().unwrap()).unwrap()
}

fn under(issuer: &Issuer, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issuer {
    Issuer::signed_by(params(name, change), KeyPair::generate().unwrap(), issuer).unwrap()
}

fn der(issuer: &Issuer) -> Der {
    issuer.der().clone()
}

fn plain(_: &mut CertificateParams) {}

fn flaw(given: &[Der], authorities: Option<&[Der]>) -> &'static str {
    Chain::find(given, authorities, SystemTime::now()).unwrap_err().why()
}

#[test]
fn the_way_leads_from_the_signer_over_what_stands_between_to_the_root() {
    let top = root("top", plain);
    let middle = under(&top, "middle", plain);
    let low = under(&middle, "low", plain);
    let stranger = root("stranger", plain);
    let now = SystemTime::now();
    let all = [der(&low), der(&middle), der(&top)];
    for (what, given, authorities) in [
        ("the root stands last", vec![der(&low), der(&middle), der(&top)], None),
        ("the root is known", vec![der(&low), der(&middle)], Some(vec![der(&stranger), der(&top)])),
        ("in any order", vec![der(&low), der(&stranger), der(&middle)], Some(vec![der(&top)])),
    ] {
        let chain = Chain::find(&given, authorities.as_deref(), now).unwrap();
        assert_eq!(chain.path(), all, "{what}");
        assert_eq!((chain.signer(), chain.root()), (&all[0], &all[2]), "{what}");
    }
    let alone = Chain::find(&[der(&low)], Some(&[der(&low)]), now).unwrap();
    assert_eq!(alone.path(), [der(&low)], "who is trusted itself needs nobody above");
    assert_eq!(Chain::find(&[der(&top)], None, now).unwrap().root(), &der(&top));
}

#[test]
fn a_way_that_is_not_there_is_refused_with_the_fix() {
    let (top, other) = (root("top", plain), root("top", plain));
    let middle = under(&top, "middle", plain);
    let low = under(&middle, "low", plain);
    assert!(flaw(&[der(&low), der(&middle)], None).contains("ca.crt"));
    assert!(flaw(&[der(&low)], Some(&[der(&top)])).contains("tls.crt"), "a gap");
    assert!(flaw(&[der(&middle)], Some(&[der(&other)])).contains("tls.crt"), "only the name is the root's");
    assert!(flaw(&[], None).contains("PEM"));
}

#[test]
fn each_certificate_of_the_way_must_be_allowed_to_sign_and_good_now() {
    let end = SystemTime::now();
    let at = |time: SystemTime| {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    let cases: [(&str, Change, &str); 5] = [
        ("no authority", Box::new(|params| params.is_ca = IsCa::ExplicitNoCa), "CA:TRUE"),
        (
            "no signatures",
            Box::new(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
            "keyCertSign",
        ),
        ("over", Box::new(move |params| params.not_after = at(end - DAY)), "has expired"),
        ("not begun", Box::new(move |params| params.not_before = at(end + DAY)), "not valid yet"),
        (
            "nobody below",
            Box::new(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
            "pathlen",
        ),
    ];
    for (what, change, why) in &cases {
        let top = root("top", change);
        let low = under(&top, "low", plain);
        let found = flaw(&[der(&low)], Some(&[der(&top)]));
        assert!(found.contains(why), "{what} above: {found}");
        if *what != "nobody below" {
            let top = root("top", plain);
            let low = under(&top, "low", change);
            let found = flaw(&[der(&low)], Some(&[der(&top)]));
            assert!(found.contains(why), "{what} below: {found}");
        }
    }
}

#[test]
fn the_first_that_ends_ends_the_way() {
    let soon = SystemTime::now() + 3 * DAY;
    let seconds = soon.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ends = |params: &mut CertificateParams| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + seconds_of(seconds)
    };
    for (above, below) in [(true, false), (false, true)] {
        let top = root("top", |params| {
            if above {
                ends(params)
            }
        });
        let low = under(&top, "low", |params| {
            if below {
                ends(params)
            }
        });
        let chain = Chain::find(&[der(&low)], Some(&[der(&top)]), SystemTime::now()).unwrap();
        assert_eq!(chain.not_after(), UNIX_EPOCH + seconds_of(seconds));
    }
}

fn seconds_of(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
