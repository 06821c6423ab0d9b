//! The keys of issuers of tokens, fetched from the URLs that InboundPolicies name.
//!
//! One task follows the worlds, keeps the agenda of what is to be fetched when (`agenda`, pure), and fetches (`fetch`). What it
//! learns goes into the world as facts, and from there to proxies like any other change. A set that was fetched once stays in
//! use while its issuer is away, for a day at most: then nobody can know any more which of its keys were withdrawn.
//!
//! A URL is written by whoever may write InboundPolicies, and fetched from where the control plane is. So what `fetch` reads is
//! told to nobody unless it is a set of public keys, and addresses that only this host can reach are refused (`address`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outrigger_base::jwks::PublicKeys;
use outrigger_base::lifecycle::drain::Drain;
use outrigger_resources::inbound_policy::JwtKeys;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::http::meters::Meters;
use crate::translate::inbound_policy;
use crate::world::{Fact, Held, Term, World};
use crate::xds::Hub;
use agenda::{Agenda, Named};
use fetch::{FetchError, Fetched};

mod address;
mod agenda;
mod fetch;

/// Fetches under way at a time.
const MAX_FETCHES: usize = 8;
/// How long the next look at the world waits after one: changes come in bursts.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Fetches keys for as long as policies name them.
pub struct Fetcher {
    hub: Arc<Hub>,
    facts: mpsc::Sender<Fact>,
    meters: Meters,
    agenda: Agenda,
    fetches: JoinSet<Result<Fetched, FetchError>>,
    /// What is fetched by whom.
    under_way: BTreeMap<Id, Arc<str>>,
}

impl Fetcher {
    /// Fetches what the worlds of `hub` name, and tells what it learned.
    pub fn new(hub: Arc<Hub>, facts: mpsc::Sender<Fact>, meters: Meters) -> Self {
        let (agenda, fetches) = (Agenda::default(), JoinSet::new());
        Self { hub, facts, meters, agenda, fetches, under_way: BTreeMap::new() }
    }

    /// Works until `drain` starts.
    pub async fn run(mut self, drain: Drain) {
        let mut generations = self.hub.generations();
        self.look().await;
        loop {
            self.start();
            let has_room = self.fetches.len() < MAX_FETCHES;
            let due = self.agenda.next_at().filter(|_| has_room);
            tokio::select! {
                changed = generations.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    sleep(LOOK_INTERVAL).await;
                    generations.borrow_and_update();
                    self.look().await;
                }
                Some(done) = self.fetches.join_next_with_id() => self.take_in(done).await,
                () = at(due) => {}
                () = drain.started() => return,
            }
        }
    }

    /// Takes in which URLs are named now.
    async fn look(&mut self) {
        for fact in self.agenda.name(named(&self.hub.world()), Instant::now()) {
            self.tell(fact).await;
        }
    }

    fn start(&mut self) {
        while self.fetches.len() < MAX_FETCHES
            && let Some(url) = self.agenda.next(Instant::now())
        {
            let task = self.fetches.spawn(fetch::fetch(url.clone()));
            self.under_way.insert(task.id(), url);
        }
    }

    async fn take_in(&mut self, done: Result<(Id, Result<Fetched, FetchError>), JoinError>) {
        let (id, fetched) = match done {
            Ok((id, fetched)) => (id, fetched),
            Err(error) => (error.id(), Err(FetchError::Broken)),
        };
        let Some(url) = self.under_way.remove(&id) else { return };
        let fetched = fetched.and_then(|fetched| match PublicKeys::read(fetched.json.as_bytes()) {
            Ok(_) => Ok(fetched),
            Err(error) => Err(FetchError::NoKeys(error)),
        });
        let now = Instant::now();
        let facts = match fetched {
            Ok(fetched) => {
                self.meters.jwks_fetch("fetched");
                let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                self.agenda.fetched(&url, fetched, (now, now_unix))
            }
            Err(error) => {
                self.meters.jwks_fetch("failed");
                tracing::warn!(%url, "keys of an issuer of tokens cannot be fetched: {error}");
                self.agenda.failed(&url, &error.to_string(), now)
            }
        };
        for fact in facts {
            self.tell(fact).await;
        }
    }

    async fn tell(&self, fact: Fact) {
        // Without a receiver the process ends, and nobody has to know.
        let _ = self.facts.send(fact).await;
    }
}

/// The URLs that policies name, and by which policies as they are now.
fn named(world: &World) -> BTreeMap<Arc<str>, Vec<Arc<Held>>> {
    let mut named: Named = BTreeMap::new();
    for held in world.find(&Term::InboundPolicyWithJwt) {
        let jwt = inbound_policy(held).and_then(|policy| policy.spec.jwt.as_ref());
        if let Some(JwtKeys::At(url)) = jwt.map(|jwt| &jwt.keys) {
            named.entry(url.clone()).or_default().push(held.clone());
        }
    }
    named
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
