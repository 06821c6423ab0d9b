//! RoutePolicy: every field once as it is meant, and what is asked of each.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::*;
use crate::route_policy::{
    Descriptor, GlobalRateLimit, Hedge, LimitKey, OnFailure, RetryOn, RoutePolicySpec, SessionAffinity,
};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn spec(text: &str) -> RoutePolicySpec {
    let text = format!(
        "{{apiVersion: outrigger.dev/v1alpha1, kind: RoutePolicy, metadata: {{name: a}}, spec: {text}}}"
    );
    let Object::RoutePolicy(policy) = only(&text) else { panic!("a RoutePolicy") };
    *policy.spec
}

/// The line and the problem with the spec of a RoutePolicy whose spec stands in line 5.
#[track_caller]
fn check_refused(spec: &str, expected: &str) {
    let head = "apiVersion: outrigger.dev/v1alpha1\nkind: RoutePolicy\nmetadata: {name: a}\nspec:\n";
    let parsed = parse_yaml("f.yaml", &format!("{head}  {spec}\n"));
    assert!(parsed.objects.is_empty(), "{spec} was taken");
    let [problem] = parsed.problems.as_slice() else { panic!("{spec}: {:?}", parsed.problems) };
    let place = problem.location.as_ref().map(|place| (place.file.to_string(), place.line));
    assert_eq!(place, Some(("f.yaml".to_owned(), 5)), "{spec}");
    assert_eq!(format!("{}: {}", problem.field, problem.message), format!("spec.{expected}"), "{spec}");
}

#[test]
fn it_is_read_as_the_reference_writes_it() {
    let spec = spec(
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: reviews, sectionName: rule-name}],
          retry: {on: [5xx, reset, connect-failure, refused-stream, retriable-4xx], attempts: 2,
                  perTryTimeout: 1s, backoff: {base: 25ms, max: 250ms}},
          hedge: {delayPercentile: 95, maxExtraPercent: 5},
          fault: {delay: {percent: 10, fixed: 500ms}, abort: {percent: 1, httpStatus: 503}},
          rateLimit: {local: {requests: 100, per: 1s, burst: 50, key: [source.identity]}},
          sessionAffinity: {cookie: {name: session, ttl: 1h}}}",
    );
    assert_eq!(spec.target_refs[0].section_name.as_deref(), Some("rule-name"));
    let retry = spec.retry.unwrap();
    let safe = [RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Retriable4xx];
    let on = [&[RetryOn::ServerError, RetryOn::Reset], &safe[..]].concat();
    assert_eq!((retry.on, retry.attempts), (Some(on), Some(2)));
    assert_eq!(retry.per_try_timeout, Some(MS(1000)));
    assert_eq!((retry.backoff.base, retry.backoff.max), (Some(MS(25)), Some(MS(250))));
    assert_eq!(spec.hedge, Some(Hedge { delay_percentile: 95.0, max_extra_percent: 5.0 }));
    let fault = spec.fault.unwrap();
    assert_eq!(fault.delay.map(|delay| (delay.percent, delay.fixed)), Some((10.0, MS(500))));
    let abort = fault.abort.map(|abort| (abort.percent, abort.status));
    assert_eq!(abort, Some((1.0, StatusCode::SERVICE_UNAVAILABLE)));
    let local = spec.rate_limit.unwrap().local.unwrap();
    assert_eq!((local.requests, local.per, local.burst), (100, MS(1000), Some(50)));
    assert_eq!(local.key, [LimitKey::SourceIdentity]);
    let cookie = SessionAffinity::Cookie { name: "session".into(), ttl: Some(MS(3_600_000)) };
    assert_eq!(spec.session_affinity, Some(cookie));
}

#[test]
fn what_is_absent_has_its_default() {
    assert_eq!(spec("{}"), RoutePolicySpec::default());
    let written = spec("{retry: {}, hedge: {}, fault: {abort: {httpStatus: 500}}}");
    assert_eq!(written.retry, Some(Default::default()));
    assert_eq!(written.hedge, Some(Hedge { delay_percentile: 95.0, max_extra_percent: 5.0 }));
    assert_eq!(written.fault.and_then(|fault| fault.abort).map(|abort| abort.percent), Some(100.0));
}

#[test]
fn retries_name_statuses_and_words_of_grpc() {
    let spec = spec(
        "{retry: {on: [425, '504', gateway-error, cancelled, deadline-exceeded, resource-exhausted, internal, unavailable]}}",
    );
    let status = |code| RetryOn::Status(StatusCode::from_u16(code).unwrap());
    let grpc = [1, 4, 8, 13, 14].map(RetryOn::Grpc);
    let expected = [&[status(425), status(504), RetryOn::GatewayError], &grpc[..]].concat();
    assert_eq!(spec.retry.unwrap().on, Some(expected));
}

