//! InboundPolicies: which of them count for a workload, and what they make of how it receives traffic.
//!
//! Each section comes from the most specific policy that writes it: one that names the workload, by a Service or by labels,
//! before one for the whole namespace; then the oldest. What no policy writes is as the mesh has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_model::inbound::{self as model, Inbound, InboundLimits, MtlsMode};
use outrigger_model::jwt::{JwtRule, KeySet};
use outrigger_resources::inbound_policy::{InboundPolicy, InboundPolicySpec, Jwt, JwtKeys, Scope};
use outrigger_resources::mesh_config::Mtls;
use outrigger_resources::{Kind, Object, ObjectRef, select};

use super::limit;
use crate::world::{Held, Term, World, policy_target};

/// The workload that policies are about.
pub(super) struct Receiver<'w> {
    pub(super) namespace: &'w Arc<str>,
    pub(super) labels: &'w BTreeMap<String, String>,
    /// The Services in front of it.
    pub(super) services: &'w [&'w Arc<Held>],
}

/// The sections of a policy, each of which stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InboundSection {
    Mtls,
    RateLimit,
    Concurrency,
    Priorities,
    Jwt,
}

impl InboundSection {
    pub(crate) const ALL: [Self; 5] =
        [Self::Mtls, Self::RateLimit, Self::Concurrency, Self::Priorities, Self::Jwt];

    /// Where it is written.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Mtls => "spec.mtls",
            Self::RateLimit => "spec.rateLimit",
            Self::Concurrency => "spec.concurrency",
            Self::Priorities => "spec.priorities",
            Self::Jwt => "spec.jwt",
        }
    }

    /// Whether a policy writes it.
    pub(crate) fn is_in(self, spec: &InboundPolicySpec) -> bool {
        match self {
            Self::Mtls => spec.mtls.is_some(),
            Self::RateLimit => spec.rate_limit.is_some(),
            Self::Concurrency => spec.concurrency.is_some(),
            Self::Priorities => spec.priorities.is_some(),
            Self::Jwt => spec.jwt.is_some(),
        }
    }
}

/// The policies of a namespace, the oldest first.
pub(crate) fn inbound_policies<'w>(world: &'w World, namespace: &Arc<str>) -> Vec<&'w Held> {
    let mut held: Vec<&Held> =
        world.find(&Term::InboundPolicyIn(namespace.clone())).map(|held| &**held).collect();
    held.sort_by(|a, b| a.age.cmp(&b.age));
    held
}

/// The policy of a held object.
pub(crate) fn inbound_policy(held: &Held) -> Option<&InboundPolicy> {
    match &held.object {
        Object::InboundPolicy(policy) => Some(policy),
        _ => None,
    }
}

/// What the policies of a workload make of how it receives traffic.
pub(super) fn apply(world: &World, receiver: &Receiver<'_>, inbound: &mut Inbound) {
    let policies = policies(world, receiver);
    let first = |section: InboundSection| policies.iter().find(|policy| section.is_in(&policy.spec));
    match first(InboundSection::Mtls).and_then(|policy| policy.spec.mtls) {
        Some(Mtls::Strict) => inbound.mtls = MtlsMode::Strict,
        Some(Mtls::Permissive) => inbound.mtls = MtlsMode::Permissive,
        None => {}
    }
    let rate = first(InboundSection::RateLimit).and_then(|policy| {
        let limit = policy.spec.rate_limit.as_ref()?;
        Some(limit::rate(limit, name_of(policy)))
    });
    let concurrency = first(InboundSection::Concurrency).and_then(|policy| {
        let limit = policy.spec.concurrency?;
        Some(model::ConcurrencyLimit { name: name_of(policy), min: limit.min, max: limit.max })
    });
    let priorities = first(InboundSection::Priorities).and_then(|policy| policy.spec.priorities.as_ref());
    let priorities = priorities.filter(|_| concurrency.is_some()).map(|written| model::Priorities {
        header: written.header.clone(),
        classes: written.levels,
        default: written.default,
    });
    let jwt =
        first(InboundSection::Jwt).and_then(|policy| Some((policy.spec.jwt.as_ref()?, name_of(policy))));
    inbound.jwt = jwt.map(|(jwt, name)| Box::new(jwt_rule(world, jwt, name)));
    // What was meant by a policy that cannot be read is not known, so that nobody can be let in.
    if let Some(unread) = policies.iter().find(|policy| policy.is_stand_in) {
        inbound.closed_by = Some(name_of(unread));
    }
    let limits = InboundLimits { rate, concurrency, priorities };
    inbound.limits = (limits != InboundLimits::default()).then(|| Box::new(limits));
}

/// What tokens must be, with the keys as far as they are known: while they are not, no token is good.
fn jwt_rule(world: &World, written: &Jwt, name: Arc<str>) -> JwtRule {
    let keys = match &written.keys {
        JwtKeys::At(url) => world.facts().keys.get(url).cloned(),
        JwtKeys::Here(json) => Some(KeySet { json: json.clone(), usable_until: None }),
    };
    JwtRule { name, issuer: written.issuer.clone(), audiences: written.audiences.clone(), keys }
}

/// The policies about a workload, the most specific first.
fn policies<'w>(world: &'w World, receiver: &Receiver<'_>) -> Vec<&'w InboundPolicy> {
    let all = inbound_policies(world, receiver.namespace);
    let policies = all.into_iter().filter_map(inbound_policy);
    let mut ranked: Vec<_> =
        policies.filter_map(|policy| Some((is_general(policy, receiver)?, policy))).collect();
    // Of those that are equally specific the order by age stays.
    ranked.sort_by_key(|(general, _)| *general);
    ranked.into_iter().map(|(_, policy)| policy).collect()
}

/// Whether a policy is about a workload only because it is about all of the namespace; `None` when it is not about it.
fn is_general(policy: &InboundPolicy, receiver: &Receiver<'_>) -> Option<bool> {
    let scope = &policy.spec.scope;
    receiver.is_in(scope, &policy.meta.namespace).then_some(*scope == Scope::Namespace)
}

impl Receiver<'_> {
    /// Whether it is among what a policy of a namespace is about.
    pub(super) fn is_in(&self, scope: &Scope, namespace: &Arc<str>) -> bool {
        match scope {
            Scope::Namespace => *namespace == *self.namespace,
            Scope::Labels(labels) => *namespace == *self.namespace && select(labels, self.labels),
            Scope::Targets(targets) => {
                let meant = |target| policy_target(target, namespace);
                let stands_before =
                    |target: &ObjectRef| self.services.iter().any(|held| held.object.reference() == *target);
                targets.iter().filter_map(meant).any(|target| stands_before(&target))
            }
        }
    }
}

fn name_of(policy: &InboundPolicy) -> Arc<str> {
    let (kind, meta) = (Kind::InboundPolicy, &policy.meta);
    let reference = ObjectRef { kind, namespace: meta.namespace.clone(), name: meta.name.clone() };
    reference.to_string().into()
}
