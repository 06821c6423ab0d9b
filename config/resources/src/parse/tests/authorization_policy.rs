//! AuthorizationPolicy: every field once as it is meant, what is asked of each, and what is in force where it is not so.

use super::*;
use crate::authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, Pattern, Rule, Scope, Subject,
};

fn written(spec: &str) -> String {
    format!(
        "{{apiVersion: outrigger.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: a, namespace: shop}}, spec: {spec}}}"
    )
}

fn spec(text: &str) -> AuthorizationPolicySpec {
    let Object::AuthorizationPolicy(policy) = only(&written(text)) else { panic!("an AuthorizationPolicy") };
    assert!(!policy.is_stand_in);
    *policy.spec
}

/// The policy of a spec that has one problem, and the problem as it is shown.
fn wrong(text: &str) -> (AuthorizationPolicy, String) {
    let mut parsed = parse_yaml("f", &written(text));
    let [problem] = parsed.problems.as_slice() else { panic!("{text}: {:?}", parsed.problems) };
    let shown = format!("{}: {}", problem.field, problem.message);
    let Object::AuthorizationPolicy(policy) = parsed.objects.remove(0).object else { panic!("{text}") };
    (policy, shown)
}

fn texts(patterns: &[Pattern]) -> Vec<String> {
    patterns.iter().map(ToString::to_string).collect()
}

