//! Route configurations: what is attached to a destination, in order of precedence, or the way to its own cluster.

use std::sync::Arc;

use outrigger_model::codec::MAX_ROUTES;
use outrigger_model::route::{Action, Backend, BackendTarget, Forward, Route, RouteConfig, RouteMatch};

use super::attached::Attached;
use super::route_policy::{self, Site};
use super::session;
use super::target::{PortOf, Target};
use super::{grpc, http};
use crate::world::World;

/// The route configuration of a destination for clients of a namespace.
pub(super) fn route_config(
    world: &World,
    client_namespace: &str,
    target: &Target<'_>,
    name: &str,
) -> RouteConfig {
    let routes = match target {
        Target::Service(port) => service_routes(world, client_namespace, *port),
        Target::External(port) => {
            let site = Site { port: Some((port.reference(), &port.port.name)), rule: None };
            let route = to_own_cluster(target, port.reference().to_string());
            vec![route_policy::apply(world, &site, route)]
        }
        Target::Outside(outside) => outside.routes(world),
        Target::Workload(workload) => vec![to_own_cluster(target, workload.member.reference().to_string())],
    };
    RouteConfig { name: name.into(), routes }
}

fn service_routes(world: &World, client_namespace: &str, port: PortOf<'_>) -> Vec<Route> {
    let mut routes = match Attached::find(world, port, client_namespace) {
        Attached::Grpc(routes) => grpc::routes(world, port, &routes),
        Attached::Http(routes) => http::routes(world, port, &routes),
        Attached::Tls(_) | Attached::Tcp(_) | Attached::Nothing => {
            let route = to_own_cluster(&Target::Service(port), port.reference().to_string());
            vec![route_policy::apply(world, &Site::of_port(port), route)]
        }
    };
    session::keep_at(world, port, &mut routes);
    // Beyond this a proxy refuses the whole configuration; status reports that the last ones are not in force.
    routes.truncate(MAX_ROUTES);
    routes
}

/// All requests to the destination itself.
fn to_own_cluster(target: &Target<'_>, object: String) -> Route {
    let backend = Backend::plain(BackendTarget::Cluster(target.canonical().cluster_name().into()), 1);
    let forward = Forward::to(vec![backend]);
    Route::plain(Arc::from(object), RouteMatch::default(), Action::Forward(forward))
}
