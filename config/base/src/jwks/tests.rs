//! Which keys are taken, which are left out, and what they verify.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA384, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair as RsaMaker, PKCS_RSA_SHA256, PublicKeyData};
use serde_json::{Value, json};

use super::*;

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm, crv: &str) -> (EcdsaKeyPair, Value) {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
    let key = json!({"kty": "EC", "crv": crv, "x": b64(x), "y": b64(y), "kid": crv});
    (pair, key)
}

/// An RSA key of 2048 bits.
fn rsa() -> (RsaKeyPair, Value) {
    let made = RsaMaker::generate_for(&PKCS_RSA_SHA256).unwrap();
    let pair = RsaKeyPair::from_pkcs8(&made.serialize_der()).unwrap();
    // SEQUENCE { INTEGER n, INTEGER e }: of a key of 2048 bits every length is known (RFC 8017, appendix A.1.1).
    let der = made.der_bytes();
    let (n, e) = (&der[der.len() - 5 - 256..der.len() - 5], &der[der.len() - 3..]);
    (pair, json!({"kty": "RSA", "n": b64(n), "e": b64(e), "kid": "rsa"}))
}

fn read(keys: &[Value]) -> Result<PublicKeys, KeySetError> {
    PublicKeys::read(json!({ "keys": keys }).to_string().as_bytes())
}

fn with(key: &Value, name: &str, value: Value) -> Value {
    let mut key = key.clone();
    key[name] = value;
    key
}

const RS256: Algorithm = Algorithm::Rsa(RsaAlgorithm::Rs256);
const PS384: Algorithm = Algorithm::Rsa(RsaAlgorithm::Ps384);

#[test]
fn each_type_of_key_verifies_what_it_signed_and_nothing_else() {
    let random = SystemRandom::new();
    let (p256, one) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    let (p384, two) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384");
    let ed = Ed25519KeyPair::generate().unwrap();
    let three = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(ed.public_key().as_ref()), "kid": "ed"});
    let (rsa, four) = rsa();
    let set = read(&[one, two, three, four]).unwrap();
    let by_rsa = |padding: &'static dyn aws_lc_rs::signature::RsaEncoding| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(padding, &random, b"message", &mut signature).unwrap();
        signature
    };
    let signatures = [
        (Algorithm::Es256, "P-256", p256.sign(&random, b"message").unwrap().as_ref().to_vec()),
        (Algorithm::Es384, "P-384", p384.sign(&random, b"message").unwrap().as_ref().to_vec()),
        (Algorithm::EdDsa, "ed", ed.sign(b"message").as_ref().to_vec()),
        (RS256, "rsa", by_rsa(&RSA_PKCS1_SHA256)),
        (PS384, "rsa", by_rsa(&RSA_PSS_SHA384)),
    ];
    for (algorithm, kid, signature) in &signatures {
        let key = set.find(Some(kid), *algorithm).unwrap();
        assert!(key.verifies(*algorithm, b"message", signature), "{algorithm:?}");
        assert!(!key.verifies(*algorithm, b"massage", signature), "{algorithm:?}");
        for key in set.keys() {
            for (other, ..) in signatures.iter().filter(|(other, ..)| other != algorithm) {
                assert!(!key.verifies(*other, b"message", signature), "{algorithm:?} as {other:?}");
            }
        }
    }
}

