//! Policies that keep others out: one that cannot be read must not be as if it were not there.

use serde_json::{Map, Value};

use crate::authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, Head, MAX_ENTRIES, Rule,
};
use crate::inbound_policy::{InboundPolicy, InboundPolicySpec};
use crate::object::{Kind, Meta, Object, ObjectRef};
use crate::parse::identity::Attributes;
use crate::parse::kinds::{Draft, Refusal, meta, without_nulls};
use crate::parse::path::FieldPath;
use crate::problem::{Effect, Problem};
use crate::scope::{Scope, WrittenScope};

impl Draft<'_> {
    pub(super) fn authorization_policy(&mut self, meta: Meta) -> Result<AuthorizationPolicy, Refusal> {
        if let Some(problem) = self.unknown_first_level().into_iter().next() {
            return Err(Box::new(problem));
        }
        let spec = self.take("spec");
        let rules = spec.get("rules").cloned().unwrap_or(Value::Null);
        let path = FieldPath::default().key("spec");
        let Head { scope, action } = self.read(&path, spec)?;
        let rules = self.authorization_rules(&path.key("rules"), rules, action)?;
        let spec = AuthorizationPolicySpec { scope, action, rules };
        Ok(AuthorizationPolicy { meta, spec: Box::new(spec), is_stand_in: false })
    }

    /// The rules one by one. Of a policy that allows, one that cannot be read is left out, which allows less; of the others it
    /// matches everything, which denies and records more.
    fn authorization_rules(
        &mut self,
        path: &FieldPath,
        written: Value,
        action: Action,
    ) -> Result<Vec<Rule>, Refusal> {
        let written = match written {
            Value::Null => Vec::new(),
            Value::Array(written) => written,
            _ => {
                let message = "not a list; write one rule after the other".to_owned();
                return Err(Box::new(self.problem(path, message)));
            }
        };
        if written.len() > MAX_ENTRIES {
            let message = format!("{} rules; at most {MAX_ENTRIES} are allowed in a policy", written.len());
            return Err(Box::new(self.problem(path, message)));
        }
        let mut rules = Vec::with_capacity(written.len());
        for (index, rule) in written.into_iter().enumerate() {
            if !self.repeating_rules.contains(&index) {
                match self.read::<Rule>(&path.index(index), rule) {
                    Ok(rule) => {
                        rules.push(Rule { index, ..rule });
                        continue;
                    }
                    Err(problem) => {
                        self.problems.push(Problem { effect: Effect::RuleDropped(index), ..*problem });
                    }
                }
            }
            rules.extend(in_place_of(action, index));
            self.say_what_counts_instead(action, index);
        }
        Ok(rules)
    }

    /// Adds to the problems of a rule what it does until it is mended.
    fn say_what_counts_instead(&mut self, action: Action, index: usize) {
        let instead = match action {
            Action::Allow => "; the rule allows nothing until it is mended",
            Action::Deny => "; the rule denies everything until it is mended",
            Action::Audit => "; the rule records everything until it is mended",
        };
        let of_rule = |problem: &&mut Problem| problem.effect == Effect::RuleDropped(index);
        self.problems.iter_mut().filter(of_rule).for_each(|problem| problem.message.push_str(instead));
    }
}

/// What counts in place of a rule that cannot be read.
fn in_place_of(action: Action, index: usize) -> Option<Rule> {
    let everything = Rule { index, ..Rule::default() };
    (action != Action::Allow).then_some(everything)
}

/// What is in force in place of a policy that cannot be read: it refuses everything that it is about, as far as that can be
/// read, else everything of its namespace. One that only records, records everything. `None` for kinds that protect nobody.
pub(crate) fn stand_in(reference: &ObjectRef, body: &Map<String, Value>) -> Option<Object> {
    let part = |key: &str| without_nulls(body.get(key).cloned().unwrap_or(Value::Null));
    let attributes: Attributes = serde_json::from_value(part("metadata")).unwrap_or_default();
    let (meta, spec) = (meta(reference, attributes), part("spec"));
    let scope = scope_of(&spec);
    match reference.kind {
        Kind::InboundPolicy => {
            let spec = Box::new(InboundPolicySpec { scope, ..InboundPolicySpec::default() });
            Some(Object::InboundPolicy(InboundPolicy { meta, spec, is_stand_in: true }))
        }
        Kind::AuthorizationPolicy => {
            let action = match spec.get("action").and_then(Value::as_str) {
                Some("Audit") => Action::Audit,
                _ => Action::Deny,
            };
            let rules = vec![Rule::default()];
            let spec = Box::new(AuthorizationPolicySpec { scope, action, rules });
            Some(Object::AuthorizationPolicy(AuthorizationPolicy { meta, spec, is_stand_in: true }))
        }
        _ => None,
    }
}

fn scope_of(spec: &Value) -> Scope {
    let written: Result<WrittenScope, _> = serde_json::from_value(spec.clone());
    written.ok().and_then(|written| written.try_into().ok()).unwrap_or_default()
}
