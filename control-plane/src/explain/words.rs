//! Configuration of the data plane in words for people.

use std::time::Duration;

use ::http::{HeaderName, HeaderValue};
use outrigger_model::cluster::Cluster;
use outrigger_model::filter::{Descriptor, Fault, Filters, LimitKey, PathChange, RateLimit, Share};
use outrigger_model::health_check::Probe;
use outrigger_model::policy::{LoadBalancer, RetryPolicy};
use outrigger_model::route::{
    Backend, BackendTarget, Forward, HeaderChanges, PathMatch, Route, RouteMatch, ValueMatch,
};
use outrigger_model::session::SessionCarrier;

use super::backends::Settings;

/// Which requests a match is for.
pub(super) fn matches(matches: &RouteMatch) -> String {
    let path = match &matches.path {
        PathMatch::Exact(path) => path.to_string(),
        PathMatch::Prefix(path) => format!("{path}/*"),
        PathMatch::Regex(pattern) => format!("~{}", pattern.source()),
    };
    let method = matches.method.as_ref().map(|method| format!("{method} ")).unwrap_or_default();
    let headers = matches.headers.iter().map(|header| format!(" {}{}", header.name, value(&header.value)));
    let query = matches.query.iter().map(|query| format!(" ?{}{}", query.name, value(&query.value)));
    format!("{method}{path}{}", headers.chain(query).collect::<String>())
}

fn value(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("={text}"),
        ValueMatch::Regex(pattern) => format!("~{}", pattern.source()),
        ValueMatch::Present => String::new(),
    }
}

/// What happens to requests of a route, in order.
pub(super) fn steps(route: &Route, forward: &Forward) -> Vec<String> {
    let mut steps = route.filters.as_deref().map(filters).unwrap_or_default();
    steps.extend(changes("request", &route.request_headers));
    steps.extend(forward.timeout.map(|timeout| format!("time out after {}", duration(timeout))));
    steps.extend(forward.retry.as_ref().map(retry));
    steps.extend(forward.hedge.as_ref().map(|hedge| {
        let (percentile, extra) = (hedge.delay_percentile, hedge.max_extra_percent);
        format!("send a second time what is slower than {percentile} % (at most {extra} % more)")
    }));
    steps.extend(forward.session.as_ref().map(|session| match &session.carrier {
        SessionCarrier::Cookie { name, .. } => format!("keep to an endpoint by cookie {name}"),
        SessionCarrier::Header(name) => format!("keep to an endpoint by header {name}"),
    }));
    steps.extend(changes("response", &route.response_headers));
    steps
}

/// What happens to the requests of one share.
pub(super) fn backend_steps(backend: &Backend) -> Vec<String> {
    let mut steps = backend.filters.as_deref().map(filters).unwrap_or_default();
    steps.extend(changes("request", &backend.request_headers));
    steps.extend(changes("response", &backend.response_headers));
    steps
}

fn filters(filters: &Filters) -> Vec<String> {
    let mut steps = Vec::new();
    steps.extend(filters.fault.as_ref().map(fault));
    steps.extend(filters.local_rate_limit.as_ref().map(rate_limit));
    steps.extend(filters.global_rate_limit.as_ref().map(|limit| {
        let entries = limit.descriptor.iter().map(|entry| match entry {
            Descriptor::Fixed { key, .. } | Descriptor::FromRequest { key, .. } => key.as_ref(),
        });
        let entries = entries.collect::<Vec<_>>().join(", ");
        format!("ask the rate limit service {} ({}: {entries})", limit.cluster, limit.domain)
    }));
    steps.extend(filters.cors.as_ref().map(|_| "answer preflights and allow origins (CORS)".to_owned()));
    if let Some(rewrite) = &filters.rewrite {
        steps.extend(rewrite.host.as_ref().map(|host| format!("write {host} as the host")));
        steps.extend(rewrite.path.as_ref().map(|path| match path {
            PathChange::Full(path) => format!("write {path} as the path"),
            PathChange::Prefix(prefix) => format!("write {prefix:?} in place of the prefix"),
        }));
    }
    steps.extend(filters.mirrors.iter().map(|mirror| {
        let to = match &mirror.target {
            BackendTarget::Cluster(cluster) => cluster.to_string(),
            BackendTarget::Invalid(why) => format!("nobody ({why})"),
        };
        format!("copy {} to {to}", share(mirror.share))
    }));
    steps
}

fn fault(fault: &Fault) -> String {
    let delay = fault.delay.map(|(of, time)| format!("delay {} by {}", share(of), duration(time)));
    let abort = fault.abort.map(|(of, status)| format!("answer {} with {}", share(of), status.as_u16()));
    delay.into_iter().chain(abort).collect::<Vec<_>>().join(", ")
}

