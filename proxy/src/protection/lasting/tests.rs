//! What lasts is judged when it begins and when what is in force changes.

use outrigger_model::authorization::{
    Authorization, AuthorizationAction, AuthorizationPolicy, Operation, Rule, Source, TextPattern,
};
use outrigger_model::filter::RateLimit;
use outrigger_model::inbound::{InboundLimits, InboundPort};
use outrigger_model::jwt::JwtRule;
use std::time::Duration;
use tokio::time::{Instant, timeout};

use super::*;
use crate::jwt::Verifier;
use crate::limit::Limits;
use crate::xds::support;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn policy(action: AuthorizationAction, rule: Rule) -> Inbound {
    let policy = AuthorizationPolicy { name: "AuthorizationPolicy/shop/p".into(), action, rules: vec![rule] };
    let authorization = Authorization { policies: vec![policy] };
    Inbound { authorization: Some(Box::new(authorization)), ..Inbound::plain(MtlsMode::Permissive) }
}

fn from_web() -> Rule {
    let source = Source { identities: vec![TextPattern::written(WEB)], ..Source::default() };
    Rule { from: vec![source], ..Rule::default() }
}

fn admin() -> Rule {
    let paths = vec![TextPattern::written("/admin/*")];
    Rule { to: vec![Operation { paths, ..Operation::default() }], ..Rule::default() }
}

fn snapshot(shared: &Shared, inbound: Inbound) -> Snapshot {
    let registry = shared.telemetry.registry();
    Snapshot {
        guard: Limits::default().inbound(&inbound, Instant::now(), registry),
        protection: Protection::new(&inbound, registry).map(Arc::new),
        tokens: inbound.jwt.as_deref().map(|rule| Arc::new(Verifier::new(rule, registry))),
        inbound: Some(Arc::new(inbound)),
        ..Snapshot::empty()
    }
}

/// Requests must carry tokens.
fn tokens() -> Inbound {
    let name = "InboundPolicy/shop/tokens".into();
    let rule = JwtRule { name, issuer: "i".into(), audiences: Vec::new(), keys: None };
    Inbound { jwt: Some(Box::new(rule)), ..Inbound::plain(MtlsMode::Strict) }
}

#[test]
fn a_tunnel_that_began_with_a_good_token_goes_on() {
    let (shared, _demanded) = support::shared();
    let (snapshot, arrival) = (snapshot(&shared, tokens()), arrival(Some(WEB)));
    let begun = |claims| Asked { claims, ..*asked("/chat") };
    let judged = |asked: &Asked| judge(&snapshot, &arrival.caller(), Some(asked), &shared);
    assert!(judged(&begun(Some(Arc::default()))).is_ok());
    assert_eq!(judged(&begun(None)).unwrap_err().reason, Reason::Unauthenticated);
}

fn arrival(identity: Option<&str>) -> Arrival {
    let address = SocketAddr::from(([127, 0, 0, 1], 9080));
    Arrival { identity: identity.map(|id| id.parse().unwrap()), peer: address, local: address }
}

fn asked(path: &str) -> Box<Asked> {
    Asked::of(&http::Request::get(path).body(()).unwrap().into_parts().0, None)
}

/// Whether an opaque connection of this caller, and its tunnel to `/chat`, may begin.
fn judged(inbound: Option<Inbound>, identity: Option<&str>) -> [String; 2] {
    let (shared, _demanded) = support::shared();
    let snapshot = match inbound {
        Some(inbound) => snapshot(&shared, inbound),
        None => Snapshot::empty(),
    };
    let arrival = arrival(identity);
    [None, Some(asked("/chat"))].map(|asked| {
        match judge(&snapshot, &arrival.caller(), asked.as_deref(), &shared) {
            Ok(()) => "in".to_owned(),
            Err(refusal) => format!("{} {}", refusal.reason.word(), refusal.object),
        }
    })
}

