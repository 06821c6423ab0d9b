//! AuthorizationPolicies: which of them are about a workload, and what they say in the words of the data plane.
//!
//! All that are about a workload count together, so that their order says nothing; they go by name. A policy in the
//! namespace of the mesh without targetRefs and selector is about every workload there is.

use std::sync::Arc;

use outrigger_model::authorization as model;
use outrigger_resources::authorization_policy::{
    Action, AuthorizationPolicy, Condition, Operation, Pattern, Rule, Scope, Source, Subject,
};
use outrigger_resources::{Object, ObjectRef};

use super::inbound_policy::Receiver;
use crate::world::{Held, Term, World};

/// The policy of a held object.
fn authorization_policy(held: &Held) -> Option<&AuthorizationPolicy> {
    match &held.object {
        Object::AuthorizationPolicy(policy) => Some(policy),
        _ => None,
    }
}

/// Whether a policy is about every workload of the mesh.
pub(crate) fn is_about_the_mesh(world: &World, policy: &AuthorizationPolicy) -> bool {
    *policy.meta.namespace == *world.mesh_namespace() && policy.spec.scope == Scope::Namespace
}

/// The policies about a workload; `None` when there are none.
pub(super) fn about(world: &World, receiver: &Receiver<'_>) -> Option<Box<model::Authorization>> {
    let own = in_namespace(world, receiver.namespace)
        .filter(|(_, policy)| receiver.is_in(&policy.spec.scope, &policy.meta.namespace));
    let mesh: Arc<str> = world.mesh_namespace().into();
    let elsewhere = mesh != *receiver.namespace;
    let general =
        in_namespace(world, &mesh).filter(|(_, policy)| elsewhere && is_about_the_mesh(world, policy));
    let mut found: Vec<_> = own.chain(general).collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let policies: Vec<_> = found.into_iter().map(|(name, policy)| translate(&name, policy)).collect();
    (!policies.is_empty()).then(|| Box::new(model::Authorization { policies }))
}

fn in_namespace<'w>(
    world: &'w World,
    namespace: &Arc<str>,
) -> impl Iterator<Item = (ObjectRef, &'w AuthorizationPolicy)> {
    let held = world.find(&Term::AuthorizationPolicyIn(namespace.clone()));
    held.filter_map(|held| Some((held.reference(), authorization_policy(held)?)))
}

fn translate(name: &ObjectRef, policy: &AuthorizationPolicy) -> model::AuthorizationPolicy {
    model::AuthorizationPolicy {
        name: name.to_string().into(),
        action: match policy.spec.action {
            Action::Allow => model::AuthorizationAction::Allow,
            Action::Deny => model::AuthorizationAction::Deny,
            Action::Audit => model::AuthorizationAction::Audit,
        },
        rules: policy.spec.rules.iter().map(rule).collect(),
    }
}

fn rule(rule: &Rule) -> model::Rule {
    model::Rule {
        from: rule.from.iter().map(source).collect(),
        to: rule.to.iter().map(operation).collect(),
        when: rule.when.iter().map(condition).collect(),
    }
}

fn source(source: &Source) -> model::Source {
    model::Source {
        identities: patterns(&source.identities),
        namespaces: patterns(&source.namespaces),
        networks: source.source_ips.iter().copied().map(model::Network::from).collect(),
    }
}

fn operation(operation: &Operation) -> model::Operation {
    model::Operation {
        methods: patterns(&operation.methods),
        paths: patterns(&operation.paths),
        ports: operation.ports.clone(),
    }
}

fn condition(condition: &Condition) -> model::Condition {
    let subject = match &condition.subject {
        Subject::Claim(names) => model::Subject::Claim(names.clone()),
        Subject::Header(name) => model::Subject::Header(name.clone()),
    };
    model::Condition { subject, values: patterns(&condition.values) }
}

fn patterns(patterns: &[Pattern]) -> Vec<model::TextPattern> {
    let translated = patterns.iter().map(|pattern| match pattern {
        Pattern::Exact(text) => model::TextPattern::Exact(text.clone()),
        Pattern::Prefix(text) => model::TextPattern::Prefix(text.clone()),
    });
    translated.collect()
}
