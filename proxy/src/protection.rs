//! What stands before the local application besides mutual TLS: who may call, for requests and for opaque connections.
//!
//! [`Protection`] is linked once when configuration changes and is part of the snapshot. A request is judged with the
//! snapshot it runs on ([`authorize`]), an opaque connection when it is accepted, and what lives longer than a request, such a
//! connection or a tunnel, again with every change of what is in force ([`Lasting`]). The decisions themselves are those of
//! [`crate::authorization`]; here they are counted, named and told.

use std::sync::Arc;

use outrigger_base::telemetry::metrics::{Counter, Kind, MetricSpec, Registry};
use outrigger_model::authorization::AuthorizationAction;
use outrigger_model::identity::SpiffeId;
use outrigger_model::inbound::Inbound;

use crate::authorization::{Authorizer, Call, Caller, Decision, Standing};
use crate::http::{Downstream, DownstreamSecurity};

mod lasting;
mod request;

pub(crate) use lasting::{Arrival, Asked, Lasting, let_in};
pub(crate) use request::authorize;

const DENIED: &str = "outrigger_authorization_denied_total";
const AUDITED: &str = "outrigger_authorization_audited_total";

/// The metrics of this module.
pub const METRICS: &[MetricSpec] = &[
    MetricSpec {
        name: DENIED,
        kind: Kind::Counter,
        help: "Requests and opaque connections that were refused, by the policy that denied them; empty where no policy that allows names them.",
        labels: &["policy"],
    },
    MetricSpec {
        name: AUDITED,
        kind: Kind::Counter,
        help: "Requests and opaque connections that a policy with the action Audit matched.",
        labels: &["policy"],
    },
];

/// What stands before the local application.
#[derive(Debug)]
pub struct Protection {
    authorizer: Option<Authorizer>,
    /// By the place of a policy: what it denied, or recorded.
    counters: Vec<Counter>,
    not_named: Counter,
}

/// What a connection's caller may fulfil, under the protection in force when it was last asked for.
#[derive(Debug)]
pub(crate) struct Known {
    protection: Arc<Protection>,
    standing: Option<Standing>,
}

impl Protection {
    /// What this configuration asks for; `None` when anybody may call.
    pub fn new(inbound: &Inbound, registry: &Registry) -> Option<Self> {
        registry.declare(METRICS);
        let policies = inbound.authorization.as_deref()?;
        let authorizer = Authorizer::compile(policies, &inbound.mesh.trust_domain);
        let counter = |name, policy: &str| registry.counter(name, vec![("policy", policy.to_owned().into())]);
        let counters = authorizer.policies().iter().map(|policy| match policy.action {
            AuthorizationAction::Allow => Counter::noop(),
            AuthorizationAction::Deny => counter(DENIED, &policy.name),
            AuthorizationAction::Audit => counter(AUDITED, &policy.name),
        });
        let counters = counters.collect();
        Some(Self { authorizer: Some(authorizer), counters, not_named: counter(DENIED, "") })
    }

    /// Whether two configurations ask for the same.
    pub fn is_same(one: &Inbound, other: &Inbound) -> bool {
        one.authorization == other.authorization && one.mesh.trust_domain == other.mesh.trust_domain
    }

    /// Whether it asks for something that only requests have.
    fn asks_for_http(&self) -> bool {
        self.authorizer.as_ref().is_some_and(Authorizer::asks_for_http)
    }

    fn standing(&self, caller: &Caller<'_>) -> Option<Standing> {
        self.authorizer.as_ref().map(|authorizer| authorizer.standing(caller))
    }

    /// Decides, and counts a refusal. `Err` has the policy that denies; `None` of it where none names the caller.
    fn decide(&self, standing: Option<&Standing>, call: Option<&Call<'_>>) -> Result<(), Option<Arc<str>>> {
        let (Some(authorizer), Some(standing)) = (&self.authorizer, standing) else { return Ok(()) };
        match authorizer.decide(standing, call) {
            Decision::NotAsked | Decision::Allowed(_) => Ok(()),
            Decision::Denied(by) => {
                self.counters[by.place].increment(1);
                Err(Some(by.policy.clone()))
            }
            Decision::NotNamed => {
                self.not_named.increment(1);
                Err(None)
            }
        }
    }

    /// Counts what Audit policies match, and tells of each.
    fn audit(&self, standing: Option<&Standing>, call: Option<&Call<'_>>, mut record: impl FnMut(&Arc<str>)) {
        let (Some(authorizer), Some(standing)) = (&self.authorizer, standing) else { return };
        authorizer.audited(standing, call, |by| {
            self.counters[by.place].increment(1);
            record(by.policy);
        });
    }
}

impl Known {
    fn of(protection: &Arc<Protection>, caller: &Caller<'_>) -> Self {
        Self { protection: protection.clone(), standing: protection.standing(caller) }
    }

    fn is_under(&self, protection: &Arc<Protection>) -> bool {
        Arc::ptr_eq(&self.protection, protection)
    }
}

fn caller_of(downstream: &Downstream) -> Caller<'_> {
    Caller { identity: identity_of(downstream), source: downstream.peer.ip(), port: downstream.local.port() }
}

fn identity_of(downstream: &Downstream) -> Option<&SpiffeId> {
    match &downstream.security {
        DownstreamSecurity::Mtls(identity) => Some(identity),
        DownstreamSecurity::Plaintext => None,
    }
}
