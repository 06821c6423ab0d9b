//! Filters on the wire: what Envoy is told, what others tell us, and what is refused.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route::Action as WireAction;
use envoy_types::pb::envoy::config::route::v3::route_action::{HostRewriteSpecifier, RequestMirrorPolicy};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    FilterConfig, RedirectAction, Route as WireRoute, RouteAction, RouteConfiguration,
};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use http::StatusCode;
use prost::Message;

use super::refused::{config, good_route, message, route};
use crate::codec::wire::{self, ours};
use crate::codec::{MAX_MIRRORS, decode, encode};
use crate::filter::{Filters, Mirror, PathChange, Redirect, Rewrite, Scheme, Share};
use crate::resource::Resource;
use crate::route::{Action, Backend, BackendTarget, Forward, PathMatch, Route, RouteConfig, RouteMatch};

fn prefix(prefix: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::Prefix(prefix.into()), ..RouteMatch::default() }
}

fn written(route: Route) -> Vec<WireRoute> {
    let resource = Resource::Route(RouteConfig { name: "a:80".into(), routes: vec![route] });
    let wire = RouteConfiguration::decode(encode(&resource).value.as_slice()).unwrap();
    wire.virtual_hosts.into_iter().flat_map(|host| host.routes).collect()
}

fn forward() -> Action {
    Action::Forward(Forward::to(vec![Backend::plain(BackendTarget::Cluster("c".into()), 1)]))
}

fn rewriting(matches: RouteMatch, path: PathChange) -> Vec<RouteAction> {
    let rewrite = Rewrite { host: Some("new.example".into()), path: Some(path) };
    let filters = Filters { rewrite: Some(rewrite), ..Filters::default() };
    let route = Route { filters: Some(Box::new(filters)), ..Route::plain("r".into(), matches, forward()) };
    let actions = written(route).into_iter().map(|route| match route.action {
        Some(WireAction::Route(action)) => action,
        other => panic!("{other:?}"),
    });
    actions.collect()
}

#[test]
fn a_replaced_prefix_is_written_for_each_half_of_what_matched() {
    let table = [
        ("/a", "/b", vec!["/b", "/b/"]),
        ("/a", "", vec!["/", "/"]),
        ("/a", "/b/", vec!["/b", "/b/"]),
        ("", "/b", vec!["/b/"]),
        ("", "", vec!["/"]),
    ];
    for (matched, replacement, expected) in table {
        let change = PathChange::Prefix(replacement.into());
        let actions = rewriting(prefix(matched), change.clone());
        let shown: Vec<_> = actions.iter().map(|action| action.prefix_rewrite.as_str()).collect();
        assert_eq!(shown, expected, "{matched:?} {replacement:?}");
        let redirect =
            Redirect { scheme: None, host: None, port: None, path: Some(change), status: StatusCode::FOUND };
        let routes = written(Route::plain("r".into(), prefix(matched), Action::Redirect(redirect)));
        let shown: Vec<_> = routes.iter().map(|route| path_of(route).clone()).collect();
        let expected: Vec<_> =
            expected.iter().map(|text| PathRewriteSpecifier::PrefixRewrite((*text).to_owned())).collect();
        assert_eq!(shown, expected, "{matched:?} {replacement:?}");
    }
}

fn path_of(route: &WireRoute) -> &PathRewriteSpecifier {
    let Some(WireAction::Redirect(redirect)) = &route.action else { panic!("{route:?}") };
    redirect.path_rewrite_specifier.as_ref().unwrap()
}

#[test]
fn a_whole_path_and_a_host_are_written_as_every_envoy_reads_them() {
    let actions = rewriting(prefix(""), PathChange::Full("/a\\b".into()));
    let regex = actions[0].regex_rewrite.as_ref().unwrap();
    assert_eq!(
        (regex.pattern.as_ref().unwrap().regex.as_str(), regex.substitution.as_str()),
        ("^/.*$", "/a\\\\b")
    );
    let host = HostRewriteSpecifier::HostRewriteLiteral("new.example".into());
    assert_eq!(actions[0].host_rewrite_specifier, Some(host));
}