fn rate_limit(limit: &RateLimit) -> String {
    let keys: Vec<_> = limit.key.iter().map(limit_key).collect();
    let apart = if keys.is_empty() { String::new() } else { format!(" for each {}", keys.join(" and ")) };
    format!("let {} through per {}{apart}, {} at once", limit.requests, duration(limit.per), limit.burst)
}

fn limit_key(key: &LimitKey) -> String {
    match key {
        LimitKey::SourceIdentity => "source identity".to_owned(),
        LimitKey::SourceAddress => "source address".to_owned(),
        LimitKey::Header(name) => format!("value of header {name}"),
        LimitKey::Method => "method".to_owned(),
        LimitKey::Path => "path".to_owned(),
    }
}

fn share(share: Share) -> String {
    let percent = f64::from(share.numerator) * 100.0 / f64::from(share.denominator);
    if percent >= 100.0 { "every request".to_owned() } else { format!("{percent} % of requests") }
}

fn changes<'a>(what: &'a str, changes: &'a HeaderChanges) -> impl Iterator<Item = String> + 'a {
    let remove = changes.remove.iter().map(move |name| format!("remove {what} header {name}"));
    let pair = |(name, value): &(HeaderName, HeaderValue)| {
        format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
    };
    let set = changes.set.iter().map(move |it| format!("set {what} header {}", pair(it)));
    let add = changes.add.iter().map(move |it| format!("add {what} header {}", pair(it)));
    remove.chain(set).chain(add)
}

fn retry(retry: &RetryPolicy) -> String {
    let statuses = ranges(retry.statuses.iter().map(|status| status.as_u16()));
    let grpc: Vec<_> = retry.grpc.iter().map(|code| code.to_string()).collect();
    let grpc = (!grpc.is_empty()).then(|| format!("gRPC {}", grpc.join(", ")));
    let more = [(retry.throttled, "429 with retry-after"), (retry.on_reset, "reset")];
    let more = more.into_iter().filter(|(on, _)| *on).map(|(_, word)| word.to_owned());
    let on = statuses.into_iter().chain(more).chain(grpc).collect::<Vec<_>>().join(", ");
    let per_try = retry.per_try_timeout.map(|time| format!(", each try within {}", duration(time)));
    let on = if on.is_empty() { String::new() } else { format!(" on {on}") };
    format!("try up to {} times more{on}{}", retry.attempts, per_try.unwrap_or_default())
}

/// Numbers in words, those in a row as one range.
fn ranges(numbers: impl Iterator<Item = u16>) -> Vec<String> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let word = |(first, last): (u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(word).collect()
}

/// How a cluster is treated.
pub(super) fn settings(cluster: &Cluster) -> Settings {
    let limits = &cluster.limits;
    let budget = &cluster.retry_budget;
    let connection = &cluster.connection;
    Settings {
        load_balancer: load_balancer(&cluster.load_balancer),
        limits: format!(
            "{} connections, {} waiting, {} requests, {} retries",
            limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries
        ),
        outlier_detection: cluster.outlier.as_ref().map_or("off".to_owned(), |outlier| {
            format!(
                "after {} errors in a row or below {} % success, for {} to {}, at most {} % of endpoints",
                outlier.consecutive_errors,
                outlier.success_rate_percent,
                duration(outlier.base_ejection_time),
                duration(outlier.max_ejection_time),
                outlier.max_ejection_percent
            )
        }),
        retry_budget: format!(
            "{} % of requests and {} a second",
            budget.percent, budget.min_retries_per_second
        ),
        connection: format!(
            "connect within {}, idle {}, at most {} old",
            duration(connection.connect_timeout),
            duration(connection.idle_timeout),
            duration(connection.max_lifetime)
        ),
        more: more(cluster),
    }
}

/// What is only told where it is said.
fn more(cluster: &Cluster) -> Vec<String> {
    let slow_start = cluster.slow_start.map(|slow| {
        format!(
            "new endpoints start with {} % of their share, all of it after {}",
            slow.min_weight_percent,
            duration(slow.window)
        )
    });
    let locality = cluster.locality.map(|mode| format!("locality {mode:?}"));
    let check = cluster.health_check.as_ref().map(|check| {
        let what = match &check.probe {
            Probe::Http { path, .. } => format!("GET {path}"),
            Probe::Grpc { service } => format!("gRPC health of {service:?}"),
            Probe::Tcp => "connections".to_owned(),
        };
        format!("checked by {what} every {}", duration(check.interval))
    });
    let tls = cluster.tls.as_ref().map(|tls| format!("TLS to {}", tls.server_name));
    slow_start.into_iter().chain(locality).chain(check).chain(tls).collect()
}

fn load_balancer(load_balancer: &LoadBalancer) -> String {
    let shown = format!("{load_balancer:?}");
    shown.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// `1.5s`, `250ms`.
fn duration(duration: Duration) -> String {
    format!("{duration:?}")
}
