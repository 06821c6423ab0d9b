//! Who may call: policies made ready once, and decisions about requests and connections.
//!
//! # What decides
//!
//! Deny policies come first: one rule that matches refuses. Then, where at least one Allow policy is, one of their rules has
//! to match. Audit policies decide nothing. A rule matches when one of its `from`, one of its `to` and all of its `when` do.
//! Whatever can be read in more than one way is read against the caller: a Deny matches when any reading does, an Allow
//! only when all do, and an Audit when any does.
//!
//! * **Identity** is what mutual TLS has proven. Nothing that a request says of its sender is believed. A `namespace` is
//!   that of an identity in the mesh's own trust domain; the same word in another domain is somebody else's.
//! * **Source address** is the other end of the connection, not what a header says.
//! * **Methods** are compared as they are sent, by Deny in either case. `GET` does not stand for `HEAD`.
//! * **Paths** have the readings of [`mod@path`]. Deny compares them without regard to the case of ASCII letters and of a slash
//!   at the end: `/admin` and `/admin/*` are denied by either spelling.
//! * **Headers** are those that are forwarded: fields that `Connection` names are gone before. Of several fields of one name an
//!   Allow asks each; a Deny asks any, also each element of a list, in either case. The Host of HTTP/2 is its authority.
//! * **Claims** are those of a token that was verified; without one there are none.
//! * **Opaque connections** have no method, path, header or claim. A rule that asks for one cannot be fulfilled for Allow and
//!   Audit, and counts as fulfilled for Deny: bytes could be just that request.
//!
//! # How
//!
//! Each `to` of each rule is a line, and each line a bit. What depends on the connection alone is computed once for it, as a
//! [`Standing`]: the lines that its caller may still fulfil. For a request the lines of its method and of its path (exact
//! ones by hash, prefixes by their order) are looked up, and only what is left looks at headers and claims.
//!
//! Nothing here does I/O or knows where policies come from.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use outrigger_model::authorization::{Authorization, AuthorizationAction};
use outrigger_model::identity::SpiffeId;

use crate::jwt::Claims;

mod bits;
mod conditions;
pub mod path;
mod paths;
mod set;

use bits::Bits;
use path::Readings;
use set::Set;

/// Policies, ready to decide.
#[derive(Debug)]
pub struct Authorizer {
    policies: Vec<Policy>,
    deny: Set,
    allow: Set,
    audit: Set,
    has_allow: bool,
}

/// A policy that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `AuthorizationPolicy/shop/reviews`.
    pub name: Arc<str>,
    /// What becomes of what it matches.
    pub action: AuthorizationAction,
}

/// Who connected, and where.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Proven by mutual TLS; `None` for plaintext.
    pub identity: Option<&'a SpiffeId>,
    /// The other end of the connection.
    pub source: IpAddr,
    /// The port that was dialled.
    pub port: u16,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The method as it was sent.
    pub method: &'a str,
    /// The path as it was sent; a query may follow it. `None` for CONNECT, which has none: no Allow that asks for a path
    /// matches it, and every such Deny does.
    pub path: Option<&'a str>,
    /// The host that was asked for; empty when none was.
    pub authority: &'a str,
    /// The head.
    pub headers: &'a HeaderMap,
    /// What its verified token says.
    pub claims: Option<&'a Claims>,
}

/// What a caller may still fulfil, whatever it asks for. Of one [`Authorizer`]: another one cannot use it.
#[derive(Debug)]
pub struct Standing {
    deny: Bits,
    allow: Bits,
    audit: Bits,
}

/// What becomes of a request, or of an opaque connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'p> {
    /// It may pass: nothing denies it, and no policy allows anything.
    NotAsked,
    /// It may pass: this rule allows it.
    Allowed(Matched<'p>),
    /// It is refused by this rule.
    Denied(Matched<'p>),
    /// It is refused: there are policies that allow, and none of them names it.
    NotNamed,
}

/// A rule that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched<'p> {
    /// Its policy.
    pub policy: &'p Arc<str>,
    /// The place of the policy in [`Authorizer::policies`].
    pub place: usize,
    /// The place of the rule in its policy, from 0.
    pub rule: usize,
}

impl Decision<'_> {
    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::NotAsked | Self::Allowed(_))
    }
}

impl Authorizer {
    /// Makes policies ready, in a mesh of this trust domain.
    pub fn compile(policies: &Authorization, trust_domain: &str) -> Self {
        let set = |action| Set::compile(policies, action, trust_domain);
        let named = policies.policies.iter();
        let has_allow = policies.policies.iter().any(|policy| policy.action == AuthorizationAction::Allow);
        Self {
            policies: named
                .map(|policy| Policy { name: policy.name.clone(), action: policy.action })
                .collect(),
            deny: set(AuthorizationAction::Deny),
            allow: set(AuthorizationAction::Allow),
            audit: set(AuthorizationAction::Audit),
            has_allow,
        }
    }

    /// The policies in force, as they were given.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Whether a rule asks for something that only requests have.
    pub fn asks_for_http(&self) -> bool {
        [&self.deny, &self.allow, &self.audit].into_iter().any(Set::asks_for_http)
    }

    /// What a caller may still fulfil: computed once for a connection.
    pub fn standing(&self, caller: &Caller<'_>) -> Standing {
        Standing {
            deny: self.deny.standing(caller),
            allow: self.allow.standing(caller),
            audit: self.audit.standing(caller),
        }
    }

    /// Decides about a request, or, without a `call`, about an opaque connection.
    pub fn decide(&self, standing: &Standing, call: Option<&Call<'_>>) -> Decision<'_> {
        let readings = self.readings(&[&self.deny, &self.allow], call);
        let asked = call.map(|call| (call, &readings));
        if let Some(line) = self.deny.first(&standing.deny, asked, 0) {
            return Decision::Denied(self.matched(&self.deny, line));
        }
        if !self.has_allow {
            return Decision::NotAsked;
        }
        match self.allow.first(&standing.allow, asked, 0) {
            Some(line) => Decision::Allowed(self.matched(&self.allow, line)),
            None => Decision::NotNamed,
        }
    }

    /// The Audit policies that match, each with its first rule that does, whatever is decided.
    pub fn audited<'p>(
        &'p self,
        standing: &Standing,
        call: Option<&Call<'_>>,
        mut record: impl FnMut(Matched<'p>),
    ) {
        if self.audit.is_empty() {
            return;
        }
        let readings = self.readings(&[&self.audit], call);
        let asked = call.map(|call| (call, &readings));
        let mut from = 0;
        while let Some(line) = self.audit.first(&standing.audit, asked, from) {
            record(self.matched(&self.audit, line));
            from = self.audit.next_policy(line);
        }
    }

    /// How the path is read, unless nothing looks at it.
    fn readings<'c>(&self, sets: &[&Set], call: Option<&Call<'c>>) -> Readings<'c> {
        match call {
            Some(call) if sets.iter().any(|set| set.looks_at_paths()) => {
                call.path.map_or(Readings::Unreadable, Readings::of)
            }
            _ => Readings::Unreadable,
        }
    }

    fn matched(&self, set: &Set, line: usize) -> Matched<'_> {
        let (place, rule) = set.origin(line);
        Matched { policy: &self.policies[place].name, place, rule }
    }
}

#[cfg(test)]
mod tests;
