//! Every long-lived task has a name and is watched: one that ends on its own ends the process, with a line that says
//! which and why.
//!
//! While the process drains, a task may end; failing is reported also then.

use std::collections::HashMap;
use std::fmt;
use std::io;

use tokio::sync::oneshot;
use tokio::task::{Id, JoinError, JoinSet};

use super::drain::Drain;

/// Watches the tasks and threads of a process. Dropping it ends the tasks; threads end by the drain.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<Result<(), String>>,
    names: HashMap<Id, &'static str>,
    drain: Drain,
}

/// A task ended that should not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {how}")]
pub struct TaskFailure {
    /// The name of the task.
    pub name: &'static str,
    /// How it ended.
    pub how: End,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It returned, as if there were nothing left to do.
    Stopped,
    /// It returned an error.
    Failed(String),
    /// It panicked.
    Panicked(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped although the process goes on"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

impl Supervisor {
    /// A supervisor whose tasks may end once `drain` has started.
    pub fn new(drain: Drain) -> Self {
        Self { tasks: JoinSet::new(), names: HashMap::new(), drain }
    }

    /// Starts a task on the current runtime. For the fixed set of tasks a program is made of, not for its work.
    pub fn spawn<E: fmt::Display>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(async move { task.await.map_err(|error| error.to_string()) });
        self.names.insert(handle.id(), name);
    }

    /// Starts a thread of this name and watches it as a task.
    pub fn spawn_thread<E: fmt::Display + 'static>(
        &mut self,
        name: &'static str,
        body: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> io::Result<()> {
        let (ended, end) = oneshot::channel();
        let run = move || {
            // Nobody listens when the process is ending.
            let _ = ended.send(body().map_err(|error| error.to_string()));
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        self.spawn(name, async move {
            end.await.unwrap_or_else(|_| Err("its thread panicked; the panic is printed above".to_owned()))
        });
        Ok(())
    }

    /// Resolves when a task ends that should not, and only then. Safe to drop and call again.
    pub async fn failure(&mut self) -> TaskFailure {
        loop {
            let Some(ended) = self.tasks.join_next_with_id().await else {
                return std::future::pending().await;
            };
            if let Some(failure) = self.judge(ended) {
                return failure;
            }
        }
    }

    fn judge(&mut self, ended: Result<(Id, Result<(), String>), JoinError>) -> Option<TaskFailure> {
        let (id, how) = match ended {
            Ok((_, Ok(()))) if self.drain.is_started() => return None,
            Ok((id, Ok(()))) => (id, End::Stopped),
            Ok((id, Err(error))) => (id, End::Failed(error)),
            Err(error) => (error.id(), End::Panicked(panic_message(error))),
        };
        let name = self.names.remove(&id).unwrap_or("a task");
        Some(TaskFailure { name, how })
    }
}

fn panic_message(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "it was cancelled".to_owned() };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::drain;
    use super::*;

    fn supervisor() -> (drain::DrainTrigger, Supervisor) {
        let (trigger, drain) = drain::new(Duration::from_secs(1));
        (trigger, Supervisor::new(drain))
    }

    fn never() -> impl Future<Output = Result<(), String>> {
        std::future::pending()
    }

    #[tokio::test]
    async fn a_task_that_ends_is_named_with_the_way_it_ended() {
        let (_trigger, mut supervisor) = supervisor();
        supervisor.spawn("xds", never());
        supervisor.spawn("dns", async { Err("no server") });
        let failure = supervisor.failure().await;
        assert_eq!(failure.to_string(), "dns failed: no server");
        supervisor.spawn("admin", async { Ok::<_, String>(()) });
        let failure = supervisor.failure().await;
        assert_eq!(failure.to_string(), "admin stopped although the process goes on");
        supervisor.spawn("certificates", async { Err(Vec::<String>::new()[0].clone()) });
        let failure = supervisor.failure().await;
        assert!(failure.to_string().starts_with("certificates panicked: index out of bounds"), "{failure}");
    }

    #[tokio::test]
    async fn a_thread_is_watched_as_a_task() {
        let (_trigger, mut supervisor) = supervisor();
        supervisor.spawn_thread("worker-0", || Err("no memory")).unwrap();
        assert_eq!(supervisor.failure().await.to_string(), "worker-0 failed: no memory");
        supervisor.spawn_thread("worker-1", || Err::<(), _>(Vec::<String>::new()[0].clone())).unwrap();
        let failure = supervisor.failure().await;
        assert!(failure.to_string().starts_with("worker-1 failed: its thread panicked"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn while_draining_a_task_may_end_but_not_fail() {
        let (trigger, mut supervisor) = supervisor();
        let drain = supervisor.drain.clone();
        supervisor.spawn("admin", async move {
            drain.started().await;
            Ok::<_, String>(())
        });
        trigger.start();
        let nothing = tokio::time::timeout(Duration::from_secs(60), supervisor.failure()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        supervisor.spawn("state", async { Err("disk full") });
        assert_eq!(supervisor.failure().await.to_string(), "state failed: disk full");
    }
}
