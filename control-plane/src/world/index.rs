//! Under which terms objects are found.
//!
//! One map from terms to objects is the whole index: the terms of an object follow from that object alone, so that
//! applying a change is taking the old terms out and putting the new ones in, and cannot drift from the objects.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use outrigger_resources::backend_tls_policy::{Authorities, AuthorityRef, BackendTlsPolicy, Validation};
use outrigger_resources::kubernetes::{EndpointSlice, Service, ServiceType};
use outrigger_resources::object::{CORE_GROUP, GATEWAY_GROUP, OUTRIGGER_GROUP};
use outrigger_resources::route::{BackendObject, BackendRef, Filter, ParentRef, TargetRef};
use outrigger_resources::route_policy::RoutePolicy;
use outrigger_resources::{Kind, Meta, Object, ObjectRef};

use super::changed::service_of_host;

/// Something that objects are looked up by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Term {
    /// Services by a virtual address of theirs.
    VirtualIp(IpAddr),
    /// Services by the first label of their selector.
    Selects(Label),
    /// Workloads and Pods by each of their labels.
    Labelled(Label),
    /// Workloads and Pods by address.
    At(IpAddr),
    /// EndpointSlices by their Service.
    SliceOf(ObjectRef),
    /// EndpointSlices by the Pods they name.
    SliceNaming(ObjectRef),
    /// EndpointSlices by the addresses they list.
    SliceListing(IpAddr),
    /// ExternalServices by host, as it is written.
    Host(Arc<str>),
    /// ExternalServices by port.
    ExternalPort(u16),
    /// Services that only rename another one, by that one.
    AliasOf(ObjectRef),
    /// Routes by the Service they are attached to.
    RouteOf(ObjectRef),
    /// Routes by the destinations they send to, and RoutePolicies by the Services they ask.
    RouteTo(ObjectRef),
    /// Routes by the namespace of theirs and another one that they send to.
    RouteAcross { from: Arc<str>, to: Arc<str> },
    /// ReferenceGrants by the namespace that permits.
    GrantOf(Arc<str>),
    /// InboundPolicies by their namespace.
    InboundPolicyIn(Arc<str>),
    /// AuthorizationPolicies by their namespace.
    AuthorizationPolicyIn(Arc<str>),
    /// InboundPolicies that say what tokens requests must carry.
    InboundPolicyWithJwt,
    /// BackendTLSPolicies by the ConfigMaps they trust.
    Trusting(ObjectRef),
    /// BackendPolicies, and the standard's policies for backends, by their target.
    PolicyOf(ObjectRef),
    /// RoutePolicies by their target.
    RoutePolicyOf(ObjectRef),
    /// Routes by the RoutePolicies that their rules name.
    RouteNaming(ObjectRef),
}

/// A label within a namespace. What differs most comes first, so that few bytes are compared in a search.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Label {
    value: String,
    namespace: Arc<str>,
    key: String,
}

impl Label {
    pub(crate) fn new(namespace: &Arc<str>, label: (&String, &String)) -> Self {
        Self { namespace: namespace.clone(), key: label.0.clone(), value: label.1.clone() }
    }

    /// The labels of an object.
    pub(crate) fn all(meta: &Meta) -> impl Iterator<Item = Label> {
        meta.labels.iter().map(|label| Self::new(&meta.namespace, label))
    }

    /// The label by which a selector is indexed; any other of its labels has to be compared.
    pub(crate) fn first_of_selector(service: &Service) -> Option<Label> {
        service.spec.selector.first_key_value().map(|label| Self::new(&service.meta.namespace, label))
    }

    /// All labels of a selector.
    pub(crate) fn all_of_selector(service: &Service) -> impl Iterator<Item = Label> {
        service.spec.selector.iter().map(|label| Self::new(&service.meta.namespace, label))
    }
}