#[test]
fn a_redirect_and_a_mirror_are_written_in_the_fields_of_the_standard() {
    let redirect = Redirect {
        scheme: Some(Scheme::Https),
        host: Some("new.example".into()),
        port: Some(8443),
        path: Some(PathChange::Full("/x".into())),
        status: StatusCode::PERMANENT_REDIRECT,
    };
    let routes = written(Route::plain("r".into(), prefix(""), Action::Redirect(redirect)));
    let expected = RedirectAction {
        host_redirect: "new.example".into(),
        port_redirect: 8443,
        response_code: 4,
        scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::SchemeRedirect("https".into())),
        path_rewrite_specifier: Some(PathRewriteSpecifier::PathRedirect("/x".into())),
        ..RedirectAction::default()
    };
    assert_eq!(routes[0].action, Some(WireAction::Redirect(expected)));
    let share = Share { numerator: 1, denominator: 3 };
    let mirror = Mirror { target: BackendTarget::Cluster("m".into()), share };
    let filters = Filters { mirrors: vec![mirror], ..Filters::default() };
    let routes = written(Route {
        filters: Some(Box::new(filters)),
        ..Route::plain("r".into(), prefix(""), forward())
    });
    let Some(WireAction::Route(action)) = &routes[0].action else { panic!("no route") };
    let policy = &action.request_mirror_policies[0];
    let share = policy.runtime_fraction.as_ref().unwrap().default_value.unwrap();
    assert_eq!((policy.cluster.as_str(), share.numerator, share.denominator), ("m", 333_333, 2));
    assert!(policy.disable_shadow_host_suffix_append);
}

fn read(wire: &RouteConfiguration) -> Route {
    let Resource::Route(mut config) = decode(&wire::pack(wire)).unwrap_or_else(|error| panic!("{error}"))
    else {
        panic!("no routes")
    };
    config.routes.remove(0)
}

fn rewrite_of(path: PathSpecifier, change: impl FnOnce(&mut RouteAction)) -> Option<PathChange> {
    let read = read(&route(|matches, action| {
        matches.path_specifier = Some(path);
        change(action);
    }));
    read.filters?.rewrite?.path
}

#[test]
fn rewrites_of_other_control_planes_mean_what_they_mean_to_envoy() {
    let full = |path: &str| Some(PathChange::Full(path.into()));
    let prefix = |path: &str| Some(PathChange::Prefix(path.into()));
    let path = |text: &str| PathSpecifier::Path(text.into());
    let to = |text: &'static str| move |action: &mut RouteAction| action.prefix_rewrite = text.into();
    assert_eq!(rewrite_of(path("/a"), to("/b")), full("/b"));
    assert_eq!(rewrite_of(PathSpecifier::Prefix("/".into()), to("/b/")), prefix("/b"));
    assert_eq!(rewrite_of(PathSpecifier::PathSeparatedPrefix("/a".into()), to("/b")), prefix("/b"));
    assert_eq!(rewrite_of(path("/a"), |action| action.path_rewrite = "/c".into()), full("/c"));
}

#[test]
fn filters_that_cannot_be_honoured_are_refused_by_field() {
    let rewrite = |path: PathSpecifier, text: &str| {
        route(|matches, action| {
            matches.path_specifier = Some(path);
            action.prefix_rewrite = text.into();
        })
    };
    let regex = |pattern: &str, substitution: &str| {
        let pattern = RegexMatcher { regex: pattern.into(), engine_type: None };
        let substitution = substitution.into();
        let rewrite = RegexMatchAndSubstitute { pattern: Some(pattern), substitution };
        route(|_, action| action.regex_rewrite = Some(rewrite))
    };
    let mirror = |change: fn(&mut RequestMirrorPolicy)| {
        let mut policy = RequestMirrorPolicy { cluster: "m".into(), ..RequestMirrorPolicy::default() };
        change(&mut policy);
        route(|_, action| action.request_mirror_policies = vec![policy])
    };
    let slash = || PathSpecifier::Prefix("/".into());
    for (config, why) in [
        (rewrite(slash(), "/b"), "prefix_rewrite: \"/b\" does not end with /"),
        (rewrite(slash(), "b/"), "prefix_rewrite: \"b/\" does not start with /"),
        (
            rewrite(PathSpecifier::Prefix("/a/".into()), "/b/"),
            "prefix_rewrite: is not supported beside a prefix",
        ),
        (regex("^/a", "/b"), "regex_rewrite.pattern: only \"^/.*$\""),
        (regex("^/.*$", "/\\1"), "regex_rewrite.substitution: refers to a group"),
        (
            route(|_, action| {
                action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral("a b".into()));
            }),
            "host_rewrite_literal: \"a b\" is not a host",
        ),
        (
            route(|_, action| {
                action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteHeader("x".into()));
            }),
            "host_rewrite_specifier: is not supported",
        ),
        (mirror(|policy| policy.cluster.clear()), "request_mirror_policies[0].cluster: is empty"),
        (mirror(|policy| policy.cluster_header = "x".into()), "cluster_header: is not supported"),
        (
            mirror(|policy| policy.runtime_fraction = Some(Default::default())),
            "runtime_fraction.default_value: is",
        ),
        (
            route(|_, action| {
                let policy = RequestMirrorPolicy { cluster: "m".into(), ..RequestMirrorPolicy::default() };
                action.request_mirror_policies = vec![policy; MAX_MIRRORS + 1];
            }),
            "request_mirror_policies: has 17 entries, at most 16",
        ),
    ] {
        message(&config, &["route \"a:80\", virtual_hosts[h].routes[0].route.", why]);
    }
}

