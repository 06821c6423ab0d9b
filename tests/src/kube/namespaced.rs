//! A thread in a network namespace: its sockets are of that network, and so is what it starts.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// A thread with a runtime of its own. Dropping it stops what it does, and waits for that.
#[derive(Debug)]
pub(super) struct Namespaced {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespaced {
    /// Does `work` in the namespace of this file.
    pub(super) fn run<F>(namespace: &Path, work: impl FnOnce() -> F + Send + 'static) -> Result<Self>
    where
        F: Future<Output = ()>,
    {
        let namespace = File::open(namespace).context("cannot open the network namespace")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (tell, entered) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("namespaced".into()).spawn(move || {
            let outcome = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
            let is_inside = outcome.is_ok();
            // Whoever asks waits for it, below.
            let _ = tell.send(outcome);
            if is_inside {
                let local = LocalSet::new();
                local.block_on(&runtime, async {
                    tokio::select! {
                        () = work() => {}
                        _ = stopped => {}
                    }
                });
                let _runtime = runtime.enter();
                drop(local);
            }
        })?;
        entered.recv().context("the thread is gone")?.context("cannot enter the network namespace")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Namespaced {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was told where it happened.
            let _ = thread.join();
        }
    }
}

/// Carries connections from a listener of one network to an address of the network of the thread that this runs on.
pub(super) async fn relay(listener: std::net::TcpListener, to: SocketAddr) {
    // It was made non-blocking by who made it; a socket that is none of tokio's ends the test, which then sees why.
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((mut near, _)) = listener.accept().await {
        tokio::spawn(async move {
            // How a connection ends is seen at its two ends.
            if let Ok(mut far) = TcpStream::connect(to).await {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