/// All terms an object is found under.
pub(super) fn terms(object: &Object) -> BTreeSet<Term> {
    let mut terms = BTreeSet::new();
    match object {
        Object::Service(service) => {
            terms.extend(service.spec.cluster_ips.iter().copied().map(Term::VirtualIp));
            terms.extend(Label::first_of_selector(service).map(Term::Selects));
            terms.extend(alias_of(service).map(Term::AliasOf));
        }
        Object::EndpointSlice(slice) => slice_terms(slice, &mut terms),
        Object::Pod(pod) => {
            terms.extend(pod.status.addresses.iter().copied().map(Term::At));
            terms.extend(Label::all(&pod.meta).map(Term::Labelled));
        }
        Object::Workload(workload) => {
            terms.insert(Term::At(workload.spec.address));
            terms.extend(Label::all(&workload.meta).map(Term::Labelled));
        }
        Object::ExternalService(external) => {
            terms.extend(external.spec.hosts.iter().cloned().map(Term::Host));
            terms.extend(external.spec.ports.iter().map(|port| Term::ExternalPort(port.port)));
        }
        Object::HttpRoute(_) | Object::GrpcRoute(_) | Object::TcpRoute(_) | Object::TlsRoute(_) => {
            let namespace = &object.meta().namespace;
            let parents = route_parents(object).iter().filter_map(|parent| parent_service(parent, namespace));
            terms.extend(parents.map(Term::RouteOf));
            for to in route_backends(object) {
                let Some(to) = backend_reference(to, namespace) else { continue };
                if to.namespace != *namespace {
                    let (from, to) = (namespace.clone(), to.namespace.clone());
                    terms.insert(Term::RouteAcross { from, to });
                }
                terms.insert(Term::RouteTo(to));
            }
            terms.extend(named_policies(object).into_iter().map(Term::RouteNaming));
        }
        Object::BackendPolicy(_) | Object::XBackendTrafficPolicy(_) => policy_terms(object, &mut terms),
        Object::BackendTlsPolicy(policy) => {
            policy_terms(object, &mut terms);
            terms.extend(trusted(policy).map(Term::Trusting));
        }
        Object::ReferenceGrant(grant) => {
            terms.insert(Term::GrantOf(grant.meta.namespace.clone()));
        }
        Object::RoutePolicy(policy) => {
            let targets = policy.spec.target_refs.iter();
            let targets = targets.filter_map(|to| route_policy_target(to, &policy.meta.namespace));
            terms.extend(targets.map(Term::RoutePolicyOf));
            terms.extend(asked_service(policy).map(Term::RouteTo));
        }
        Object::InboundPolicy(policy) => {
            terms.insert(Term::InboundPolicyIn(policy.meta.namespace.clone()));
            terms.extend(policy.spec.jwt.is_some().then_some(Term::InboundPolicyWithJwt));
        }
        Object::AuthorizationPolicy(policy) => {
            terms.insert(Term::AuthorizationPolicyIn(policy.meta.namespace.clone()));
        }
        Object::ConfigMap(_) | Object::Namespace(_) | Object::ServiceAccount(_) | Object::MeshConfig(_) => {}
    }
    terms
}

/// The Service that an ExternalName Service renames, if its name is one that a Service could have.
pub(crate) fn alias_of(service: &Service) -> Option<ObjectRef> {
    let name =
        service.spec.external_name.as_ref().filter(|_| service.spec.type_ == ServiceType::ExternalName)?;
    let (namespace, name) = service_of_host(name)?;
    Some(ObjectRef { kind: Kind::Service, namespace: namespace.into(), name: name.into() })
}

/// The Service an EndpointSlice belongs to.
pub(crate) fn slice_owner(slice: &EndpointSlice) -> Option<ObjectRef> {
    let name = slice.service.clone()?;
    Some(ObjectRef { kind: Kind::Service, namespace: slice.meta.namespace.clone(), name })
}

/// What a route is attached to; nothing for other objects.
pub(crate) fn route_parents(object: &Object) -> &[ParentRef] {
    match object {
        Object::HttpRoute(route) => &route.spec.parent_refs,
        Object::GrpcRoute(route) => &route.spec.parent_refs,
        Object::TcpRoute(route) => &route.spec.parent_refs,
        Object::TlsRoute(route) => &route.spec.parent_refs,
        _ => &[],
    }
}

/// The Service a parentRef means, if it means a Service.
pub(crate) fn parent_service(parent: &ParentRef, route_namespace: &Arc<str>) -> Option<ObjectRef> {
    let is_service = parent.group == CORE_GROUP && parent.kind == Kind::Service.name();
    let namespace = parent.namespace.as_ref().unwrap_or(route_namespace).clone();
    is_service.then(|| ObjectRef { kind: Kind::Service, namespace, name: parent.name.clone() })
}

/// The object a backendRef means, if it is of a kind that can take traffic.
pub(crate) fn backend_reference(backend: &BackendObject, route_namespace: &Arc<str>) -> Option<ObjectRef> {
    let kind = destination_kind(&backend.group, &backend.kind)?;
    let namespace = backend.namespace.as_ref().unwrap_or(route_namespace).clone();
    Some(ObjectRef { kind, namespace, name: backend.name.clone() })
}

fn policy_terms(object: &Object, terms: &mut BTreeSet<Term>) {
    let namespace = &object.meta().namespace;
    let targets = policy_targets(object).iter().filter_map(|target| policy_target(target, namespace));
    terms.extend(targets.map(Term::PolicyOf));
}

/// What a policy for backends is about; nothing for other objects.
pub(crate) fn policy_targets(object: &Object) -> &[TargetRef] {
    match object {
        Object::BackendPolicy(policy) => &policy.spec.target_refs,
        Object::BackendTlsPolicy(policy) => &policy.target_refs,
        Object::XBackendTrafficPolicy(policy) => &policy.spec.target_refs,
        _ => &[],
    }
}

/// The ConfigMaps that a policy trusts.
fn trusted(policy: &BackendTlsPolicy) -> impl Iterator<Item = ObjectRef> {
    let refs = match &policy.validation {
        Ok(Validation { authorities: Authorities::Refs(refs), .. }) => refs.as_slice(),
        _ => &[],
    };
    refs.iter().filter_map(|reference| authority_reference(reference, &policy.meta.namespace))
}