#[test]
fn it_is_read_as_the_reference_writes_it() {
    let spec = spec(
        r#"{targetRefs: [{group: "", kind: Service, name: reviews}], action: Allow, rules: [{
            from: [{identities: ["spiffe://cluster.local/ns/shop/sa/web", "spiffe://other/*"], namespaces: [team-*],
                    sourceIps: [10.0.0.0/8, 127.0.0.1, "fd00::/8"]}],
            to: [{methods: [GET], paths: [/api/*, /café], ports: [9080]}],
            when: [{claim: realm.roles, values: [admin]}, {claim: "https://a.example/role"}, {header: X-Tenant, values: [b*]}]}]}"#,
    );
    let Scope::Targets(targets) = &spec.scope else { panic!("{:?}", spec.scope) };
    assert_eq!((&*targets[0].name, spec.action), ("reviews", Action::Allow));
    let [rule] = spec.rules.as_slice() else { panic!("{:?}", spec.rules) };
    let (from, to) = (&rule.from[0], &rule.to[0]);
    assert_eq!(texts(&from.identities), ["spiffe://cluster.local/ns/shop/sa/web", "spiffe://other/*"]);
    assert_eq!(from.namespaces, [Pattern::Prefix("team-".into())]);
    let networks: Vec<String> = from.source_ips.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"]);
    assert_eq!(
        (texts(&to.methods), texts(&to.paths)),
        (vec!["GET".to_owned()], vec!["/api/*".to_owned(), "/café".to_owned()])
    );
    assert_eq!(to.ports, [9080]);
    let subjects: Vec<_> = rule.when.iter().map(|condition| condition.subject.clone()).collect();
    let expected = [
        Subject::Claim(vec!["realm".into(), "roles".into()]),
        Subject::Claim(vec!["https://a.example/role".into()]),
        Subject::Header(http::HeaderName::from_static("x-tenant")),
    ];
    assert_eq!(subjects, expected);
    assert!(rule.when[1].values.is_empty());
}

#[test]
fn what_is_absent_means_anything_and_allow() {
    assert_eq!(spec("{}"), AuthorizationPolicySpec::default());
    assert_eq!(spec("{rules: [{}]}").rules, [Rule::default()]);
    let lists =
        spec("{rules: [{from: [{identities: [], namespaces: [], sourceIps: []}], to: [{ports: []}]}]}");
    assert_eq!((lists.rules[0].from.len(), lists.rules[0].to.len()), (1, 1));
    let labels = spec("{selector: {matchLabels: {app: a}}, action: Deny}");
    assert!(matches!(labels.scope, Scope::Labels(labels) if labels["app"] == "a"));
    // A name may begin with a dot, and a service of gRPC has dots in it.
    for path in ["/.*", "/.well-known/x", "/pkg.Service/*", "/*", "*", "/a/.hidden"] {
        assert_eq!(
            texts(&spec(&format!("{{rules: [{{to: [{{paths: ['{path}']}}]}}]}}")).rules[0].to[0].paths),
            [path]
        );
    }
}

#[test]
fn a_wrong_field_of_a_rule_costs_the_rule_and_is_named() {
    let table = [
        ("from: [{identities: [web]}]", "from[0].identities: \"web\" is no SPIFFE id"),
        ("from: [{identities: ['spiffe://']}]", "from[0].identities: \"spiffe://\" is no SPIFFE id"),
        ("from: [{identities: ['spiffe://a']}]", "from[0].identities: \"spiffe://a\" is no SPIFFE id"),
        ("from: [{identities: ['spiffe://A/b']}]", "from[0].identities: \"A\" is not a trust domain"),
        ("from: [{identities: ['spiffe://a//b']}]", "from[0].identities: \"spiffe://a//b\" is no SPIFFE id"),
        ("from: [{identities: ['*']}]", "from[0].identities: \"*\" is no SPIFFE id"),
        (
            "from: [{identities: ['spiffe://*/ns/a']}]",
            "from[0].identities[0]: \"spiffe://*/ns/a\" has a * that is not its end",
        ),
        ("from: [{namespaces: [Shop]}]", "from[0].namespaces: \"Shop\" is no namespace"),
        ("from: [{sourceIps: [10.0.0.1/8]}]", "from[0].sourceIps: \"10.0.0.1/8\" is neither"),
        (
            "from: [{ipBlocks: [10.0.0.1]}]",
            "from[0].ipBlocks: unknown field; expected one of identities, namespaces, sourceIps",
        ),
        ("to: [{methods: [get]}]", "to[0].methods: \"get\" is no method"),
        ("to: [{paths: [admin]}]", "to[0].paths: \"admin\" is no path"),
        (
            "to: [{paths: [/a%2Fb]}]",
            "to[0].paths: \"/a%2Fb\" has a % in it; write the path as it is after decoding",
        ),
        ("to: [{paths: [/a//b]}]", "to[0].paths: \"/a//b\" has //"),
        ("to: [{paths: [/a/../b]}]", "to[0].paths: \"/a/../b\" has //, /./ or /../"),
        ("to: [{paths: [/a/..]}]", "to[0].paths: \"/a/..\" has //, /./ or /../"),
        ("to: [{paths: ['/a;b']}]", "to[0].paths: \"/a;b\" has a ; in it"),
        ("to: [{paths: ['/a\\b']}]", "to[0].paths: \"/a\\b\" has a \\ in it"),
        ("to: [{paths: ['/a?b']}]", "to[0].paths: \"/a?b\" has a ? in it"),
        ("to: [{paths: ['/a#b']}]", "to[0].paths: \"/a#b\" has a # in it"),
        ("to: [{paths: ['*/admin']}]", "to[0].paths[0]: \"*/admin\" has a * that is not its end"),
        ("to: [{ports: [0]}]", "to[0].ports[0]: 0 is not a whole number from 1 to 65535"),
        ("to: [{ports: [http]}]", "to[0].ports[0]: \"http\" is not"),
        ("when: [{values: [a]}]", "when[0]: neither claim nor header"),
        ("when: [{claim: a, header: b}]", "when[0].header: beside claim"),
        ("when: [{claim: a..b}]", "when[0].claim: \"a..b\" has an empty name"),
        ("when: [{claim: a.b.c.d.e.f.g.h.i}]", "when[0].claim: \"a.b.c.d.e.f.g.h.i\" has more than 8"),
        ("when: [{header: a b}]", "when[0].header: \"a b\" is not a header name"),
        ("when: [{claim: a, values: []}]", "when[0].values: an empty list"),
        ("when: [{claim: a, values: ['']}]", "when[0].values[0]: 0 bytes"),
        ("who: me", "who: unknown field; expected one of from, to, when"),
    ];
    for (rule, expected) in table {
        for (action, instead) in
            [("Allow", "allows nothing"), ("Deny", "denies everything"), ("Audit", "records everything")]
        {
            let (policy, shown) =
                wrong(&format!("{{action: {action}, rules: [{{}}, {{{rule}}}, {{to: [{{ports: [1]}}]}}]}}"));
            assert!(
                shown.starts_with(&format!("spec.rules[1].{expected}").replace(".when[0]: ", ".when[0]: ")),
                "{rule}: {shown}"
            );
            assert!(shown.ends_with(&format!("; the rule {instead} until it is mended")), "{rule}: {shown}");
            assert!(!policy.is_stand_in);
            let indexes: Vec<usize> = policy.spec.rules.iter().map(|rule| rule.index).collect();
            if action == "Allow" {
                assert_eq!(indexes, [0, 2]);
            } else {
                assert_eq!(indexes, [0, 1, 2]);
                assert_eq!(policy.spec.rules[1], Rule { index: 1, ..Rule::default() }, "{rule}");
            }
        }
    }
}

#[test]
fn a_key_that_is_written_twice_in_a_rule_costs_the_rule() {
    let rule =
        "action: Deny\n  rules:\n  - to: [{ports: [1]}]\n    to: [{ports: [2]}]\n  - to: [{ports: [3]}]";
    let text = format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: a}}\nspec:\n  {rule}\n"
    );
    let parsed = check(
        &text,
        "f:8:5: AuthorizationPolicy/default/a: spec.rules[0].to: written twice, first in line 7; remove one; \
         the rule denies everything until it is mended",
    );
    let Object::AuthorizationPolicy(policy) = &parsed.objects[0].object else { panic!("{parsed:?}") };
    assert_eq!(policy.spec.rules[0], Rule::default());
    assert_eq!(policy.spec.rules[1].to[0].ports, [3]);
}

