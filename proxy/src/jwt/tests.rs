//! Tokens with one thing wrong at a time; the keys they are verified with; what is remembered of them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use outrigger_base::telemetry::metrics::Format;
use proptest::prelude::*;
use serde_json::json;

use super::remembered::{MAX_REMEMBERED, MAX_REMEMBERED_BYTES};
use super::*;

/// Any moment.
const NOW: u64 = 1_800_000_000;

struct Issuer {
    pair: EcdsaKeyPair,
    registry: Arc<Registry>,
}

impl Issuer {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { pair, registry: Registry::new() }
    }

    fn keys(&self) -> String {
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": b64(x), "y": b64(y)}]}).to_string()
    }

    fn rule(&self, usable_until: Option<u64>) -> JwtRule {
        JwtRule {
            name: "InboundPolicy/shop/tokens".into(),
            issuer: "https://issuer.example".into(),
            audiences: vec!["shop".into(), "till".into()],
            keys: Some(KeySet { json: self.keys().into(), usable_until }),
        }
    }

    fn verifier(&self) -> Arc<Verifier> {
        Arc::new(Verifier::new(&self.rule(None), &self.registry))
    }

    /// A token of these texts, signed.
    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(claims.as_bytes()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature.as_ref()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(HEADER, &claims.to_string())
    }

    /// How often requests were refused for this reason.
    fn refused(&self, refused: Refused) -> String {
        let text = self.registry.render(Format::Prometheus);
        let name = format!("outrigger_token_refused_total{{reason=\"{}\"}} ", refused.word());
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
    }
}

const HEADER: &str = r#"{"alg":"ES256","kid":"one","typ":"JWT"}"#;

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Good claims.
fn claims() -> Value {
    json!({"iss": "https://issuer.example", "aud": "shop", "sub": "ann", "exp": NOW + 300, "iat": NOW - 10})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

fn bearing(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
}

#[test]
fn claims_are_judged_one_by_one() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    for (name, value, expected) in [
        ("sub", json!("bob"), Ok(NOW + 360)),
        ("iss", Value::Null, Err(Refused::Issuer)),
        ("iss", json!("https://issuer.example/"), Err(Refused::Issuer)),
        ("iss", json!(["https://issuer.example"]), Err(Refused::Issuer)),
        ("aud", Value::Null, Err(Refused::Audience)),
        ("aud", json!("Shop"), Err(Refused::Audience)),
        ("aud", json!([]), Err(Refused::Audience)),
        ("aud", json!([1, "bank", "till"]), Ok(NOW + 360)),
        ("aud", json!({"a": "shop"}), Err(Refused::Audience)),
        ("exp", Value::Null, Err(Refused::Malformed)),
        ("exp", json!("2099"), Err(Refused::Malformed)),
        ("exp", json!(NOW - 60), Err(Refused::Expired)),
        ("exp", json!(NOW - 59), Ok(NOW + 1)),
        ("exp", json!(NOW as f64 - 58.5), Ok(NOW + 1)),
        ("exp", json!(-1), Err(Refused::Expired)),
        ("exp", json!(1e300), Ok(u64::MAX)),
        ("exp", json!(u64::MAX), Ok(u64::MAX)),
        ("nbf", json!(NOW + 60), Ok(NOW + 360)),
        ("nbf", json!(NOW + 61), Err(Refused::NotYetValid)),
        ("nbf", json!(true), Err(Refused::Malformed)),
        ("iat", json!(NOW + 61), Err(Refused::NotYetValid)),
        ("iat", Value::Null, Ok(NOW + 360)),
    ] {
        let token = issuer.token(&with(name, value.clone()));
        let found = verifier.verify(token.as_bytes(), NOW).map(|verified| verified.until);
        assert_eq!(found, expected, "{name}: {value}");
    }
    let anybody = JwtRule { audiences: Vec::new(), ..issuer.rule(None) };
    let token = issuer.token(&with("aud", Value::Null));
    assert!(Verifier::new(&anybody, &issuer.registry).verify(token.as_bytes(), NOW).is_ok());
}