#[test]
fn an_opaque_connection_and_a_tunnel_are_held_to_all_that_is_in_force() {
    use AuthorizationAction::{Allow, Audit, Deny};
    let by = "denied AuthorizationPolicy/shop/p";
    let (shared, _demanded) = support::shared();
    let me = shared.as_object();
    let (denied, unknown) = (format!("denied {me}"), format!("unauthenticated {me}"));
    let strict = Inbound::plain(MtlsMode::Strict);
    let closed = Inbound { closed_by: Some("InboundPolicy/shop/jwt".into()), ..strict.clone() };
    let tokens = tokens();
    for (inbound, identity, expected) in [
        (Some(tokens), Some(WEB), ["unauthenticated InboundPolicy/shop/tokens"; 2]),
        (None, Some(WEB), [&*unknown, &*unknown]),
        (Some(strict.clone()), Some(WEB), ["in", "in"]),
        (Some(strict), None, [&*unknown, &*unknown]),
        (Some(closed), Some(WEB), ["unauthenticated InboundPolicy/shop/jwt"; 2]),
        (Some(policy(Deny, from_web())), Some(WEB), [by, by]),
        (Some(policy(Deny, from_web())), None, ["in", "in"]),
        (Some(policy(Allow, from_web())), Some(WEB), ["in", "in"]),
        (Some(policy(Allow, from_web())), None, [&*denied, &*denied]),
        (Some(policy(Deny, admin())), Some(WEB), [by, "in"]),
        (Some(policy(Allow, admin())), Some(WEB), [&*denied, &*denied]),
        (Some(policy(Audit, from_web())), Some(WEB), ["in", "in"]),
    ] {
        let said = judged(inbound.clone(), identity);
        assert_eq!(said, expected, "{inbound:?} {identity:?}");
    }
}

#[test]
fn bytes_are_no_way_around_what_only_requests_are_held_to() {
    let (shared, _demanded) = support::shared();
    let denied = format!("denied {}", shared.as_object());
    let port = |protocol| InboundPort { port: 9080, protocol, service: "".into() };
    let rate = RateLimit {
        name: "InboundPolicy/shop/p".into(),
        requests: 1,
        per: Duration::from_secs(1),
        burst: 1,
        key: Vec::new(),
    };
    let limits = InboundLimits { rate: Some(rate), ..InboundLimits::default() };
    let plain = Inbound::plain(MtlsMode::Strict);
    let limited = Inbound { limits: Some(Box::new(limits)), ..plain.clone() };
    let methods = vec![TextPattern::written("PUT")];
    let put = Rule {
        to: vec![Operation { methods, ..Operation::default() }],
        from: from_web().from,
        ..Rule::default()
    };
    let other = Source { identities: vec![TextPattern::written("spiffe://x/*")], ..Source::default() };
    let put_of_others = Rule { from: vec![other], ..put };
    let of_others = policy(AuthorizationAction::Deny, put_of_others);
    for (inbound, protocol, expected) in [
        (&plain, Protocol::Http1, "in"),
        (&limited, Protocol::Http1, &*denied),
        (&limited, Protocol::Http2, &*denied),
        (&limited, Protocol::Detect, "in"),
        (&limited, Protocol::Opaque, "in"),
        (&of_others, Protocol::Http1, &*denied),
        (&of_others, Protocol::Detect, "in"),
    ] {
        let inbound = Inbound { ports: vec![port(protocol)], ..inbound.clone() };
        let [opaque, tunnel] = judged(Some(inbound), Some(WEB));
        assert_eq!((&*opaque, &*tunnel), (expected, "in"), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_let_in_any_more_is_cut_and_all_else_stays() {
    let (shared, _demanded) = support::shared();
    let worker = Worker::new(0, shared.clone());
    let publish = |inbound: Inbound| {
        shared.snapshot.store(Arc::new(snapshot(&shared, inbound)));
        shared.demand.changes().ring();
    };
    publish(Inbound::plain(MtlsMode::Strict));
    let mut opaque = let_in(&worker, arrival(Some(WEB))).unwrap();
    let begun = worker.snapshot();
    let mut chat = Lasting::new(worker.clone(), arrival(Some(WEB)), Some(asked("/chat")), &begun);
    let mut admins = Lasting::new(worker.clone(), arrival(Some(WEB)), Some(asked("/admin/x")), &begun);
    let within = Duration::from_secs(3600);

    shared.demand.changes().ring();
    assert!(timeout(within, opaque.withdrawn()).await.is_err(), "nothing that concerns it has changed");
    publish(policy(AuthorizationAction::Allow, from_web()));
    assert!(timeout(within, opaque.withdrawn()).await.is_err(), "it is let in under the new policy too");
    {
        let mut cut = std::pin::pin!(opaque.withdrawn());
        assert!(timeout(within, cut.as_mut()).await.is_err());
        publish(policy(AuthorizationAction::Deny, admin()));
        let refusal = timeout(within, cut).await.unwrap();
        assert_eq!((refusal.reason, &*refusal.object), (Reason::Denied, "AuthorizationPolicy/shop/p"));
    }
    assert!(timeout(within, chat.withdrawn()).await.is_err());
    assert_eq!(timeout(within, admins.withdrawn()).await.unwrap().reason, Reason::Denied);
}
