//! The policies about who may call, as they are in force.

use outrigger_model::authorization::{
    Authorization, AuthorizationAction, AuthorizationPolicy, Condition, Operation, Rule, Source, Subject,
};
use serde_json::{Value, json};

pub(super) fn authorization(authorization: &Authorization) -> Value {
    authorization.policies.iter().map(policy).collect()
}

fn policy(policy: &AuthorizationPolicy) -> Value {
    json!({
        "name": policy.name.as_ref(),
        "action": match policy.action {
            AuthorizationAction::Allow => "Allow",
            AuthorizationAction::Deny => "Deny",
            AuthorizationAction::Audit => "Audit",
        },
        "rules": policy.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn rule(rule: &Rule) -> Value {
    json!({
        "from": rule.from.iter().map(source).collect::<Vec<_>>(),
        "to": rule.to.iter().map(operation).collect::<Vec<_>>(),
        "when": rule.when.iter().map(condition).collect::<Vec<_>>(),
    })
}

fn source(source: &Source) -> Value {
    json!({
        "identities": texts(&source.identities),
        "namespaces": texts(&source.namespaces),
        "networks": texts(&source.networks),
    })
}

fn operation(operation: &Operation) -> Value {
    json!({
        "methods": texts(&operation.methods),
        "paths": texts(&operation.paths),
        "ports": operation.ports,
    })
}

/// Values of headers may be secrets: only their number is shown.
fn condition(condition: &Condition) -> Value {
    match &condition.subject {
        Subject::Claim(names) => json!({"claim": names.join("."), "values": texts(&condition.values)}),
        Subject::Header(name) => json!({"header": name.as_str(), "values": condition.values.len()}),
    }
}

fn texts<T: ToString>(of: &[T]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use outrigger_model::authorization::TextPattern;

    use super::*;

    #[test]
    fn a_policy_is_shown_without_the_values_of_headers() {
        let written = |text: &str| vec![TextPattern::written(text)];
        let header = Subject::Header(HeaderName::from_static("x-key"));
        let claim = Subject::Claim(vec!["realm".into(), "role".into()]);
        let when = [(header, "secret"), (claim, "admin*")];
        let when = when.map(|(subject, value)| Condition { subject, values: written(value) });
        let source = Source { networks: vec!["10.0.0.0/8".parse().unwrap()], ..Source::default() };
        let operation = Operation { paths: written("/a/*"), ports: vec![1], ..Operation::default() };
        let rule = Rule { from: vec![source], to: vec![operation], when: when.into() };
        let policy =
            AuthorizationPolicy { name: "p".into(), action: AuthorizationAction::Deny, rules: vec![rule] };
        let shown = authorization(&Authorization { policies: vec![policy] });
        assert_eq!(
            shown,
            json!([{
                "name": "p",
                "action": "Deny",
                "rules": [{
                    "from": [{"identities": [], "namespaces": [], "networks": ["10.0.0.0/8"]}],
                    "to": [{"methods": [], "paths": ["/a/*"], "ports": [1]}],
                    "when": [{"header": "x-key", "values": 1}, {"claim": "realm.role", "values": ["admin*"]}],
                }],
            }])
        );
    }
}