#[test]
fn one_that_cannot_be_read_denies_everything_it_is_about() {
    let labels = || Scope::Labels([("app".to_owned(), "a".to_owned())].into());
    let table = [
        ("{action: Forbid}", "action: unknown value \"Forbid\"; write Allow, Deny, Audit", Scope::Namespace),
        ("{action: Forbid, selector: {matchLabels: {app: a}}}", "action: unknown", labels()),
        ("{targetRef: [{kind: Service, name: a}]}", "targetRef: unknown field", Scope::Namespace),
        ("{selector: {matchLabels: {app: a}}, rule: []}", "rule: unknown field", labels()),
        ("{selector: {matchLabels: {}}}", "selector: matchLabels is empty", Scope::Namespace),
        ("{rules: {}}", "rules: not a list", Scope::Namespace),
        ("[]", ": a list where a mapping is expected", Scope::Namespace),
    ];
    for (text, expected, scope) in table {
        let (policy, shown) = wrong(text);
        let expected = format!("spec.{expected}").replace("spec.:", "spec:");
        assert!(shown.starts_with(&expected), "{text}: {shown}");
        assert!(shown.ends_with("; until it is mended everything that it is about is refused"), "{shown}");
        assert!(policy.is_stand_in);
        let everything =
            AuthorizationPolicySpec { scope, action: Action::Deny, rules: vec![Rule::default()] };
        assert_eq!(*policy.spec, everything, "{text}");
    }
    assert_eq!(wrong("{action: Audit, rule: []}").0.spec.action, Action::Audit);
    let many = format!("{{rules: [{}]}}", "{},".repeat(257));
    assert!(wrong(&many).1.starts_with("spec.rules: 257 rules; at most 256"));
    // Its labels are no texts, so that not even its metadata can be read.
    let parsed = parse_yaml("f", &written("{}").replace("name: a,", "name: a, labels: {a: 1},"));
    assert!(parsed.objects[0].object.is_stand_in());
}