#[test]
fn redirects_and_cors_that_cannot_be_honoured_are_refused_by_field() {
    let redirect =
        |redirect| config(vec![WireRoute { action: Some(WireAction::Redirect(redirect)), ..good_route() }]);
    let path = |path| RedirectAction { path_rewrite_specifier: Some(path), ..RedirectAction::default() };
    let scheme = SchemeRewriteSpecifier::SchemeRedirect("ftp".into());
    for (wire, why) in [
        (RedirectAction { strip_query: true, ..RedirectAction::default() }, "strip_query: is not supported"),
        (RedirectAction { port_redirect: 70_000, ..RedirectAction::default() }, "port_redirect: is 70000"),
        (RedirectAction { response_code: 9, ..RedirectAction::default() }, "response_code: 9 is not known"),
        (
            RedirectAction { host_redirect: "a/b".into(), ..RedirectAction::default() },
            "host_redirect: \"a/b\" is",
        ),
        (
            RedirectAction { scheme_rewrite_specifier: Some(scheme), ..RedirectAction::default() },
            "scheme_redirect: \"ftp\" is not supported",
        ),
        (path(PathRewriteSpecifier::PathRedirect("/a?b".into())), "path_redirect: has a query"),
        (path(PathRewriteSpecifier::RegexRewrite(Default::default())), "path_rewrite_specifier: is not"),
    ] {
        message(&redirect(wire), &["routes[0].redirect.", why]);
    }
    let cors = |policy: &CorsPolicy| {
        let configs = HashMap::from([("envoy.filters.http.cors".to_owned(), wire::pack(policy))]);
        config(vec![WireRoute { typed_per_filter_config: configs, ..good_route() }])
    };
    let at = "routes[0].typed_per_filter_config[envoy.filters.http.cors].";
    message(
        &cors(&CorsPolicy { max_age: "soon".into(), ..CorsPolicy::default() }),
        &[at, "max_age: \"soon\""],
    );
    message(
        &cors(&CorsPolicy { allow_headers: "a,b c".into(), ..CorsPolicy::default() }),
        &[at, "allow_headers: \"b c\" is not a name"],
    );
    let many =
        CorsPolicy { allow_origin_string_match: vec![Default::default(); 65], ..CorsPolicy::default() };
    message(&cors(&many), &[at, "allow_origin_string_match: has 65 entries"]);
}

#[test]
fn filters_of_a_backend_that_is_not_there_are_refused() {
    let with = |own: ours::BackendFilters| {
        let extension =
            ours::RouteExtension { backend_filters: vec![own], ..ours::RouteExtension::default() };
        config(vec![WireRoute { metadata: Some(wire::metadata(&extension)), ..good_route() }])
    };
    let at = "routes[0].metadata.backend_filters[0].";
    message(&with(ours::BackendFilters { backend: 1, ..Default::default() }), &[at, "backend: is not one"]);
    let mirror = ours::Mirror { cluster: "m".into(), numerator: 2, denominator: 1 };
    message(
        &with(ours::BackendFilters { mirrors: vec![mirror], ..Default::default() }),
        &[at, "mirrors[0].numerator: 2 of 1"],
    );
}

#[test]
fn the_entries_of_a_map_are_put_in_order() {
    let optional = wire::pack(&FilterConfig { is_optional: true, ..FilterConfig::default() });
    let encoded = |names: &[&str]| {
        let configs = names.iter().map(|name| ((*name).to_owned(), optional.clone())).collect();
        let routes = vec![WireRoute { typed_per_filter_config: configs, ..good_route() }; 2];
        let mut any = wire::pack(&config(routes));
        wire::sort_map(&mut any.value, &[2, 3, 13]);
        any.value
    };
    // Each map in memory has an order of its own.
    let first = encoded(&["a", "bb", "c", "d"]);
    for _ in 0..20 {
        assert_eq!(encoded(&["d", "c", "bb", "a"]), first);
    }
    assert_eq!(RouteConfiguration::decode(first.as_slice()).unwrap().virtual_hosts[0].routes.len(), 2);
}
