//! What a call proves, by which channel, and what is no proof.

use std::time::{Duration, SystemTime};

use outrigger_base::telemetry::metrics::Registry;
use tempfile::TempDir;
use tonic::Request;

use super::*;
use crate::ca::store::Store;
use crate::token::manage::{self, Created, Uses, Wanted, Which};

const OWN: &str = "cluster.local";
const LOOPBACK: &str = "127.0.0.1:1";
const ELSEWHERE: &str = "192.0.2.7:1";

struct House {
    home: TempDir,
    gate: Gate,
}

fn web() -> Caller {
    Caller { namespace: "shop".to_owned(), service_account: "web".to_owned() }
}

impl House {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let gate = Self::gate(&home);
        Self { home, gate }
    }

    fn gate(home: &TempDir) -> Gate {
        let store = Store::open(home.path()).unwrap();
        let keys = Arc::new(TokenKeys::open(&store).unwrap());
        let book = Arc::new(Book::open(&store).unwrap());
        Gate::new(Verifier::Keys(keys, book), Meters::new(Registry::new()))
    }

    fn create(&self, uses: Uses) -> Created {
        let wanted = Wanted { caller: web(), ttl: Duration::from_secs(3600), uses };
        manage::create(self.home.path(), &wanted, SystemTime::now()).unwrap()
    }

    fn revoke(&self, which: &Which) {
        manage::revoke(self.home.path(), which).unwrap();
    }

    /// The code with which a certificate request is refused; `Ok` with who it is for.
    async fn certificate(&self, call: &Call<'_>) -> Result<Proven, Code> {
        self.gate.certificate(&call.request(), OWN).await.map_err(|status| status.code())
    }

    async fn stream(&self, call: &Call<'_>) -> Result<Standing, Code> {
        let (metadata, extensions, ()) = call.request().into_parts();
        self.gate.stream((&metadata, &extensions), OWN).await.map_err(|status| status.code())
    }
}

struct Call<'a> {
    token: Option<&'a str>,
    from: &'a str,
    channel: Channel,
}

impl Call<'_> {
    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        if let Some(token) = self.token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let peer = Peer { address: self.from.parse().unwrap(), channel: self.channel.clone() };
        request.extensions_mut().insert(peer);
        request
    }
}

fn with<'a>(token: &'a str) -> Call<'a> {
    Call { token: Some(token), from: LOOPBACK, channel: Channel::Plaintext }
}

fn by_certificate(trust_domain: &str) -> Call<'static> {
    let identity = SpiffeId::new(trust_domain, "shop", "web").unwrap();
    Call { token: None, from: ELSEWHERE, channel: Channel::Tls(Some(identity)) }
}

#[tokio::test]
async fn a_certificate_of_the_mesh_renews_itself_and_opens_streams() {
    let house = House::new();
    assert_eq!(house.certificate(&by_certificate(OWN)).await.unwrap().caller, web());
    assert_eq!(house.stream(&by_certificate(OWN)).await.unwrap().caller(), Some(&web()));
    // A token that is there must be good, whatever the certificate is.
    let forged = Call { token: Some("a.b.c"), ..by_certificate(OWN) };
    assert_eq!(house.certificate(&forged).await.unwrap_err(), Code::Unauthenticated);
    assert_eq!(house.stream(&forged).await.unwrap_err(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_proves_nothing() {
    let house = House::new();
    let foreign = by_certificate("other.example");
    assert_eq!(house.certificate(&foreign).await.unwrap_err(), Code::Unauthenticated);
    assert_eq!(house.stream(&foreign).await.unwrap_err(), Code::Unauthenticated);
}

#[tokio::test]
async fn who_shows_nothing_gets_no_certificate_and_streams_from_loopback_only() {
    let house = House::new();
    for (from, channel, streams) in [
        (LOOPBACK, Channel::Plaintext, true),
        ("[::ffff:127.0.0.1]:1", Channel::Plaintext, true),
        (ELSEWHERE, Channel::Plaintext, false),
        (LOOPBACK, Channel::Tls(None), false),
    ] {
        let call = Call { token: None, from, channel };
        assert_eq!(house.certificate(&call).await.unwrap_err(), Code::Unauthenticated, "{from}");
        assert_eq!(house.stream(&call).await.is_ok(), streams, "{from}");
    }
}

#[tokio::test]
async fn a_one_use_token_gets_one_certificate_also_after_a_restart() {
    let house = House::new();
    let once = house.create(Uses::One);
    house.stream(&with(&once.token)).await.unwrap();
    let proven = house.certificate(&with(&once.token)).await.unwrap();
    let raced = house.certificate(&with(&once.token)).await.unwrap();
    house.gate.use_up(&proven).await.unwrap();
    let late = house.gate.use_up(&raced).await.unwrap_err();
    assert_eq!(late.code(), Code::Unauthenticated);
    assert!(late.message().contains("was used already"), "{late}");
    let restarted = House { gate: House::gate(&house.home), home: house.home };
    assert_eq!(restarted.certificate(&with(&once.token)).await.unwrap_err(), Code::Unauthenticated);
    assert_eq!(restarted.stream(&with(&once.token)).await.unwrap_err(), Code::Unauthenticated);
}

#[tokio::test]
async fn revoking_ends_what_is_open_and_refuses_what_comes() {
    let house = House::new();
    let (one, two) = (house.create(Uses::Any), house.create(Uses::Any));
    let mut by_one = house.stream(&with(&one.token)).await.unwrap();
    let mut by_two = house.stream(&with(&two.token)).await.unwrap();
    let mut certified = house.stream(&by_certificate(OWN)).await.unwrap();
    house.revoke(&Which::Id(one.id.clone()));
    assert_eq!(house.certificate(&with(&one.token)).await.unwrap_err(), Code::Unauthenticated);
    assert_eq!(by_one.lost().await.code(), Code::Unauthenticated);
    assert!(house.stream(&with(&two.token)).await.is_ok(), "another token is not concerned");

    house.revoke(&Which::Identity(web()));
    assert_eq!(house.certificate(&by_certificate(OWN)).await.unwrap_err(), Code::Unauthenticated);
    assert_eq!(house.stream(&by_certificate(OWN)).await.unwrap_err(), Code::Unauthenticated);
    for standing in [&mut by_two, &mut certified] {
        assert_eq!(standing.lost().await.code(), Code::Unauthenticated);
    }
    manage::restore(house.home.path(), &web()).unwrap();
    assert!(house.certificate(&by_certificate(OWN)).await.is_ok());
    assert_eq!(house.stream(&with(&two.token)).await.unwrap_err(), Code::Unauthenticated);
}
