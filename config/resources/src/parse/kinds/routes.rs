//! Routes: the rules are read one by one, so that a wrong field costs its rule and not the others.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::object::{Kind, Meta};
use crate::parse::kinds::{Draft, Refusal, starts_with_rule};
use crate::parse::path::FieldPath;
use crate::problem::{Effect, Problem, Severity};
use crate::route::{
    GrpcRoute, GrpcRouteSpec, GrpcRule, HttpRoute, HttpRouteSpec, HttpRule, ParentRef, ParentRefs,
    ServerNames, TcpRoute, TcpRouteSpec, TcpRule, TlsRoute, TlsRouteSpec,
};

/// The largest number of rules of a route (Gateway API).
const MAX_RULES: usize = 16;

/// The rules of a route that can be used, and the indexes of those that cannot.
struct Rules<T> {
    usable: Vec<T>,
    dropped: Vec<usize>,
}

/// The index of the rule a field belongs to.
pub(super) fn rule_of(kind: Kind, path: &FieldPath) -> Option<usize> {
    match kind {
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TcpRoute | Kind::TlsRoute => starts_with_rule(path),
        Kind::AuthorizationPolicy => starts_with_rule(path),
        _ => None,
    }
}

impl Draft<'_> {
    pub(super) fn http_route(&mut self, meta: Meta) -> Result<HttpRoute, Refusal> {
        let mut spec = self.route_spec(&["parentRefs", "hostnames", "rules"])?;
        let (parent_refs, hostnames) = (self.parent_refs(&mut spec)?, self.hostnames(&mut spec)?);
        // The standard's default: one rule that matches everything and goes nowhere.
        let mut rules = Rules { usable: vec![HttpRule::default()], dropped: Vec::new() };
        if let Some(written) = spec.remove("rules") {
            rules = self.rules(written, |index, rule| HttpRule { index, ..rule })?;
        }
        let Rules { usable, dropped } = rules;
        Ok(HttpRoute {
            meta,
            spec: HttpRouteSpec { parent_refs, hostnames, rules: usable, dropped_rules: dropped },
        })
    }

    pub(super) fn grpc_route(&mut self, meta: Meta) -> Result<GrpcRoute, Refusal> {
        let mut spec = self.route_spec(&["parentRefs", "hostnames", "rules"])?;
        let (parent_refs, hostnames) = (self.parent_refs(&mut spec)?, self.hostnames(&mut spec)?);
        let written = spec.remove("rules").unwrap_or_else(|| Value::Array(Vec::new()));
        let Rules { usable, dropped } = self.rules(written, |index, rule| GrpcRule { index, ..rule })?;
        Ok(GrpcRoute {
            meta,
            spec: GrpcRouteSpec { parent_refs, hostnames, rules: usable, dropped_rules: dropped },
        })
    }

    pub(super) fn tcp_route(&mut self, meta: Meta) -> Result<TcpRoute, Refusal> {
        let mut spec = self.route_spec(&["parentRefs", "rules"])?;
        let parent_refs = self.parent_refs(&mut spec)?;
        let Rules { usable, dropped } = self.opaque_rules(&mut spec)?;
        Ok(TcpRoute { meta, spec: TcpRouteSpec { parent_refs, rules: usable, dropped_rules: dropped } })
    }

    pub(super) fn tls_route(&mut self, meta: Meta) -> Result<TlsRoute, Refusal> {
        let mut spec = self.route_spec(&["parentRefs", "hostnames", "rules"])?;
        let parent_refs = self.parent_refs(&mut spec)?;
        let hostnames = match spec.remove("hostnames") {
            None => Vec::new(),
            Some(written) => self.read::<ServerNames>(&spec_field("hostnames"), written)?.into(),
        };
        let Rules { usable, dropped } = self.opaque_rules(&mut spec)?;
        Ok(TlsRoute {
            meta,
            spec: TlsRouteSpec { parent_refs, hostnames, rules: usable, dropped_rules: dropped },
        })
    }

    /// The rules of a route for bytes, which the standard wants to be there.
    fn opaque_rules(&mut self, spec: &mut Map<String, Value>) -> Result<Rules<TcpRule>, Refusal> {
        let Some(written) = spec.remove("rules") else {
            let message = "missing; write at least one rule with backendRefs".to_owned();
            return Err(Box::new(self.problem(&spec_field("rules"), message)));
        };
        self.rules(written, |index, rule| TcpRule { index, ..rule })
    }

    /// The spec of a route. Fields we do not know are outside of any rule, so they are only mentioned.
    fn route_spec(&mut self, known: &[&str]) -> Result<Map<String, Value>, Refusal> {
        let Value::Object(spec) = self.take("spec") else {
            return Err(Box::new(
                self.problem(&FieldPath::default().key("spec"), "not a mapping".to_owned()),
            ));
        };
        let unknown = spec.keys().filter(|key| !known.contains(&key.as_str()));
        let mut ignored: Vec<_> = unknown
            .map(|key| {
                self.problem(&spec_field(key), "not a field this version reads; it is ignored".to_owned())
            })
            .collect();
        ignored.extend(self.unknown_first_level());
        let ignored = ignored.into_iter();
        self.problems.extend(ignored.map(|problem| Problem {
            severity: Severity::Warning,
            effect: Effect::FieldIgnored,
            ..problem
        }));
        Ok(spec)
    }

    fn parent_refs(&self, spec: &mut Map<String, Value>) -> Result<Vec<ParentRef>, Refusal> {
        match spec.remove("parentRefs") {
            None => Ok(Vec::new()),
            Some(written) => self.read::<ParentRefs>(&spec_field("parentRefs"), written).map(|refs| refs.0),
        }
    }

    fn hostnames(&self, spec: &mut Map<String, Value>) -> Result<Vec<String>, Refusal> {
        match spec.remove("hostnames") {
            None => Ok(Vec::new()),
            Some(written) => self.read(&spec_field("hostnames"), written),
        }
    }

    fn rules<T: DeserializeOwned>(
        &mut self,
        written: Value,
        numbered: impl Fn(usize, T) -> T,
    ) -> Result<Rules<T>, Refusal> {
        let path = spec_field("rules");
        let Value::Array(written) = written else {
            return Err(Box::new(
                self.problem(&path, "not a list; write one rule after the other".to_owned()),
            ));
        };
        if written.len() > MAX_RULES {
            let message = format!("{} rules; at most {MAX_RULES} are allowed in a route", written.len());
            return Err(Box::new(self.problem(&path, message)));
        }
        let mut rules = Rules { usable: Vec::new(), dropped: Vec::new() };
        for (index, rule) in written.into_iter().enumerate() {
            if self.repeating_rules.contains(&index) {
                rules.dropped.push(index);
                continue;
            }
            match self.read(&path.index(index), rule) {
                Ok(rule) => rules.usable.push(numbered(index, rule)),
                Err(problem) => {
                    rules.dropped.push(index);
                    self.problems.push(Problem { effect: Effect::RuleDropped(index), ..*problem });
                }
            }
        }
        Ok(rules)
    }
}

fn spec_field(key: &str) -> FieldPath {
    FieldPath::default().key("spec").key(key)
}
