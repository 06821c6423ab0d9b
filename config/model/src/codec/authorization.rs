//! Who may call a workload: all of it is ours.

use http::HeaderName;

use super::fault::{Decoded, Fault, at_most, shorten};
use super::wire::{self, ours};
use super::{MAX_AUTHORIZATION_PARTS, MAX_AUTHORIZATION_POLICIES, MAX_CLAIM_DEPTH};
use crate::authorization::{
    Authorization, AuthorizationAction, AuthorizationPolicy, Condition, Operation, Rule, Source, Subject,
    TextPattern,
};

pub(super) fn encode(authorization: &Authorization) -> ours::Authorization {
    ours::Authorization { policies: authorization.policies.iter().map(encode_policy).collect() }
}

pub(super) fn decode(wire: &ours::Authorization) -> Decoded<Authorization> {
    at_most("policies", wire.policies.len(), MAX_AUTHORIZATION_POLICIES)?;
    let parts = wire.policies.iter().flat_map(|policy| &policy.rules).map(parts).sum();
    at_most("policies", parts, MAX_AUTHORIZATION_PARTS)?;
    Ok(Authorization { policies: each("policies", &wire.policies, decode_policy)? })
}

/// How much there is of a rule.
fn parts(rule: &ours::AuthorizationRule) -> usize {
    let from =
        rule.from.iter().map(|from| 1 + from.identities.len() + from.namespaces.len() + from.networks.len());
    let to = rule.to.iter().map(|to| 1 + to.methods.len() + to.paths.len() + to.ports.len());
    let when = rule.when.iter().map(|when| 1 + when.values.len());
    1 + from.chain(to).chain(when).sum::<usize>()
}

fn encode_policy(policy: &AuthorizationPolicy) -> ours::AuthorizationPolicy {
    let action = match policy.action {
        AuthorizationAction::Allow => ours::AuthorizationAction::Allow,
        AuthorizationAction::Deny => ours::AuthorizationAction::Deny,
        AuthorizationAction::Audit => ours::AuthorizationAction::Audit,
    };
    ours::AuthorizationPolicy {
        name: policy.name.as_ref().into(),
        action: action.into(),
        rules: policy.rules.iter().map(encode_rule).collect(),
    }
}

fn decode_policy(wire: &ours::AuthorizationPolicy) -> Decoded<AuthorizationPolicy> {
    wire::not_empty("name", &wire.name)?;
    let action = match wire.action() {
        ours::AuthorizationAction::Allow => AuthorizationAction::Allow,
        ours::AuthorizationAction::Deny => AuthorizationAction::Deny,
        ours::AuthorizationAction::Audit => AuthorizationAction::Audit,
        ours::AuthorizationAction::Unspecified => {
            let why = format!("has the value {}, which is not known here", wire.action);
            return Err(Fault::new("action", why));
        }
    };
    Ok(AuthorizationPolicy {
        name: wire.name.as_str().into(),
        action,
        rules: each("rules", &wire.rules, decode_rule)?,
    })
}

fn encode_rule(rule: &Rule) -> ours::AuthorizationRule {
    ours::AuthorizationRule {
        from: rule.from.iter().map(encode_source).collect(),
        to: rule.to.iter().map(encode_operation).collect(),
        when: rule.when.iter().map(encode_condition).collect(),
    }
}

fn decode_rule(wire: &ours::AuthorizationRule) -> Decoded<Rule> {
    Ok(Rule {
        from: each("from", &wire.from, decode_source)?,
        to: each("to", &wire.to, decode_operation)?,
        when: each("when", &wire.when, decode_condition)?,
    })
}

fn encode_source(source: &Source) -> ours::Source {
    ours::Source {
        identities: source.identities.iter().map(encode_text).collect(),
        namespaces: source.namespaces.iter().map(encode_text).collect(),
        networks: source.networks.iter().map(ToString::to_string).collect(),
    }
}

fn decode_source(wire: &ours::Source) -> Decoded<Source> {
    let network = |text: &String| text.parse().map_err(Fault::whole);
    Ok(Source {
        identities: each("identities", &wire.identities, decode_text)?,
        namespaces: each("namespaces", &wire.namespaces, decode_text)?,
        networks: each("networks", &wire.networks, network)?,
    })
}

fn encode_operation(operation: &Operation) -> ours::Operation {
    ours::Operation {
        methods: operation.methods.iter().map(encode_text).collect(),
        paths: operation.paths.iter().map(encode_text).collect(),
        ports: operation.ports.iter().map(|port| u32::from(*port)).collect(),
    }
}

fn decode_operation(wire: &ours::Operation) -> Decoded<Operation> {
    let ports = wire.ports.iter().map(|port| wire::port("ports", *port));
    Ok(Operation {
        methods: each("methods", &wire.methods, decode_text)?,
        paths: each("paths", &wire.paths, decode_text)?,
        ports: ports.collect::<Decoded<_>>()?,
    })
}

fn encode_condition(condition: &Condition) -> ours::Condition {
    let subject = match &condition.subject {
        Subject::Claim(names) => {
            let names = names.iter().map(|name| name.as_ref().into()).collect();
            ours::condition::Subject::Claim(ours::ClaimPath { names })
        }
        Subject::Header(name) => ours::condition::Subject::Header(name.as_str().into()),
    };
    ours::Condition { subject: Some(subject), values: condition.values.iter().map(encode_text).collect() }
}

/// A condition on something that is not known here is refused: it would hold for nobody or for everybody.
fn decode_condition(wire: &ours::Condition) -> Decoded<Condition> {
    let subject = match &wire.subject {
        Some(ours::condition::Subject::Claim(path)) if path.names.is_empty() => {
            return Err(Fault::new("claim", "has no name"));
        }
        Some(ours::condition::Subject::Claim(path)) => {
            at_most("claim", path.names.len(), MAX_CLAIM_DEPTH)?;
            Subject::Claim(path.names.iter().map(|name| name.as_str().into()).collect())
        }
        Some(ours::condition::Subject::Header(name)) => {
            let parsed = name.parse::<HeaderName>();
            let found = shorten(name);
            Subject::Header(parsed.map_err(|_| Fault::new("header", format!("{found:?} is no field name")))?)
        }
        None => return Err(Fault::new("subject", "is not known here")),
    };
    Ok(Condition { subject, values: each("values", &wire.values, decode_text)? })
}

fn encode_text(pattern: &TextPattern) -> ours::TextPattern {
    let pattern = match pattern {
        TextPattern::Exact(exact) => ours::text_pattern::Pattern::Exact(exact.as_ref().into()),
        TextPattern::Prefix(prefix) => ours::text_pattern::Pattern::Prefix(prefix.as_ref().into()),
    };
    ours::TextPattern { pattern: Some(pattern) }
}

fn decode_text(wire: &ours::TextPattern) -> Decoded<TextPattern> {
    match &wire.pattern {
        Some(ours::text_pattern::Pattern::Exact(exact)) => Ok(TextPattern::Exact(exact.as_str().into())),
        Some(ours::text_pattern::Pattern::Prefix(prefix)) => Ok(TextPattern::Prefix(prefix.as_str().into())),
        None => Err(Fault::whole("is a pattern that is not known here")),
    }
}

fn each<W, T>(field: &str, wire: &[W], decode: impl Fn(&W) -> Decoded<T>) -> Decoded<Vec<T>> {
    let all = wire.iter().enumerate();
    all.map(|(at, part)| decode(part).map_err(|fault| fault.within(format!("{field}[{at}]")))).collect()
}
