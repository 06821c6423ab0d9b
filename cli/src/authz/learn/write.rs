//! Learned policies as YAML, with what a reviewer should know as comments.

use super::observed::{By, Calls, Destination, Observed, Seen};
use super::policies::{Learned, LearnedOperation, LearnedRule};

/// So many requests of callers without an identity are shown of a destination.
const MAX_SHOWN: usize = 20;

/// The document.
pub(super) fn yaml(observed: &Observed, policies: &[Learned]) -> String {
    let mut text = head(observed);
    for (destination, seen) in &observed.destinations {
        text.push_str(&about(destination, seen));
        let service = match &destination.by {
            By::Service(service) => service.as_str(),
            By::Workload(_) => continue,
        };
        let own = |policy: &&Learned| policy.namespace == destination.namespace && policy.service == service;
        policies.iter().filter(own).for_each(|learned| text.push_str(&policy(learned)));
    }
    text
}

fn head(observed: &Observed) -> String {
    let mut text = "# Learned from traffic; review it before it is in force. An Allow policy forbids what no rule names.\n\
                    # First with `action: Audit`: what it will allow has `audit` in its line of the access log, what it will\n\
                    # refuse has not.\n"
        .to_owned();
    if let Some((first, last)) = &observed.span {
        text.push_str(&format!("# Seen from {} to {}.\n", comment(first), comment(last)));
    }
    if observed.untold > 0 {
        text.push_str(&format!(
            "# NOT looked at: {} requests that were different from all that was kept.\n",
            observed.untold
        ));
    }
    text
}

/// What is not in the policies of a destination.
fn about(destination: &Destination, seen: &Seen) -> String {
    let Destination { namespace, by } = destination;
    let name = match by {
        By::Service(name) => format!("Service/{namespace}/{name}"),
        By::Workload(name) => format!("workload {name} in {namespace}"),
    };
    let mut lines = vec![format!("{name}: {} callers with an identity", callers(seen))];
    if let By::Workload(_) = by {
        lines.push(
            "  no Service is in front of it, so that there is no policy: write one with a selector"
                .to_owned(),
        );
    }
    if seen.refused > 0 {
        lines.push(format!("  left out: {} requests that were refused or not found", seen.refused));
    }
    for (request, count) in seen.unclear.iter().take(MAX_SHOWN) {
        lines.push(format!("  left out, servers may read it differently: {request} ({count})"));
    }
    lines.extend(plaintext(&seen.plaintext));
    if seen.plaintext_connections > 0 {
        lines.push(format!(
            "  in plaintext, without an identity: {} connections; they will be refused",
            seen.plaintext_connections
        ));
    }
    let lines = lines.iter().map(|line| format!("# {}\n", comment(line)));
    format!("---\n{}", lines.collect::<String>())
}

fn callers(seen: &Seen) -> usize {
    let all = seen.requests.keys().chain(seen.counted.keys()).chain(seen.connections.keys());
    all.collect::<std::collections::BTreeSet<_>>().len()
}

fn plaintext(calls: &Calls) -> Vec<String> {
    let shown = calls.iter().take(MAX_SHOWN);
    let mut lines: Vec<String> = shown
        .map(|(request, count)| {
            format!(
                "  in plaintext, without an identity: {} {} ({count}); it will be refused",
                request.method, request.path
            )
        })
        .collect();
    if calls.len() > MAX_SHOWN {
        lines.push(format!("  and {} more without an identity", calls.len() - MAX_SHOWN));
    }
    lines
}

fn policy(learned: &Learned) -> String {
    let Learned { name, namespace, service, rules } = learned;
    let mut text = format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {}, namespace: {}}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: {}}}]\n  action: Allow\n  rules:\n",
        quoted(name),
        quoted(namespace),
        quoted(service)
    );
    rules.iter().for_each(|one| text.push_str(&rule(one)));
    text
}

fn rule(rule: &LearnedRule) -> String {
    let mut text = format!("  # {} requests and connections\n", rule.count);
    if rule.to.is_empty() {
        text.push_str("  # What they ask for is not known, so that anything is allowed: add `to` with ports, or paths.\n");
    }
    text.push_str(&format!("  - from:\n    - identities: {}\n", list(&rule.identities)));
    if !rule.to.is_empty() {
        text.push_str("    to:\n");
        rule.to.iter().for_each(|to| text.push_str(&operation(to)));
    }
    text
}

fn operation(to: &LearnedOperation) -> String {
    format!("    - methods: {}\n      paths: {}\n", list(&to.methods), list(&to.paths))
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// A JSON string, which is one of YAML too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What others wrote must not end a comment.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}') { '?' } else { c })
        .collect()
}
