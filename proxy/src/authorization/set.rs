//! The policies of one action: every `to` of every rule is a line, every line a bit.

use std::sync::Arc;

use outrigger_model::authorization::{
    Authorization, AuthorizationAction, Condition, Operation, Rule, Source, TextPattern,
};

use super::bits::Bits;
use super::conditions::{holds, is_from, is_method, is_path};
use super::path::{Readings, folded};
use super::paths::{Comparison, PathIndex};
use super::{Call, Caller};

/// Methods that are looked up whether policies name them or not, the frequent ones first.
const METHODS: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE"];

/// At most so many methods have their lines looked up; those of others are compared one by one.
const MAX_METHODS: usize = 64;

/// Paths up to this length are folded without taking memory.
const FOLDED_BYTES: usize = 256;

/// All rules of one action.
#[derive(Debug)]
pub(super) struct Set {
    action: AuthorizationAction,
    trust_domain: Arc<str>,
    lines: Vec<Line>,
    all: Bits,
    /// Those that ask for nothing that only requests have.
    without_http: Bits,
    without_path: Bits,
    with_path: Bits,
    methods: Vec<(Box<str>, Bits)>,
    /// Those that a method may fulfil that is not in `methods`; whether it does is still to be seen.
    unlisted: Bits,
    paths: PathIndex,
}

/// A rule with one of its `to`.
#[derive(Debug)]
struct Line {
    place: usize,
    rule: usize,
    from: Arc<[Source]>,
    to: Operation,
    when: Arc<[Condition]>,
}

impl Set {
    pub(super) fn compile(policies: &Authorization, action: AuthorizationAction, trust_domain: &str) -> Self {
        let mut lines = Vec::new();
        for (place, policy) in policies.policies.iter().enumerate() {
            if policy.action == action {
                let rules = policy.rules.iter().enumerate();
                lines.extend(rules.flat_map(|(number, rule)| Line::of(rule, place, number)));
            }
        }
        let bits = |has: &dyn Fn(&Line) -> bool| Bits::of(lines.len(), |line| has(&lines[line]));
        let comparison = match action {
            AuthorizationAction::Deny => Comparison::Loose,
            AuthorizationAction::Allow | AuthorizationAction::Audit => Comparison::Strict,
        };
        let patterns =
            (0..).zip(&lines).flat_map(|(at, line)| line.to.paths.iter().map(move |path| (at, path)));
        let names = listed(&lines);
        let is_unlisted = |pattern: &TextPattern| match pattern {
            TextPattern::Prefix(_) => true,
            TextPattern::Exact(method) => !names.iter().any(|name| **name == **method),
        };
        let method =
            |method: &str| (method.into(), bits(&|line| is_method(&line.to.methods, method, action)));
        Self {
            action,
            trust_domain: trust_domain.into(),
            all: bits(&|_| true),
            without_http: bits(&|line| !line.asks_for_http()),
            without_path: bits(&|line| line.to.paths.is_empty()),
            with_path: bits(&|line| !line.to.paths.is_empty()),
            methods: names.iter().map(|name| method(name)).collect(),
            unlisted: bits(&|line| line.to.methods.is_empty() || line.to.methods.iter().any(is_unlisted)),
            paths: PathIndex::new(patterns, comparison),
            lines,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn looks_at_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    pub(super) fn asks_for_http(&self) -> bool {
        self.lines.iter().any(Line::asks_for_http)
    }

    /// The lines that a caller may fulfil.
    pub(super) fn standing(&self, caller: &Caller<'_>) -> Bits {
        Bits::of(self.lines.len(), |line| self.lines[line].is_for(caller, &self.trust_domain))
    }

    /// The policy and the rule of a line.
    pub(super) fn origin(&self, line: usize) -> (usize, usize) {
        (self.lines[line].place, self.lines[line].rule)
    }

    /// The first line of the policy behind that of a line.
    pub(super) fn next_policy(&self, line: usize) -> usize {
        let place = self.lines[line].place;
        self.lines.partition_point(|line| line.place <= place)
    }

    /// The first line from `from` on that matches a request, or, without one, an opaque connection.
    pub(super) fn first(
        &self,
        standing: &Bits,
        asked: Option<(&Call<'_>, &Readings<'_>)>,
        from: usize,
    ) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let Some((call, readings)) = asked else {
            let opaque = match self.action {
                AuthorizationAction::Deny => &self.all,
                AuthorizationAction::Allow | AuthorizationAction::Audit => &self.without_http,
            };
            return standing.first_of_all((opaque, &self.all), from, |_| true);
        };
        let search = Search { set: self, standing, methods: self.of_method(call.method), call };
        let first = standing
            .first_of_all((search.methods.0, &self.without_path), from, |line| search.fits_but_path(line));
        if self.paths.is_empty() { first } else { search.with_path(readings, from, first) }
    }

    /// The lines that a method may fulfil, and whether they surely do.
    fn of_method(&self, method: &str) -> (&Bits, bool) {
        let loose = self.action == AuthorizationAction::Deny;
        let is = |known: &str| if loose { known.eq_ignore_ascii_case(method) } else { known == method };
        match self.methods.iter().find(|(known, _)| is(known)) {
            Some((_, lines)) => (lines, true),
            None => (&self.unlisted, false),
        }
    }
}

/// The standard methods, and those that lines name, up to [`MAX_METHODS`].
fn listed(lines: &[Line]) -> Vec<Box<str>> {
    let mut listed: Vec<Box<str>> = METHODS.iter().map(|method| (*method).into()).collect();
    for pattern in lines.iter().flat_map(|line| &line.to.methods) {
        if let TextPattern::Exact(method) = pattern
            && listed.len() < MAX_METHODS
            && !listed.iter().any(|known| **known == **method)
        {
            listed.push((**method).into());
        }
    }
    listed
}

/// A search for the first line that matches a request.
struct Search<'s> {
    set: &'s Set,
    standing: &'s Bits,
    methods: (&'s Bits, bool),
    call: &'s Call<'s>,
}

impl Search<'_> {
    /// Goes on with the lines that ask for a path; `first` is one without that matches.
    fn with_path(&self, readings: &Readings<'_>, from: usize, first: Option<usize>) -> Option<usize> {
        let mut best = first;
        let mut consider = |line: usize| {
            if line >= from
                && best.is_none_or(|best| line < best)
                && self.stands(line)
                && self.fits_but_path(line)
            {
                best = Some(line);
            }
        };
        match (readings, self.set.action) {
            (Readings::One(path), _) => self.find(path, &mut consider),
            (Readings::Several(paths), AuthorizationAction::Allow) => {
                let (one, others) = paths.split_first()?;
                let everyhow =
                    |line: &usize| others.iter().all(|path| is_path(&self.set.lines[*line].to.paths, path));
                self.set.paths.find(one).filter(everyhow).for_each(consider);
            }
            (Readings::Several(paths), AuthorizationAction::Deny | AuthorizationAction::Audit) => {
                paths.iter().for_each(|path| self.find(path, &mut consider));
            }
            (Readings::Unreadable, AuthorizationAction::Allow) => {}
            (Readings::Unreadable, AuthorizationAction::Deny | AuthorizationAction::Audit) => {
                let sets = (self.methods.0, &self.set.with_path);
                let found = self.standing.first_of_all(sets, from, |line| self.fits_but_path(line));
                found.into_iter().for_each(consider);
            }
        }
        best
    }

