//! The worker threads: each a current-thread runtime with its own sockets.

use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use outrigger_base::lifecycle::exit::ExitError;
use outrigger_base::lifecycle::supervisor::Supervisor;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accept::{self, Bound, ListenKind, connections_per_worker};
use crate::flags::MAX_WORKERS;
use crate::worker::{Shared, Worker};

/// The name of the threads.
const NAME: &str = "worker";

/// The worker threads, while they run.
pub(super) struct Workers {
    ended: CancellationToken,
}

/// What one thread is given.
struct Seat {
    index: usize,
    shared: Arc<Shared>,
    sockets: Vec<(ListenKind, TcpListener)>,
    connections: usize,
    ended: CancellationToken,
}

/// How many there are: as the flag says, or as many as the CPUs this process may use (a cgroup's quota counts).
pub(super) fn count(flag: Option<NonZeroUsize>) -> usize {
    let count = flag.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    count.min(MAX_WORKERS)
}

impl Workers {
    /// Starts one thread for each socket that an address has.
    pub(super) fn start(
        shared: &Arc<Shared>,
        listeners: Vec<Bound>,
        supervisor: &mut Supervisor,
    ) -> Result<Self, ExitError> {
        let count = listeners.iter().map(|bound| bound.sockets.len()).max().unwrap_or(1);
        let mut sockets: Vec<Vec<(ListenKind, TcpListener)>> = (0..count).map(|_| Vec::new()).collect();
        for Bound { kind, sockets: bound, .. } in listeners {
            sockets.iter_mut().zip(bound).for_each(|(seat, socket)| seat.push((kind, socket)));
        }
        let ended = CancellationToken::new();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (shared, connections) = (shared.clone(), connections_per_worker(count));
            let seat = Seat { index, shared, sockets, connections, ended: ended.clone() };
            let started = supervisor.spawn_thread(NAME, move || seat.run());
            started.map_err(|error| ExitError::failure(format!("cannot start worker {index}: {error}")))?;
        }
        Ok(Self { ended })
    }

    /// Ends the threads; connections that are still open are cut.
    pub(super) fn end(self) {
        self.ended.cancel();
    }
}

impl Seat {
    fn run(self) -> Result<(), String> {
        let index = self.index;
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime =
            runtime.map_err(|error| format!("cannot start the runtime of worker {index}: {error}"))?;
        runtime.block_on(self.serve())
    }

    /// Accepts until the drain is over; connections go on until the process ends.
    async fn serve(self) -> Result<(), String> {
        let worker = Worker::new(self.index, self.shared.clone());
        let slots = Arc::new(Semaphore::new(self.connections));
        let mut loops = JoinSet::new();
        for (kind, socket) in self.sockets {
            // A listener that still takes connections is work that the drain waits for.
            let guard = self.shared.drains.of(kind.way()).guard();
            let accepting = accept::run(worker.clone(), socket, kind, slots.clone());
            loops.spawn_local(async move {
                let _guard = guard;
                accepting.await
            });
        }
        while let Some(ended) = loops.join_next().await {
            let ended = ended.map_err(|error| format!("accepting in worker {}: {error}", self.index))?;
            ended.map_err(|error| format!("accepting in worker {}: {error}", self.index))?;
        }
        self.ended.cancelled().await;
        Ok(())
    }
}
