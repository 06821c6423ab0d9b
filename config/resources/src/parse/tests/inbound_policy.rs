//! InboundPolicy: every field once as it is meant, and what is asked of each.

use http::HeaderName;

use super::*;
use crate::inbound_policy::{Concurrency, InboundPolicySpec, JwtKeys, Priorities, Scope};
use crate::mesh_config::Mtls;
use crate::route_policy::LimitKey;

fn spec(text: &str) -> InboundPolicySpec {
    let text = format!(
        "{{apiVersion: outrigger.dev/v1alpha1, kind: InboundPolicy, metadata: {{name: a}}, spec: {text}}}"
    );
    let Object::InboundPolicy(policy) = only(&text) else { panic!("an InboundPolicy") };
    *policy.spec
}

#[test]
fn it_is_read_as_the_reference_writes_it() {
    let spec = spec(
        "{targetRefs: [{group: '', kind: Service, name: reviews}], mtls: Strict,
          rateLimit: {requests: 500, per: 1s, burst: 100, key: [source.identity]},
          concurrency: {adaptive: true, max: 512}, priorities: {header: x-priority, default: 1},
          jwt: {issuer: https://issuer.example, jwksUri: https://issuer.example/jwks, audiences: [shop]}}",
    );
    let Scope::Targets(targets) = &spec.scope else { panic!("{:?}", spec.scope) };
    assert_eq!(&*targets[0].name, "reviews");
    assert_eq!(spec.mtls, Some(Mtls::Strict));
    let limit = spec.rate_limit.unwrap();
    assert_eq!((limit.requests, limit.burst, limit.key), (500, Some(100), vec![LimitKey::SourceIdentity]));
    assert_eq!(spec.concurrency, Some(Concurrency { min: 4, max: 512 }));
    let header = HeaderName::from_static("x-priority");
    assert_eq!(spec.priorities, Some(Priorities { header, default: 1, levels: 4 }));
    let jwt = spec.jwt.unwrap();
    assert_eq!((&*jwt.issuer, &*jwt.audiences[0]), ("https://issuer.example", "shop"));
    assert_eq!(jwt.keys, JwtKeys::At("https://issuer.example/jwks".into()));
}

#[test]
fn what_is_absent_has_its_default() {
    assert_eq!(spec("{}"), InboundPolicySpec::default());
    let labels = spec("{selector: {matchLabels: {app: a}}}").scope;
    assert!(matches!(labels, Scope::Labels(labels) if labels["app"] == "a"));
    let table = [
        ("{}", (4, 1024)),
        ("{adaptive: false, max: 7}", (7, 7)),
        ("{max: 2}", (2, 2)),
        ("{min: 2000}", (2000, 2000)),
        ("{min: 10, max: 20}", (10, 20)),
    ];
    for (written, (min, max)) in table {
        let found = spec(&format!("{{concurrency: {written}}}")).concurrency;
        assert_eq!(found, Some(Concurrency { min, max }), "{written}");
    }
}

#[test]
fn what_cannot_be_meant_is_named_with_its_field() {
    let table = [
        ("{selector: {matchLabels: {}}}", "selector: matchLabels is empty"),
        (
            "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a}]}",
            "selector: beside targetRefs",
        ),
        ("{targetRefs: []}", "targetRefs: an empty list"),
        (
            "{targetRefs: [{kind: Service, name: a, sectionName: http}]}",
            "targetRefs: sectionName: the policy is about whole",
        ),
        ("{mtls: Off}", "mtls: "),
        ("{rateLimit: {requests: 0}}", "rateLimit.requests: 0 is not"),
        ("{rateLimit: {requests: 1, key: [route]}}", "rateLimit.key: no route is known"),
        ("{concurrency: {adaptive: false}}", "concurrency.max: missing"),
        ("{concurrency: {adaptive: false, max: 3, min: 1}}", "concurrency.min: only for an adaptive limit"),
        ("{concurrency: {min: 5, max: 3}}", "concurrency.min: above max"),
        ("{priorities: {header: x, levels: 9}}", "priorities.levels: 9 is not"),
        ("{priorities: {header: x, default: 4}}", "priorities.default: 4; with 4 levels"),
        ("{limit: 1}", "limit: "),
    ];
    for (spec, expected) in table {
        let text = format!(
            "{{apiVersion: outrigger.dev/v1alpha1, kind: InboundPolicy, metadata: {{name: a}}, spec: {spec}}}"
        );
        let parsed = parse_yaml("f", &text);
        let [problem] = parsed.problems.as_slice() else { panic!("{spec}: {:?}", parsed.problems) };
        let shown = format!("{}: {}", problem.field, problem.message);
        assert!(shown.starts_with(&format!("spec.{expected}")), "{spec}: {shown}");
        assert!(shown.ends_with("everything that it is about is refused"), "{shown}");
        assert!(parsed.objects[0].object.is_stand_in(), "{spec}");
    }
}

#[test]
fn keys_of_tokens_are_at_a_url_or_written_down() {
    let jwt = |text: &str| {
        let text = format!(
            "{{apiVersion: outrigger.dev/v1alpha1, kind: InboundPolicy, metadata: {{name: a}}, spec: {{jwt: {text}}}}}"
        );
        parse_yaml("f", &text)
    };
    let key = r#"{"kty": "EC", "crv": "P-256", "x": "a", "y": "b"}"#;
    let read = spec(&format!("{{jwt: {{issuer: i, jwks: '{{\"keys\": [{key}]}}'}}}}")).jwt.unwrap();
    assert_eq!(read.keys, JwtKeys::Here(format!("{{\"keys\": [{key}]}}").into()));
    let long = format!("{{issuer: i, jwksUri: 'https://i.example/{}'}}", "x".repeat(2048));
    let table = [
        ("{jwksUri: https://i.example}", "jwt.issuer: missing"),
        ("{issuer: '', jwksUri: https://i.example}", "jwt.issuer: empty"),
        ("{issuer: i}", "jwt.jwksUri: missing"),
        ("{issuer: i, jwksUri: https://i.example, jwks: '{}'}", "jwt.jwks: beside jwksUri"),
        ("{issuer: i, jwksUri: i.example/jwks}", "jwt.jwksUri: not a URL"),
        ("{issuer: i, jwksUri: 'file:///etc/passwd'}", "jwt.jwksUri: not a URL"),
        ("{issuer: i, jwksUri: 'ftp://i.example/a'}", "jwt.jwksUri: not a URL of http"),
        ("{issuer: i, jwksUri: /jwks}", "jwt.jwksUri: not a URL of http"),
        ("{issuer: i, jwksUri: 'https://ann:secret@i.example/'}", "jwt.jwksUri: with a user name"),
        ("{issuer: i, jwksUri: 'https://i.example/#a'}", "jwt.jwksUri: with a fragment"),
        (&long, "jwt.jwksUri: longer than"),
        ("{issuer: i, jwks: 'keys'}", "jwt.jwks: not JSON"),
        ("{issuer: i, jwks: '[]'}", "jwt.jwks: not a JSON Web Key Set"),
        (r#"{issuer: i, jwks: '{"keys": []}'}"#, "jwt.jwks: without a key"),
        (r#"{issuer: i, jwks: '{"keys": [{"kty": "oct", "k": "a"}]}'}"#, "jwt.jwks: without a key"),
        (r#"{issuer: i, jwks: '{"keys": [{"kty": "RSA", "use": "enc"}]}'}"#, "jwt.jwks: without a key"),
        (r#"{issuer: i, jwks: '{"keys": [{"kty": "RSA", "d": "a"}]}'}"#, "jwt.jwks: with a private key"),
    ];
    for (text, expected) in table {
        let problems: Vec<String> =
            jwt(text).problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{text}: {problems:?}");
    }
}
