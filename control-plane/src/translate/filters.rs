//! From filters of Gateway API to what is done with requests; and from a rule to its route.
//!
//! A filter that cannot be applied is never left out: its rule, or its share of one, answers 500.

use std::sync::Arc;
use std::time::Duration;

use outrigger_model::filter::{
    AllowList, Cors, Filters, Mirror, OriginMatch, PathChange, Redirect, Rewrite, Scheme, Share,
};
use outrigger_model::route::{Action, Backend, BackendTarget, Forward, HeaderChanges, Route, RouteMatch};
use outrigger_resources::ObjectRef;
use outrigger_resources::route::{
    self as resources, BackendRef, CorsMethods, Filter, HeaderModifier, PathModifier, RedirectScheme,
    RequestMirror, RequestRedirect,
};

use super::backend::{action, cluster};
use super::route_policy::extension;
use crate::world::World;

/// What the filters of a rule or of a backendRef do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Applied {
    pub(super) request: HeaderChanges,
    pub(super) response: HeaderChanges,
    redirect: Option<RequestRedirect>,
    filters: Filters,
}

/// A rule of any kind of route, as far as all kinds have the same.
pub(super) struct Rule<'a> {
    /// The route it is of.
    pub(super) object: &'a ObjectRef,
    pub(super) filters: &'a [Filter],
    pub(super) backends: &'a [BackendRef],
}

impl Rule<'_> {
    /// What the rule does on a port that is dialled, still without its matches.
    pub(super) fn route(&self, world: &World, port: u16) -> Route {
        let (mut applied, mut action) = match Applied::of(world, self.object, self.filters) {
            Err(why) => (Applied::default(), Action::NoBackend { why: why.into() }),
            Ok(applied) => {
                let action = match &applied.redirect {
                    Some(config) => Action::Redirect(redirect(config, port)),
                    None => action(world, self.backends, self.object),
                };
                (applied, action)
            }
        };
        if let Action::Forward(forward) = &mut action {
            give_host(&mut applied.filters, forward);
        }
        let filters = match action {
            Action::Forward(_) => applied.filters,
            // Who is sent elsewhere or refused has nothing rewritten or copied; a browser still asks for leave first.
            Action::Redirect(_) | Action::NoBackend { .. } => {
                Filters { rewrite: None, mirrors: Vec::new(), ..applied.filters }
            }
        };
        Route {
            object: Arc::from(self.object.to_string()),
            matches: RouteMatch::default(),
            action,
            request_headers: applied.request,
            response_headers: applied.response,
            filters: boxed(filters),
        }
    }
}

impl Applied {
    /// What some filters of a rule do; the first one that cannot be applied makes them unusable.
    pub(crate) fn of(world: &World, route: &ObjectRef, filters: &[Filter]) -> Result<Self, String> {
        let mut applied = Self::default();
        filters.iter().try_for_each(|filter| applied.add(world, route, filter))?;
        Ok(applied)
    }

    /// The same of a backendRef, where nothing can be redirected any more.
    pub(crate) fn of_backend(world: &World, route: &ObjectRef, filters: &[Filter]) -> Result<Self, String> {
        if let Some(name) = filters.iter().find_map(extension) {
            return Err(format!("filter ExtensionRef names RoutePolicy {name}, which is for whole rules"));
        }
        let applied = Self::of(world, route, filters)?;
        match applied.redirect {
            Some(_) => {
                Err("filter RequestRedirect cannot be applied to one backendRef; give it a rule".to_owned())
            }
            None => Ok(applied),
        }
    }

    /// What is not a change of heads, if there is any.
    pub(super) fn into_filters(self) -> Option<Box<Filters>> {
        boxed(self.filters)
    }

    fn add(&mut self, world: &World, route: &ObjectRef, filter: &Filter) -> Result<(), String> {
        match filter {
            Filter::RequestHeaderModifier(modifier) => change(&mut self.request, modifier),
            Filter::ResponseHeaderModifier(modifier) => change(&mut self.response, modifier),
            Filter::RequestRedirect(redirect) => self.redirect = Some(redirect.clone()),
            Filter::UrlRewrite(rewrite) => {
                let host = rewrite.hostname.as_deref().map(Arc::from);
                let path = rewrite.path.as_ref().map(path_change);
                self.filters.rewrite = Some(Rewrite { host, path });
            }
            Filter::RequestMirror(config) => self.filters.mirrors.push(mirror(world, route, config)),
            Filter::Cors(config) => self.filters.cors = Some(cors(config)?),
            Filter::ExternalAuth { .. } => {
                return Err("filter ExternalAuth is not applied by this version".to_owned());
            }
            // What a RoutePolicy says is added to the whole route.
            Filter::ExtensionRef { .. } if extension(filter).is_some() => {}
            Filter::ExtensionRef { group, kind, name } => {
                return Err(format!("filter ExtensionRef: {kind} {name} of group {group:?} is not there"));
            }
        }
        Ok(())
    }
}

