//! Tokens of requests through real sidecars: which are let in, and where the keys come from.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;

use http::{HeaderMap, Request, StatusCode, Version};
use outrigger_tests::client::{self, Answer, Client, empty};
use outrigger_tests::eventually;
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::town::{
    PATIENCE, Sidecar, Town, inbound, mesh_config, meshed, metric, outbound, service,
};
use serde_json::{Value, json};

#[path = "mesh_jwt/issuer.rs"]
mod issuer;

use issuer::{ISSUER, Key, Published, b64, claims, now, set, unsigned};

/// Any port on loopback.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The sidecars of `web` and `files` with an application behind `files`, which wants tokens.
struct Shop {
    town: Town,
    /// Where clients dial.
    entrance: SocketAddr,
    /// Where the sidecar of `files` is dialled.
    inbound: SocketAddr,
    files: Sidecar,
    _web: Sidecar,
    origin: Origin,
    base: String,
}

impl Shop {
    async fn with(jwt: &str) -> Self {
        let subnet = Subnet::claim();
        let (entrance, address) = (subnet.address(1, 9001), subnet.address(2, 9080));
        let base = service("files", "http") + &meshed("files-1", "files", address);
        let town = Town::start(subnet, &(base.clone() + &policy(jwt, "tokens"))).await.unwrap();
        let origin = Origin::start("files", ANY).await.unwrap();
        let files = town.sidecar("files", &[inbound(address, origin.address())]).await.unwrap();
        let web = town.sidecar("web", &[outbound(entrance, "files")]).await.unwrap();
        Self { town, entrance, inbound: address, files, _web: web, origin, base }
    }

    /// Another policy of the same name.
    fn rewrite(&self, jwt: &str, label: &str) {
        self.town.rewrite(&(self.base.clone() + &policy(jwt, label))).unwrap();
    }

    /// What a request with these `authorization` fields gets.
    async fn ask(&self, fields: &[&str]) -> Answer {
        let mut client = Client::connect(self.entrance, Version::HTTP_11).await.unwrap();
        let mut request = Request::get("/").body(empty()).unwrap();
        for field in fields {
            request.headers_mut().append("authorization", field.parse().unwrap());
        }
        client.send(request).await.unwrap()
    }

    async fn bring(&self, token: &str) -> Answer {
        self.ask(&[&format!("Bearer {token}")]).await
    }

    /// Waits until a token is answered with this status.
    async fn until(&self, token: &str, status: StatusCode) -> bool {
        let is_so = async || (self.bring(token).await.status == status).then_some(());
        eventually(PATIENCE, is_so).await.is_some()
    }

    async fn refused(&self, word: &str) -> f64 {
        let label = format!("reason=\"{word}\"");
        metric(&self.files, "/metrics", "outrigger_token_refused_total", &[&label]).await.unwrap()
    }
}

fn policy(jwt: &str, label: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: InboundPolicy\n\
         metadata: {{name: tokens, namespace: shop, labels: {{changed: {label}}}}}\n\
         spec: {{targetRefs: [{{group: '', kind: Service, name: files}}], jwt: {{{jwt}}}}}\n"
    )
}

fn at(url: &str) -> String {
    format!("issuer: '{ISSUER}', audiences: [shop], jwksUri: '{url}'")
}

/// HMAC (RFC 2104) with SHA-256 of a message under any bytes.
fn hs256(secret: &[u8], message: &str) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    b64(aws_lc_rs::hmac::sign(&key, message.as_bytes()).as_ref())
}

