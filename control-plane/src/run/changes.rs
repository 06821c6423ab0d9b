//! From the source to the hub: applies updates to the world and says what is wrong with it.

use std::path::PathBuf;
use std::sync::Arc;

use outrigger_base::lifecycle::drain::Drain;
use tokio::sync::mpsc;

use crate::http::meters::Meters;
use crate::source::{SourceError, Update, dir};
use crate::status::Journal;
use crate::world::{Changed, World};
use crate::xds::Hub;

type Watch = std::pin::Pin<Box<dyn Future<Output = Result<(), SourceError>> + Send>>;

/// The directory that is watched.
pub(super) struct Source {
    watch: Watch,
}

/// Updates on their way into the world.
pub(super) struct Changes {
    updates: mpsc::Receiver<Update>,
    world: Arc<World>,
    journal: Journal,
    /// Problems that were said and are not solved.
    told: usize,
}

impl Source {
    pub(super) fn new(directory: PathBuf, updates: mpsc::Sender<Update>) -> Self {
        Self { watch: Box::pin(async move { dir::watch(&directory, updates).await }) }
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
    pub(super) fn new(updates: mpsc::Receiver<Update>) -> Self {
        Self { updates, world: Arc::new(World::default()), journal: Journal::default(), told: 0 }
    }

    /// The world after the first update.
    pub(super) async fn first(&mut self) -> Arc<World> {
        match self.updates.recv().await {
            Some(update) => self.apply(update).0,
            // The source has failed and says so itself.
            None => std::future::pending().await,
        }
    }

    /// Hands every further update to the hub.
    pub(super) async fn run(
        mut self,
        hub: Arc<Hub>,
        meters: Meters,
        drain: Drain,
    ) -> Result<(), &'static str> {
        loop {
            let update = tokio::select! {
                update = self.updates.recv() => update.ok_or("the source has ended")?,
                () = drain.started() => return Ok(()),
            };
            let (world, changed) = self.apply(update);
            hub.publish(world, changed);
            if self.updates.is_empty() {
                self.report(&meters);
            }
        }
    }

    fn apply(&mut self, update: Update) -> (Arc<World>, Changed) {
        let (world, changed) = self.world.apply(update.changes);
        self.world = Arc::new(world.with_problems(update.problems));
        (self.world.clone(), changed)
    }

    /// Says which problems are new and which are solved.
    pub(super) fn report(&mut self, meters: &Meters) {
        let news = self.journal.update(&self.world);
        for problem in &news.appeared {
            tracing::warn!("{problem}");
        }
        for problem in &news.solved {
            tracing::info!("solved: {problem}");
        }
        self.told = self.told + news.appeared.len() - news.solved.len();
        meters.problems(self.told + news.untold);
    }
}