    fn find(&self, path: &[u8], consider: &mut impl FnMut(usize)) {
        if self.set.action == AuthorizationAction::Deny {
            let mut buffer = [0; FOLDED_BYTES];
            self.set.paths.find(&folded(path, &mut buffer)).for_each(consider);
        } else {
            self.set.paths.find(path).for_each(consider);
        }
    }

    fn stands(&self, line: usize) -> bool {
        self.standing.has(line) && self.methods.0.has(line)
    }

    /// What is not said by bits.
    fn fits_but_path(&self, line: usize) -> bool {
        let (line, action) = (&self.set.lines[line], self.set.action);
        (self.methods.1 || is_method(&line.to.methods, self.call.method, action))
            && line.when.iter().all(|condition| holds(condition, self.call, action))
    }
}

impl Line {
    fn of(rule: &Rule, place: usize, number: usize) -> Vec<Self> {
        let (from, when): (Arc<[Source]>, Arc<[Condition]>) =
            (rule.from.as_slice().into(), rule.when.as_slice().into());
        let line = |to: Operation| Self { place, rule: number, from: from.clone(), to, when: when.clone() };
        match rule.to.is_empty() {
            true => vec![line(Operation::default())],
            false => rule.to.iter().cloned().map(line).collect(),
        }
    }

    fn asks_for_http(&self) -> bool {
        !(self.to.methods.is_empty() && self.to.paths.is_empty() && self.when.is_empty())
    }

    fn is_for(&self, caller: &Caller<'_>, trust_domain: &str) -> bool {
        let port = self.to.ports.is_empty() || self.to.ports.contains(&caller.port);
        port && is_from(&self.from, caller, trust_domain)
    }
}