/// Tokens with one thing wrong each, and what is counted for it.
fn bad_tokens(key: &Key, now: u64) -> Vec<(String, &'static str)> {
    let header = json!({"alg": "ES256", "kid": "one"});
    let good = key.token(&[]);
    let [head, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
    let other = b64(claims(&[("groups", json!(["admin"]))]).to_string().as_bytes());
    let unsigned_token = unsigned(&json!({"alg": "none", "kid": "one"}), &claims(&[]));
    let hmac_text = unsigned(&json!({"alg": "HS256", "kid": "one"}), &claims(&[]));
    let hmac = hs256(key.public().to_string().as_bytes(), &hmac_text);
    vec![
        (key.token(&[("iss", json!("https://other.example"))]), "issuer"),
        (key.token(&[("aud", json!("bank"))]), "audience"),
        (key.token(&[("exp", json!(now - 120))]), "expired"),
        (key.token(&[("nbf", json!(now + 600))]), "not_yet_valid"),
        (key.token(&[("exp", Value::Null)]), "malformed"),
        (key.sign(&json!({"alg": "ES256", "kid": "two"}), &claims(&[])), "unknown_key"),
        (Key::es256("one").token(&[]), "signature"),
        (format!("{head}.{other}.{signature}"), "signature"),
        (format!("{unsigned_token}."), "algorithm"),
        (format!("{hmac_text}.{hmac}"), "algorithm"),
        (key.sign(&json!({"alg": "ES256", "crit": ["x"]}), &claims(&[])), "malformed"),
        (unsigned(&header, &claims(&[])), "malformed"),
        ("x".repeat(9 * 1024), "malformed"),
        (String::new(), "missing"),
    ]
}

#[tokio::test]
async fn only_a_good_token_comes_to_the_application() {
    let (one, rsa) = (Key::es256("one"), Key::rs256("rsa"));
    let published = Published::start(&[&one, &rsa]).await;
    let shop = Shop::with(&at(&published.url())).await;
    let good = one.token(&[]);
    assert!(shop.until(&good, StatusCode::OK).await, "the keys came");
    assert_eq!(shop.bring(&rsa.token(&[])).await.status, StatusCode::OK);
    let seen = shop.origin.seen();
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {good}"), "the application sees the token");

    let arrived = shop.origin.arrived();
    for (token, word) in bad_tokens(&one, now()) {
        let before = shop.refused(word).await;
        let answer = if token.is_empty() { shop.ask(&[]).await } else { shop.bring(&token).await };
        let challenge = if word == "missing" { "Bearer" } else { "Bearer error=\"invalid_token\"" };
        assert_eq!(
            (answer.status, answer.reason()),
            (StatusCode::UNAUTHORIZED, "unauthenticated"),
            "{token}"
        );
        assert_eq!(answer.header("www-authenticate"), challenge, "{token}");
        assert!(answer.header("x-outrigger-reason").ends_with("object=InboundPolicy/shop/tokens"));
        assert_eq!(shop.refused(word).await, before + 1.0, "{word} for {token}");
    }
    let twice = format!("Bearer {good}");
    assert_eq!(shop.ask(&[&twice, &twice]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(shop.ask(&["Basic YTpi"]).await.header("www-authenticate"), "Bearer");
    assert_eq!(shop.origin.arrived(), arrived, "the application saw none of it");
}

#[tokio::test]
async fn calls_and_connections_without_a_token_are_told_in_their_own_way() {
    let one = Key::es256("one");
    let published = Published::start(&[&one]).await;
    let shop = Shop::with(&at(&published.url())).await;
    let good = one.token(&[]);
    assert!(shop.until(&good, StatusCode::OK).await);
    let mut grpc = Client::connect(shop.entrance, Version::HTTP_2).await.unwrap();
    let call = |token: Option<&str>| {
        let mut call = Request::post("/a.B/C").header("content-type", "application/grpc");
        if let Some(token) = token {
            call = call.header("authorization", format!("Bearer {token}"));
        }
        call.body(empty()).unwrap()
    };
    let answer = grpc.send(call(None)).await.unwrap();
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, "16"));
    let status = |headers: &HeaderMap| headers.get("grpc-status").cloned();
    let answer = grpc.send(call(Some(&good))).await.unwrap();
    assert_eq!(status(&answer.trailers).or(status(&answer.headers)).unwrap(), "0");

    // Plain bytes carry no token: those to a port of which nobody said that it speaks HTTP.
    shop.town.mesh.write("mesh.yaml", &mesh_config("Permissive")).unwrap();
    let undeclared = shop.base.replace(", appProtocol: http", "");
    shop.town.rewrite(&(undeclared + &policy(&at(&published.url()), "tokens"))).unwrap();
    let asked = async || {
        let answer = client::get(shop.inbound, "/").await.ok()?;
        (answer.header("www-authenticate") == "Bearer").then_some(())
    };
    assert!(
        eventually(PATIENCE, asked).await.is_some(),
        "plaintext is let in, and asked for a token like anybody"
    );
    let (name, labels) = ("outrigger_tcp_connections_closed_total", ["reason=\"unauthenticated\""]);
    let before = metric(&shop.files, "/metrics", name, &labels).await.unwrap();
    let refused = async || {
        client::talk(shop.inbound, b"\x01\x02\x03 these are bytes").await.ok()?;
        (metric(&shop.files, "/metrics", name, &labels).await.ok()? > before).then_some(())
    };
    assert!(eventually(PATIENCE, refused).await.is_some());
}

#[tokio::test]
async fn keys_change_at_their_url_and_outlive_it() {
    let (old, new) = (Key::es256("old"), Key::es256("new"));
    let published = Published::start(&[&old]).await;
    let jwt = at(&published.url());
    let shop = Shop::with(&jwt).await;
    assert!(shop.until(&old.token(&[]), StatusCode::OK).await);
    assert_eq!(shop.bring(&new.token(&[])).await.status, StatusCode::UNAUTHORIZED);

    // Both for a while, then the new one alone. A change of the policy has them fetched without waiting.
    published.publish(&[&old, &new]);
    shop.rewrite(&jwt, "both");
    assert!(shop.until(&new.token(&[]), StatusCode::OK).await);
    assert_eq!(shop.bring(&old.token(&[])).await.status, StatusCode::OK);
    published.publish(&[&new]);
    shop.rewrite(&jwt, "new");
    assert!(shop.until(&old.token(&[]), StatusCode::UNAUTHORIZED).await, "also those that were remembered");
    assert_eq!(shop.bring(&new.token(&[])).await.status, StatusCode::OK);

    // The issuer is away: what it said last goes on, and the policy says so.
    published.fail();
    shop.rewrite(&jwt, "away");
    let told = async || {
        let status = shop.town.status().await.ok()?.to_string();
        status.contains("it answers 500 Internal Server Error; the last good ones are used").then_some(())
    };
    assert!(eventually(PATIENCE, told).await.is_some(), "{}", shop.town.status().await.unwrap());
    assert_eq!(shop.bring(&new.token(&[])).await.status, StatusCode::OK);
    published.publish(&[&new]);
    let solved = async || {
        let status = shop.town.status().await.ok()?.to_string();
        (!status.contains("it answers 500")).then_some(())
    };
    assert!(
        eventually(PATIENCE, solved).await.is_some(),
        "the next fetch is good, and nothing is left to say"
    );
}

#[tokio::test]
async fn keys_may_stand_in_the_policy() {
    let (one, two) = (Key::es256("one"), Key::rs256("two"));
    let here = |key: &Key| format!("issuer: '{ISSUER}', audiences: [shop], jwks: '{}'", set(&[key]));
    let shop = Shop::with(&here(&one)).await;
    assert_eq!(shop.bring(&one.token(&[])).await.status, StatusCode::OK, "there is nothing to wait for");
    assert_eq!(shop.bring(&two.token(&[])).await.status, StatusCode::UNAUTHORIZED);
    shop.rewrite(&here(&two), "two");
    assert!(shop.until(&two.token(&[]), StatusCode::OK).await);
    assert_eq!(shop.bring(&one.token(&[])).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_a_token_says_decides_where_a_policy_asks_for_it() {
    let one = Key::es256("one");
    let jwt = format!("issuer: '{ISSUER}', audiences: [shop], jwks: '{}'", set(&[&one]));
    let shop = Shop::with(&jwt).await;
    assert_eq!(shop.bring(&one.token(&[])).await.status, StatusCode::OK, "any good token");
    let admins = "---\napiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\n\
                  metadata: {name: admins, namespace: shop}\n\
                  spec: {targetRefs: [{group: '', kind: Service, name: files}], action: Allow, \
                  rules: [{when: [{claim: groups, values: [admin]}]}]}\n";
    shop.town.rewrite(&(shop.base.clone() + &policy(&jwt, "tokens") + admins)).unwrap();
    assert!(shop.until(&one.token(&[]), StatusCode::FORBIDDEN).await, "no groups");
    for (groups, expected) in [
        (json!(["dev", "admin"]), StatusCode::OK),
        (json!("admin"), StatusCode::OK),
        (json!(["administrator"]), StatusCode::FORBIDDEN),
    ] {
        let answer = shop.bring(&one.token(&[("groups", groups.clone())])).await;
        assert_eq!(answer.status, expected, "{groups}");
    }
    let forged = Key::es256("one").token(&[("groups", json!(["admin"]))]);
    assert_eq!(shop.bring(&forged).await.status, StatusCode::UNAUTHORIZED, "the token comes first");
}