/// The object a reference to authorities means, if it is of a kind that can hold some.
pub(crate) fn authority_reference(reference: &AuthorityRef, namespace: &Arc<str>) -> Option<ObjectRef> {
    let is_map = reference.group == CORE_GROUP && reference.kind == Kind::ConfigMap.name();
    let (namespace, name) = (namespace.clone(), reference.name.clone());
    is_map.then_some(ObjectRef { kind: Kind::ConfigMap, namespace, name })
}

/// The object a targetRef of a BackendPolicy means, if it is of a kind that takes traffic.
pub(crate) fn policy_target(target: &TargetRef, namespace: &Arc<str>) -> Option<ObjectRef> {
    let kind = destination_kind(&target.group, &target.kind)?;
    Some(ObjectRef { kind, namespace: namespace.clone(), name: target.name.clone() })
}

/// The object a targetRef of a RoutePolicy means: a route for requests, or what takes traffic.
pub(crate) fn route_policy_target(target: &TargetRef, namespace: &Arc<str>) -> Option<ObjectRef> {
    let kind = match (target.group.as_str(), target.kind.as_str()) {
        (GATEWAY_GROUP, "HTTPRoute") => Kind::HttpRoute,
        (GATEWAY_GROUP, "GRPCRoute") => Kind::GrpcRoute,
        (group, kind) => destination_kind(group, kind)?,
    };
    Some(ObjectRef { kind, namespace: namespace.clone(), name: target.name.clone() })
}

/// The Service that keeps the rate limit of a policy.
pub(crate) fn asked_service(policy: &RoutePolicy) -> Option<ObjectRef> {
    let service = &policy.spec.rate_limit.as_ref()?.global.as_ref()?.service;
    let namespace = service.namespace.as_ref().unwrap_or(&policy.meta.namespace).clone();
    Some(ObjectRef { kind: Kind::Service, namespace, name: service.name.clone() })
}

/// The RoutePolicies that the rules of a route name by an `ExtensionRef` filter.
fn named_policies(object: &Object) -> Vec<ObjectRef> {
    let filters: Vec<&Filter> = match object {
        Object::HttpRoute(route) => route.spec.rules.iter().flat_map(|rule| &rule.filters).collect(),
        Object::GrpcRoute(route) => route.spec.rules.iter().flat_map(|rule| &rule.filters).collect(),
        _ => Vec::new(),
    };
    let named = filters.into_iter().filter_map(|filter| match filter {
        Filter::ExtensionRef { group, kind, name } => Some((Kind::find(group, kind)?, name)),
        _ => None,
    });
    let policies = named.filter(|(kind, _)| *kind == Kind::RoutePolicy);
    let namespace = &object.meta().namespace;
    policies
        .map(|(kind, name)| ObjectRef { kind, namespace: namespace.clone(), name: name.clone() })
        .collect()
}

fn destination_kind(group: &str, kind: &str) -> Option<Kind> {
    match (group, kind) {
        (CORE_GROUP, "Service") => Some(Kind::Service),
        (OUTRIGGER_GROUP, "ExternalService") => Some(Kind::ExternalService),
        _ => None,
    }
}

fn slice_terms(slice: &EndpointSlice, terms: &mut BTreeSet<Term>) {
    terms.extend(slice_owner(slice).map(Term::SliceOf));
    for endpoint in &slice.endpoints {
        terms.extend(endpoint.addresses.iter().copied().map(Term::SliceListing));
        let Some(target) = endpoint.target_ref.as_ref().filter(|target| target.kind == Kind::Pod.name())
        else {
            continue;
        };
        let namespace = target.namespace.as_ref().unwrap_or(&slice.meta.namespace).clone();
        terms.insert(Term::SliceNaming(ObjectRef { kind: Kind::Pod, namespace, name: target.name.clone() }));
    }
}

/// Everything that traffic of a route goes to: by its backendRefs, or as copies.
fn route_backends(object: &Object) -> Vec<&BackendObject> {
    let mut backends = Vec::new();
    match object {
        Object::HttpRoute(route) => {
            let rules = route.spec.rules.iter();
            rules.for_each(|rule| add_backends(&rule.backend_refs, &rule.filters, &mut backends));
        }
        Object::GrpcRoute(route) => {
            let rules = route.spec.rules.iter();
            rules.for_each(|rule| add_backends(&rule.backend_refs, &rule.filters, &mut backends));
        }
        Object::TcpRoute(route) => {
            route.spec.rules.iter().for_each(|rule| add_backends(&rule.backend_refs, &[], &mut backends));
        }
        Object::TlsRoute(route) => {
            route.spec.rules.iter().for_each(|rule| add_backends(&rule.backend_refs, &[], &mut backends));
        }
        _ => {}
    }
    backends
}

fn add_backends<'a>(refs: &'a [BackendRef], filters: &'a [Filter], to: &mut Vec<&'a BackendObject>) {
    to.extend(refs.iter().map(|backend| &backend.object));
    let filters = filters.iter().chain(refs.iter().flat_map(|backend| &backend.filters));
    to.extend(filters.filter_map(|filter| match filter {
        Filter::RequestMirror(mirror) => Some(&mirror.backend),
        _ => None,
    }));
}
