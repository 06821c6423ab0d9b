//! From the source to the hub: applies updates to the world and says what is wrong with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::kube::Client;
use outrigger_base::lifecycle::drain::Drain;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::sleep;

use crate::http::meters::Meters;
use crate::source::kube::Scope;
use crate::source::{SourceError, Update, dir, kube};
use crate::status::Journal;
use crate::world::{Changed, Fact, World};
use crate::xds::Hub;

/// How long a report waits after a change: proxies come first. It looks at every object, some 50 ms for 15,000 of them, so
/// that this also bounds what reports cost when something changes all the time.
const PROXIES_FIRST: Duration = Duration::from_millis(500);

type Watch = std::pin::Pin<Box<dyn Future<Output = Result<(), SourceError>> + Send>>;

/// What is watched.
pub(super) struct Source {
    watch: Watch,
}

/// Updates on their way into the world.
pub(super) struct Changes {
    updates: mpsc::Receiver<Update>,
    /// What is learned beside the objects.
    facts: mpsc::Receiver<Fact>,
    world: Arc<World>,
}

impl Source {
    pub(super) fn directory(directory: PathBuf, updates: mpsc::Sender<Update>) -> Self {
        Self { watch: Box::pin(async move { dir::watch(&directory, updates).await }) }
    }

    pub(super) fn cluster(client: Client, scope: Scope, updates: mpsc::Sender<Update>) -> Self {
        Self { watch: Box::pin(kube::watch(client, scope, updates)) }
    }

    /// Watches; resolves only when that is not possible. Safe to drop and go on with [`run`](Self::run).
    pub(super) async fn failure(&mut self) -> SourceError {
        match self.watch.as_mut().await {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        }
    }

    /// Watches until nobody listens any more.
    pub(super) async fn run(self) -> Result<(), SourceError> {
        self.watch.await
    }
}

impl Changes {
    /// Changes of the mesh whose control plane lives in `namespace`.
    pub(super) fn new(updates: mpsc::Receiver<Update>, facts: mpsc::Receiver<Fact>, namespace: &str) -> Self {
        Self { updates, facts, world: Arc::new(World::of_mesh(namespace)) }
    }

    /// The world after the first update.
    pub(super) async fn first(&mut self) -> Arc<World> {
        match self.updates.recv().await {
            Some(update) => {
                while let Ok(fact) = self.facts.try_recv() {
                    self.learn(fact);
                }
                self.apply(update).0
            }
            // The source has failed and says so itself.
            None => std::future::pending().await,
        }
    }

    /// Hands every further update to the hub.
    pub(super) async fn run(mut self, hub: Arc<Hub>, drain: Drain) -> Result<(), &'static str> {
        loop {
            let (world, changed) = tokio::select! {
                update = self.updates.recv() => self.apply(update.ok_or("the source has ended")?),
                Some(fact) = self.facts.recv() => self.learn(fact),
                () = drain.started() => return Ok(()),
            };
            hub.publish(world, changed);
        }
    }

    fn learn(&mut self, fact: Fact) -> (Arc<World>, Changed) {
        let (world, changed) = self.world.learn(fact);
        self.world = Arc::new(world);
        (self.world.clone(), changed)
    }

    fn apply(&mut self, update: Update) -> (Arc<World>, Changed) {
        let (world, changed) = self.world.apply(update.changes);
        self.world = Arc::new(world.with_problems(update.problems));
        (self.world.clone(), changed)
    }
}

/// Says which problems are new and which are solved. Apart from the way of a change to the proxies, which must not
/// wait for it; worlds that come while it works are skipped.
pub(super) struct Reporter {
    hub: Arc<Hub>,
    meters: Meters,
    journal: Journal,
    /// Problems that were said and are not solved.
    told: usize,
}

impl Reporter {
    pub(super) fn new(hub: Arc<Hub>, meters: Meters) -> Self {
        Self { hub, meters, journal: Journal::default(), told: 0 }
    }

    /// Reports on the world in force whenever there is another one.
    pub(super) async fn run(mut self, drain: Drain) -> Result<(), JoinError> {
        let mut generations = self.hub.generations();
        loop {
            generations.borrow_and_update();
            self = tokio::task::spawn_blocking(move || self.report()).await?;
            let changed = async {
                // The hub lives as long as this does.
                let _ = generations.changed().await;
                sleep(PROXIES_FIRST).await;
            };
            tokio::select! {
                () = changed => {}
                () = drain.started() => return Ok(()),
            }
        }
    }

    fn report(mut self) -> Self {
        let news = self.journal.update(&self.hub.world());
        for problem in &news.appeared {
            tracing::warn!("{problem}");
        }
        for problem in &news.solved {
            tracing::info!("solved: {problem}");
        }
        self.told = self.told + news.appeared.len() - news.solved.len();
        self.meters.problems(self.told + news.untold);
        self
    }
}