#[test]
fn keys_that_cannot_verify_are_left_out_and_say_why() {
    let (_, good) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    let (_, rsa) = rsa();
    let short = b64(&[0xff; 128]);
    for (key, why) in [
        (json!({"kty": "oct", "k": "c2VjcmV0"}), "secret"),
        (json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}), "alg"),
        (with(&good, "use", json!("enc")), "use"),
        (with(&good, "key_ops", json!(["encrypt"])), "key_ops"),
        (with(&good, "alg", json!("none")), "alg"),
        (with(&good, "alg", json!("HS256")), "alg"),
        (with(&good, "alg", json!("RS256")), "another type"),
        (with(&good, "alg", json!("ES384")), "another type"),
        (with(&good, "crv", json!("P-521")), "curve"),
        (with(&good, "crv", json!("P-384")), "coordinates"),
        (with(&good, "y", good["x"].clone()), "no point"),
        (with(&good, "x", json!("=")), "base64url"),
        (with(&good, "kty", json!("RSA")), "missing"),
        (with(&good, "kty", json!("X")), "kty"),
        (with(&rsa, "n", json!(short)), "2048"),
        (with(&rsa, "n", json!(b64(&[&[0x7f][..], &[0xff; 255]].concat()))), "2048"),
        (with(&rsa, "n", json!(b64(&[0xff; 2000]))), "8192"),
        (with(&rsa, "e", json!(b64(&[1]))), "exponent"),
        (with(&rsa, "e", json!(b64(&[4]))), "exponent"),
        (with(&rsa, "e", json!("")), "exponent"),
        (json!("text"), "not a JSON Web Key"),
    ] {
        let set = read(&[key.clone(), good.clone()]).unwrap();
        assert_eq!((set.keys().len(), set.left_out().len()), (1, 1), "{key}");
        assert!(set.left_out()[0].why.contains(why), "{key}: {}", set.left_out()[0]);
        let error = read(std::slice::from_ref(&key)).unwrap_err().to_string();
        assert!(error.contains("no key that verifies") && error.contains(why), "{key}: {error}");
    }
    let signed = format!("AA{}", rsa["n"].as_str().unwrap());
    assert!(read(&[with(&rsa, "n", json!(signed))]).is_err(), "not a whole byte of zero");
    let n = URL_SAFE_NO_PAD.decode(rsa["n"].as_str().unwrap()).unwrap();
    assert!(read(&[with(&rsa, "n", json!(b64(&[&[0][..], &n].concat())))]).is_ok(), "a zero before it");
}

#[test]
fn a_text_that_is_no_set_is_refused() {
    let (_, key) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    for (json, expected) in [
        ("", "not a JSON Web Key Set"),
        ("[]", "not a JSON Web Key Set"),
        ("{}", "missing field `keys`"),
        (r#"{"keys": []}"#, "no key that verifies"),
        (r#"{"keys": [{}]}"#, "no key that verifies tokens; key \"#1\""),
    ] {
        let error = PublicKeys::read(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
    assert_eq!(read(&vec![key.clone(); MAX_KEYS + 1]).unwrap_err(), KeySetError::TooMany);
    let long = json!({"keys": [key], "pad": "x".repeat(MAX_KEY_SET_BYTES)}).to_string();
    assert_eq!(PublicKeys::read(long.as_bytes()).unwrap_err(), KeySetError::TooLong);
}

#[test]
fn a_token_gets_the_key_it_names_or_the_only_one_that_fits() {
    let (_, one) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    let two = with(&one, "kid", json!("two"));
    let (_, rsa) = rsa();
    let only_ps = with(&rsa, "alg", json!("PS384"));
    let set = read(&[one.clone(), two, only_ps]).unwrap();
    let found = |kid: Option<&str>, algorithm| set.find(kid, algorithm).and_then(|key| key.kid());
    assert_eq!(found(Some("two"), Algorithm::Es256), Some("two"));
    assert_eq!(found(Some("three"), Algorithm::Es256), None, "named and not there");
    assert_eq!(found(Some("two"), RS256), None, "named and of another type");
    assert_eq!(found(None, Algorithm::Es256), None, "several would do");
    assert_eq!(found(None, PS384), Some("rsa"));
    assert_eq!(found(Some("rsa"), RS256), None, "the key is for another algorithm");
    let twins = read(&[one.clone(), one]).unwrap();
    assert!(twins.find(Some("P-256"), Algorithm::Es256).is_none(), "two of one name");
}