/// Where a backend has a host of its own, the host that the rule gives becomes that of each other backend: Envoy would let
/// the rule have the last word.
fn give_host(filters: &mut Filters, forward: &mut Forward) {
    let host_of = |filters: &Filters| filters.rewrite.as_ref().and_then(|rewrite| rewrite.host.clone());
    let owns = |backend: &Backend| backend.filters.as_deref().and_then(host_of).is_some();
    let Some(host) = host_of(filters).filter(|_| forward.backends.iter().any(owns)) else { return };
    for backend in forward.backends.iter_mut().filter(|backend| !owns(backend)) {
        backend.filters.get_or_insert_default().rewrite.get_or_insert_default().host = Some(host.clone());
    }
    filters.rewrite = filters
        .rewrite
        .take()
        .and_then(|rewrite| rewrite.path)
        .map(|path| Rewrite { host: None, path: Some(path) });
}

fn boxed(filters: Filters) -> Option<Box<Filters>> {
    (!filters.is_empty()).then(|| Box::new(filters))
}

/// A name occurs once in a modifier; a later modifier overrides an earlier one by being applied after it.
fn change(changes: &mut HeaderChanges, modifier: &HeaderModifier) {
    changes.remove.extend(modifier.remove.iter().cloned());
    changes.set.extend(modifier.set.iter().cloned());
    changes.add.extend(modifier.add.iter().cloned());
}

/// Without a port, the well-known one of the scheme that is written, else the one that was dialled. It is left to be
/// implied only where every client of xDS then writes none: Envoy keeps the port that the client wrote to a host.
fn redirect(config: &RequestRedirect, dialled: u16) -> Redirect {
    let scheme = config.scheme.map(|scheme| match scheme {
        RedirectScheme::Http => Scheme::Http,
        RedirectScheme::Https => Scheme::Https,
    });
    let known = match scheme {
        None | Some(Scheme::Http) => 80,
        Some(Scheme::Https) => 443,
    };
    let unwritten = if scheme.is_some() { known } else { dialled };
    let port = config.port.unwrap_or(unwritten);
    let implied = port == known && port == unwritten && config.hostname.is_some();
    Redirect {
        scheme,
        host: config.hostname.as_deref().map(Arc::from),
        port: (!implied).then_some(port),
        path: config.path.as_ref().map(path_change),
        status: config.status,
    }
}

fn path_change(modifier: &PathModifier) -> PathChange {
    match modifier {
        PathModifier::ReplaceFullPath(path) if path.is_empty() => PathChange::Full("/".into()),
        PathModifier::ReplaceFullPath(path) => PathChange::Full(path.clone()),
        PathModifier::ReplacePrefixMatch(prefix) => PathChange::Prefix(prefix.trim_end_matches('/').into()),
    }
}

/// A mirror that cannot be used gets nothing; the requests go on.
fn mirror(world: &World, route: &ObjectRef, config: &RequestMirror) -> Mirror {
    let target = match cluster(world, &config.backend, route) {
        Ok(cluster) => BackendTarget::Cluster(cluster),
        Err(fault) => BackendTarget::Invalid(fault.message.into()),
    };
    let resources::Fraction { numerator, denominator } = config.share;
    Mirror { target, share: Share { numerator, denominator }.standard() }
}

fn cors(config: &resources::Cors) -> Result<Cors, String> {
    let origins = config.allow_origins.iter().map(|origin| OriginMatch::of(origin));
    Ok(Cors {
        allow_origins: origins.collect::<Result<_, _>>()?,
        allow_methods: match &config.allow_methods {
            CorsMethods::Any => AllowList::Any,
            CorsMethods::Only(methods) => AllowList::Only(methods.clone()),
        },
        allow_headers: AllowList::of(&config.allow_headers)?,
        expose_headers: AllowList::of(&config.expose_headers)?,
        max_age: Some(Duration::from_secs(config.max_age_seconds.into())),
        allow_credentials: config.allow_credentials,
    })
}
