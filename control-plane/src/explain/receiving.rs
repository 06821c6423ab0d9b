//! How workloads receive, and where the policies about them are written: for whoever asks what they would decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use outrigger_model::inbound::Inbound;
use outrigger_resources::kubernetes::{Service, ServicePort, TargetPort};
use outrigger_resources::{Kind, Location, Object, ObjectRef};

use crate::translate::{Client, Member, inbound_of};
use crate::world::World;

/// A workload, the port that is dialled and how it receives there.
#[derive(Debug, Clone, PartialEq)]
pub struct Receiver {
    /// The workload; the Service where no object describes what it selects.
    pub object: ObjectRef,
    /// The port of the workload.
    pub port: u16,
    /// As its proxy is told.
    pub inbound: Inbound,
}

/// Why nobody receives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nobody {
    /// There is no such object.
    #[error(
        "{0} is not there; name a Service, Workload or Pod of these files, as in Service/shop/reviews:9080"
    )]
    NotThere(ObjectRef),
    /// It has no such port.
    #[error("{object} has no port {port}; it has {known}")]
    NoPort {
        /// What was asked for.
        object: ObjectRef,
        /// The port that it has not.
        port: u16,
        /// Those that it has.
        known: String,
    },
    /// Which port is not said and does not follow.
    #[error("which port of {0}? write it behind the name, as in Workload/shop/reviews-1:9080")]
    WhichPort(ObjectRef),
    /// What a Service selects is not described, so that the number of the port is not known.
    #[error("{0} leads to a port by name, and no Workload or Pod says its number; add one to the files")]
    UnknownNumber(ObjectRef),
}

/// Where a rule of a policy is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRule {
    /// Where the policy starts.
    pub location: Location,
    /// The place of the rule in `spec.rules` as it is written; `None` for what stands in for a policy that cannot be read.
    pub index: Option<usize>,
}

/// Who receives what is sent to a Service, Workload or Pod: one for each workload. Of a Service the port is the one that
/// clients dial; its first unless said.
///
/// # Errors
///
/// When nobody does.
pub fn receivers(world: &World, to: &ObjectRef, port: Option<u16>) -> Result<Vec<Receiver>, Nobody> {
    let held = world.get(to).ok_or_else(|| Nobody::NotThere(to.clone()))?;
    if let Object::Service(service) = &held.object {
        return behind(world, to, service, port);
    }
    let member = Member::of(held).ok_or_else(|| Nobody::NotThere(to.clone()))?;
    let inbound = inbound_of(world, &client(&member));
    let only = (inbound.ports.len() == 1).then(|| inbound.ports[0].port);
    let port = port.or(only).ok_or_else(|| Nobody::WhichPort(to.clone()))?;
    Ok(vec![Receiver { object: to.clone(), port, inbound }])
}

/// Where a rule is written, by the name of its policy as proxies have it and the rule's place there.
pub fn written_rule(world: &World, policy: &str, rule: usize) -> Option<WrittenRule> {
    let (namespace, name) = policy.strip_prefix("AuthorizationPolicy/")?.split_once('/')?;
    let reference =
        ObjectRef { kind: Kind::AuthorizationPolicy, namespace: namespace.into(), name: name.into() };
    let held = world.get(&reference)?;
    let Object::AuthorizationPolicy(policy) = &held.object else { return None };
    let index = policy.spec.rules.get(rule).filter(|_| !policy.is_stand_in).map(|rule| rule.index);
    Some(WrittenRule { location: held.location.clone(), index })
}

