//! The command on files of a few lines: what it answers, and that it is what the sidecar decides.

use clap::Parser;
use outrigger_control_plane::explain::receiving::receivers;
use outrigger_control_plane::world::Change;
use outrigger_resources::parse_yaml;

use super::*;

const MESH: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\n\
    spec: {selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90, targetPort: 9090}]}\n";
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {spec}\n"
    )
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: Args,
}

/// What is said of a request to the mesh with these policies.
fn told(policies: &str, words: &[&str]) -> String {
    let to: &[&str] = if words.contains(&"--to") { &[] } else { &["--to", "Service/shop/reviews"] };
    let line = [&["x", "-f", "-"], to, words].concat();
    let args = Program::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).args;
    let parsed = parse_yaml("mesh.yaml", &format!("{MESH}{policies}"));
    let world = World::default().apply(parsed.objects.into_iter().map(Change::from).collect()).0;
    let (to, port) = destination(&args.to).unwrap();
    let found = receivers(&world, &to, port).unwrap();
    let question = question(&args).unwrap();
    found.iter().map(|receiver| answer(&world, receiver, &question).line()).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(policies: &str, words: &[&str], expected: &str) {
    let found = told(policies, words);
    assert!(found.starts_with(&format!("Service/shop/reviews:{expected}")), "{found}");
}

#[test]
fn the_rule_that_decides_is_named_with_its_place() {
    let allow = policy(
        "allow",
        "{rules: [{to: [{ports: [http]}]}, {from: [{identities: ['spiffe://cluster.local/ns/shop/*']}], to: [{paths: [/api/*]}]}]}",
    );
    let deny = policy("deny", "{action: Deny, rules: [{to: [{paths: [/api/admin/*]}]}]}");
    let both = allow.clone() + &deny;
    check("", &["GET /"], "8080: allowed: no AuthorizationPolicy is about the workload");
    check(
        &both,
        &["--from", WEB, "GET /api/a"],
        "8080: allowed: allowed by spec.rules[1] of AuthorizationPolicy/shop/allow (mesh.yaml:6:1)",
    );
    check(
        &both,
        &["--from", WEB, "GET /api//admin/a"],
        "8080: denied: denied by spec.rules[0] of AuthorizationPolicy/shop/deny",
    );
    check(
        &both,
        &["--from", WEB, "GET /other"],
        "8080: denied: there are Allow policies, and no rule of them matches",
    );
    check(&both, &["GET /api/a"], "8080: denied: there are Allow policies");
    check(&deny, &["GET /other"], "8080: allowed: no Deny policy matches");
    check(
        &policy("bad", "{action: Forbid}"),
        &["GET /"],
        "8080: denied: denied by AuthorizationPolicy/shop/bad, which cannot be read",
    );
}

#[test]
fn headers_claims_and_addresses_are_asked_for() {
    let when = policy(
        "a",
        "{rules: [{from: [{sourceIps: [10.0.0.0/8]}], when: [{header: x-a, values: [b]}, {claim: groups, values: [admin]}]}]}",
    );
    let words =
        ["--source-ip", "10.1.1.1", "--header", "x-a=b", "--claims", r#"{"groups": ["admin"]}"#, "GET /"];
    check(&when, &words, "8080: allowed");
    for missing in [0, 2, 4] {
        let mut words = words.to_vec();
        words.drain(missing..missing + 2);
        check(&when, &words, "8080: denied");
    }
}

#[test]
fn bytes_have_no_paths_and_audits_are_told_beside() {
    let paths = policy("paths", "{rules: [{to: [{paths: [/a]}]}]}");
    let audit = policy("audit", "{action: Audit, rules: [{}]}");
    let web = policy(
        "web",
        &format!("{{rules: [{{from: [{{identities: ['{WEB}']}}], to: [{{ports: [9090]}}]}}]}}"),
    );
    let bytes = ["--to", "Service/shop/reviews:90", "--from", WEB];
    for request in ["tcp", "GET /a"] {
        let words = [&bytes[..], &[request]].concat();
        check(&paths, &words, "9090: denied: there are Allow policies");
        check(
            &(paths.clone() + &web),
            &words,
            "9090: allowed: allowed by spec.rules[0] of AuthorizationPolicy/shop/web",
        );
    }
    check(&paths, &["tcp"], "8080: denied: port 8080 speaks HTTP");
    let found = told(&audit, &["GET /"]);
    assert!(
        found.ends_with("recorded by spec.rules[0] of AuthorizationPolicy/shop/audit (mesh.yaml:6:1)"),
        "{found}"
    );
}

#[test]
fn what_refuses_before_is_told() {
    let inbound = |spec: &str| policy("in", spec).replace("kind: AuthorizationPolicy", "kind: InboundPolicy");
    check(&inbound("{mtls: Strict}"), &["GET /"], "8080: denied: plaintext is refused: mtls is Strict");
    check(&inbound("{mtls: Strict}"), &["--from", WEB, "GET /"], "8080: allowed");
    check(&inbound("{mtls: Closed}"), &["GET /"], "8080: denied: InboundPolicy/shop/in closes the workload");
}

#[test]
fn what_cannot_be_asked_says_what_to_write() {
    for (words, expected) in [
        (vec!["--to", "shop/reviews", "GET /"], "--to shop/reviews: write KIND/NAMESPACE/NAME"),
        (vec!["--to", "Service/a/b:x", "GET /"], "\"x\" is not a port"),
        (vec!["--to", "Gateway/a/b", "GET /"], "a Gateway receives nothing"),
        (vec!["--to", "Service/a/b", "/"], "\"/\" is no request; write one like"),
        (vec!["--to", "Service/a/b", "--header", "x", "GET /"], "--header x: write name=value"),
        (vec!["--to", "Service/a/b", "--claims", "[]", "GET /"], "--claims: not a JSON object"),
    ] {
        let args = Program::try_parse_from([vec!["x", "-f", "-"], words].concat());
        let args = args.unwrap_or_else(|error| panic!("{error}")).args;
        let error = question(&args).map(|_| ()).and_then(|()| destination(&args.to).map(|_| ())).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}
