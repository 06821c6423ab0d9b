//! An issuer of tokens: keys of its own, and a URL where they are.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Who the tokens are from.
pub(crate) const ISSUER: &str = "https://issuer.example";

/// A key that signs, with its name.
pub(crate) enum Key {
    Es256(&'static str, EcdsaKeyPair),
    Rs256(&'static str, Box<(RsaKeyPair, KeyPair)>),
}

impl Key {
    pub(crate) fn es256(kid: &'static str) -> Self {
        Self::Es256(kid, EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn rs256(kid: &'static str) -> Self {
        let made = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let pair = RsaKeyPair::from_pkcs8(&made.serialize_der()).unwrap();
        Self::Rs256(kid, Box::new((pair, made)))
    }

    /// The public half, as it is published.
    pub(crate) fn public(&self) -> Value {
        match self {
            Self::Es256(kid, pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kid": kid, "kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)})
            }
            Self::Rs256(kid, pair) => {
                // SEQUENCE { INTEGER n, INTEGER e } of a key of 2048 bits (RFC 8017, appendix A.1.1).
                let der = pair.1.der_bytes();
                let (n, e) = (&der[der.len() - 5 - 256..der.len() - 5], &der[der.len() - 3..]);
                json!({"kid": kid, "kty": "RSA", "alg": "RS256", "n": b64(n), "e": b64(e)})
            }
        }
    }

    /// A token with these claims beside the usual ones.
    pub(crate) fn token(&self, changes: &[(&str, Value)]) -> String {
        let header = match self {
            Self::Es256(kid, _) => json!({"alg": "ES256", "kid": kid}),
            Self::Rs256(kid, _) => json!({"alg": "RS256", "kid": kid}),
        };
        self.sign(&header, &claims(changes))
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let random = SystemRandom::new();
        let signature = match self {
            Self::Es256(_, pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Rs256(_, pair) => {
                let mut signature = vec![0; pair.0.public_modulus_len()];
                pair.0.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{signed}.{}", b64(&signature))
    }
}

/// The usual claims, some of them others.
pub(crate) fn claims(changes: &[(&str, Value)]) -> Value {
    let now = now();
    let mut claims = json!({"iss": ISSUER, "aud": ["shop"], "sub": "ann", "iat": now, "exp": now + 600});
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    claims
}

/// Header and claims, as they are signed.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()))
}

pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A set of these keys.
pub(crate) fn set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>()}).to_string()
}

/// Serves a set of keys, or 500.
pub(crate) struct Published {
    address: SocketAddr,
    set: Arc<Mutex<Option<String>>>,
    serving: JoinHandle<()>,
}

impl Published {
    pub(crate) async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let published = Arc::new(Mutex::new(Some(set(keys))));
        let serving = tokio::spawn(serve(listener, published.clone()));
        Self { address, set: published, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }

    /// Other keys from now on.
    pub(crate) fn publish(&self, keys: &[&Key]) {
        *self.set.lock().unwrap() = Some(set(keys));
    }

    /// Nothing but errors from now on.
    pub(crate) fn fail(&self) {
        *self.set.lock().unwrap() = None;
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, set: Arc<Mutex<Option<String>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut request).await, Ok(count) if count > 0) {
                break;
            }
        }
        let (status, body) = match set.lock().unwrap().clone() {
            Some(set) => ("200 OK", set),
            None => ("500 Internal Server Error", String::new()),
        };
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        // Who hangs up has had enough.
        let _ = stream.write_all((head + &body).as_bytes()).await;
    }
}