#[test]
fn limits_are_kept_by_many_keys_and_by_a_service() {
    let spec = spec(
        "{rateLimit: {local: {requests: 1, key: [source.address, header:X-User, {header: x-team}, method, path, route]},
                      global: {service: {name: limits, namespace: infra, port: 8081}, domain: shop, timeout: 50ms, onFailure: Deny,
                               descriptors: [{key: tier, value: gold}, {key: user, from: header:x-user}]}},
          sessionAffinity: {header: x-session}}",
    );
    let limits = spec.rate_limit.unwrap();
    let header = |name: &'static str| LimitKey::Header(HeaderName::from_static(name));
    let local = limits.local.unwrap();
    let named = [LimitKey::Method, LimitKey::Path, LimitKey::Route];
    let keys = [&[LimitKey::SourceAddress, header("x-user"), header("x-team")], &named[..]].concat();
    assert_eq!((local.key, local.per, local.burst), (keys, MS(1000), None));
    let GlobalRateLimit { service, domain, descriptors, timeout, on_failure } = limits.global.unwrap();
    assert_eq!((&*service.name, service.namespace.as_deref(), service.port), ("limits", Some("infra"), 8081));
    assert_eq!((&*domain, timeout, on_failure), ("shop", MS(50), OnFailure::Deny));
    let fixed = Descriptor::Fixed { key: "tier".into(), value: HeaderValue::from_static("gold") };
    assert_eq!(descriptors, [fixed, Descriptor::From { key: "user".into(), from: header("x-user") }]);
    assert_eq!(spec.session_affinity, Some(SessionAffinity::Header(HeaderName::from_static("x-session"))));
}

#[test]
fn it_is_judged_strictly_and_the_place_is_told() {
    let conditions = "5xx, gateway-error, reset, connect-failure, refused-stream, retriable-4xx, cancelled, \
                      deadline-exceeded, resource-exhausted, internal, unavailable or a status from 400 to 599";
    for (text, expected) in [
        ("retries: {attempts: 1}", "retries: unknown field; expected one of targetRefs, retry, hedge, fault, rateLimit, sessionAffinity".to_owned()),
        ("retry: {on: [5xx, 6xx]}", format!("retry.on[1]: \"6xx\" is not a condition; write {conditions}")),
        ("retry: {on: [200]}", format!("retry.on[0]: 200 is not a condition; write {conditions}")),
        ("retry: {on: []}", "retry.on: an empty list; at least one entry is needed".into()),
        ("retry: {attempts: 101}", "retry.attempts: 101; at most 100 are allowed".into()),
        ("retry: {perTryTimeout: 0s}", "retry.perTryTimeout: 0s; it must be longer than nothing".into()),
        (
            "retry: {backoff: {base: 1s, max: 10ms}}",
            "retry.backoff.max: shorter than base; write one that is at least as long".into(),
        ),
        ("hedge: {delayPercentile: 100}", "hedge.delayPercentile: 100 is not a number from 50 to 99.9".into()),
        ("hedge: {maxExtraPercent: 101}", "hedge.maxExtraPercent: 101 is not a number from 0 to 100".into()),
        ("fault: {}", "fault: an empty fault; write delay, abort or both".into()),
        ("fault: {abort: {httpStatus: 99}}", "fault.abort.httpStatus: 99 is not a status from 200 to 599".into()),
        ("fault: {delay: {percent: 5}}", "fault.delay.fixed: missing; it has to be written".into()),
        ("rateLimit: {}", "rateLimit: an empty rateLimit; write local, global or both".into()),
        (
            "rateLimit: {local: {requests: 0}}",
            "rateLimit.local.requests: 0 is not a whole number from 1 to 4294967295".into(),
        ),
        (
            "rateLimit: {local: {requests: 1, key: [user]}}",
            "rateLimit.local.key[0]: \"user\" is not a key; write source.identity, source.address, header:NAME, \
             method, path or route"
                .into(),
        ),
        (
            "rateLimit: {global: {service: {name: a, port: 1}, domain: d, descriptors: [{key: k}]}}",
            "rateLimit.global.descriptors[0]: write one of value and from".into(),
        ),
        ("sessionAffinity: {}", "sessionAffinity: write one of cookie: {name: NAME} and header: NAME".into()),
    ] {
        check_refused(text, &expected);
    }
}
