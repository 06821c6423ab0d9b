//! What would become of a request, and why: asked of the same pictures, translated by the same code and decided by the
//! same matcher as in a running mesh.
//!
//! A pure function of the world and of a question. It never sees traffic: what depends on load, health or chance is told
//! as shares and settings, not as one outcome.

use std::sync::Arc;

use ::http::{HeaderMap, Method};
use outrigger_model::inbound::Egress as EgressMode;
use outrigger_model::listener::{Handling, Listener, OpaqueRoutes, select_by_name};
use outrigger_model::name::{Destination, INBOUND};
use outrigger_model::resource::{Resource, ResourceType};
use outrigger_model::route::{RequestHead, Route, RouteConfig, select};
use serde::Serialize;

use crate::translate::{Client, resource};
use crate::world::World;

mod backends;
mod outcome;
pub mod receiving;
mod words;

pub use backends::{Backend, Settings};
pub use outcome::{Answer, Forwarded, Outcome};

/// A request that somebody might send.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who sends it.
    pub client: Client,
    /// What is dialled: a host or an address, and a port.
    pub destination: Destination,
    /// The method.
    pub method: Method,
    /// The host that the request names, which decides nothing; usually the destination.
    pub host: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    /// Its header fields.
    pub headers: HeaderMap,
    /// What it is sent through.
    pub transport: Transport,
}

/// What an application sends a request through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Nothing: the mesh protects it.
    Plain,
    /// TLS of its own, which the mesh does not open.
    Tls {
        /// The name that is asked for (SNI), in lower case.
        server_name: Option<String>,
    },
}

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What was dialled, as it was asked.
    pub destination: String,
    /// What its connections are taken for: `http`, `opaque`, `detect` (by what the client sends) or `unknown`.
    pub protocol: &'static str,
    /// The routes in the order in which they are tried, up to the one that matches.
    pub routes: Vec<Tried>,
    /// What becomes of the request.
    pub outcome: Outcome,
}

/// A route that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// The object it comes from.
    pub object: Arc<str>,
    /// Which requests it is for.
    pub matches: String,
    /// The first condition that the request does not fulfil; `None` for the one that matches.
    pub mismatch: Option<String>,
}

/// What would become of a request in this world.
pub fn explain(world: &World, question: &Question) -> Explanation {
    let name = question.destination.to_string();
    let asking = Asking { world, question };
    let found = asking.listener(&name);
    let (protocol, routes, outcome) = match found.map(|listener| listener.handling) {
        None => ("unknown", Vec::new(), asking.unknown()),
        Some(Handling::Opaque(routes)) => ("opaque", Vec::new(), asking.opaque(&routes)),
        Some(Handling::Detect { opaque, .. }) if asking.is_tls() => {
            ("detect", Vec::new(), asking.opaque(&opaque))
        }
        Some(Handling::Http { .. }) if asking.is_tls() => ("http", Vec::new(), asking.tls_to_http()),
        Some(Handling::Http { route_config }) => asking.http("http", &route_config),
        Some(Handling::Detect { route_config, .. }) => asking.http("detect", &route_config),
    };
    Explanation { destination: name, protocol, routes, outcome }
}

/// A question at a world.
#[derive(Clone, Copy)]
struct Asking<'a> {
    world: &'a World,
    question: &'a Question,
}

impl Asking<'_> {
    fn listener(self, name: &str) -> Option<Listener> {
        match resource(self.world, &self.question.client, ResourceType::Listener, name)? {
            Resource::Listener(listener) => Some(listener),
            _ => None,
        }
    }

    fn route_config(self, name: &str) -> Option<RouteConfig> {
        match resource(self.world, &self.question.client, ResourceType::Route, name)? {
            Resource::Route(config) => Some(config),
            _ => None,
        }
    }

    /// A destination that the mesh does not know.
    fn unknown(self) -> Outcome {
        let inbound = resource(self.world, &self.question.client, ResourceType::Listener, INBOUND);
        let egress = match inbound {
            Some(Resource::Inbound(inbound)) => inbound.mesh.egress,
            _ => EgressMode::Deny,
        };
        let nobody = "no Service, ExternalService or workload of the mesh is dialled so";
        match egress {
            EgressMode::Allow => Outcome::PassedThrough { why: format!("{nobody}, and egress is Allow") },
            EgressMode::Deny => Outcome::Closed { why: format!("{nobody}, and egress is Deny") },
        }
    }

    fn is_tls(self) -> bool {
        self.question.transport != Transport::Plain
    }

    fn tls_to_http(self) -> Outcome {
        let destination = &self.question.destination;
        Outcome::Closed { why: format!("{destination} is declared as HTTP, and TLS is no HTTP to a sidecar") }
    }

    /// A request without TLS has no name in it, so that no route by name is for it.
    fn opaque(self, routes: &OpaqueRoutes) -> Outcome {
        let named = match &self.question.transport {
            Transport::Plain => None,
            Transport::Tls { server_name } => {
                let ways = routes.by_name.iter().map(|named| named.hosts.as_slice());
                select_by_name(ways, server_name.as_deref())
            }
        };
        let route = named.map_or(&routes.otherwise, |place| &routes.by_name[place].route);
        let backends = backends::opaque(self, route);
        match backends.is_empty() {
            true if !routes.by_name.is_empty() && named.is_none() => {
                let object = &routes.by_name[0].route.object;
                let why = match self.is_tls() {
                    true => {
                        format!("neither {object} nor another TLSRoute is for the name it asks for (SNI)")
                    }
                    false => {
                        format!("{object} is for TLS by its name (SNI), and this is a request without TLS")
                    }
                };
                Outcome::Closed { why }
            }
            true => Outcome::Closed { why: format!("{} has no backend that can be used", route.object) },
            false => Outcome::Bytes { object: route.object.clone(), backends },
        }
    }

    fn http(self, protocol: &'static str, name: &str) -> (&'static str, Vec<Tried>, Outcome) {
        let config =
            self.route_config(name).unwrap_or_else(|| RouteConfig { name: name.into(), routes: Vec::new() });
        let head = RequestHead {
            method: &self.question.method,
            path: &self.question.path,
            query: self.question.query.as_deref(),
            headers: &self.question.headers,
        };
        let found = select(config.routes.iter().map(|route| &route.matches), &head);
        let looked_at = found.map_or(config.routes.len(), |index| index + 1);
        let tried = config.routes[..looked_at].iter().map(|route| tried(route, &head)).collect();
        let outcome = match found {
            Some(index) => outcome::of(self, &config.routes[index]),
            None => outcome::unmatched(&self.question.destination, config.routes.len()),
        };
        (protocol, tried, outcome)
    }
}

fn tried(route: &Route, head: &RequestHead<'_>) -> Tried {
    Tried {
        object: route.object.clone(),
        matches: words::matches(&route.matches),
        mismatch: route.matches.mismatch(head).map(|mismatch| mismatch.to_string()),
    }
}

#[cfg(test)]
mod tests;
