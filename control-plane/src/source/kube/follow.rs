//! Follows one kind: finds the version that is served, lists, watches, and starts over when it must.

use std::fmt::Debug;
use std::time::Duration;

use ::kube::api::PartialObjectMeta;
use ::kube::core::{ApiResource, DynamicObject};
use ::kube::runtime::watcher;
use ::kube::{Api, Client, Resource};
use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Node;
use outrigger_resources::Kind;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::outage::Failure;
use super::read::{self, Name, Reading};
use super::{Event, Watched, discovery};

/// Objects of one answer to a list.
const PAGE: u32 = 500;
/// The same for ConfigMaps, which may be a mebibyte each.
const CONFIG_MAP_PAGE: u32 = 50;
/// How long one watch lasts before it is renewed, in seconds. A connection that says nothing for longer is given up, so
/// this is also how long an API that vanished without a word goes unnoticed.
const WATCH_SECONDS: u32 = 50;
/// How long to wait after a failure; doubled each time up to the longest, less up to half of it by chance.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a kind that the cluster does not know is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// A kind that was there must be missing so many times before its objects count as gone: an API server that starts may
/// not know its own kinds for a moment.
const TIMES_MISSING: u32 = 3;

/// Follows one kind and tells the collector.
pub(super) struct Follower {
    pub(super) client: Client,
    pub(super) watched: Watched,
    pub(super) events: mpsc::Sender<Event>,
}

/// Nobody listens any more.
struct Unheard;

/// What to list, and how to read it.
struct Subject<K, R> {
    api: Api<K>,
    page: u32,
    read: R,
}

impl Follower {
    /// Follows until nobody listens any more.
    pub(super) async fn run(self) {
        let followed = match self.watched {
            Watched::Objects(kind) => self.objects(kind).await,
            Watched::Nodes => self.nodes().await,
        };
        let Err(Unheard) = followed;
    }

    async fn nodes(&self) -> Result<std::convert::Infallible, Unheard> {
        let mut attempts = 0;
        loop {
            let api = Api::<PartialObjectMeta<Node>>::all(self.client.clone());
            let read = |node: PartialObjectMeta<Node>| read::node(&node.metadata);
            self.follow(Subject { api, page: PAGE, read }).await?;
            attempts += 1;
            sleep(pause(attempts, chance())).await;
        }
    }

    async fn objects(&self, kind: Kind) -> Result<std::convert::Infallible, Unheard> {
        let (mut missing, mut failures, mut was_there) = (0, 0, false);
        loop {
            match discovery::served(&self.client, kind).await {
                Ok(Some(resource)) => {
                    (missing, failures, was_there) = (0, 0, true);
                    self.served(kind, resource).await?;
                    sleep(pause(1, chance())).await;
                }
                Ok(None) => {
                    missing += 1;
                    if !was_there || missing == TIMES_MISSING {
                        was_there = false;
                        self.say(Event::Absent(self.watched)).await?;
                    }
                    sleep(ASK_AGAIN).await;
                }
                Err(error) => {
                    failures += 1;
                    self.say(Event::Failed(self.watched, Failure::of(&error))).await?;
                    sleep(pause(failures, chance())).await;
                }
            }
        }
    }

    /// Follows a kind until the cluster does not serve it any more.
    async fn served(&self, kind: Kind, resource: ApiResource) -> Result<(), Unheard> {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        let page = if kind == Kind::ConfigMap { CONFIG_MAP_PAGE } else { PAGE };
        let read = |object| Reading::Object(read::object(kind, &resource, object));
        self.follow(Subject { api, page, read }).await
    }

    /// Lists and watches. Ends when it must be started over from discovery.
    async fn follow<K, R>(&self, subject: Subject<K, R>) -> Result<(), Unheard>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
        R: Fn(K) -> Reading,
    {
        let config = watcher::Config::default().page_size(subject.page).timeout(WATCH_SECONDS);
        let stream = watcher(subject.api, config);
        pin_mut!(stream);
        let mut failures = 0;
        while let Some(heard) = stream.next().await {
            let event = match heard {
                Ok(watcher::Event::Init) => Event::Listing(self.watched),
                Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                    Event::There((subject.read)(object))
                }
                Ok(watcher::Event::Delete(object)) => Event::Gone(self.name_of(&object)),
                Ok(watcher::Event::InitDone) => Event::Listed(self.watched),
                Err(error) => {
                    failures += 1;
                    if self.failed(&error).await? == Next::StartOver {
                        return Ok(());
                    }
                    sleep(pause(failures, chance())).await;
                    continue;
                }
            };
            if !matches!(event, Event::Listing(_)) {
                failures = 0;
            }
            self.say(event).await?;
        }
        Ok(())
    }

    async fn failed(&self, error: &watcher::Error) -> Result<Next, Unheard> {
        let (watcher::Error::InitialListFailed(call) | watcher::Error::WatchStartFailed(call)) = error else {
            // A watch that broke off is taken up again where it was; whether that works is what counts.
            tracing::debug!("the watch of {} broke off: {error}", self.watched);
            return Ok(Next::TryAgain);
        };
        match call {
            ::kube::Error::Api(status) if matches!(status.code, 404 | 410) => Ok(Next::StartOver),
            _ => {
                self.say(Event::Failed(self.watched, Failure::of(call))).await?;
                Ok(Next::TryAgain)
            }
        }
    }

    fn name_of<K: Resource>(&self, object: &K) -> Name {
        match self.watched {
            Watched::Objects(kind) => Name::Object(Name::of(kind, object.meta())),
            Watched::Nodes => Name::Node(object.meta().name.as_deref().unwrap_or_default().into()),
        }
    }

    async fn say(&self, event: Event) -> Result<(), Unheard> {
        self.events.send(event).await.map_err(|_| Unheard)
    }
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    TryAgain,
    /// The kind or the place in its history is gone.
    StartOver,
}

/// How long to wait after so many failures in a row; `chance` spreads those that failed together.
fn pause(failures: u32, chance: u8) -> Duration {
    let doubled = FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    let longest = doubled.min(LONGEST_PAUSE);
    longest - longest / 2 * u32::from(chance) / u32::from(u8::MAX)
}

fn chance() -> u8 {
    let mut byte = [0];
    // Without randomness all wait equally long, which is worse but not wrong.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_spread() {
        assert_eq!(pause(1, 0), FIRST_PAUSE);
        assert_eq!(pause(2, 0), FIRST_PAUSE * 2);
        assert_eq!(pause(1000, 0), LONGEST_PAUSE);
        assert_eq!(pause(1000, u8::MAX), LONGEST_PAUSE / 2);
    }
}
