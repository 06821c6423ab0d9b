//! Listening sockets and what happens to a connection until it is known what it speaks.
//!
//! Each worker has its own socket on every address (SO_REUSEPORT), so that workers share no accept queue. The loop is
//! bounded by the descriptors the process may have, never spins when there are none, and on a drain takes everything that
//! waits in the kernel before it closes: a connection that was accepted there is never reset.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use outrigger_base::lifecycle::drain::Drain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::http::Held;
use crate::snapshot::DestinationId;
use crate::telemetry::Way;
use crate::worker::Worker;

mod inbound;
mod limit;
mod listen;
mod original_dst;
mod outbound;
mod peek;

pub use limit::connections_per_worker;
pub use listen::{BindError, Bound, ListenSpec, bind};

/// While draining, listeners go on accepting for so long: whoever finds us learns late that we leave.
const LAME_DUCK: Duration = Duration::from_secs(1);

/// How long to wait when there are no descriptors left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenKind {
    /// `--inbound listen=application`.
    Inbound {
        /// Where the application listens.
        application: SocketAddr,
    },
    /// `--outbound listen=destination`.
    Outbound {
        /// Its place in the snapshot.
        destination: DestinationId,
    },
    /// Redirected connections to the local application.
    CaptureInbound,
    /// Redirected connections of the local application.
    CaptureOutbound,
}

impl ListenKind {
    /// Which way its connections go.
    pub fn way(self) -> Way {
        match self {
            Self::Inbound { .. } | Self::CaptureInbound => Way::Inbound,
            Self::Outbound { .. } | Self::CaptureOutbound => Way::Outbound,
        }
    }
}

/// Accepts on one socket of one worker until the drain is over.
///
/// # Errors
/// When the socket cannot be handed to the runtime.
pub async fn run(
    worker: Rc<Worker>,
    socket: std::net::TcpListener,
    kind: ListenKind,
    slots: Arc<Semaphore>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let acceptor = Acceptor { worker, kind, slots };
    let drain = acceptor.drain().clone();
    let mut refused = Refused::default();
    let over = lame_duck_over(&drain);
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            () = &mut over => break,
            accepted = acceptor.next(&listener) => match accepted {
                Ok((stream, peer, slot)) => acceptor.spawn(stream, peer, slot),
                Err(error) => refused.pause(&error).await,
            },
        }
    }
    acceptor.take_queue(listener.into_std()?)
}

async fn lame_duck_over(drain: &Drain) {
    drain.started().await;
    tokio::time::sleep(LAME_DUCK).await;
}

struct Acceptor {
    worker: Rc<Worker>,
    kind: ListenKind,
    slots: Arc<Semaphore>,
}

impl Acceptor {
    fn drain(&self) -> &Drain {
        self.worker.shared.drains.of(self.kind.way())
    }

    /// The next connection, once there is room for it.
    async fn next(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = self.slots.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer, slot))
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        let worker = self.worker.clone();
        let kind = self.kind;
        let held = Held { slot, guard: self.drain().guard(), in_use: None };
        tokio::task::spawn_local(async move {
            if let Err(error) = handle(worker, (stream, peer), kind, held).await {
                debug!(downstream.addr = %peer, %error, "the connection was not served");
            }
        });
    }

    /// Takes what the kernel has accepted for us, then closes the socket.
    fn take_queue(&self, socket: std::net::TcpListener) -> io::Result<()> {
        while let Ok(slot) = self.slots.clone().try_acquire_owned() {
            match socket.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true)?;
                    self.spawn(TcpStream::from_std(stream)?, peer, slot);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Its client has given up; the next one has not.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

async fn handle(
    worker: Rc<Worker>,
    (stream, peer): (TcpStream, SocketAddr),
    kind: ListenKind,
    held: Held,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match kind {
        ListenKind::Inbound { application } => {
            let local = stream.local_addr()?;
            inbound::handle(worker, inbound::Accepted { stream, peer, local, application, held }).await
        }
        ListenKind::CaptureInbound => {
            let local = original_dst::of(&stream)?;
            inbound::handle(worker, inbound::Accepted { stream, peer, local, application: local, held }).await
        }
        ListenKind::Outbound { destination } => {
            let local = stream.local_addr()?;
            outbound::handle(worker, outbound::Accepted { stream, peer, local, held }, Some(destination))
                .await
        }
        ListenKind::CaptureOutbound => {
            let local = original_dst::of(&stream)?;
            outbound::handle(worker, outbound::Accepted { stream, peer, local, held }, None).await
        }
    }
}

/// Errors of accept(2): told about once a second, and never answered by spinning.
#[derive(Default)]
struct Refused {
    told: Option<Instant>,
}

impl Refused {
    async fn pause(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.told.is_none_or(|told| now - told >= Duration::from_secs(1)) {
            self.told = Some(now);
            warn!(%error, "a connection could not be accepted");
        }
        if limit::is_exhaustion(error) {
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        }
    }
}
