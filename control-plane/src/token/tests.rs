//! What a token proves, and every forgery that proves nothing.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn web() -> Caller {
    Caller { namespace: "shop".to_owned(), service_account: "web".to_owned() }
}

fn keys() -> (KeyPair, TokenKeys) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let keys = TokenKeys::new(&key);
    (key, keys)
}

fn good_claims() -> serde_json::Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    serde_json::json!({
        "iss": "outrigger", "aud": "outrigger", "sub": "system:serviceaccount:shop:web", "jti": "1",
        "namespace": "shop", "service_account": "web", "iat": now, "exp": now + 3600,
    })
}

/// The good claims with one changed, signed with the right key.
fn signed(keys: &TokenKeys, claim: &str, value: serde_json::Value) -> String {
    let mut claims = good_claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(claim);
    } else {
        claims[claim] = value;
    }
    jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &keys.signing).unwrap()
}

fn part(json: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

#[test]
fn a_token_stands_for_the_service_account_it_was_made_for() {
    let (_, keys) = keys();
    let token = keys.issue(&web(), HOUR, SystemTime::now()).unwrap();
    assert_eq!(keys.verify(&token).map(|token| token.caller), Ok(web()));
    assert_eq!(web().identity("cluster.local").unwrap().as_str(), "spiffe://cluster.local/ns/shop/sa/web");
}

#[test]
fn every_other_token_is_refused_with_its_own_reason() {
    let (key, keys) = keys();
    let foreign = self::keys().1;
    let now = SystemTime::now();
    let good = keys.issue(&web(), HOUR, now).unwrap();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other_claims = keys.issue(&Caller { service_account: "admin".into(), ..web() }, HOUR, now).unwrap();
    let hs256 = {
        let public = EncodingKey::from_secret(key.der_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good_claims(), &public).unwrap()
    };
    let none =
        format!("{}.{}.", part(&serde_json::json!({"alg": "none", "typ": "JWT"})), part(&good_claims()));
    for (what, token, word) in [
        ("empty", String::new(), "malformed"),
        ("garbage", "a.b.c".to_owned(), "malformed"),
        ("too long", "a".repeat(MAX_TOKEN_BYTES + 1), "malformed"),
        ("no signature", head.to_owned(), "malformed"),
        ("expired", keys.issue(&web(), HOUR, now - 2 * HOUR).unwrap(), "expired"),
        ("another key", foreign.issue(&web(), HOUR, now).unwrap(), "forged"),
        ("other claims", format!("{}.{signature}", other_claims.rsplit_once('.').unwrap().0), "forged"),
        ("alg none", none, "algorithm"),
        ("HS256 with the public key", hs256, "algorithm"),
        ("other audience", signed(&keys, "aud", "kubernetes".into()), "audience"),
        ("other issuer", signed(&keys, "iss", "somebody".into()), "issuer"),
        ("no audience", signed(&keys, "aud", serde_json::Value::Null), "malformed"),
        ("no expiry", signed(&keys, "exp", serde_json::Value::Null), "malformed"),
        ("other subject", signed(&keys, "sub", "system:serviceaccount:shop:admin".into()), "malformed"),
    ] {
        assert_eq!(keys.verify(&token).map(|_| ()).map_err(|error| error.word()), Err(word), "{what}");
    }
}

#[test]
fn the_key_is_made_once_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let open = || TokenKeys::open(&Store::open(home.path()).unwrap()).unwrap();
    let token = open().issue(&web(), HOUR, SystemTime::now()).unwrap();
    assert_eq!(open().verify(&token).map(|token| token.caller), Ok(web()));
}

#[test]
fn a_token_for_nobody_or_for_too_long_is_not_made() {
    let (_, keys) = keys();
    let issue = |namespace: &str, account: &str, ttl| {
        let caller = Caller { namespace: namespace.to_owned(), service_account: account.to_owned() };
        keys.issue(&caller, ttl, SystemTime::now())
    };
    assert!(matches!(issue("shop/x", "web", HOUR), Err(IssueError::Name(_))));
    assert!(matches!(issue("shop", "", HOUR), Err(IssueError::Name(_))));
    assert!(matches!(issue("shop", "web", Duration::ZERO), Err(IssueError::Ttl)));
    assert!(matches!(issue("shop", "web", MAX_TTL + HOUR), Err(IssueError::Ttl)));
}

#[test]
fn every_token_has_an_id_of_its_own_and_says_whether_it_is_for_one_use() {
    let (_, keys) = keys();
    let make = |uses| {
        let wanted = Wanted { caller: web(), ttl: HOUR, uses };
        let (token, made) = keys.make(&wanted, SystemTime::now()).unwrap();
        assert_eq!(keys.verify(&token), Ok(made.clone()));
        made
    };
    let (one, any) = (make(Uses::One), make(Uses::Any));
    assert!(one.one_use && !any.one_use && one.id != any.id);
    assert_eq!(one.expires_at - one.issued_at, 3600);
}

#[test]
fn a_broken_key_file_is_named() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    store.write_key(KEY_FILE, "not a key").unwrap();
    let line = TokenKeys::open(&store).unwrap_err().to_string();
    assert!(line.contains("token-key.pem") && line.contains("restore"), "{line}");
}