#[test]
fn headers_that_ask_for_something_else_are_refused() {
    let issuer = Issuer::new();
    let (verifier, claims) = (issuer.verifier(), claims().to_string());
    for (header, expected) in [
        (HEADER, None),
        (r#"{"alg":"ES256"}"#, None),
        (r#"{"alg":"ES256","typ":"application/at+jwt","x5u":"https://evil.example","jwk":{}}"#, None),
        (r#"{"alg":"ES256","kid":"two"}"#, Some(Refused::UnknownKey)),
        (r#"{"alg":"ES256","kid":""}"#, Some(Refused::UnknownKey)),
        (r#"{"alg":"none","kid":"one"}"#, Some(Refused::Algorithm)),
        (r#"{"alg":"None"}"#, Some(Refused::Algorithm)),
        (r#"{"alg":"HS256","kid":"one"}"#, Some(Refused::Algorithm)),
        (r#"{"alg":"es256","kid":"one"}"#, Some(Refused::Algorithm)),
        (r#"{"alg":"RS256","kid":"one"}"#, Some(Refused::UnknownKey)),
        (r#"{"alg":"ES384","kid":"one"}"#, Some(Refused::UnknownKey)),
        (r#"{"kid":"one"}"#, Some(Refused::Malformed)),
        (r#"{"alg":"ES256","alg":"ES256"}"#, Some(Refused::Malformed)),
        (r#"{"alg":"ES256","kid":"one","kid":"one"}"#, Some(Refused::Malformed)),
        (r#"{"alg":"ES256","crit":[]}"#, Some(Refused::Malformed)),
        (r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, Some(Refused::Malformed)),
        (r#"{"alg":"ES256","typ":"dpop+jwt"}"#, Some(Refused::Malformed)),
        (r#"{"alg":"ES256","typ":1}"#, Some(Refused::Malformed)),
        ("[]", Some(Refused::Malformed)),
    ] {
        let token = issuer.sign(header, &claims);
        assert_eq!(verifier.verify(token.as_bytes(), NOW).err(), expected, "{header}");
    }
}

#[test]
fn whoever_changes_a_token_ends_it() {
    let issuer = Issuer::new();
    let (verifier, token) = (issuer.verifier(), issuer.token(&claims()));
    let stranger = Issuer::new().token(&claims());
    assert_eq!(verifier.verify(stranger.as_bytes(), NOW).err(), Some(Refused::Signature));
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(verifier.verify(&bytes, NOW).is_err(), "byte {at}");
        assert!(verifier.verify(&token.as_bytes()[..at], NOW).is_err(), "the first {at} bytes");
    }
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
    let admin = b64(with("groups", json!(["admin"])).to_string().as_bytes());
    for (text, expected) in [
        (format!("{header}.{admin}.{signature}"), Refused::Signature),
        (format!("{header}.{payload}."), Refused::Signature),
        (format!("{header}.{payload}.{}", b64(&[0; 64])), Refused::Signature),
        (format!("{header}.{payload}.{signature}.{signature}"), Refused::Malformed),
        (format!("{header}.{payload}.{signature}="), Refused::Malformed),
        (format!("{header}.{payload} .{signature}"), Refused::Signature),
        (format!("{}.{payload}.", b64(br#"{"alg":"none"}"#)), Refused::Algorithm),
        (String::new(), Refused::Malformed),
        ("..".to_owned(), Refused::Malformed),
    ] {
        assert_eq!(verifier.verify(text.as_bytes(), NOW).err(), Some(expected), "{text}");
    }
    let twice = claims().to_string().replacen('{', r#"{"sub":"bob","#, 1);
    let twice = issuer.sign(HEADER, &twice);
    assert_eq!(verifier.verify(twice.as_bytes(), NOW).err(), Some(Refused::Malformed), "a claim twice");
    let list = issuer.sign(HEADER, "[]");
    assert_eq!(verifier.verify(list.as_bytes(), NOW).err(), Some(Refused::Malformed));
}

#[test]
fn keys_that_are_not_known_or_too_old_verify_nothing() {
    let issuer = Issuer::new();
    let headers = bearing(&issuer.token(&claims()));
    let check = |rule: &JwtRule, now| {
        let verifier = Arc::new(Verifier::new(rule, &issuer.registry));
        Remembered::default().check(&verifier, &headers, now).map(|_| ())
    };
    assert_eq!(check(&issuer.rule(Some(NOW + 1)), NOW), Ok(()));
    assert_eq!(check(&issuer.rule(Some(NOW)), NOW), Err(Refused::NoKeys));
    assert_eq!(check(&JwtRule { keys: None, ..issuer.rule(None) }, NOW), Err(Refused::NoKeys));
    let broken = KeySet { json: "{}".into(), usable_until: None };
    assert_eq!(check(&JwtRule { keys: Some(broken), ..issuer.rule(None) }, NOW), Err(Refused::NoKeys));

    // What is remembered does not outlive the keys either.
    let verifier = Arc::new(Verifier::new(&issuer.rule(Some(NOW + 10)), &issuer.registry));
    let remembered = Remembered::default();
    assert!(remembered.check(&verifier, &headers, NOW).is_ok());
    assert_eq!(remembered.check(&verifier, &headers, NOW + 10).err(), Some(Refused::NoKeys));
    assert_eq!(issuer.refused(Refused::NoKeys), "4");
}

#[test]
fn a_token_that_comes_again_is_known_until_it_ends() {
    let issuer = Issuer::new();
    let (verifier, remembered) = (issuer.verifier(), Remembered::default());
    let headers = bearing(&issuer.token(&claims()));
    let check = |verifier, now| remembered.check(verifier, &headers, now);
    let first = check(&verifier, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &check(&verifier, NOW + 359).unwrap()), "the same claims");
    assert_eq!(check(&verifier, NOW + 360).err(), Some(Refused::Expired));
    let other = issuer.verifier();
    assert!(!Arc::ptr_eq(&first, &check(&other, NOW).unwrap()), "another verifier looks itself");
    let stranger = Issuer::new().verifier();
    assert_eq!(check(&stranger, NOW).err(), Some(Refused::Signature));
}

#[test]
fn what_is_remembered_has_an_end() {
    let issuer = Issuer::new();
    let (verifier, remembered) = (issuer.verifier(), Remembered::default());
    let check = |claims: &Value, now| {
        remembered.check(&verifier, &bearing(&issuer.token(claims)), now).unwrap();
        remembered.figures()
    };
    for number in 0..MAX_REMEMBERED {
        assert_eq!(check(&with("sub", json!(number)), NOW).0, number + 1);
    }
    assert_eq!(check(&with("exp", json!(NOW + 900)), NOW).0, 1, "all were good: it starts anew");
    let mut most = 1;
    while most < MAX_REMEMBERED {
        most = check(&with("sub", json!(most)), NOW).0;
    }
    assert_eq!(check(&with("exp", json!(NOW + 999)), NOW + 360).0, 2, "those that were over went first");
    let large = "x".repeat(5000);
    let (mut before, mut fell) = (0, false);
    for number in 0..MAX_REMEMBERED_BYTES / 5000 {
        let (_, bytes) = check(&with(&format!("pad{number}"), json!(large)), NOW);
        assert!(bytes <= MAX_REMEMBERED_BYTES);
        fell |= bytes < before;
        before = bytes;
    }
    assert!(fell, "the bound on bytes was reached");
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), dots in 0usize..5) {
        let verifier = Issuer::new().verifier();
        let mut token = bytes;
        for at in 0..dots.min(token.len()) {
            let place = at * token.len() / dots;
            token[place] = b'.';
        }
        prop_assert!(verifier.verify(&token, NOW).is_err());
        let encoded = token.split(|byte| *byte == b'.').map(b64).collect::<Vec<_>>().join(".");
        prop_assert!(verifier.verify(encoded.as_bytes(), NOW).is_err());
    }
}