fn behind(
    world: &World,
    to: &ObjectRef,
    service: &Service,
    port: Option<u16>,
) -> Result<Vec<Receiver>, Nobody> {
    let dialled = dialled(to, service, port)?;
    let mut found = Vec::new();
    for member in Member::picked_by(world, service) {
        let Some(port) = member.port_behind(dialled) else { continue };
        let inbound = inbound_of(world, &client(&member));
        found.push(Receiver { object: member.reference(), port, inbound });
    }
    if found.is_empty() {
        let TargetPort::Number(port) = dialled.target_port else {
            return Err(Nobody::UnknownNumber(to.clone()));
        };
        // Pods come from Deployments, which are no part of these files: what the selector says is all they have for certain.
        let client = labelled(&to.namespace, &service.spec.selector);
        found.push(Receiver { object: to.clone(), port, inbound: inbound_of(world, &client) });
    }
    found.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(found)
}

fn dialled<'s>(to: &ObjectRef, service: &'s Service, port: Option<u16>) -> Result<&'s ServicePort, Nobody> {
    let ports = &service.spec.ports;
    match port {
        None => ports.first().ok_or_else(|| Nobody::WhichPort(to.clone())),
        Some(port) => ports.iter().find(|known| known.port == port).ok_or_else(|| {
            let known: Vec<String> = ports.iter().map(|known| known.port.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Nobody::NoPort { object: to.clone(), port, known }
        }),
    }
}

fn client(member: &Member<'_>) -> Client {
    let meta = member.meta();
    Client { namespace: meta.namespace.clone(), name: meta.name.clone(), ..Client::default() }
}

fn labelled(namespace: &Arc<str>, labels: &BTreeMap<String, String>) -> Client {
    Client { namespace: namespace.clone(), labels: labels.clone(), ..Client::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::samples::{service, world};

    fn reference(kind: Kind, name: &str) -> ObjectRef {
        ObjectRef { kind, namespace: "shop".into(), name: name.into() }
    }

    fn policy(spec: &str) -> String {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\n\
             spec: {spec}\n---\n"
        )
    }

    #[test]
    fn a_service_leads_to_its_workloads_and_without_any_to_what_it_selects() {
        let allow = policy("{selector: {matchLabels: {app: reviews}}}");
        let with = world(&(service("reviews", 1) + &allow));
        let to = reference(Kind::Service, "reviews");
        let [found] = &receivers(&with, &to, None).unwrap()[..] else { panic!("one") };
        assert_eq!((found.object.to_string().as_str(), found.port), ("Workload/shop/reviews-1", 8080));
        assert!(found.inbound.authorization.is_some());
        let workload = reference(Kind::Workload, "reviews-1");
        assert_eq!(receivers(&with, &workload, None).unwrap()[0], *found);
        let (alone, _) =
            service("reviews", 1).split_once("---\n").map(|(a, b)| (a.to_owned(), b.len())).unwrap();
        let alone = alone.replace("targetPort: web", "targetPort: 8081") + "---\n" + &allow;
        let alone = world(&alone);
        let [found] = &receivers(&alone, &to, Some(80)).unwrap()[..] else { panic!("one") };
        assert_eq!((found.object.clone(), found.port), (to.clone(), 8081));
        assert!(found.inbound.authorization.is_some());
    }

    #[test]
    fn who_is_not_there_is_said() {
        let world = world(&service("reviews", 1));
        let table = [
            (reference(Kind::Service, "gone"), None, "Service/shop/gone is not there"),
            (reference(Kind::Service, "reviews"), Some(81), "Service/shop/reviews has no port 81; it has 80"),
        ];
        for (to, port, expected) in table {
            let error = receivers(&world, &to, port).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_rule_is_found_where_it_is_written() {
        let found =
            |spec: &str, rule| written_rule(&world(&policy(spec)), "AuthorizationPolicy/shop/p", rule);
        let index = |spec: &str, rule| found(spec, rule).and_then(|found| found.index);
        assert_eq!(
            index("{rules: [{to: [{ports: [0]}]}, {}]}", 0),
            Some(1),
            "a rule that cannot be read is counted"
        );
        assert_eq!(index("{action: Forbid}", 0), None);
        assert_eq!(found("{action: Forbid}", 0).unwrap().location.line, 1);
        assert_eq!(written_rule(&world(""), "AuthorizationPolicy/shop/p", 0), None);
    }
}
