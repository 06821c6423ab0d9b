//! Who is let in: each word of a policy, the order of decisions, and the same as by reading policies one by one.

use std::net::Ipv4Addr;

use http::{HeaderName, HeaderValue};
use outrigger_model::authorization::{
    AuthorizationPolicy, Condition, Operation, Rule, Source, Subject, TextPattern,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn patterns(texts: &[&str]) -> Vec<TextPattern> {
    texts.iter().map(|text| TextPattern::written(text)).collect()
}

fn paths(texts: &[&str]) -> Rule {
    Rule { to: vec![Operation { paths: patterns(texts), ..Operation::default() }], ..Rule::default() }
}

fn methods(texts: &[&str]) -> Rule {
    Rule { to: vec![Operation { methods: patterns(texts), ..Operation::default() }], ..Rule::default() }
}

fn ports(ports: &[u16]) -> Rule {
    Rule { to: vec![Operation { ports: ports.to_vec(), ..Operation::default() }], ..Rule::default() }
}

fn from(source: Source) -> Rule {
    Rule { from: vec![source], ..Rule::default() }
}

fn identities(texts: &[&str]) -> Rule {
    from(Source { identities: patterns(texts), ..Source::default() })
}

fn namespaces(texts: &[&str]) -> Rule {
    from(Source { namespaces: patterns(texts), ..Source::default() })
}

fn networks(texts: &[&str]) -> Rule {
    from(Source { networks: texts.iter().map(|text| text.parse().unwrap()).collect(), ..Source::default() })
}

fn when(subject: Subject, values: &[&str]) -> Rule {
    Rule { when: vec![Condition { subject, values: patterns(values) }], ..Rule::default() }
}

fn header(name: &'static str, values: &[&str]) -> Rule {
    when(Subject::Header(HeaderName::from_static(name)), values)
}

fn claim(name: &str, values: &[&str]) -> Rule {
    when(Subject::Claim(vec![name.into()]), values)
}

fn policy(name: &str, action: AuthorizationAction, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy { name: name.into(), action, rules }
}

fn authorizer(policies: Vec<AuthorizationPolicy>) -> Authorizer {
    Authorizer::compile(&Authorization { policies }, "cluster.local")
}

/// A request in one line: `<identity or -> <address> <port> <method> <path> [name:value ...]`; with the method `TCP` an
/// opaque connection.
fn decide(authorizer: &Authorizer, line: &str) -> String {
    with_claims(authorizer, line, None)
}

fn with_claims(authorizer: &Authorizer, line: &str, claims: Option<&Claims>) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let identity = (words[0] != "-").then(|| words[0].parse().unwrap());
    let caller = Caller {
        identity: identity.as_ref(),
        source: words[1].parse().unwrap(),
        port: words[2].parse().unwrap(),
    };
    let mut headers = HeaderMap::new();
    for field in words.iter().skip(5) {
        let (name, value) = field.split_once(':').unwrap();
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let path = words.get(4).copied().filter(|_| words[3] != "CONNECT");
    let call = Call { method: words[3], path, authority: "reviews.shop", headers: &headers, claims };
    let standing = authorizer.standing(&caller);
    let asked = (words[3] != "TCP").then_some(&call);
    let mut said = match authorizer.decide(&standing, asked) {
        Decision::NotAsked => "not asked".to_owned(),
        Decision::NotNamed => "not named".to_owned(),
        Decision::Allowed(by) => format!("allowed {}/{}", by.policy, by.rule),
        Decision::Denied(by) => format!("denied {}/{}", by.policy, by.rule),
    };
    authorizer.audited(&standing, asked, |by| said += &format!(" +{}/{}", by.policy, by.rule));
    said
}

/// Whether a rule of an Allow and of a Deny policy matches.
fn matches(rule: Rule, line: &str) -> (bool, bool) {
    let allow = authorizer(vec![policy("a", AuthorizationAction::Allow, vec![rule.clone()])]);
    let deny = authorizer(vec![policy("d", AuthorizationAction::Deny, vec![rule])]);
    (decide(&allow, line) == "allowed a/0", decide(&deny, line) == "denied d/0")
}

#[test]
fn each_word_of_a_rule_matches_what_it_says() {
    let web = format!("{WEB} 10.0.0.1 9080 GET /api/x");
    let plain = "- 10.0.0.1 9080 GET /api/x";
    let foreign = "spiffe://other.example/ns/shop/sa/web 10.0.0.1 9080 GET /";
    let table: Vec<(Rule, &str, bool)> = vec![
        (Rule::default(), plain, true),
        (identities(&[WEB]), &web, true),
        (identities(&["spiffe://cluster.local/ns/shop/*"]), &web, true),
        (identities(&["spiffe://cluster.local/ns/shop/sa/we"]), &web, false),
        (identities(&[WEB]), plain, false),
        (identities(&["*"]), plain, false),
        (identities(&[WEB]), foreign, false),
        (identities(&["spiffe://other.example/*"]), foreign, true),
        (namespaces(&["shop"]), &web, true),
        (namespaces(&["sh*"]), &web, true),
        (namespaces(&["sho"]), &web, false),
        (namespaces(&["shop"]), plain, false),
        (namespaces(&["*"]), foreign, false),
        (networks(&["10.0.0.0/8"]), plain, true),
        (networks(&["10.0.0.0/8"]), "- ::ffff:10.1.1.1 1 GET /", true),
        (networks(&["11.0.0.0/8", "10.0.0.2"]), plain, false),
        (methods(&["POST", "GET"]), plain, true),
        (methods(&["POST", "HEAD"]), plain, false),
        (methods(&["PROP*"]), "- ::1 1 PROPFIND /", true),
        (methods(&["PURGE"]), "- ::1 1 PURGE /", true),
        (methods(&["PURGE"]), "- ::1 1 BAN /", false),
        (methods(&["*"]), "- ::1 1 BAN /", true),
        (paths(&["/api/x"]), plain, true),
        (paths(&["/b", "/api/*"]), plain, true),
        (paths(&["/api"]), plain, false),
        (paths(&["/api/*"]), "- ::1 1 GET /api/?/x", true),
        (ports(&[80, 9080]), plain, true),
        (ports(&[80]), plain, false),
        (header("x-tier", &["gold", "s*"]), "- ::1 1 GET / x-tier:silver", true),
        (header("x-tier", &["gold"]), "- ::1 1 GET / x-tier:silver", false),
        (header("x-tier", &[]), "- ::1 1 GET / x-tier:", true),
        (header("x-tier", &[]), plain, false),
        (header("host", &["reviews.*"]), plain, true),
        (header("host", &["reviews.shop"]), "- ::1 1 GET / host:other", false),
        (claim("sub", &[]), plain, false),
    ];
    for (rule, line, expected) in table {
        assert_eq!(matches(rule.clone(), line), (expected, expected), "{rule:?} {line}");
    }
}

#[test]
fn all_parts_of_a_rule_are_needed_and_one_of_each() {
    let source = |namespace: &str, network: &str| Source {
        namespaces: patterns(&[namespace]),
        networks: vec![network.parse().unwrap()],
        ..Source::default()
    };
    let to = |method: &str, path: &str| Operation {
        methods: patterns(&[method]),
        paths: patterns(&[path]),
        ports: Vec::new(),
    };
    let rule = Rule {
        from: vec![source("shop", "10.0.0.0/8"), source("bank", "0.0.0.0/0")],
        to: vec![to("GET", "/a*"), to("POST", "/b")],
        when: [header("x-a", &["1"]).when, header("x-b", &[]).when].concat(),
    };
    for (line, expected) in [
        ("10.0.0.1 1 GET /ab x-a:1 x-b:2", true),
        ("11.0.0.1 1 GET /ab x-a:1 x-b:2", false),
        ("10.0.0.1 1 POST /b x-a:1 x-b:2", true),
        ("10.0.0.1 1 POST /a x-a:1 x-b:2", false),
        ("10.0.0.1 1 GET /b x-a:1 x-b:2", false),
        ("10.0.0.1 1 GET /a x-a:2 x-b:2", false),
        ("10.0.0.1 1 GET /a x-a:1", false),
    ] {
        let line = format!("{WEB} {line}");
        assert_eq!(matches(rule.clone(), &line), (expected, expected), "{line}");
    }
}

#[test]
fn methods_beyond_those_that_are_looked_up_count_as_well() {
    let names: Vec<String> = (0..200).map(|number| format!("M{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (method, expected) in [("M0", true), ("M199", true), ("GET", false), ("M200", false)] {
        let line = format!("- ::1 1 {method} /");
        assert_eq!(matches(methods(&names), &line), (expected, expected), "{method}");
    }
}

#[test]
fn deny_wins_and_an_allow_makes_the_rest_forbidden() {
    use AuthorizationAction::{Allow, Audit, Deny};
    let all = authorizer(vec![
        policy("get", Allow, vec![paths(&["/none"]), methods(&["GET"])]),
        policy("look", Audit, vec![methods(&["PUT"]), paths(&["/admin/*"]), Rule::default()]),
        policy("shut", Deny, vec![paths(&["/admin/*"]), header("x-bad", &[])]),
        policy("look too", Audit, vec![ports(&[2])]),
    ]);
    for (line, expected) in [
        ("- ::1 1 GET /", "allowed get/1 +look/2"),
        ("- ::1 1 GET /none", "allowed get/0 +look/2"),
        ("- ::1 1 PUT /none", "allowed get/0 +look/0"),
        ("- ::1 2 POST /", "not named +look/2 +look too/0"),
        ("- ::1 1 GET /admin/x", "denied shut/0 +look/1"),
        ("- ::1 1 GET / x-bad:", "denied shut/1 +look/2"),
        ("- ::1 1 GET /admin/ x-bad:", "denied shut/0 +look/1"),
    ] {
        assert_eq!(decide(&all, line), expected, "{line}");
    }
    assert_eq!(decide(&authorizer(Vec::new()), "- ::1 1 GET /"), "not asked");
    let silent = authorizer(vec![policy("none", Allow, Vec::new())]);
    assert_eq!(decide(&silent, "- ::1 1 GET /"), "not named", "an Allow without rules allows nothing");
    let mute = authorizer(vec![policy("none", Deny, Vec::new()), policy("none", Audit, Vec::new())]);
    assert_eq!(decide(&mute, "- ::1 1 GET /"), "not asked");
    assert!(!all.decide(&all.standing(&CALLER), None).is_allowed());
}

const CALLER: Caller<'static> = Caller { identity: None, source: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 1 };

#[test]
fn what_can_be_read_in_two_ways_is_read_against_the_caller() {
    // Whether Allow and Deny of `/admin/*` match.
    for (path, allow, deny) in [
        ("/admin/x", true, true),
        ("/admin", false, true),
        ("/ADMIN/x", false, true),
        ("//admin/x", false, true),
        ("/./admin/x", false, true),
        ("/x/../admin/x", false, true),
        ("/admin/../x", false, true),
        ("/%61dmin/x", true, true),
        ("/admin%2Fx", false, true),
        ("/admin%252Fx", false, true),
        ("/admin;v=1/x", false, true),
        ("/admin/x;v=1", true, true),
        ("/x/..;/admin/", false, true),
        ("/admin/%20", true, true),
        ("/%zz", false, true),
        ("/x%00", false, true),
        ("/x;admin/", false, false),
        ("/x%20y//z", false, false),
        ("/x?/admin/", false, false),
    ] {
        let line = format!("- ::1 1 GET {path}");
        assert_eq!(matches(paths(&["/admin/*"]), &line), (allow, deny), "{path}");
    }
    for (rule, line, expected) in [
        (paths(&["/Admin/"]), "- ::1 1 GET /admin", (false, true)),
        (paths(&["*"]), "- ::1 1 CONNECT x:1", (false, true)),
        (methods(&["CONNECT"]), "- ::1 1 CONNECT x:1", (true, true)),
        (methods(&["GET"]), "- ::1 1 get /", (false, true)),
        (methods(&["PRO*"]), "- ::1 1 propfind /", (false, true)),
        (header("x-a", &["1"]), "- ::1 1 GET / x-a:1 x-a:2", (false, true)),
        (header("x-a", &["1"]), "- ::1 1 GET / x-a:2,1", (false, true)),
        (header("x-a", &["a"]), "- ::1 1 GET / x-a:A", (false, true)),
    ] {
        assert_eq!(matches(rule.clone(), line), expected, "{rule:?} {line}");
    }
    let audit = authorizer(vec![policy("a", AuthorizationAction::Audit, vec![paths(&["/admin/*"])])]);
    assert_eq!(decide(&audit, "- ::1 1 GET //admin/x"), "not asked +a/0");
    assert_eq!(decide(&audit, "- ::1 1 GET /%"), "not asked +a/0");
}

#[test]
fn an_opaque_connection_fulfils_for_deny_what_only_requests_have() {
    for (rule, expected) in [
        (Rule::default(), (true, true)),
        (ports(&[1]), (true, true)),
        (ports(&[2]), (false, false)),
        (paths(&["/admin"]), (false, true)),
        (methods(&["GET"]), (false, true)),
        (header("x-a", &[]), (false, true)),
        (claim("sub", &["ann"]), (false, true)),
    ] {
        assert_eq!(matches(rule.clone(), "- ::1 1 TCP"), expected, "{rule:?}");
        let of = |action| authorizer(vec![policy("p", action, vec![rule.clone()])]);
        let http = !rule.when.is_empty() || rule.to.iter().any(|to| to.ports.is_empty());
        assert_eq!(of(AuthorizationAction::Allow).asks_for_http(), http, "{rule:?}");
        let audited = decide(&of(AuthorizationAction::Audit), "- ::1 1 TCP");
        assert_eq!(audited.contains("+p/0"), expected.0, "{rule:?}");
    }
}

#[test]
fn claims_are_those_of_the_verified_token() {
    let serde_json::Value::Object(said) = json!({"groups": ["dev", "admin"], "sub": "ann"}) else {
        unreachable!()
    };
    let claims = Claims::new(said);
    for (rule, expected) in [
        (claim("groups", &["admin"]), true),
        (claim("groups", &["ad*"]), true),
        (claim("groups", &["ops"]), false),
        (claim("sub", &[]), true),
        (claim("none", &[]), false),
    ] {
        let allow = authorizer(vec![policy("a", AuthorizationAction::Allow, vec![rule.clone()])]);
        let said = with_claims(&allow, "- ::1 1 GET /", Some(&claims));
        assert_eq!(said == "allowed a/0", expected, "{rule:?}");
        assert_eq!(decide(&allow, "- ::1 1 GET / groups:admin"), "not named", "{rule:?}");
    }
}

/// What a rule says, read word by word.
fn plainly(rule: &Rule, caller: &Caller<'_>, method: &str, path: &str) -> bool {
    let any = |patterns: &[TextPattern], text: &str| {
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
    };
    let identity = caller.identity.map_or("", SpiffeId::as_str);
    let source = rule.from.is_empty() || rule.from.iter().any(|source| any(&source.identities, identity));
    let to = |to: &Operation| {
        any(&to.methods, method)
            && any(&to.paths, path)
            && (to.ports.is_empty() || to.ports.contains(&caller.port))
    };
    source && (rule.to.is_empty() || rule.to.iter().any(to))
}

fn some<T: Clone + std::fmt::Debug + 'static>(of: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(prop::sample::select(of), 0..3)
}

fn written(of: &[&'static str]) -> impl Strategy<Value = Vec<TextPattern>> + use<> {
    some(of.to_vec()).prop_map(|texts| patterns(&texts))
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let identities = written(&[WEB, "spiffe://cluster.local/ns/shop/*", "spiffe://cluster.local/ns/b/sa/b"]);
    let sources = identities.prop_map(|identities| Source { identities, ..Source::default() });
    let methods = written(&["GET", "POST", "P*", "PURGE"]);
    let paths = written(&["/a", "/a/*", "/a/b", "/*", "/b", "/a/b*"]);
    let operations = (methods, paths, some(vec![1, 2]));
    let operations = operations.prop_map(|(methods, paths, ports)| Operation { methods, paths, ports });
    let froms = prop::collection::vec(sources, 0..2);
    let rule = (froms, prop::collection::vec(operations, 0..3));
    let rule = rule.prop_map(|(from, to)| Rule { from, to, when: Vec::new() });
    prop::collection::vec(rule, 0..4)
}

fn policies() -> impl Strategy<Value = Vec<AuthorizationPolicy>> {
    use AuthorizationAction::{Allow, Audit, Deny};
    let one = (prop::sample::select(vec![Allow, Deny, Audit]), rules());
    prop::collection::vec(one, 0..40).prop_map(|policies| {
        let policies = policies.into_iter().enumerate();
        policies.map(|(place, (action, rules))| policy(&format!("p{place}"), action, rules)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn compiled_policies_decide_as_written_ones(
        policies in policies(),
        identity in prop::sample::select(vec![WEB, "spiffe://cluster.local/ns/b/sa/b", "spiffe://x/ns/shop/sa/web"]),
        method in prop::sample::select(vec!["GET", "POST", "PUT", "PURGE", "PX", "HEAD"]),
        path in prop::sample::select(vec!["/a", "/a/b", "/a/bc", "/b", "/c", "/"]),
        port in 1_u16..3,
    ) {
        let identity: SpiffeId = identity.parse().unwrap();
        let caller = Caller { identity: Some(&identity), port, ..CALLER };
        let first = |action| {
            let of_action = policies.iter().filter(move |policy| policy.action == action);
            let found = of_action.filter_map(|policy| {
                // A Deny is not particular about a slash at the end.
                let slashed = format!("{path}/");
                let is = |rule: &Rule| {
                    plainly(rule, &caller, method, path)
                        || (action == AuthorizationAction::Deny && plainly(rule, &caller, method, &slashed))
                };
                Some(format!("{}/{}", policy.name, policy.rules.iter().position(is)?))
            });
            found.collect::<Vec<_>>()
        };
        let allows = policies.iter().any(|policy| policy.action == AuthorizationAction::Allow);
        let (deny, allow) = (first(AuthorizationAction::Deny), first(AuthorizationAction::Allow));
        let mut expected = match (deny.first(), allow.first()) {
            (Some(by), _) => format!("denied {by}"),
            (None, Some(by)) => format!("allowed {by}"),
            (None, None) if allows => "not named".to_owned(),
            (None, None) => "not asked".to_owned(),
        };
        first(AuthorizationAction::Audit).iter().for_each(|by| expected += &format!(" +{by}"));
        let line = format!("{identity} 127.0.0.1 {port} {method} {path}");
        prop_assert_eq!(decide(&authorizer(policies.clone()), &line), expected);
    }
}
