//! Any authorization, token rule and trust.

use super::*;
use crate::authorization::{
    Authorization, AuthorizationAction, AuthorizationPolicy, Condition, Operation, Rule, Source, Subject,
    TextPattern,
};
use crate::jwt::{JwtRule, KeySet};
use crate::trust::{Trust, TrustBundle};

pub(in crate::codec::tests) fn authorization() -> impl Strategy<Value = Authorization> {
    let action =
        select(vec![AuthorizationAction::Allow, AuthorizationAction::Deny, AuthorizationAction::Audit]);
    let policy = (text(), action, vec(rule(), 0..3));
    let policy = policy.prop_map(|(name, action, rules)| AuthorizationPolicy { name, action, rules });
    vec(policy, 0..3).prop_map(|policies| Authorization { policies })
}

fn rule() -> impl Strategy<Value = Rule> {
    (vec(source(), 0..3), vec(operation(), 0..3), vec(condition(), 0..3)).prop_map(|(from, to, when)| Rule {
        from,
        to,
        when,
    })
}

fn source() -> impl Strategy<Value = Source> {
    let network = select(vec!["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"]);
    let network = network.prop_map(|text| text.parse().expect("a network"));
    (vec(pattern(), 0..3), vec(pattern(), 0..3), vec(network, 0..3))
        .prop_map(|(identities, namespaces, networks)| Source { identities, namespaces, networks })
}

fn operation() -> impl Strategy<Value = Operation> {
    (vec(pattern(), 0..3), vec(pattern(), 0..3), vec(1u16.., 0..3))
        .prop_map(|(methods, paths, ports)| Operation { methods, paths, ports })
}

fn condition() -> impl Strategy<Value = Condition> {
    let subject =
        prop_oneof![vec(text(), 1..3).prop_map(Subject::Claim), header_name().prop_map(Subject::Header)];
    (subject, vec(pattern(), 0..3)).prop_map(|(subject, values)| Condition { subject, values })
}

fn pattern() -> impl Strategy<Value = TextPattern> {
    prop_oneof![maybe_text().prop_map(TextPattern::Exact), maybe_text().prop_map(TextPattern::Prefix)]
}

pub(in crate::codec::tests) fn jwt() -> impl Strategy<Value = JwtRule> {
    let keys = (text(), option::of(any::<u64>()));
    let keys = keys.prop_map(|(json, usable_until)| KeySet { json, usable_until });
    (text(), text(), vec(text(), 0..3), option::of(keys))
        .prop_map(|(name, issuer, audiences, keys)| JwtRule { name, issuer, audiences, keys })
}

pub(in crate::codec::tests) fn trust() -> impl Strategy<Value = Trust> {
    let roots = vec(vec(any::<u8>(), 1..20).prop_map(Arc::from), 1..3);
    let bundles = vec(roots, 0..3).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        let bundles = numbered
            .map(|(at, roots)| TrustBundle { trust_domain: format!("domain-{at}.example").into(), roots });
        bundles.collect()
    });
    (bundles, option::of(any::<[u8; 32]>())).prop_map(|(bundles, signer)| Trust { bundles, signer })
}
