//! What a sidecar would decide, in the order in which it decides.

use outrigger_control_plane::explain::receiving::{Receiver, written_rule};
use outrigger_control_plane::world::World;
use outrigger_model::inbound::{Inbound, MtlsMode, Protocol};
use outrigger_proxy::authorization::{Authorizer, Call, Caller, Decision, Matched};
use serde::Serialize;

use super::{Asked, Question};

/// What becomes of a request at one workload.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::authz) struct Answer {
    /// The workload that decides; the Service where none is described.
    to: String,
    /// The port of the workload.
    port: u16,
    /// `allowed` or `denied`.
    verdict: &'static str,
    /// Why, in one sentence.
    why: String,
    /// The rule that decided, where one did.
    rule: Option<RuleAnswer>,
    /// The Audit policies that would record it.
    audits: Vec<RuleAnswer>,
}

/// A rule that matched.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleAnswer {
    /// `AuthorizationPolicy/shop/reviews`.
    policy: String,
    /// Its place in `spec.rules`; absent for what stands in for a policy that cannot be read.
    index: Option<usize>,
    /// Where the policy is written.
    location: Option<String>,
}

/// A decision in words.
struct Verdict {
    is_allowed: bool,
    why: String,
    rule: Option<RuleAnswer>,
}

impl Answer {
    /// Whether the request is let in.
    pub(in crate::authz) fn is_allowed(&self) -> bool {
        self.verdict == "allowed"
    }

    /// For people.
    pub(in crate::authz) fn line(&self) -> String {
        let mut line = format!("{}:{}: {}: {}", self.to, self.port, self.verdict, self.why);
        line.extend(self.audits.iter().map(|audit| format!("\n  recorded by {}", audit.words())));
        line
    }
}

impl RuleAnswer {
    fn of(world: &World, matched: &Matched<'_>) -> Self {
        let written = written_rule(world, matched.policy, matched.rule);
        Self {
            policy: matched.policy.to_string(),
            index: written.as_ref().and_then(|written| written.index),
            location: written.map(|written| written.location.to_string()),
        }
    }

    fn words(&self) -> String {
        let rule = match self.index {
            Some(index) => format!("spec.rules[{index}] of {}", self.policy),
            None => format!("{}, which cannot be read and therefore refuses everything", self.policy),
        };
        match &self.location {
            Some(location) => format!("{rule} ({location})"),
            None => rule,
        }
    }
}

/// What the sidecar of a workload would decide.
pub(in crate::authz) fn answer(world: &World, receiver: &Receiver, question: &Question) -> Answer {
    let inbound = &receiver.inbound;
    let authorizer = inbound
        .authorization
        .as_ref()
        .map(|policies| Authorizer::compile(policies, &inbound.mesh.trust_domain));
    let caller =
        Caller { identity: question.identity.as_ref(), source: question.source, port: receiver.port };
    let asked = question.request.as_ref().filter(|_| !is_opaque(inbound, receiver.port));
    let call = asked.map(call);
    let mut audits = Vec::new();
    let verdict = match (refused_before(inbound, receiver.port, question, authorizer.as_ref()), &authorizer) {
        (Some(why), _) => Verdict { is_allowed: false, why, rule: None },
        (None, None) => Verdict {
            is_allowed: true,
            why: "no AuthorizationPolicy is about the workload".to_owned(),
            rule: None,
        },
        (None, Some(authorizer)) => {
            let standing = authorizer.standing(&caller);
            authorizer.audited(&standing, call.as_ref(), |matched| {
                audits.push(RuleAnswer::of(world, &matched));
            });
            verdict(world, &authorizer.decide(&standing, call.as_ref()))
        }
    };
    Answer {
        to: receiver.object.to_string(),
        port: receiver.port,
        verdict: if verdict.is_allowed { "allowed" } else { "denied" },
        why: verdict.why,
        rule: verdict.rule,
        audits,
    }
}

fn call(asked: &Asked) -> Call<'_> {
    let host = asked.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    Call {
        method: &asked.method,
        path: (asked.method != "CONNECT").then_some(asked.path.as_str()),
        authority: host.unwrap_or_default(),
        headers: &asked.headers,
        claims: asked.claims.as_ref(),
    }
}

fn verdict(world: &World, decision: &Decision<'_>) -> Verdict {
    let is_allowed = decision.is_allowed();
    let (why, rule) = match decision {
        Decision::NotAsked => {
            ("no Deny policy matches, and none allows anything in particular".to_owned(), None)
        }
        Decision::NotNamed => ("there are Allow policies, and no rule of them matches".to_owned(), None),
        Decision::Allowed(matched) => {
            let rule = RuleAnswer::of(world, matched);
            (format!("allowed by {}", rule.words()), Some(rule))
        }
        Decision::Denied(matched) => {
            let rule = RuleAnswer::of(world, matched);
            (format!("denied by {}", rule.words()), Some(rule))
        }
    };
    Verdict { is_allowed, why, rule }
}

/// What refuses before any AuthorizationPolicy is asked.
fn refused_before(
    inbound: &Inbound,
    port: u16,
    question: &Question,
    authorizer: Option<&Authorizer>,
) -> Option<String> {
    if inbound.mtls == MtlsMode::Strict && question.identity.is_none() {
        return Some("plaintext is refused: mtls is Strict".to_owned());
    }
    if let Some(policy) = &inbound.closed_by {
        return Some(format!("{policy} closes the workload until it can be applied"));
    }
    let has_token = question.request.as_ref().is_some_and(|request| request.claims.is_some());
    if let Some(rule) = inbound.jwt.as_ref().filter(|_| !has_token) {
        return Some(format!("{} wants a token, and there is none (see --claims)", rule.name));
    }
    let is_http = matches!(protocol(inbound, port), Protocol::Http1 | Protocol::Http2);
    let asks_for_http = inbound.limits.is_some() || authorizer.is_some_and(Authorizer::asks_for_http);
    (question.request.is_none() && is_http && asks_for_http)
        .then(|| format!("port {port} speaks HTTP, and what protects it can only be asked of requests"))
}

/// Whether nobody looks into what is sent there, so that a request is so many bytes.
fn is_opaque(inbound: &Inbound, port: u16) -> bool {
    match protocol(inbound, port) {
        Protocol::Opaque => true,
        Protocol::Detect => inbound.mesh.opaque_ports.contains(&port),
        Protocol::Http1 | Protocol::Http2 => false,
    }
}

fn protocol(inbound: &Inbound, port: u16) -> Protocol {
    let known = inbound.ports.iter().find(|known| known.port == port);
    known.map_or(Protocol::Detect, |known| known.protocol)
}
